"""The aggregates of a comparison as pictures, each with its protocol and how it was computed below it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from playfield.experiments import aggregate as stats
from playfield.experiments import drawn
from playfield.experiments.compare import LearningCurve
from playfield.experiments.summary import NAMES, Scale, Summary, curves_of
from playfield.play.statistics import MEAN
from playfield.runs.console import format_value
from playfield.show import aggregate_plot as show
from playfield.show.aggregate_plot import Band, Interval

TAUS = 201  # of a performance profile
KINDS = ("intervals", "profiles", "steps", "time", "improvement", "scores")


def draw(summary: Summary, curves: Sequence[LearningCurve], out: Path, window: int) -> list[Path]:
    """Write all pictures beside `out`: `compare.png` makes `compare-intervals.png`, `compare-profiles.png`, ...

    Args:
        summary: of the runs.
        curves: of all runs of the comparison, which give the algorithms their colours.
        out: the picture of the learning curves; its ending is that of these.
        window: training games in the mean of the curves of steps and time.

    Returns their paths. Raises StorageError where one cannot be written.
    """
    paths = {kind: out.with_name(f"{out.stem}-{kind}{out.suffix}") for kind in KINDS}
    places = drawn.label_places(curves)
    found = summary.aggregates
    labels = list(found.algorithms)
    own = [places[label] for label in labels]
    foot = "\n".join(_foot(summary))
    panels = []
    for kind, title in NAMES.items():
        better = " (lower is better)" if kind == "optimality_gap" else ""
        panels.append((title + better, [_interval(found.statistics[label][kind]) for label in labels]))
    line = f"Line: value; bar: {summary.interval}. Statistics of normalised scores.\n"
    show.intervals(paths["intervals"], labels, own, panels, foot=line + foot)

    line = f"Line: fraction of runs (seeds x environments) above a score; band: pointwise {summary.interval}.\n"
    show.profiles(
        paths["profiles"],
        _profiles(summary, places),
        title="Performance profiles",
        xlabel="normalised score",
        foot=line + foot,
    )
    protocols = "\n".join(_foot(summary, score=False))
    words = f"{summary.choice.statistic.words} of the last {window} training games"
    of = f"IQM of normalised scores, {words}; band: {summary.interval}. "
    told = {
        "steps": ("Sample efficiency", "steps (agent decisions)", "All runs of a line are at the same step.\n"),
        "time": (
            "Wall time",
            "seconds of training",
            "All runs of a line have trained for the same time; trainings that ran side by side slow each other.\n",
        ),
    }
    for kind, axis in (("steps", "steps"), ("time", "seconds")):
        lines = [Band(c.label, places[c.label], c.at, c.value, c.low, c.high) for c in curves_of(summary, axis)]
        title, xlabel, more = told[kind]
        if lines:
            text: dict[str, Any] = {"title": title, "xlabel": xlabel, "ylabel": "IQM of normalised scores"}
            show.curves(paths[kind], lines, foot=f"Line: {of}{more}{protocols}", steps=kind == "steps", **text)
        else:
            del paths[kind]
    if len(labels) > 1:
        _improvement(paths["improvement"], summary, own, foot)
    else:
        del paths["improvement"]
    _scores(paths["scores"], summary, own, foot)
    return list(paths.values())


def _foot(summary: Summary, score: bool = True) -> list[str]:
    """What all pictures say: seeds, score, normalisation, protocols, and what is left out."""
    count = len(summary.scales)
    shown = f"; score: {summary.choice.note}" if score else ""
    definition = summary.choice.statistic.definition
    first = f"{count} environment{'s' * (count > 1)}, {summary.seeds}{shown}. {definition}".rstrip()
    used = [c for rows in summary.runs.values() for row in rows for c in row]
    return [first, summary.normalisation, *drawn.protocols(used), *summary.left_out]


def _interval(one: stats.Estimate) -> Interval:
    return Interval(one.value, one.low, one.high)


def _profiles(summary: Summary, places: dict[str, int]) -> list[Band]:
    found = summary.aggregates
    lowest = min(float(s.min()) for s in found.scores.values())
    highest = max(float(s.max()) for s in found.scores.values())
    room = 0.02 * (highest - lowest) or 0.5
    taus = np.linspace(lowest - room, highest + room, TAUS)
    how: dict[str, Any] = {"draws": found.draws, "seed": found.seed, "level": found.level}

    def profile(scores: np.ndarray) -> np.ndarray:
        return stats.profile(scores, taus)

    bands = []
    for label, scores in found.scores.items():
        low, high = stats.bootstrap(profile, scores, **how)
        bands.append(Band(label, places[label], taus, profile(scores), low, high))
    return bands


def _improvement(out: Path, summary: Summary, own: Sequence[int], foot: str) -> None:
    found = summary.aggregates
    labels = found.algorithms
    shades = np.full((len(labels), len(labels)), np.nan)
    texts = [["" for _ in labels] for _ in labels]
    for (x, y), one in found.improvement.items():
        r, c = labels.index(x), labels.index(y)
        shades[r, c] = one.value
        ends = "" if one.low is None else f"\n{one.low:.2f} to {one.high:.2f}"
        texts[r][c] = f"{one.value:.2f}{ends}"
    line = (
        "Cell: probability that a run of the row scores more than one of the column on an environment, averaged over "
        f"environments, ties half; below it: {summary.interval}.\n"
    )
    show.matrix(
        out,
        labels,
        labels,
        shades,
        texts,
        title="Probability of improvement",
        foot=line + foot,
        bar="P(row > column)",
        middle=0.5,
        row_places=own,
        column_places=own,
    )


def _scores(out: Path, summary: Summary, own: Sequence[int], foot: str) -> None:
    found = summary.aggregates
    shades = np.stack([found.scores[label].mean(axis=0) for label in found.algorithms], axis=1)
    texts = []
    for one, row in zip(summary.scales.values(), shades, strict=True):
        texts.append([f"{format_value(float(_raw(one, v)))}\n{v:.2f}" for v in row])
    statistic = summary.choice.statistic
    what = "mean raw score" if statistic == MEAN else f"mean of the {statistic.words} of the raw scores"
    line = f"Cell: {what} over seeds; below it and as shade: mean normalised score.\n"
    show.matrix(
        out,
        found.tasks,
        found.algorithms,
        shades,
        texts,
        title="Scores",
        foot=line + foot,
        bar="mean normalised score",
        column_places=own,
    )


def _raw(one: Scale, normalised: float) -> float:
    return float(one.zero + normalised * (one.one - one.zero))
