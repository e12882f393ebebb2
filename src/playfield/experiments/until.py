"""Time to a score: after how many steps, and seconds of training, trainings reached it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.errors import UsageError
from playfield.experiments.compare import LearningCurve, grouped
from playfield.runs.console import format_seconds


@dataclass(frozen=True)
class Until:
    """When the trainings of one label reached a score.

    Attributes:
        env, label: of the trainings.
        seeds: of the trainings.
        steps, seconds: of each; infinite where it did not reach the score.
    """

    env: str
    label: str
    seeds: tuple[int, ...]
    steps: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def reached(self) -> int:
        """How many did."""
        return sum(map(math.isfinite, self.steps))

    def as_dict(self) -> dict[str, Any]:
        """JSON values; what was not reached is None, and so is a median that is not."""
        told: dict[str, Any] = {"env": self.env, "label": self.label, "seeds": list(self.seeds)}
        told["reached"] = self.reached
        for name in ("steps", "seconds"):
            each = getattr(self, name)
            told |= {name: [_known(v) for v in each], f"median_{name}": _known(statistics.median(each))}
        return told

    def cells(self) -> list[str]:
        """Of a row of the table: environment, algorithm, how many, and median and range of steps and of time."""
        own = [self.env, self.label, f"{self.reached} of {len(self.seeds)}"]
        for each, show in ((self.steps, "{:,.0f}".format), (self.seconds, format_seconds)):
            median, low, high = statistics.median(each), min(each), max(each)
            own.append(show(median) if math.isfinite(median) else "-")
            several = math.isfinite(low) and len(each) > 1
            own.append(f"{show(low)} to {show(high) if math.isfinite(high) else 'never'}" if several else "-")
        return own


HEADS = (
    "environment",
    "algorithm",
    "reached",
    "median steps",
    "lowest to highest",
    "median time",
    "lowest to highest",
)


def note(score: float, window: int, curves: Sequence[LearningCurve]) -> str:
    """The sentence on what a table of these shows."""
    return (
        f"Reached: the {curves[0].statistic.words} of the last {window} training games was {score:g} or more for the "
        "first time. Those that did not reach it count as longer than all others in the median; ranges are from the "
        "lowest to the highest seed."
    )


def check(envs: Sequence[str]) -> None:
    """Raise UsageError for several environments: their scores have nothing in common."""
    if len(different := list(dict.fromkeys(envs))) > 1:
        raise UsageError(f"--until is a score of one environment: name one of {', '.join(different)}")


def find(curves: Sequence[LearningCurve], score: float, window: int) -> list[Until]:
    """When the trainings of each label reached `score`. Raises UsageError for several environments."""
    check([c.env for c in curves])
    found = []
    for (env, label), group in grouped(curves, lambda c: (c.env, c.label)).items():
        at = [_first(c, score, window) for c in group]
        found.append(
            Until(env, label, tuple(c.seed for c in group), tuple(s for s, _ in at), tuple(t for _, t in at))
        )
    return found


def _first(curve: LearningCurve, score: float, window: int) -> tuple[float, float]:
    """Steps and seconds at the first game, with `window` games whose statistic is `score` or more."""
    high = np.flatnonzero(curve.values[window - 1 : curve.games] >= score)
    if not high.size:
        return math.inf, math.inf
    i = int(high[0]) + window - 1
    return float(curve.steps[i]), float(curve.clock[i])


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
