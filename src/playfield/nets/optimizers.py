"""Optimizers of the algorithms: Adam, RMSProp, and the centred RMSProp of the DQN papers.

On a CPU the first two do what `torch.optim.Adam(fused=True)` and `RMSprop` do, to the bit. What is left out is
`torch._dynamo`, which `torch.optim` loads as soon as an optimizer is made and which nothing here uses: a training
begins sooner without it, and needs less memory. A `Learner` takes PyTorch's own optimizers as well.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Protocol

import torch
from torch import Tensor


class Optimizer(Protocol):
    """What a `Learner` needs of an optimizer; those of `torch.optim` have it.

    Attributes:
        param_groups: one dictionary of options with the tensors, `params`; `lr` may change between steps.
        defaults: the options that it was made with.
        state: for each tensor what is kept between steps: tensors of its shape, and the scalar `step`.
    """

    param_groups: list[dict[str, Any]]
    defaults: dict[str, Any]

    @property
    def state(self) -> Any: ...

    def step(self) -> Any:
        """Update every tensor that has a gradient."""


class _Flat(ABC):
    """The bookkeeping of an optimizer of float32 tensors."""

    def __init__(self, params: Iterable[Tensor], **options: Any) -> None:
        self.defaults = options
        self.param_groups: list[dict[str, Any]] = [{"params": list(params), **options}]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    @torch.no_grad()
    def step(self) -> None:
        """Update every tensor that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, self.state[p], group)

    @abstractmethod
    def _update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        """Change `p`, and what is kept of it, by one step."""


class Adam(_Flat):
    """w -= lr m / (sqrt(v) + eps), with bias-corrected running means m of g and v of g^2 (Kingma and Ba 2015).

    The same as `torch.optim.Adam(..., fused=True)`, to the bit.

    Args:
        betas: decay of the running means, which start at 0.
        eps: added to the square root.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps, fused=True)  # `fused`: `step` lies beside the weights

    def _update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        state["step"].add_(1)
        torch._fused_adam_(
            [p], [grad], [state["exp_avg"]], [state["exp_avg_sq"]], [], [state["step"]],
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=0.0, eps=group["eps"],
            amsgrad=False, maximize=False,
        )  # fmt: skip


class RMSProp(_Flat):
    """w -= lr g / (sqrt(E[g^2]) + eps), with a running mean (Hinton 2012): `torch.optim.RMSprop`, to the bit.

    Args:
        alpha: decay of the running mean, which starts at 0.
        eps: added to the square root.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, alpha: float = 0.99, eps: float = 1e-8) -> None:
        super().__init__(params, lr=lr, alpha=alpha, eps=eps)

    def _update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        if not state:
            state["step"] = torch.zeros(())
            state["square_avg"] = torch.zeros_like(p)
        state["step"].add_(1)
        square = state["square_avg"].mul_(group["alpha"]).addcmul_(grad, grad, value=1 - group["alpha"])
        p.addcdiv_(grad, square.sqrt().add_(group["eps"]), value=-group["lr"])


class CentredRMSProp(_Flat):
    """w -= lr g / sqrt(E[g^2] - E[g]^2 + eps), with running means (Graves 2013, used by Mnih et al. 2015).

    Unlike PyTorch's, epsilon is inside the square root. Rounding may make the variance slightly negative; it is
    clamped to 0, so that the square root is never NaN.

    Args:
        decay: of the running means, which start at 0.
        eps: added to the variance.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, decay: float = 0.95, eps: float = 1e-5) -> None:
        super().__init__(params, lr=lr, decay=decay, eps=eps)

    def _update(self, p: Tensor, grad: Tensor, state: dict[str, Tensor], group: dict[str, Any]) -> None:
        if not state:
            state["grad_avg"], state["square_avg"] = torch.zeros_like(p), torch.zeros_like(p)
        mean, square = state["grad_avg"], state["square_avg"]
        mean.lerp_(grad, 1 - group["decay"])
        square.mul_(group["decay"]).addcmul_(grad, grad, value=1 - group["decay"])
        spread = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0).add_(group["eps"]).sqrt_()
        p.addcdiv_(grad, spread, value=-group["lr"])
