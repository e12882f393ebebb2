"""Saliency: how an agent's value and action probabilities change when parts of its observation are perturbed.

Occlusion blurs one patch of a pixel observation at a time, in all stacked frames (Greydanus et al. 2018). Gradients
measure the effect of an infinitesimal change instead. In a vector observation one number at a time is replaced.
Such maps do not prove what an agent "understands": see Atrey et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import nn

from playfield.errors import UsageError

# `Policy.explain`: observations [N, ...] -> some of probs, net_probs, q (each [N, A]) and value [N].
Outputs = dict[str, np.ndarray]
Explain = Callable[[np.ndarray], Outputs]

STEP, RADIUS = 6, 4.0  # pixels between patches, and the standard deviation of a patch's Gaussian mask
BATCH = 256


@dataclass(frozen=True)
class Effects:
    """The agent's output before and after each of P perturbations of one observation.

    Attributes:
        where: centres (row, column) of the patches, float [P, 2], or feature indices, int [P, 1].
        grid: (rows, columns) of the patches; (P, 1) for features.
        shape: (height, width) of the observation; (P, 1) for features.
        value: value of the observation, None where the agent has none.
        values: values of the perturbed observations, [P], zeros where the agent has none.
        probs: action probabilities as the agent plays, [A], None where it has none.
        probs_after: those of the perturbed observations, [P, A], or None.
        net_probs, net_probs_after: the same from the network's own distribution, at temperature 1.
    """

    where: np.ndarray
    grid: tuple[int, int]
    shape: tuple[int, int]
    value: float | None
    values: np.ndarray
    probs: np.ndarray | None
    probs_after: np.ndarray | None
    net_probs: np.ndarray | None
    net_probs_after: np.ndarray | None

    @property
    def value_change(self) -> np.ndarray:
        """Value of the perturbed observation minus value of the observation, [P]."""
        return np.zeros(len(self.where)) if self.value is None else np.asarray(self.values - self.value)

    @property
    def divergence(self) -> np.ndarray:
        """KL(before || after) of the network's action distribution at temperature 1, in nats, [P].

        Not of the probabilities that the agent plays with: those of a greedy agent are 0 and 1, and would only change
        where the argmax does.
        """
        if self.net_probs is None or self.net_probs_after is None:
            return np.zeros(len(self.where))
        return kl(self.net_probs[None], self.net_probs_after)

    @property
    def strength(self) -> np.ndarray:
        """Importance of each perturbation, [P] in [0, 1]: the mean of both measures, each divided by its maximum."""
        return np.asarray((relative(np.abs(self.value_change)) + relative(self.divergence)) / 2)

    def maps(self) -> dict[str, np.ndarray]:
        """Saliency maps `value` (absolute change) and `policy` (divergence), float32 [H, W] each, not negative."""
        return {
            "value": upsample(np.abs(self.value_change).reshape(self.grid), self.shape),
            "policy": upsample(self.divergence.reshape(self.grid), self.shape),
        }


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) over the last axis, in nats; never negative."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    safe = np.maximum(p, 1e-12)
    return np.asarray(np.maximum((p * np.log(safe / np.maximum(q, 1e-12))).sum(-1), 0.0))


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy over the last axis, in nats."""
    p = np.asarray(p, np.float64)
    return np.asarray(-(p * np.log(np.maximum(p, 1e-12))).sum(-1))


def relative(x: np.ndarray) -> np.ndarray:
    """`x` divided by its maximum; zeros where the maximum is within rounding error of 0."""
    top = float(np.max(x, initial=0.0))
    return np.asarray(x / top) if top > 1e-9 else np.zeros_like(x)


def upsample(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Results per patch [h, w], interpolated to a map float32 [H, W] that is not negative."""
    wide = cv2.resize(grid.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.maximum(wide, 0)


def patches(shape: tuple[int, int], step: int = STEP) -> tuple[np.ndarray, tuple[int, int]]:
    """Centres (row, column), float [P, 2], of patches about `step` pixels apart, and the grid's (rows, columns)."""
    rows, columns = (max(1, round(n / step)) for n in shape)
    y = (np.arange(rows) + 0.5) * shape[0] / rows - 0.5
    x = (np.arange(columns) + 0.5) * shape[1] / columns - 0.5
    return np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2), (rows, columns)


def blur_patches(obs: np.ndarray, centres: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """Copies of `obs`, uint8 [H, W, C], each blurred around one centre by a Gaussian mask: uint8 [P, H, W, C]."""
    height, width = obs.shape[:2]
    planes = [cv2.GaussianBlur(np.ascontiguousarray(obs[..., c]), (0, 0), radius) for c in range(obs.shape[2])]
    difference = np.stack(planes, -1).astype(np.float32) - obs
    out = np.repeat(obs[None], len(centres), 0)
    for copy, (y, x) in zip(out, centres, strict=True):
        # Beyond three standard deviations the weight is below 0.011: 0 to 2 of 255.
        rows = slice(max(0, int(y - 3 * radius)), min(height, int(y + 3 * radius) + 1))
        columns = slice(max(0, int(x - 3 * radius)), min(width, int(x + 3 * radius) + 1))
        down = np.exp(-((np.arange(rows.start, rows.stop) - y) ** 2) / (2 * radius**2))
        across = np.exp(-((np.arange(columns.start, columns.stop) - x) ** 2) / (2 * radius**2))
        weight = (down[:, None] * across)[..., None].astype(np.float32)
        window = copy[rows, columns]
        window += np.round(weight * difference[rows, columns]).astype(np.int16).astype(np.uint8)  # modulo 256: exact
    return out


def _in_batches(explain: Explain, batch: np.ndarray) -> Outputs:
    parts = [explain(batch[i : i + BATCH]) for i in range(0, len(batch), BATCH)]
    return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}


def _effects(
    explain: Explain,
    obs: np.ndarray,
    changed: np.ndarray,
    where: np.ndarray,
    grid: tuple[int, int],
    shape: tuple[int, int],
) -> Effects:
    out = _in_batches(explain, np.concatenate([obs[None], changed]))
    values = values_of(out)
    probs, net_probs = out.get("probs"), net_probs_of(out)
    return Effects(
        where=where,
        grid=grid,
        shape=shape,
        value=None if values is None else float(values[0]),
        values=np.zeros(len(changed)) if values is None else values[1:].astype(np.float64),
        probs=None if probs is None else probs[0].astype(np.float64),
        probs_after=None if probs is None else probs[1:].astype(np.float64),
        net_probs=None if net_probs is None else net_probs[0].astype(np.float64),
        net_probs_after=None if net_probs is None else net_probs[1:].astype(np.float64),
    )


def values_of(outputs: Outputs) -> np.ndarray | None:
    """State values [N] in the output of `Policy.explain`: `value`, or the largest action value; else None."""
    if "value" in outputs:
        return np.asarray(outputs["value"])
    return np.asarray(outputs["q"]).max(-1) if "q" in outputs else None


def net_probs_of(outputs: Outputs) -> np.ndarray | None:
    """The network's action probabilities [N, A] at temperature 1 in the output of `Policy.explain`, or None."""
    found = outputs.get("net_probs", outputs.get("probs"))
    return None if found is None else np.asarray(found)


def occlusion(explain: Explain, obs: np.ndarray, step: int = STEP, radius: float = RADIUS) -> Effects:
    """Effects of blurring each patch of a pixel observation, one at a time.

    Args:
        explain: `Policy.explain`.
        obs: uint8 [H, W, C].
        step: pixels between patches.
        radius: standard deviation of the Gaussian mask and blur, in pixels.
    """
    height, width = obs.shape[:2]
    centres, grid = patches((height, width), step)
    return _effects(explain, obs, blur_patches(obs, centres, radius), centres, grid, (height, width))


def feature_effects(explain: Explain, obs: np.ndarray, replace: np.ndarray) -> Effects:
    """Effects of replacing each number of a vector observation [K] by the one in `replace` [K], one at a time."""
    size = len(obs)
    changed = np.repeat(obs[None], size, 0)
    changed[np.arange(size), np.arange(size)] = replace
    return _effects(explain, obs, changed, np.arange(size)[:, None], (size, 1), (size, 1))


def gradients(net: nn.Module, obs: np.ndarray, action: int) -> dict[str, np.ndarray]:
    """Absolute gradients of the value and of log pi(action) with respect to the input (Simonyan et al. 2014).

    Args:
        net: from observations [N, ...] to (logits [N, A], values [N]).
        obs: one observation, pixels [H, W, C] or a vector [K].
        action: index of the action.

    Returns:
        `value` and `policy`, float32 [H, W] (maximum over channels, slightly smoothed) or [K].

    Raises:
        UsageError: the network has no gradients.
    """
    x = torch.tensor(obs[None], dtype=torch.float32, requires_grad=True)
    logits, values = net(x)
    target = {"value": values[0], "policy": torch.log_softmax(logits[0], -1)[action]}
    out = {}
    for name, scalar in target.items():
        if not scalar.requires_grad:
            raise UsageError("this network has no gradients: use --method occlusion")
        (grad,) = torch.autograd.grad(scalar, x, retain_graph=True, allow_unused=True)
        found = np.zeros(obs.shape, np.float32) if grad is None else grad[0].abs().numpy()
        out[name] = cv2.GaussianBlur(found.max(-1), (0, 0), 1.5) if obs.ndim == 3 else found
    return out


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two maps, in [-1, 1]; ties get their mean rank; 0 where a map is constant."""
    ranks = []
    for x in (a, b):
        _, index, counts = np.unique(np.ravel(x), return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks.append((ends - (counts - 1) / 2)[index])
    first, second = (r - r.mean() for r in ranks)
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / scale) if scale > 0 else 0.0
