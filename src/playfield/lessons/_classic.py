"""A classic control problem learnt to the score at which Gymnasium calls it solved: what four lessons share."""

from __future__ import annotations

from typing import Any

import numpy as np

from playfield.lessons._linear import Setting, game, run_all
from playfield.lessons._outcome import Ask, Outcome
from playfield.lessons._panels import Curves, Line
from playfield.lessons._rows import Row, mean_row

WINDOW = 100  # episodes in the mean, as Gymnasium has it


def learn(
    ask: Ask,
    name: str,
    title: str,
    settings: list[Setting],
    *,
    solved: float,
    by: str,
    random: float,
    limit: int,
    last: int = WINDOW,
    film: bool = True,
) -> Outcome:
    """Returns of each setting over its episodes of at most `limit` steps, beside the score `solved` (whose: `by`)."""
    outs = run_all(ask, settings, limits=[limit] * len(settings))
    rows: list[Row] = []
    for s, out in zip(settings, outs, strict=True):
        ends = out.returns[:, -last:].mean(axis=1)
        measure = f"return, last {min(last, ask.episodes)} episodes"
        more: dict[str, Any] = {"rule": "at least", "judged": ask.as_published, "seconds_here": out.seconds}
        rows.append(mean_row(s.label, measure, solved, ends, **more))
    x = np.arange(1, ask.episodes + 1)
    lines = [Line(s.label, x, _smooth(out.returns)) for s, out in zip(settings, outs, strict=True)]
    lines.append(Line(by, x, np.full((1, len(x)), solved)))
    lines.append(Line("random play", x, np.full((1, len(x)), random)))
    runs = f"mean of {ask.runs} runs" if ask.runs > 1 else "one run"
    return Outcome(
        name,
        title,
        rows,
        [Curves("Return, mean of the last 10 episodes", f"episode ({runs})", "return of an episode", lines)],
        notes=[f"Published: {by}. Episodes are cut after {limit} steps."],
        film=game(settings[0].problem, outs[0], most=limit) if film else None,
    )


def _smooth(returns: np.ndarray, window: int = 10) -> np.ndarray:
    from playfield.show.plots import moving_mean

    return np.stack([moving_mean(run, window) for run in returns])
