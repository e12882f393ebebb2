"""`playfield nets`: how large network bodies are, layer by layer, and how fast they are here."""

from __future__ import annotations

import json as jsonlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from playfield import compute as computing
from playfield.compute import Compute
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.nets import names as net_names
from playfield.nets.layers import Pixels
from playfield.nets.learner import Learner
from playfield.nets.optimizers import RMSProp
from playfield.options import Option
from playfield.runs.console import console

INFERENCE_BATCH, TRAINING_BATCH = 16, 32


@dataclass(frozen=True)
class Input:
    """A network's input and output: shape and dtype of one observation, number of actions."""

    shape: tuple[int, ...]
    actions: int
    dtype: str = "uint8"


def input_of(env: str) -> Input:
    """The `Input` of networks for `env`, with the default protocol. Raises UsageError for an unknown name."""
    probe = make_envs(env, 1)
    probe.close()
    return Input(probe.spec.obs_shape, probe.spec.num_actions, probe.spec.obs_dtype)


@dataclass(frozen=True)
class Layer:
    """A layer of a network.

    Attributes:
        name: of the module, as in its weights' names.
        kind: for people: "conv 8x8, stride 4".
        output: shape for one observation; [H, W, C] of convolutions.
        parameters: number of weights and biases.
        multiply_adds: of convolutions and matrix products, for one observation.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Speed:
    """Observations a second: `inference` in batches of 16, `training` (forward and backward) in batches of 32.

    On a CPU, seconds are CPU time of one thread: time used by other programs does not count.
    """

    inference: float
    training: float


class Headed(nn.Module):
    """A body with the head of a value-based method: one output for each action."""

    def __init__(self, net: str, given: Input) -> None:
        super().__init__()
        self.body = bodies.make(net, given.shape)
        self.head = nn.Linear(self.body.out_features, given.actions)

    def forward(self, obs: Tensor) -> Tensor:
        """Observations [N, ...] to float32 values [N, A]."""
        values: Tensor = self.head(self.body(obs).float())
        return values


def layers(net: str, given: Input) -> list[Layer]:
    """The layers of a body and a head that have parameters or change a shape, in the order of computation.

    Runs on PyTorch's meta device, so nothing is computed. Raises UsageError for an unknown body or option, or an
    input that does not fit.
    """
    with torch.device("meta"):
        model = Headed(net, given)
        obs = torch.empty((1, *given.shape), dtype=getattr(torch, given.dtype))
    found: list[Layer] = []
    called: list[nn.Module] = []  # those that have returned
    open_: list[list[int]] = []  # for each that has not: FLOP count at its start, FLOPs of its children
    names = {module: name for name, module in model.named_modules()}

    def before(_module: nn.Module, _args: Any) -> None:
        open_.append([counter.get_total_flops(), 0])

    def after(module: nn.Module, args: Any, output: Tensor) -> None:
        start, inner = open_.pop()
        every = counter.get_total_flops() - start
        if open_:
            open_[-1][1] += every
        children = [m for m in module.modules() if m is not module]
        counted = {p for m in children if m in called for p in m.parameters()}
        size = sum(p.numel() for p in module.parameters() if p not in counted)
        leaf = not any(m in called for m in children)
        called.append(module)
        if size or every - inner or (leaf and output.shape != args[0].shape):
            shape = output.permute(0, 2, 3, 1).shape if output.dim() == 4 else output.shape
            found.append(Layer(names[module], _kind(module), tuple(shape[1:]), size, (every - inner) // 2))

    for module in model.modules():
        module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(obs)
    return found


def _kind(module: nn.Module) -> str:
    inner = module.conv if isinstance(module, Pixels) else module
    if isinstance(inner, nn.Conv2d):
        (height, width), stride = inner.kernel_size, "x".join(str(n) for n in dict.fromkeys(inner.stride))
        kernel = f"{height}x{width}"
        return f"{'depthwise ' if inner.groups > 1 else ''}conv {kernel}" + (f", stride {stride}" * (stride != "1"))
    if isinstance(module, nn.MaxPool2d):
        return f"max pool {module.kernel_size}x{module.kernel_size}, stride {module.stride}"
    words: dict[type[nn.Module], str] = {nn.Linear: "dense", nn.LayerNorm: "layer norm", nn.GroupNorm: "layer norm"}
    return next((word for kind, word in words.items() if isinstance(module, kind)), type(module).__name__.lower())


def choose(given: Input) -> Compute:
    """Device and precision that a training on this input would choose here, with one worker."""
    return computing.choose(workers=1, pixels=len(given.shape) == 3)


def bytes_to_measure(names: Sequence[str], given: Input) -> int:
    """Bytes of memory that `measure` needs: weights and gradients of all networks, and one batch of the largest.

    A batch is counted as uint8 and as float32, and every layer's output twice, with its gradient.
    """
    weights, largest = 0, 0
    size = math.prod(given.shape)
    for name in names:
        outputs: list[int] = []
        with torch.device("meta"):
            model = Headed(name, given)
            obs = torch.empty((1, *given.shape), dtype=getattr(torch, given.dtype))
        for module in model.modules():
            if not list(module.children()) or isinstance(module, Pixels):
                module.register_forward_hook(
                    lambda _m, _args, output, outputs=outputs: outputs.append(output.numel())
                )
        with torch.no_grad():
            model(obs)
        weights += 4 * 4 * sum(p.numel() for p in model.parameters())  # twice, their gradients, and the sum of these
        largest = max(largest, TRAINING_BATCH * (4 * size + 2 * 4 * sum(outputs)))
    return weights + largest + TRAINING_BATCH * size * (1 + obs.element_size())


def refuse_too_large(names: Sequence[str], given: Input) -> None:
    """Raise UsageError where `measure` needs more than the free memory."""
    what = f"--measure of {names[0] if len(names) == 1 else 'the networks'} on {_shape(given.shape)}"
    hint = "use a smaller --shape, or leave out --measure"
    computing.refuse_if_larger(bytes_to_measure(names, given), what, hint)


def measure(names: Sequence[str], given: Input, compute: Compute, rounds: int = 7) -> list[Speed]:
    """Speed of each body with a head on one thread: the median of `rounds`, in which the bodies take turns.

    Weights are laid out as in a training. Raises UsageError as `layers` does, and for too little memory.
    """
    refuse_too_large(names, given)
    rng = torch.Generator().manual_seed(0)
    device = torch.device(compute.device)
    obs = torch.randint(0, 256, (TRAINING_BATCH, *given.shape), generator=rng, dtype=torch.uint8).to(device)
    obs = obs.to(getattr(torch, given.dtype))
    learners = [Learner(Headed(name, given), partial(RMSProp, lr=0.0), compute, 0.0) for name in names]

    def infer(net: nn.Module) -> None:
        with torch.no_grad():
            net(obs[:INFERENCE_BATCH]).cpu()

    def learn(net: nn.Module) -> None:
        net(obs).square().mean().backward()

    times: list[tuple[list[float], list[float]]] = [([], []) for _ in names]
    for i in range(rounds + 1):
        for learner, (inference, training) in zip(learners, times, strict=True):
            replica = learner.replicas[0]

            def run(_k: int, replica: nn.Module = replica) -> tuple[float, float]:
                return _seconds(lambda: infer(replica), 0.05, device), _seconds(lambda: learn(replica), 0.15, device)

            one, two = learner.team.run(run)[0]
            if i:  # the first round is a warm-up
                inference.append(one)
                training.append(two)
    return [Speed(INFERENCE_BATCH / median(a), TRAINING_BATCH / median(b)) for a, b in times]


def _seconds(fn: Callable[[], None], least: float, device: torch.device) -> float:
    """Mean seconds of a call, over as many calls as take `least` seconds. On a CPU, CPU time of this thread."""
    clock = time.perf_counter if device.type == "cuda" else time.thread_time
    calls, start = 0, clock()
    while calls == 0 or clock() - start < least:
        fn()
        calls += 1
        if device.type == "cuda":
            torch.cuda.synchronize()
    return (clock() - start) / calls


def print_net(name: str, given: Input, timed: bool = False, json: bool = False) -> None:
    """Print the layers of a network, and with `timed` its speed; with `json`, as one JSON object."""
    found = layers(name, given)
    compute = choose(given)
    speed = measure([name], given, compute)[0] if timed else None
    total, work = _totals(found)
    if json:
        about = {"net": name, **_about(given), "layers": [asdict(layer) for layer in found]}
        about |= {"parameters": total, "multiply_adds": work} | _speed(speed, compute)
        print(jsonlib.dumps(about, indent=1))
        return
    console = _console()
    title = f"{name}, input {_shape(given.shape)}, {given.actions} actions"
    table = _table(console, title, "weights", "layer", "output", "parameters", "multiply-adds", texts=2)
    for layer in found:
        kind = layer.kind + (", head" if layer.name == "head" else "")
        table.add_row(layer.name, kind, _shape(layer.output), f"{layer.parameters:,}", f"{layer.multiply_adds:,}")
    table.add_row("", "", "total", f"{total:,}", f"{work:,}", style="bold")
    console.print(table)
    console.print("Multiply-adds of convolutions and dense layers, for one observation.")
    if speed:
        console.print(
            f"{speed.inference:,.0f} samples/s in inference, {speed.training:,.0f} in training. {_how(compute)}"
        )


def print_nets(names: Sequence[str], given: Input, timed: bool = False, json: bool = False) -> None:
    """Print a table of bodies (without `names`, all that take this input); with `json`, one JSON object."""
    every = names or net_names.nets()
    fitting = list(every) if names else [name for name in every if _fits(name, given)]
    totals = {name: _totals(layers(name, given)) for name in fitting}
    compute = choose(given)
    speeds = dict(zip(fitting, measure(fitting, given, compute), strict=True)) if timed else {}
    if json:
        rows: list[dict[str, Any]] = []
        for name in fitting:
            row = {"net": name, "about": net_names.net_help(name.partition(":")[0])}
            rows.append(row | {"parameters": totals[name][0], "multiply_adds": totals[name][1]})
            rows[-1] |= _speed(speeds.get(name), compute)
        print(jsonlib.dumps({**_about(given), "nets": rows}, indent=1))
        return
    console = _console()
    headings = ["net", "parameters", "multiply-adds", *(["inference/s", "training/s"] if timed else [])]
    table = _table(console, f"Networks, input {_shape(given.shape)}, {given.actions} actions", *headings)
    for name in fitting:
        speed = speeds.get(name)
        measured = (f"{speed.inference:,.0f}", f"{speed.training:,.0f}") if speed else ()
        table.add_row(name, *(f"{n:,}" for n in totals[name]), *measured)
    console.print(table)
    if timed:
        console.print(_how(compute))
    for name in dict.fromkeys(n.partition(":")[0] for n in fitting):
        offered = ", ".join(map(_offer, net_names.net_options(name)))
        console.print(
            f"{name}: {net_names.net_help(name)}" + (f" Options: {offered}." if offered else ""), soft_wrap=True
        )
    if other := [name for name in every if name not in fitting]:
        console.print(f"Not for this input: {', '.join(other)}.")
    console.print("Layer by layer: playfield nets nature. In a training: --net nature:width=2,norm=layer")


def _offer(option: Option) -> str:
    return f"{option.name}={'|'.join(option.choices) or option.type.upper()} [{option.default}]"


def _fits(name: str, given: Input) -> bool:
    """Whether a body takes this input; one of another package may fail in its own way."""
    try:
        layers(name, given)
    except (UsageError, RuntimeError, TypeError, ValueError):
        return False
    return True


def _totals(found: list[Layer]) -> tuple[int, int]:
    return sum(layer.parameters for layer in found), sum(layer.multiply_adds for layer in found)


def _about(given: Input) -> dict[str, Any]:
    return {"shape": list(given.shape), "actions": given.actions}


def _speed(speed: Speed | None, compute: Compute) -> dict[str, Any]:
    if speed is None:
        return {}
    speeds = {"inference_samples_per_second": speed.inference, "training_samples_per_second": speed.training}
    return {**speeds, "device": compute.device, "precision": compute.precision, "threads": 1}


def _how(compute: Compute) -> str:
    where = "of a GPU" if compute.device == "cuda" else "of one core's own time (a training uses all cores)"
    return (
        f"Samples in a second {where}, {compute.precision}: inference in batches of {INFERENCE_BATCH}, "
        f"training (forward and backward) of {TRAINING_BATCH}."
    )


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) if len(shape) > 1 else f"{math.prod(shape)}"


def _console() -> Console:
    """Standard output; 120 columns wide without colour when it is not a terminal."""
    return console(120)


def _table(console: Console, title: str, *headings: str, texts: int = 1) -> Table:
    """A table with `texts` left-aligned columns, the others right-aligned; without lines if not on a terminal."""
    lines = box.SIMPLE_HEAD if console.is_terminal else None
    table = Table(box=lines, title=title, title_justify="left", padding=(0, 1))
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="left" if i < texts else "right")
    return table
