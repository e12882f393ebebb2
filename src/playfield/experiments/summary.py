"""The runs of several algorithms on several environments, as one set of aggregate statistics on a common scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from playfield import arguments as takes
from playfield.envs.family import family
from playfield.errors import UsageError, shown, unknown
from playfield.experiments import aggregate as stats
from playfield.experiments import chosen, compare, drawn
from playfield.experiments.aggregate import DRAWS, LEVEL, Aggregates
from playfield.experiments.compare import LearningCurve, grouped
from playfield.play.statistics import MEAN, named, one_statistic
from playfield.runs.logger import WINDOW
from playfield.show.plots import on_common_steps

POINTS = 60  # of a curve
NAMES = {"iqm": "IQM", "median": "median", "mean": "mean", "optimality_gap": "optimality gap"}


ENOUGH = 5
"""Seeds from which on a bootstrap interval says something; Agarwal et al. (2021) use 3 to 10 with many tasks."""


@dataclass(frozen=True)
class Scale:
    """How scores of an environment are normalised: `zero` becomes 0 and `one` becomes 1.

    Attributes:
        zero, one: raw scores.
        human: whether they are those of random play and of a human; else the lowest and the highest possible score.
    """

    zero: float
    one: float
    human: bool

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        """Raw scores on this scale, of the same shape."""
        return (scores - self.zero) / (self.one - self.zero)


def scale(env: str, curves: Sequence[LearningCurve]) -> Scale:
    """The scale of an environment with these runs; raises UsageError for one that has none."""
    kind = family(curves[0].info["spec"]["kind"])
    known = {drawn.reference_scores(c) for c in curves}
    random, human = known.pop() if len(known) == 1 else (None, None)
    if random is not None and human is not None:
        return Scale(random, human, True)
    where = "its scores cannot be aggregated with those of other environments, so name only the others"
    if kind.reference_scores(env) != (None, None):
        raise UsageError(f"runs of {env} play another mode or difficulty than that of the reference scores: {where}")
    low, high = kind.score_limits(env)
    if math.isfinite(low) and math.isfinite(high):
        return Scale(low, high, False)
    raise UsageError(
        f"{env} has neither reference scores of random play and a human nor a lowest and a highest possible score: "
        f"{where}"
    )


@dataclass(frozen=True)
class Summary:
    """Aggregates of runs, with what a reader must know of them.

    Attributes:
        aggregates: of normalised scores; its tasks are environments.
        scales: of each environment.
        runs: of each algorithm [S][T] learning curves, in the order of its scores.
        left_out: sentences on the runs that are not among them.
        choice: which score of a run it is.
    """

    aggregates: Aggregates
    scales: dict[str, Scale]
    runs: dict[str, list[list[LearningCurve]]]
    left_out: tuple[str, ...]
    choice: chosen.Choice

    @property
    def normalisation(self) -> str:
        """A sentence on the scales."""
        human = [env for env, s in self.scales.items() if s.human]
        others = [f"{env} ({s.zero:g} to {s.one:g})" for env, s in self.scales.items() if not s.human]
        told = []
        if human:
            told.append(
                f"(score - random) / (human - random) on {', '.join(human)}, reference scores of Wang et al. 2016"
                + ", which are means" * (self.choice.statistic != MEAN)
            )
        if others:
            told.append(f"(score - lowest) / (highest - lowest possible score) on {', '.join(others)}")
        return f"Normalised score: {'; '.join(told)}."

    @property
    def seeds(self) -> str:
        """How many seeds the algorithms have."""
        counts = sorted({len(s) for s in self.aggregates.scores.values()})
        return " or ".join(str(n) for n in counts) + (" seeds" if counts[-1] > 1 else " seed") + " per algorithm"

    @property
    def interval(self) -> str:
        """What the intervals are, as part of a sentence."""
        found = self.aggregates
        return (
            f"{found.level * 100:g} % stratified bootstrap percentile interval over seeds "
            f"({found.draws:,} draws, seed {found.seed}; Agarwal et al. 2021)"
        )

    @property
    def notes(self) -> list[str]:
        """Sentences: score, normalisation, seeds, intervals, protocols, and what is left out."""
        curves = [c for rows in self.runs.values() for row in rows for c in row]
        count = len(self.scales)
        first = f"Over {count} environment{'s' * (count > 1)}, {self.seeds}; score: {self.choice.note}."
        intervals = f"In brackets: {self.interval}."
        fewest = min(map(len, self.runs.values()))
        few = [f"Of {fewest} seeds a bootstrap interval is too narrow: use {ENOUGH} or more."] * (1 < fewest < ENOUGH)
        definition = self.choice.statistic.definition
        told = [first, *([definition] if definition else []), self.normalisation, intervals, *few]
        return [*told, *drawn.protocols(curves), *self.left_out]

    def as_dict(self) -> dict[str, Any]:
        """JSON values."""
        found = self.aggregates
        pairs = [{"x": x, "y": y, **one.as_dict()} for (x, y), one in found.improvement.items()]
        return {
            "rows": found.rows(),
            "environments": list(found.tasks),
            "baseline": found.baseline,
            "improvement": pairs,
            "scores": {name: scores.tolist() for name, scores in found.scores.items()},
            "seeds": {name: [row[0].seed for row in rows] for name, rows in self.runs.items()},
            "scales": {env: vars(s) for env, s in self.scales.items()},
            "level": found.level,
            "draws": found.draws,
            "seed": found.seed,
            "notes": self.notes,
        }


def summarise(
    curves: Sequence[LearningCurve],
    choice: chosen.Choice,
    *,
    baseline: str | None = None,
    gamma: float = 1.0,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
) -> Summary:
    """Aggregate statistics of runs; see `aggregate` for what the arguments mean.

    Algorithms without runs on all environments are left out, and so are the seeds that an algorithm does not have on
    all of them. Raises UsageError for an environment without a scale, and where nothing is left.
    """
    envs = list(dict.fromkeys(c.env for c in curves))
    scales = {env: scale(env, [c for c in curves if c.env == env]) for env in envs}
    runs: dict[str, list[list[LearningCurve]]] = {}
    left = []
    for label, group in grouped(curves, lambda c: c.label).items():
        own = {env: {c.seed: c for c in group if c.env == env} for env in envs}
        lacking = [env for env in envs if not own[env]]
        if lacking:
            left.append(f"{label} is not among the aggregates: it has no scores on {', '.join(lacking)}.")
            continue
        common = sorted(set.intersection(*(set(found) for found in own.values())))
        if not common:
            left.append(f"{label} is not among the aggregates: no seed has scores on all environments.")
            continue
        if more := sorted({s for found in own.values() for s in found} - set(common)):
            listed, several = ", ".join(map(str, more)), "s" * (len(more) > 1)
            left.append(f"{label}: without seed{several} {listed}, not on all environments.")
        runs[label] = [[own[env][s] for env in envs] for s in common]
    if not runs:
        raise UsageError(f"no algorithm has scores on all of {', '.join(envs)}: {' '.join(left)}")
    if baseline is not None and baseline not in runs:
        raise unknown("algorithm in these runs", baseline, runs)
    scores = {label: _normalised(label, rows, scales, choice) for label, rows in runs.items()}
    found = stats.aggregates(scores, envs, baseline=baseline, gamma=gamma, level=level, draws=draws, seed=seed)
    return Summary(found, scales, runs, tuple(left), choice)


def _normalised(
    label: str, rows: Sequence[Sequence[LearningCurve]], scales: Mapping[str, Scale], choice: chosen.Choice
) -> np.ndarray:
    """[S, T] normalised scores."""
    raw = np.array([[choice.scores[c.directory] for c in row] for row in rows])
    for t, (env, one) in enumerate(scales.items()):
        low, high = choice.statistic.limits(one.zero, one.one)
        if not one.human and not ((low <= raw[:, t]) & (raw[:, t] <= high)).all():
            raise UsageError(
                f"{label} has a score on {env} outside the possible {one.zero:g} to {one.one:g}: was the environment "
                "changed? Its scores cannot be normalised"
            )
    return np.stack([one.normalise(raw[:, t]) for t, one in enumerate(scales.values())], axis=1)


@dataclass(frozen=True)
class Curve:
    """The interquartile mean of an algorithm against steps or seconds.

    Attributes:
        label: of the algorithm.
        at: [P] steps or seconds, increasing.
        value, low, high: [P] interquartile mean and ends of its interval.
    """

    label: str
    at: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def curves_of(summary: Summary, axis: str = "steps") -> list[Curve]:
    """Sample-efficiency (`steps`) or wall-time (`seconds`) curves of the algorithms of a summary.

    At each point all runs of an algorithm are at the same step or second: a curve ends with the shortest of them. The
    score is always that of the last training games.
    """
    found = []
    how: dict[str, Any] = {k: getattr(summary.aggregates, k) for k in ("level", "draws", "seed")}
    for label, rows in summary.runs.items():
        longest = max(c.clock[-1] for row in rows for c in row)
        lines = [(c.steps if axis == "steps" else _clock(c, longest), c.values) for row in rows for c in row]
        at, values = on_common_steps(lines, POINTS)
        if not at.size:
            continue
        shaped = values.reshape(len(rows), len(summary.scales), -1)  # [S, T, P]
        each = [s.normalise(shaped[:, t]) for t, s in enumerate(summary.scales.values())]
        found.append(Curve(label, at, *stats.curve(np.moveaxis(np.stack(each, axis=1), -1, 0), **how)))
    return found


def _clock(curve: LearningCurve, longest: float) -> np.ndarray:
    """Seconds at the points of a curve. The last score of a run that diverged counts until `longest`."""
    return np.append(curve.clock[:-1], longest) if "diverged" in curve.info else curve.clock


def _source(name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        try:
            takes.path(name, value)
        except UsageError:
            raise UsageError(f"{name} takes a directory of runs or scores by algorithm, not {shown(value)}") from None


def _tasks(name: str, value: Any) -> None:
    if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
        raise UsageError(f"{name} takes a list of names, not {shown(value)}")


@takes.checked(
    source=_source,
    tasks=_tasks,
    baseline=takes.text(),
    gamma=takes.real(-1e300, 1e300),
    level=takes.real(0.01, 0.9999),
    draws=takes.whole(10, 1e6),
    seed=takes.seed,
    score=takes.text(*chosen.KINDS),
    games=takes.whole(1, 1e6),
    window=takes.whole(1, 1e6),
    statistic=one_statistic,
)
def aggregate(
    source: str | Path | Mapping[str, ArrayLike],
    tasks: Sequence[str] = (),
    *,
    baseline: str | None = None,
    gamma: float = 1.0,
    level: float = LEVEL,
    draws: int = DRAWS,
    seed: int = 0,
    score: str = "final",
    games: int = chosen.GAMES,
    window: int = WINDOW,
    statistic: str = "mean",
) -> Aggregates:
    """Aggregate statistics of several algorithms on several tasks (Agarwal et al. 2021), with bootstrap intervals.

    Interquartile mean, median, mean and optimality gap of each algorithm, and the probability that a run of one
    scores more than a run of another. Intervals are percentiles of a stratified bootstrap over seeds.

    Args:
        source: a directory of runs, as `playfield compare` fills and reads it; or the scores of each algorithm,
            [S, T] for S seeds and T tasks, on a scale that all tasks share. S may differ between algorithms.
        tasks: names of the T tasks, for scores.
        baseline: the algorithm with which `rows()` compares the others; None: the first.
        gamma: score from which more does not count in the optimality gap.
        level: confidence level of the intervals.
        draws: samples of the bootstrap.
        seed: of the bootstrap; the same seed gives the same intervals.
        score: of runs: `final`, that of the last training games at the same step; `eval`, the evaluation nearest to
            it; `best`, fresh games of the best checkpoint. They are normalised: by human and random play where
            reference scores exist, else by the lowest and highest possible score.
        games: that a best checkpoint plays.
        window: training games that count.
        statistic: of the games of a run, which is its score: `mean`, `median`, `lower-quartile`, `mean-1std` (mean
            less one standard deviation), `mean-0.5std`, ...

    Returns:
        The statistics; `rows()` gives a record for each algorithm, as `pandas.DataFrame` takes them.

    Raises:
        UsageError: a score that is not finite or not on every task, an environment without a scale, or no runs.
        DataError: a damaged run.

    Example:
        >>> found = aggregate({"a": [[0.1, 0.5], [0.3, 0.7]], "b": [[0.0, 0.4], [0.2, 0.9]]}, ["pong", "qbert"])
        >>> found.statistics["a"]["iqm"].value
        0.4
    """
    how: dict[str, Any] = {"baseline": baseline, "gamma": gamma, "level": level, "draws": draws, "seed": seed}
    if isinstance(source, Mapping):
        try:
            if named(statistic) != MEAN:
                raise UsageError("statistic is for the games of runs; scores are aggregated as they are")
            return stats.aggregates(source, tasks, **how)
        except UsageError as error:
            raise UsageError(f"source: {error}" if str(error).startswith("scores") else str(error)) from None
    if tasks:
        raise UsageError("tasks names those of scores; the tasks of runs are their environments")
    if not Path(source).is_dir():
        raise UsageError(f"source: there is no directory {source}")
    curves = compare.read(Path(source), window, named(statistic)).curves
    return summarise(curves, chosen.choose(curves, score, window, games=games), **how).aggregates
