"""Rewards divided by the running deviation of their discounted sum, after the VecNormalize of OpenAI baselines."""

from __future__ import annotations

from typing import Any

import numpy as np

LIMIT = 10.0
"""The largest scaled reward. Without it the first rewards of a training, whose deviation is near 0, would be huge."""


class RewardScale:
    """Brings rewards of any size to about the same one, so that a learning rate fits more than one environment.

    The sum of an environment's rewards so far, discounted backwards in time, is g = gamma g + r, and starts anew
    with each episode. Rewards are divided by the standard deviation of all g so far, those of this step among them.
    Nothing is subtracted: the sign of a reward stays. What is beyond `LIMIT` is cut to it. Each worker has a scale of
    its own, from its environments.

    Attributes:
        sums: [n] float64, g of each environment.
        count, mean, square: number, mean, and sum of squared deviations of all g so far (Chan et al. 1979).
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.sums = np.zeros(num_envs)
        self.count, self.mean, self.square = 0, 0.0, 0.0

    def __call__(self, reward: np.ndarray, ended: np.ndarray) -> np.ndarray:
        """Rewards [n] of one step, scaled, in -10..10, float32; `ended` [n] is where an episode ended with it."""
        sums = self.gamma * self.sums + reward
        n, total = len(sums), self.count + len(sums)
        mean = float(sums.mean())
        shift = mean - self.mean
        self.square += float(np.square(sums - mean).sum()) + shift * shift * self.count * n / total
        self.mean += shift * n / total
        self.count = total
        self.sums = np.where(ended, 0.0, sums)
        scaled = reward / np.sqrt(self.square / total + 1e-8)
        cut: np.ndarray = np.clip(scaled, -LIMIT, LIMIT).astype(np.float32)
        return cut

    def state(self) -> dict[str, Any]:
        """All that decides later scales."""
        return {"sums": self.sums.copy(), "count": self.count, "mean": self.mean, "square": self.square}

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        self.sums = np.array(state["sums"], np.float64)
        self.count, self.mean, self.square = int(state["count"]), float(state["mean"]), float(state["square"])
