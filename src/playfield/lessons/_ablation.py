"""Ablations: settings trained side by side, compared after as many steps and after as much time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from playfield.lessons._deep import POINTS, WINDOW, Trained
from playfield.lessons._panels import Curves, Line
from playfield.lessons._request import Request
from playfield.lessons._rows import Row, mean_row
from playfield.runs.console import format_seconds

GAMES = f"last {WINDOW} games"


def rows_of_steps(found: Sequence[Trained], steps: int) -> list[Row]:
    """The score of each setting at the end, with the published one beside it (of another budget: not compared)."""
    return [
        mean_row(
            one.setting.label,
            f"score, {GAMES}",
            one.setting.published,
            one.scores_at(steps),
            seconds_here=one.seconds,
            compared=False,
        )
        for one in found
    ]


def rows_of_time(found: Sequence[Trained], seconds: float) -> list[Row]:
    """The score of each setting after so many seconds of training."""
    measure = f"score after {format_seconds(seconds)}"
    return [mean_row(one.setting.label, measure, None, one.scores_after(seconds)) for one in found]


def equal_time(found: Sequence[Trained]) -> float:
    """The seconds that every training took at least, so that all can be compared after them.

    Those that diverged do not count, unless all did: the last score of such a training counts to the end.
    """
    ended = [curve.seconds for one in found for curve in one.curves if "diverged" not in curve.info]
    return min(ended or [curve.seconds for one in found for curve in one.curves])


def curves(request: Request, found: Sequence[Trained], title: str = "Equal steps") -> Curves:
    """The learning curves over steps."""
    x = np.linspace(0, request.steps, POINTS + 1)[1:]
    lines = [Line(one.setting.label, x, np.array([one.scores_at(step) for step in x]).T) for one in found]
    return Curves(title, f"steps ({request.runs_text()})", f"score, {GAMES}", lines)


def curves_over_time(request: Request, found: Sequence[Trained], title: str = "Equal time") -> Curves:
    """The learning curves over minutes of training, each as long as its shortest run that did not diverge."""
    lines = []
    for one in found:
        x = np.linspace(0, equal_time([one]), POINTS + 1)[1:]
        y = np.array([one.scores_after(second) for second in x]).T
        lines.append(Line(one.setting.label, x / 60, y))
    return Curves(title, f"minutes of training ({request.runs_text()})", f"score, {GAMES}", lines)


def bars(title: str, found: Sequence[Trained], names: Sequence[str], steps: int) -> Curves:
    """The scores at the end as bars with their intervals over seeds; 0 where no game has ended."""
    heights = np.nan_to_num(np.array([one.scores_at(steps) for one in found]).T)
    line = Line("", np.arange(len(found)), heights)
    return Curves(title, "", f"score, {GAMES}", [line], bars=True, names=tuple(names))
