"""Data-parallel updates of one network by workers: threads, or processes that share memory.

Each worker runs PyTorch with one intra-op thread and computes the gradient of its own share of a minibatch on a
replica of the network. Replicas share their weights: all parameters are views of one flat float32 vector (or of a
bfloat16 copy of it, for bodies that compute in bfloat16). Processes on a GPU, which cannot share these, have copies.
Gradients are summed in the order of the workers, so the result does not depend on timing; every worker then applies
the optimizer to its own slice of the vector.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from playfield.compute import Compute
from playfield.errors import DataError, DivergedError
from playfield.nets.optimizers import Optimizer
from playfield.nets.team import Processes
from playfield.nets.team import Team as Team
from playfield.runs.group import Group

_ALIGN = 32  # elements: every parameter starts on a cache line
_LARGE = 2**18  # elements from which taking over a parameter's gradient is faster than adding it to zeros

R = TypeVar("R")
N = TypeVar("N", bound=nn.Module)


def _layout(params: Iterable[Tensor]) -> tuple[list[int], int]:
    """Offset of each parameter in the flat vector, and the vector's length."""
    starts: list[int] = []
    end = 0
    for p in params:
        starts.append(end)
        end += -(-p.numel() // _ALIGN) * _ALIGN
    return starts, end


def _view(flat: Tensor, start: int, like: Tensor) -> Tensor:
    """View of the slice of `flat` that holds a parameter shaped like `like`; 4-d weights are channels-last."""
    part = flat[start : start + like.numel()]
    if like.dim() == 4:
        o, i, h, w = like.shape
        return part.view(o, h, w, i).permute(0, 3, 1, 2)
    return part.view(like.shape)


class Learner:
    """One network, its optimizer, and the workers that compute its gradients.

    Of processes each has a Learner, which has the share of its worker; weights and gradients are the same memory.
    Those that compute on a GPU have copies there: of the weights before each use, of their gradients after it.

    Args:
        net: parameters under `net.body` and `net.critic_body` use the precision of `compute` (bfloat16 or float32);
            all others, such as heads, are float32.
        optimizer: makes the optimizer for a list of flat tensors; called once for each worker's slice.
        compute: device, precision and number of workers.
        max_grad_norm: maximum global gradient norm (0: no clipping).
        group: the processes of the workers, where they are no threads of this one.

    Attributes:
        net: the network with the float32 weights.
        replicas: the networks of the workers, which have its weights (in `compute`'s precision).
        team: the workers.
        seconds: time spent in `update` so far, by part.
    """

    def __init__(
        self,
        net: nn.Module,
        optimizer: Callable[[list[Tensor]], Optimizer],
        compute: Compute,
        max_grad_norm: float,
        group: Group | None = None,
    ) -> None:
        self.compute, self.max_grad_norm, self._make_optimizer = compute, max_grad_norm, optimizer
        self.team = Team(compute.workers) if group is None else Processes(group, self._fetch)
        self._group, workers = group, compute.workers
        self._own = range(workers) if group is None else range(group.rank, group.rank + 1)
        self._updates = range(workers) if group is None else group.share(group.rank)  # slices of the weights
        first = group is None or group.rank == group.home.start
        self.seconds = {"gradient": 0.0, "optimizer": 0.0}
        device = torch.device(compute.device)
        self._apart = group is not None and not _shareable(device)
        named = list(net.named_parameters())
        # Bodies first, so that they are contiguous in the flat vector.
        named.sort(key=lambda item: not _in_body(item[0]))
        self.names = [name for name, _ in named]
        self.starts, self.size = _layout(p for _, p in named)
        in_body = [_in_body(name) for name in self.names]
        self.body_size = next((s for s, b in zip(self.starts, in_body, strict=True) if not b), self.size)
        if compute.dtype == torch.float32:
            self.body_size = 0
        self.flat = self._zeros(self.size)
        self.flat_body = self._zeros(self.body_size, compute.dtype)
        self.net = net if self._apart else net.to(device)
        for (_, p), start in zip(named, self.starts, strict=True):
            view = _view(self.flat, start, p)
            if first:  # the others would overwrite what the first may have restored by then
                view.copy_(p.data)
            p.data = view
        if first:
            self.flat_body.copy_(self.flat[: self.body_size])
        self._size = max(float(self.flat.norm()), 1e-6)
        self.replicas: list[nn.Module] = []
        self._grad_body: list[Tensor] = []
        self._grad_head: list[Tensor] = []
        self._large: list[list[tuple[nn.Parameter, Tensor]]] = []
        for _ in range(workers):
            self._grad_body.append(self._zeros(self.body_size, compute.dtype))
            self._grad_head.append(self._zeros(self.size - self.body_size))
        shared = [self.flat_body, self.flat[self.body_size :]]
        # What this process computes with: weights, and for each of its workers gradients, of bodies and of heads.
        self._weights = [torch.zeros_like(part, device=device) for part in shared] if self._apart else shared
        self._grads: list[list[Tensor]] = []
        for k in self._own:
            grads = [self._grad_body[k], self._grad_head[k]]
            if self._apart:
                grads = [torch.zeros_like(part, device=device) for part in grads]
            replica = copy.deepcopy(net).to(device)
            params = dict(replica.named_parameters())
            for name, start in zip(self.names, self.starts, strict=True):
                p, head = params[name], int(start >= self.body_size)
                p.data = _view(self._weights[head], start - head * self.body_size, p)
                p.grad = _view(grads[head], start - head * self.body_size, p)
            self.replicas.append(replica)
            self._grads.append(grads)
            large = [p for p in params.values() if p.numel() >= _LARGE]
            self._large.append([(p, slot) for p in large if (slot := p.grad) is not None])
        if group is not None:
            self.replicas, self._large = workers * self.replicas, workers * self._large
            self._grads = workers * self._grads
        edges = [round(k * self.size / workers / _ALIGN) * _ALIGN for k in range(workers)]
        self._slices = [slice(a, b) for a, b in zip(edges, [*edges[1:], self.size], strict=True)]
        self.flat.grad = torch.zeros_like(self.flat)
        self._parts = []
        for s in self._slices:
            part = self.flat[s].detach()
            part.grad = self.flat.grad[s]
            self._parts.append(part)
        self.optimizers = [optimizer([part]) for part in self._parts]
        self._shared: dict[str, Tensor] = {}  # what processes' optimizers keep for the flat vector
        if group is not None:
            shapes = self._optimizer_shapes()
            self._shared = {key: self._zeros(self.size) for key in sorted(shapes) if shapes[key]}
            bodies, heads = self._grad_body, self._grad_head
            gradients = [[_bytes(body), _bytes(head)] for body, head in zip(bodies, heads, strict=True)]
            group.lend(gradients, [_bytes(part) for part in shared])
        self.team.run(lambda k: None)  # the weights are there

    def _zeros(self, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """A vector of zeros; of processes all have the same one."""
        if self._group is None or not size:
            return torch.zeros(size, dtype=dtype, device=self.compute.device)
        return torch.frombuffer(self._group.memory(size * dtype.itemsize), dtype=dtype, count=size)

    def update(self, loss: Callable[[int, nn.Module], tuple[Tensor, R]], lr: float) -> tuple[list[R], float]:
        """One optimizer step on the sum of the workers' losses.

        Args:
            loss: maps a worker's number and replica to (its share of the loss, a scalar tensor; metrics or
                anything else to return).
            lr: learning rate of this step.

        Returns:
            The second value of each worker's `loss`, and the global gradient norm before clipping.

        Raises:
            DivergedError: the gradient is not finite; the weights are still those of the last good step.
        """

        def backward(k: int) -> R:
            for grad in self._grads[k]:
                grad.zero_()
            for p, _ in self._large[k]:
                p.grad = None  # autograd then sets the gradient instead of adding it to zeros, which is faster
            value, extra = loss(k, self.replicas[k])
            value.backward()
            for p, slot in self._large[k]:
                if p.grad is not None:
                    slot.copy_(p.grad)
            if self._apart:
                self._grad_body[k].copy_(self._grads[k][0])
                self._grad_head[k].copy_(self._grads[k][1])
            return extra

        start = time.perf_counter()
        extras = self.team.differentiate(backward)
        middle = time.perf_counter()
        norm: float = sum(self.team.spread(self._reduce)) ** 0.5
        if not math.isfinite(norm):
            raise DivergedError("the gradient is not finite: lower the learning rate (--lr)")
        scale = min(1.0, self.max_grad_norm / (norm + 1e-6)) if self.max_grad_norm else 1.0

        def apply(k: int) -> None:
            part, optimizer = self._parts[k], self.optimizers[k]
            if scale < 1.0 and part.grad is not None:
                part.grad.mul_(scale)
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            self._share_state(k)
            self._publish(self._slices[k])

        self.team.change_weights(apply)
        self.seconds["gradient"] += middle - start
        self.seconds["optimizer"] += time.perf_counter() - middle
        return extras, norm

    def _reduce(self, k: int) -> float:
        """Sum the workers' gradients over slice k, in the order of workers; returns the slice's squared norm."""
        s, b = self._slices[k], self.body_size
        total = self._parts[k].grad
        assert total is not None
        cut = min(max(b - s.start, 0), s.stop - s.start)  # [0, cut) of the slice is body, the rest is head
        for w in range(self.compute.workers):
            body = self._grad_body[w][s.start : s.start + cut]
            head = self._grad_head[w][s.start + cut - b : s.stop - b] if s.stop > b else None
            if w == 0:
                total[:cut].copy_(body)
                if head is not None:
                    total[cut:].copy_(head)
            else:
                total[:cut].add_(body)
                if head is not None:
                    total[cut:].add_(head)
        return float(torch.dot(total, total))

    def _share_state(self, k: int) -> None:
        """Let the optimizer of worker k keep its state where all processes see it."""
        state = self.optimizers[k].state[self._parts[k]]
        for key, whole in self._shared.items():
            part = whole[self._slices[k]]
            if state[key].data_ptr() != part.data_ptr():
                part.copy_(state[key])
                state[key] = part

    @torch.no_grad()
    def _fetch(self) -> None:
        """Copy the weights that processes share to the device, where they cannot compute with those."""
        if self._apart:
            self._weights[0].copy_(self.flat_body)
            self._weights[1].copy_(self.flat[self.body_size :])

    def _publish(self, s: slice) -> None:
        """Copy slice `s` of the new weights to the replicas' bfloat16 copy, where there is one."""
        stop = min(s.stop, self.body_size)
        if s.start < stop:
            self.flat_body[s.start : stop].copy_(self.flat[s.start : stop])

    def state(self) -> dict[str, Any]:
        """Weights by name, and the optimizer's state as flat vectors; all float32 copies."""
        optim: dict[str, Any] = {}
        states = [self.optimizers[k].state[self._parts[k]] for k in self._updates]
        for key in states[0] if states and all(states) else ():
            values = [s[key] for s in states]
            whole = (
                self._shared[key].clone() if key in self._shared else torch.cat(values) if values[0].dim() else None
            )
            optim[key] = values[0].clone() if whole is None else whole
        weights = {n: p.detach().clone().contiguous() for n, p in self.net.named_parameters()}
        return {"weights": weights, "optimizer": optim}

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `state` returned; the number of workers may differ.

        Raises DataError, before anything is copied, for other shapes and types: the optimizer would not check them.
        """
        params = dict(self.net.named_parameters())
        check_shapes(params, state["weights"])
        known = self._optimizer_shapes() if state["optimizer"] else {}
        if state["optimizer"].keys() != known.keys():
            raise DataError(f"the state is of another optimizer: it has {', '.join(sorted(state['optimizer']))}")
        for key, value in state["optimizer"].items():
            if value.dtype != torch.float32 or list(value.shape) != known[key]:
                raise DataError(f"the optimizer's {key} is {value.dtype} {list(value.shape)}, expected {known[key]}")
        with torch.no_grad():
            for name, value in state["weights"].items():
                params[name].copy_(value)
            for k in self._updates:
                optimizer, part, s = self.optimizers[k], self._parts[k], self._slices[k]
                fused = optimizer.defaults.get("fused") or optimizer.defaults.get("capturable")
                for key, value in state["optimizer"].items():
                    scalar = value.dim() == 0  # the count of steps, which only fused optimizers keep on the GPU
                    where = "cpu" if scalar and not fused else self.flat.device
                    optimizer.state[part][key] = (value if scalar else value[s]).clone().to(where)
                if state["optimizer"]:
                    self._share_state(k)
        self._publish(slice(0, self.size))

    def begin(self, weights: dict[str, Any]) -> None:
        """Start from these weights instead of random ones. Raises DataError where they are for another network."""
        params = dict(self.net.named_parameters())
        check_shapes(params, weights)
        with torch.no_grad():
            for name, value in weights.items():
                params[name].copy_(value)
        self._size = max(self._size, float(self.flat.norm()))
        self._publish(slice(0, self.size))

    def _optimizer_shapes(self) -> dict[str, list[int]]:
        """Shapes of what this optimizer keeps for the flat vector, found by a step on a weight that is 0."""
        probe = torch.zeros(1, device=self.flat.device)
        probe.grad = torch.zeros_like(probe)
        optimizer = self._make_optimizer([probe])
        optimizer.step()
        return {key: [self.size] if value.dim() else [] for key, value in optimizer.state[probe].items()}

    def weights_finite(self) -> bool:
        """Whether no weight is NaN or infinite."""
        return bool(torch.isfinite(self.flat).all())

    def growth(self) -> float:
        """How many times as large as at the start the weights are, as the norm of all of them."""
        return float(self.flat.norm()) / self._size

    def close(self) -> None:
        """Stop the workers."""
        self.team.close()


def _shareable(device: torch.device) -> bool:
    """Whether processes can compute on a device with the weights, and to the gradients, that they share."""
    return device.type == "cpu"


def _bytes(flat: Tensor) -> memoryview:
    """The memory of a vector."""
    return flat.detach().view(torch.uint8).numpy().data


def _in_body(name: str) -> bool:
    return name.startswith(("body.", "critic_body."))


def check_shapes(own: dict[str, Any], weights: dict[str, Any]) -> None:
    """Raise DataError, naming the first tensor, unless `weights` have the names and shapes of `own`."""
    for name in sorted(own.keys() | weights.keys()):
        here = tuple(own[name].shape) if name in own else "missing"
        there = tuple(weights[name].shape) if name in weights else "missing"
        if here != there:
            raise DataError(f"these weights are for another network: {name} is {there}, expected {here}")


def load_weights(net: N, weights: dict[str, Any], device: str) -> N:
    """Copy `weights` (tensors by parameter name) into `net`; returns it on `device`, in evaluation mode.

    Raises DataError, naming the first tensor that does not fit, before anything is copied.
    """
    own = dict(net.named_parameters())
    check_shapes(own, weights)
    with torch.no_grad():
        for name, p in own.items():
            p.copy_(weights[name])
    net.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return net.eval()
