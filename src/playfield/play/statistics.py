"""Numbers about scores."""

from __future__ import annotations

import math
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


def t_interval(
    values: np.ndarray, level: float = 0.95, limits: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[np.ndarray, np.ndarray]:
    """Student's t interval of the mean over the first axis (Student 1908): for few runs, taken to be normal.

    [runs, ...] -> low [...], high [...]; NaN from fewer than two runs. No mean lies outside `limits`, so neither does
    the interval.
    """
    values = np.asarray(values, float)
    runs = len(values)
    if runs < 2:
        nothing = np.full(values.shape[1:], np.nan)
        return nothing, nothing
    mean = values.mean(axis=0)
    half = t_quantile(runs - 1, level) * values.std(axis=0, ddof=1) / math.sqrt(runs)
    return np.clip(mean - half, *limits), np.clip(mean + half, *limits)


def difference_interval(a: Sequence[float], b: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Interval of mean(a) - mean(b) without taking their spreads to be equal (Welch 1947); NaN from fewer than two.

    The degrees of freedom, which are seldom whole, are rounded down: the interval is never too narrow for that.
    """
    x, y = np.asarray(a, float), np.asarray(b, float)
    if min(len(x), len(y)) < 2:
        return math.nan, math.nan
    u, v = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    middle = float(x.mean() - y.mean())
    if u + v == 0:
        return middle, middle
    degrees = (u + v) ** 2 / (u**2 / (len(x) - 1) + v**2 / (len(y) - 1))
    half = t_quantile(max(int(degrees), 1), level) * math.sqrt(u + v)
    return middle - half, middle + half


def t_quantile(degrees: int, level: float = 0.95) -> float:
    """The t for which Student's distribution lies in [-t, t] with probability `level`.

    `degrees` of freedom is a whole number, for which the probability is a finite sum (Abramowitz and Stegun 1964,
    26.7.3 and 26.7.4) in the angle whose tangent is t / sqrt(degrees); it is inverted by halving.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(80):
        middle = (low + high) / 2
        if _inside(middle, degrees) < level:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan((low + high) / 2)


def _inside(angle: float, degrees: int) -> float:
    """Probability of [-t, t], for t = sqrt(degrees) * tan(angle)."""
    sine, square = math.sin(angle), math.cos(angle) ** 2
    odd = degrees % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= square * (k - 1) / k
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
