"""Classic control problems learnt to the score at which Gymnasium calls them solved: shared by four lessons."""

from __future__ import annotations

from typing import Any

import numpy as np

from playfield.lessons import _rows
from playfield.lessons._linear import Setting, game, run_all
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line
from playfield.lessons._request import Request
from playfield.lessons._rows import Row, mean_row
from playfield.play.statistics import moving_mean

SOLVED_OVER = 100  # episodes in the mean, as Gymnasium defines "solved"


def with_and_without_traces(problem: str, features: str, options: dict[str, Any]) -> list[Setting]:
    """Sarsa(0.9) and one-step Sarsa with the same options."""
    return [
        Setting("Sarsa(0.9)", "sarsa_lambda", problem, features, options | {"lam": 0.9}),
        Setting("Sarsa", "sarsa", problem, features, options),
    ]


def learn(
    request: Request,
    name: str,
    title: str,
    settings: list[Setting],
    *,
    solved: float,
    by: str,
    random: float,
    limit: int,
    last: int = SOLVED_OVER,
    film: bool = True,
) -> Outcome:
    """Run the settings; their returns beside the return at which the problem counts as solved.

    Args:
        solved, by: that return, and who defined it.
        random: mean return of random play.
        limit: steps after which an episode is truncated.
        last: episodes in the mean that is compared.
        film: make a film of an episode.
    """
    outs = run_all(request, settings, limits=[limit] * len(settings))
    rows: list[Row] = []
    for s, out in zip(settings, outs, strict=True):
        ends = out.returns[:, -last:].mean(axis=1)
        measure = f"return, {_rows.last(min(last, request.episodes), 'episode')}"
        more: dict[str, Any] = {"rule": "at least", "compared": request.as_published, "seconds_here": out.seconds}
        rows.append(mean_row(s.label, measure, solved, ends, **more))
    x = np.arange(1, request.episodes + 1)
    lines = [Line(s.label, x, _smooth(out.returns)) for s, out in zip(settings, outs, strict=True)]
    lines.append(Line(by, x, np.full((1, len(x)), solved)))
    lines.append(Line("random play", x, np.full((1, len(x)), random)))
    return Outcome(
        name,
        title,
        rows,
        [
            Curves(
                "Return, mean of the last 10 episodes",
                f"episode ({request.runs_text()})",
                "return of an episode",
                lines,
            )
        ],
        notes=[f"Published: {by}. Episodes are truncated after {limit} steps."],
        film=game(settings[0].problem, outs[0], most=limit) if film else None,
    )


def _smooth(returns: np.ndarray, window: int = 10) -> np.ndarray:
    return np.stack([moving_mean(run, window) for run in returns])
