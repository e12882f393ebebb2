"""Trained agents by name: a run directory, one of its checkpoints, or one that ships with the package."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from playfield import arguments as takes
from playfield import compute
from playfield.envs import make_envs
from playfield.envs.names import atari_games, classic_games, resolve
from playfield.errors import DataError, UsageError, nearest, shown
from playfield.options import number
from playfield.play.policy import Policy, ProbabilityPolicy, RandomPolicy
from playfield.runs import algorithm, catalog, checkpoint, foreign, registered
from playfield.runs.info import all_runs, is_run, newest_run, read_info, spec_from, stored
from playfield.runs.storage import atomic_write
from playfield.runs.weights import export_weights, import_weights

logger = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "agents"


@dataclass(frozen=True)
class Agent:
    """A trained agent as stored: everything but the network object.

    Attributes:
        info: what `run.json` says: env, algo, config, protocol, spec, seed, steps.
        weights: float32 tensors by parameter name.
        label: for reports, such as `runs/breakout/ppo/1, step 1,000,448`.
        step: training steps behind these weights.
        home: directory for films and results of this agent.
        warnings: newer checkpoints that were damaged and not used, and what was changed by hand in `run.json`.
    """

    info: dict[str, Any]
    weights: dict[str, Any]
    label: str
    step: int
    home: Path
    warnings: tuple[str, ...] = ()


def shipped() -> list[str]:
    """Names of the agents that come with the package."""
    return sorted(p.parent.name for p in SHIPPED.glob("*/agent.safetensors"))


def locate(name: str, newest: bool = True) -> None:
    """Raise the UsageError that `find_agent` would raise for a name that leads nowhere; reads no weights.

    `newest`: whether `best` and `last` are advised, which mean the newest run.
    """
    path = Path(name)
    if name in ("best", "last"):
        newest_run()
    elif not is_run(path) and not _is_checkpoint(path):
        _shipped_key(name, ", best, last" if newest else "")


def checkpoint_of(name: str | Path, which: str | int = "last") -> str:
    """Which checkpoint `find_agent` takes for a name that leads somewhere: `last`, `best`, or a step in digits."""
    name, which, path = str(name), str(which), Path(name)
    if name in ("best", "last"):
        return name
    if _is_checkpoint(path):
        step = path.name.removeprefix("ckpt-")
        return str(int(step)) if step.isascii() and step.isdigit() else path.name
    return which if which in ("last", "best") else str(number("--checkpoint", which, whole=True, commas=True))


def is_one_checkpoint(name: str | Path) -> bool:
    """Does the name of an agent alone say which checkpoint is meant?"""
    return str(name) in ("best", "last") or _is_checkpoint(Path(name))


def _is_checkpoint(path: Path) -> bool:
    """Is it the directory of a checkpoint in a run?"""
    return not is_run(path) and os.path.isdir(path) and path.parent.name == "checkpoints"


def find_agent(name: str | Path, which: str | int = "last") -> Agent:
    """The agent called `name`.

    Args:
        name: a run directory, a checkpoint directory in it, `best` or `last` (of the newest run under `runs/`),
            or the name of a shipped agent.
        which: for a run directory: `last`, `best`, or a step.

    Raises:
        UsageError: nothing of that name. DataError: something, but damaged.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise UsageError(f"an agent is named by its run directory or as one that ships, not {shown(name)}")
    which, name = str(which), str(name)
    path = Path(name)
    if is_one_checkpoint(name) and which not in ("last", checkpoint_of(name)):
        raise UsageError(f"{shown(name, plain=True)} names one checkpoint: leave out --checkpoint, or name the run")
    if name in ("best", "last"):
        path, which = newest_run(), name
    elif not is_run(path):
        if _is_checkpoint(path):
            return _from_checkpoint(path.parent.parent, path)
        key = _shipped_key(name)
        if which not in ("last", "best"):
            raise UsageError(f"{key} ships with one checkpoint, and has none called {which}: leave out --checkpoint")
        return _shipped(key)
    folder = path / "checkpoints"
    if which == "last":
        return _from_checkpoint(path, folder)
    if which == "best":
        if not (folder / "best").exists():
            raise UsageError(f"{path} has no best checkpoint yet: use --checkpoint last")
        return _from_checkpoint(path, folder / "best")
    step("--checkpoint", which)
    chosen = folder / f"ckpt-{number('--checkpoint', which, whole=True, commas=True):012d}"
    if not chosen.is_dir():
        kept = ", ".join(str(int(p.name[5:])) for p in sorted(folder.glob("ckpt-" + "[0-9]" * 12)))
        raise UsageError(f"{path} keeps no checkpoint of step {which}: it has {kept or 'none'}")
    return _from_checkpoint(path, chosen)


def _from_checkpoint(run: Path, where: Path) -> Agent:
    info = read_info(run)
    # Every byte is verified, only these are kept.
    found = checkpoint.load(where, ["parts/learner/weights"], partial(foreign.check, info))
    warnings = tuple(f"skipped a damaged checkpoint of {run}: {reason}" for reason in found.skipped)
    for line in warnings:
        logger.warning(f"{line}; step {found.step:,} is used")
    if edits := foreign.changes(info, found):
        edited = f"changed by hand in {run / 'run.json'}: {', '.join(edits)}"
        logger.warning(edited)
        warnings += (edited,)
    learns = catalog.entry(algorithm.stored_name(info)).learns
    try:
        weights = found.tree["parts"]["learner"]["weights"] if learns else {}
    except (KeyError, TypeError):
        raise DataError(f"{found.path} holds no weights (algorithm {info['algo']})") from None
    return Agent(info, weights, f"{run}, step {found.step:,}", found.step, run, warnings)


def _environments() -> list[str]:
    return [*atari_games(), *classic_games()]


def _shipped_key(name: str, newest: str = ", best, last") -> str:
    known = shipped()
    key = name
    if key not in known:
        try:
            key = resolve(name).id
        except UsageError:
            key = name
    if key not in known:
        close = nearest(name, [*all_runs(), *known])
        hint = f"did you mean {', '.join(close)}?" if close else f"give a run directory{newest}, or a shipped agent."
        if key != name or name in _environments():
            hint = f"to see random play add --agent random; or train one: playfield train {name}."
        raise UsageError(f"no agent {shown(name)}: {hint} Shipped agents: {', '.join(known) or 'none'}")
    return key


def _shipped(key: str) -> Agent:
    weights, meta = import_weights(SHIPPED / key / "agent.safetensors")
    return Agent(meta, weights, f"shipped agent {key}", int(meta["step"]), Path("runs") / "shipped" / key)


def step(name: str, value: Any) -> None:
    """Raise UsageError unless `value` names a checkpoint of a run: `last`, `best` or a step."""
    if value in ("last", "best"):
        return
    try:
        number(name, str(value), whole=True, commas=True)
    except UsageError:
        where = "--checkpoint (which)" if name == "which" else name
        raise UsageError(f"{where} must be last, best or a step, not {shown(value)}") from None


@takes.checked(
    which=step, temperature=takes.real(0, 100), seed=takes.seed, device=takes.text("cpu", "cuda"), trust=takes.switch
)
def load_policy(
    source: str | Path | Agent,
    which: str | int = "last",
    *,
    temperature: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    trust: bool = False,
) -> Policy:
    """A policy that is ready to act.

    Args:
        source: a run directory, a checkpoint directory in it, `best` or `last` (of the newest run under `runs/`),
            the name of a shipped agent, or an `Agent`.
        which: for a run directory: `last`, `best`, or a step.
        temperature: the logits are divided by it: 1 samples as in training, 0 is greedy. None: as the algorithm
            evaluates its agents, 1 unless it says otherwise.
        seed: of its own sampling, where `act` is not given random numbers.
        device: where the network computes: `cpu` or `cuda`.
        trust: import the module of an environment `module:Id` that only the run's files name.

    Returns:
        An object with `act(obs)` (observations [N, ...] to actions [N]) and `explain(obs)` (named arrays).

    Raises:
        UsageError: nothing of that name.
        DataError: a damaged checkpoint or `run.json`, or one that names a module to import, without `trust`.

    Example:
        >>> policy = load_policy("breakout")
        >>> action = policy.act(obs)
    """
    if device == "cuda" and not compute.has_cuda():
        raise UsageError("device cuda: torch finds no CUDA device here")
    agent = source if isinstance(source, Agent) else find_agent(source, which)
    spec = spec_from(agent.info)
    registered.require(agent.info, spec, trust)
    with stored(f"what {agent.label} says of its agent"):
        name = algorithm.stored_name(agent.info)
        module = algorithm.load(name)
        cfg = algorithm.stored_config(module, name, agent.info["config"]).kept(agent.home)
        network = module.load(spec, cfg, agent.weights, device)
    if temperature is None:
        temperature = cfg.evaluation_temperature
    return ProbabilityPolicy(spec, network, agent.label, temperature, seed, agent.warnings)


def agent_or_random(
    source: str, which: str, agent: str | None, temperature: float | None, seed: int, trust: bool = False
) -> tuple[Policy, Path]:
    """The policy that `source` names, or a random one for the environment that it names; and its home directory."""
    if agent not in (None, "random"):
        raise UsageError(f"--agent takes only random, not {agent!r}; a trained agent is named by its run directory")
    if agent is None:
        found: Agent = find_agent(source, which)
        return load_policy(found, temperature=temperature, seed=seed, trust=trust), found.home
    if is_run(source):
        info = read_info(Path(source))
        spec = spec_from(info)
        registered.require(info, spec, trust)
        return RandomPolicy(spec, seed), Path(source)
    env = make_envs(source, 1)
    spec = env.spec
    env.close()
    return RandomPolicy(spec, seed), Path("runs") / "random" / spec.id.replace("/", "-")


def export_agent(run: Path, name: str, card: dict[str, Any], which: str = "last") -> Path:
    """Ship the agent of a run with the package: weights in half the size (bfloat16 where exact enough) and a card."""
    agent = find_agent(str(run), which)
    info = read_info(run)
    folder = SHIPPED / name
    folder.mkdir(parents=True, exist_ok=True)
    keep = (
        "env",
        "algo",
        "preset",
        "config",
        "spec",
        "protocol",
        "seed",
        "steps",
        "compute",
        "versions",
        "command",
    )
    meta = {k: info[k] for k in (*keep, *({"init_from"} & info.keys()))} | {"step": agent.step, "card": card}
    tensors = {k: v.bfloat16() if v.dim() > 1 else v for k, v in agent.weights.items()}
    path = folder / "agent.safetensors"
    export_weights(path, tensors, meta)
    atomic_write(folder / "card.json", json.dumps(meta, indent=2) + "\n")
    return path
