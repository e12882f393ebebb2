"""Statistics of many runs on many tasks that stay honest with few seeds.

Source: Agarwal, Schwarzer, Castro, Courville and Bellemare 2021, "Deep reinforcement learning at the edge of the
statistical precipice". The definitions are those of that paper and of its library, rliable.

Scores of one algorithm are an array [..., S, T]: S runs (seeds) on each of T tasks, of any leading shape. Algorithms
may have different numbers of runs, but an algorithm has the same number on each task. For statistics over tasks, the
scores of all tasks must have a common scale: normalise them first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from playfield.errors import UsageError, shown

DRAWS = 2000  # of the bootstrap
LEVEL = 0.95
TRIMMED = 0.25  # of the scores, at either end, that the interquartile mean leaves out
CHUNK = 2_000_000  # numbers that are sampled at once

Statistic = Callable[..., np.ndarray]
"""Scores [..., S, T] of one or more algorithms to values [...] or, of several values each, [..., K]."""


def matrix(scores: ArrayLike, name: str = "scores") -> np.ndarray:
    """Scores as float64 [S, T]; raises UsageError for another shape, none at all, or one that is not finite."""
    try:
        found = np.array(scores, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{name}: expected numbers by [seed, task], the same seeds for each task, not {shown(scores)}"
        ) from None
    if found.ndim != 2 or not found.size:
        raise UsageError(f"{name}: expected scores [seeds, tasks], not an array of shape {list(found.shape)}")
    if not np.isfinite(found).all():
        seed, task = np.argwhere(~np.isfinite(found))[0]
        raise UsageError(f"{name}: the score of seed {seed}, task {task} (counted from 0) is {found[seed, task]}")
    return found


def mean(scores: np.ndarray) -> np.ndarray:
    """Mean over all runs and tasks: [..., S, T] -> [...]. A single task with large scores can decide it."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def median(scores: np.ndarray) -> np.ndarray:
    """Median over tasks of the mean over runs: [..., S, T] -> [...]. Nearly half of the tasks may score zero."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def iqm(scores: np.ndarray) -> np.ndarray:
    """Interquartile mean: of all scores without the lowest and the highest quarter; [..., S, T] -> [...].

    Where S * T is no multiple of four, the number left out at either end is rounded down, so that of fewer than four
    scores it is the mean.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    out = int(TRIMMED * flat.shape[-1])
    return np.asarray(flat[..., out : flat.shape[-1] - out].mean(axis=-1))


def optimality_gap(scores: np.ndarray, gamma: float = 1.0) -> np.ndarray:
    """How far scores are below `gamma` on average, those above it counted as `gamma`: [..., S, T] -> [...].

    Lower is better. With human-normalised scores and `gamma` 1 it is what is lacking to human scores.
    """
    return np.asarray(gamma - np.minimum(scores, gamma).mean(axis=(-2, -1)))


def improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Probability that a run of X scores more than one of Y on a task, averaged over tasks; ties count half.

    Mann and Whitney's U over the number of pairs: [..., S, T] and [..., R, T] -> [...]. It does not say by how much.
    """
    more = x[..., :, None, :] > y[..., None, :, :]
    ties = x[..., :, None, :] == y[..., None, :, :]
    return np.asarray((more + 0.5 * ties).mean(axis=(-3, -2, -1)))


def profile(scores: np.ndarray, taus: np.ndarray) -> np.ndarray:
    """Performance profile: the fraction of all runs with a score above each of K taus; [..., S, T] -> [..., K].

    This is the distribution of scores of runs. Where the line of one algorithm is above another's at every tau, it is
    stochastically better.
    """
    flat = np.sort(scores.reshape(*scores.shape[:-2], -1), axis=-1)
    rows = flat.reshape(-1, flat.shape[-1])
    above = np.array([flat.shape[-1] - np.searchsorted(row, taus, side="right") for row in rows], np.float64)
    return np.asarray(above.reshape(*flat.shape[:-1], len(taus)) / flat.shape[-1])


def bootstrap(
    statistic: Statistic, *samples: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Stratified bootstrap percentile interval of a statistic of one or more algorithms.

    In each draw the runs of each task are sampled with replacement, for each task and each algorithm independently:
    the interval is about other seeds on the same tasks.

    Args:
        statistic: scores [..., S, T] of each algorithm to values [...] or [..., K].
        samples: scores [S, T] of each algorithm, or [P, S, T]: P scores of each run, such as those at P steps, which
            are sampled together.
        draws: number of samples.
        seed: of their random numbers: the same seed gives the same interval.
        level: confidence level.

    Returns:
        low, high: each of the shape of `statistic(*samples)`. NaN where an algorithm has a single run, which says
            nothing about other seeds.
    """
    shape = np.shape(statistic(*samples))
    if any(sample.shape[-2] < 2 for sample in samples):
        nothing = np.full(shape, math.nan)
        return nothing, nothing.copy()
    random = np.random.default_rng(seed)
    size = max(sample.size for sample in samples)
    if len(samples) == 2:  # pairs of runs are compared
        size *= max(sample.shape[-2] for sample in samples)
    step = max(1, CHUNK // size)
    # All are drawn before the first is used, so that the size of a chunk does not change the numbers.
    picks = [random.integers(s.shape[-2], size=(draws, *s.shape[-2:]), dtype=np.int32) for s in samples]
    values = []
    for start in range(0, draws, step):
        drawn = [
            np.moveaxis(s[..., p[start : start + step], np.arange(s.shape[-1])], -3, 0)
            for s, p in zip(samples, picks, strict=True)
        ]
        values.append(statistic(*drawn))
    low, high = np.quantile(np.concatenate(values), [(1 - level) / 2, (1 + level) / 2], axis=0)
    return np.asarray(low), np.asarray(high)


@dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap interval.

    Attributes:
        value: of the runs.
        low, high: ends of the interval; None from a single run.
    """

    value: float
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def estimate(
    statistic: Statistic, *samples: np.ndarray, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> Estimate:
    """The value of a statistic with one value, and its interval (see `bootstrap`)."""
    low, high = (float(end) for end in bootstrap(statistic, *samples, draws=draws, seed=seed, level=level))
    value = float(statistic(*samples))
    return Estimate(value, None, None) if math.isnan(low) else Estimate(value, low, high)


@dataclass(frozen=True)
class Aggregates:
    """What the runs of several algorithms on the same tasks say together.

    Attributes:
        algorithms: their names, in order.
        tasks: names of the T tasks.
        scores: of each algorithm, float64 [S, T].
        statistics: of each algorithm the `Estimate` of `iqm`, `median`, `mean` and `optimality_gap`.
        baseline: the algorithm that the others are compared with.
        improvement: (X, Y) -> the probability that a run of X scores more than one of Y, for all pairs.
        gamma: of the optimality gap.
        level, draws, seed: of the bootstrap.
    """

    algorithms: tuple[str, ...]
    tasks: tuple[str, ...]
    scores: dict[str, np.ndarray]
    statistics: dict[str, dict[str, Estimate]]
    baseline: str
    improvement: dict[tuple[str, str], Estimate]
    gamma: float
    level: float
    draws: int
    seed: int

    def rows(self) -> list[dict[str, Any]]:
        """A flat record for each algorithm, as `pandas.DataFrame` takes them: `iqm`, `iqm_low`, `iqm_high`, ..."""
        found = []
        for name in self.algorithms:
            row: dict[str, Any] = {
                "algorithm": name,
                "seeds": len(self.scores[name]),
                "tasks": len(self.tasks),
            }
            over = {} if name == self.baseline else {"improvement": self.improvement[name, self.baseline]}
            for key, value in (self.statistics[name] | over).items():
                row |= {key: value.value, f"{key}_low": value.low, f"{key}_high": value.high}
            found.append(row)
        return found


def aggregates(
    scores: Mapping[str, ArrayLike],
    tasks: Sequence[str] = (),
    *,
    baseline: str | None = None,
    gamma: float = 1.0,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Aggregates:
    """All aggregate statistics of several algorithms, with stratified bootstrap intervals.

    Args:
        scores: of each algorithm [S, T]; S may differ between algorithms, T may not.
        tasks: names of the T tasks.
        baseline: the algorithm that others are compared with; None: the first.
        gamma: score from which more does not count in the optimality gap.
        level: confidence level of the intervals.
        draws: samples of the bootstrap.
        seed: of the bootstrap.

    Raises UsageError for scores that are not finite or of other shapes.
    """
    found = {str(name): matrix(given, f"scores of {name}") for name, given in scores.items()}
    if not found:
        raise UsageError("scores: expected those of one algorithm or more")
    counts = {name: given.shape[1] for name, given in found.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise UsageError(f"scores: the algorithms have different numbers of tasks ({told})")
    count = next(iter(counts.values()))
    if tasks and len(tasks) != count:
        raise UsageError(f"tasks: expected {count} names, one for each column of scores, not {len(tasks)}")
    first = next(iter(found)) if baseline is None else baseline
    if first not in found:
        raise UsageError(f"baseline takes one of {', '.join(found)}, not {shown(baseline)}")
    how: dict[str, Any] = {"level": level, "draws": draws, "seed": seed}

    def gap(values: np.ndarray) -> np.ndarray:
        return optimality_gap(values, gamma)

    kinds: dict[str, Statistic] = {"iqm": iqm, "median": median, "mean": mean, "optimality_gap": gap}
    each = {
        name: {kind: estimate(statistic, given, **how) for kind, statistic in kinds.items()}
        for name, given in found.items()
    }
    pairs: dict[tuple[str, str], Estimate] = {}
    for i, x in enumerate(found):
        for y in list(found)[i + 1 :]:
            one = estimate(improvement, found[x], found[y], **how)
            pairs[x, y], pairs[y, x] = one, opposite(one)
    names = tuple(str(t) for t in tasks) or tuple(f"task {i + 1}" for i in range(count))
    return Aggregates(tuple(found), names, found, each, first, pairs, gamma, level, draws, seed)


def opposite(one: Estimate) -> Estimate:
    """The estimate of P(Y > X), from that of P(X > Y)."""
    if one.low is None or one.high is None:
        return Estimate(1 - one.value, None, None)
    return Estimate(1 - one.value, 1 - one.high, 1 - one.low)


def curve(
    runs: np.ndarray, *, draws: int = DRAWS, seed: int = 0, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The interquartile mean at each of P common steps (or seconds), with pointwise intervals.

    Args:
        runs: [P, S, T], normalised scores of S runs on T tasks at each of the P steps.
        draws, seed, level: of the bootstrap. A draw samples whole runs, not points of them.

    Returns:
        value, low, high: [P] each; the ends are NaN from a single run.
    """
    low, high = bootstrap(iqm, runs, draws=draws, seed=seed, level=level)
    return iqm(runs), low, high
