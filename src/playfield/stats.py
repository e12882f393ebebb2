"""Numbers about scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def interval(scores: Sequence[float], level: float = 0.95, draws: int = 10_000, seed: int = 0) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean score (Efron 1979)."""
    values = np.asarray(scores, float)
    if values.size == 0:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(values.size, size=(draws, values.size))
    low, high = np.quantile(values[picks].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
