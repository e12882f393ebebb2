"""RMSProp as in the DQN papers: unlike PyTorch's, epsilon is inside the square root."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class CentredRMSProp(torch.optim.Optimizer):
    """w -= lr g / sqrt(E[g^2] - E[g]^2 + eps), with running means (Graves 2013, used by Mnih et al. 2015).

    Rounding may make the variance slightly negative; it is clamped to 0, so that the square root is never NaN.

    Args:
        decay: of the running means, which start at 0.
        eps: added to the variance.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, decay: float = 0.95, eps: float = 1e-5) -> None:
        super().__init__(params, {"lr": lr, "decay": decay, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["grad_avg"], state["square_avg"] = torch.zeros_like(p), torch.zeros_like(p)
                mean, square = state["grad_avg"], state["square_avg"]
                mean.lerp_(p.grad, 1 - group["decay"])
                square.mul_(group["decay"]).addcmul_(p.grad, p.grad, value=1 - group["decay"])
                spread = torch.addcmul(square, mean, mean, value=-1).clamp_(min=0).add_(group["eps"]).sqrt_()
                p.addcdiv_(p.grad, spread, value=-group["lr"])
        return None
