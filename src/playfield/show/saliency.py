"""What an agent's output depends on: parts of its observation are taken away, and the change is measured.

Occlusion blurs one patch of a pixel observation at a time, in all stacked frames (Greydanus et al. 2018), and
looks at the value and at the action probabilities. Gradients ask for an infinitely small change instead. Numbers
of a vector observation are moved to values that they had in the same game. None of this proves what an agent
"understands": see Atrey et al. 2020.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.errors import UsageError

Think = Callable[[np.ndarray], dict[str, np.ndarray]]  # Policy.explain: obs [N, ...] -> probs [N, A], value [N]

STEP, RADIUS = 6, 4.0  # pixels between patches, and the standard deviation of a patch
BATCH = 256


@dataclass(frozen=True)
class Effects:
    """What P changes of one observation do to the agent's output.

    Attributes:
        where: P centres (row, column) of patches, int [P, 2], or P feature indices [P, 1].
        grid: (rows, columns) of the patches; (P, 1) for features.
        shape: (height, width) of the observation; (P, 1) for features.
        value: the value before, None where the agent has none.
        values: the values after, [P], zeros where the agent has none.
        probs: action probabilities before, as the agent plays, [A], None where it has none.
        probs_after: [P, A], or None.
        net_probs, net_probs_after: those of its net, at temperature 1.
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
        """Value after minus value before, [P]."""
        return self.values - self.value if self.value is not None else np.zeros(len(self.where))

    @property
    def divergence(self) -> np.ndarray:
        """KL divergence of the net's probabilities after from those before, in nats, [P].

        Not of those it plays with: a greedy agent's are all 0 and 1, and would hide every change but a new choice.
        """
        if self.net_probs is None or self.net_probs_after is None:
            return np.zeros(len(self.where))
        return kl(self.net_probs[None], self.net_probs_after)

    @property
    def strength(self) -> np.ndarray:
        """How much each change matters, [P]: mean of both measures, each relative to its largest."""
        return (relative(np.abs(self.value_change)) + relative(self.divergence)) / 2

    def maps(self) -> dict[str, np.ndarray]:
        """`value` (absolute change) and `policy` (divergence), float32 [H, W] each, zero or more."""
        return {
            "value": spread(np.abs(self.value_change).reshape(self.grid), self.shape),
            "policy": spread(self.divergence.reshape(self.grid), self.shape),
        }


def kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """KL(p || q) over the last axis, in nats; never negative."""
    p, q = np.asarray(p, np.float64), np.asarray(q, np.float64)
    safe = np.maximum(p, 1e-12)
    return np.maximum((p * np.log(safe / np.maximum(q, 1e-12))).sum(-1), 0.0)


def entropy(p: np.ndarray) -> np.ndarray:
    """Entropy over the last axis, in nats."""
    p = np.asarray(p, np.float64)
    return -(p * np.log(np.maximum(p, 1e-12))).sum(-1)


def relative(x: np.ndarray) -> np.ndarray:
    """`x` divided by its largest value; zeros where nothing is above rounding errors."""
    top = float(np.max(x, initial=0.0))
    return x / top if top > 1e-9 else np.zeros_like(x)


def spread(grid: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A grid of patch results [h, w] as a smooth map float32 [H, W]."""
    import cv2

    wide = cv2.resize(grid.astype(np.float32), (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.maximum(wide, 0)


def patches(shape: tuple[int, int], step: int = STEP) -> tuple[np.ndarray, tuple[int, int]]:
    """Centres float [P, 2] (row, column) of a grid of patches about `step` apart, and the (rows, columns)."""
    rows, columns = (max(1, round(n / step)) for n in shape)
    y = (np.arange(rows) + 0.5) * shape[0] / rows - 0.5
    x = (np.arange(columns) + 0.5) * shape[1] / columns - 0.5
    return np.stack(np.meshgrid(y, x, indexing="ij"), -1).reshape(-1, 2), (rows, columns)


def blur_patches(obs: np.ndarray, centres: np.ndarray, radius: float = RADIUS) -> np.ndarray:
    """One copy of uint8 `obs` [H, W, C] for each centre, blurred there with a soft edge: uint8 [P, H, W, C]."""
    import cv2

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


def _think(think: Think, batch: np.ndarray) -> dict[str, np.ndarray]:
    parts = [think(batch[i : i + BATCH]) for i in range(0, len(batch), BATCH)]
    return {key: np.concatenate([p[key] for p in parts]) for key in parts[0]}


def _effects(think: Think, obs: np.ndarray, changed: np.ndarray, where: np.ndarray, grid: Any, shape: Any) -> Effects:
    out = _think(think, np.concatenate([obs[None], changed]))
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


def values_of(thoughts: dict[str, np.ndarray]) -> np.ndarray | None:
    """The value in what a policy thinks, its largest action value, or None."""
    if "value" in thoughts:
        return np.asarray(thoughts["value"])
    return np.asarray(thoughts["q"]).max(-1) if "q" in thoughts else None


def net_probs_of(thoughts: dict[str, np.ndarray]) -> np.ndarray | None:
    """The net's own action probabilities in what a policy thinks, at temperature 1; None where it has none."""
    found = thoughts.get("net_probs", thoughts.get("probs"))
    return None if found is None else np.asarray(found)


def occlusion(think: Think, obs: np.ndarray, step: int = STEP, radius: float = RADIUS) -> Effects:
    """Blur every patch of a pixel observation in turn.

    Args:
        think: `Policy.explain`.
        obs: uint8 [H, W, C].
        step: pixels between patches. radius: standard deviation of a patch's soft edge, in pixels.
    """
    centres, grid = patches(obs.shape[:2], step)
    return _effects(think, obs, blur_patches(obs, centres, radius), centres, grid, obs.shape[:2])


def feature_effects(think: Think, obs: np.ndarray, replace: np.ndarray) -> Effects:
    """Replace each number of a vector observation by the one in `replace`, in turn. Both [K]."""
    size = len(obs)
    changed = np.repeat(obs[None], size, 0)
    changed[np.arange(size), np.arange(size)] = replace
    return _effects(think, obs, changed, np.arange(size)[:, None], (size, 1), (size, 1))


def gradients(net: Any, obs: np.ndarray, action: int) -> dict[str, np.ndarray]:
    """Absolute gradients of the value and of the log-probability of `action` for each input (Simonyan et al. 2014).

    Args:
        net: torch module from a batch of observations to (logits [N, A], values [N]).
        obs: one observation, pixels [H, W, C] or a vector [K].

    Returns:
        `value` and `policy`, float32 [H, W] (largest of the channels, smoothed a little) or [K].
    """
    import cv2
    import torch

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
    """Spearman's correlation of two maps, in [-1, 1]; ties share their mean rank; 0 where a map is constant."""
    ranks = []
    for x in (a, b):
        _, index, counts = np.unique(np.ravel(x), return_inverse=True, return_counts=True)
        ends = np.cumsum(counts)
        ranks.append((ends - (counts - 1) / 2)[index])
    first, second = (r - r.mean() for r in ranks)
    scale = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float((first * second).sum() / scale) if scale > 0 else 0.0
