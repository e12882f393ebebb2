"""Experiment F: Sarsa on MountainCar with 2 to 32 tilings, the mean of 20 runs of each.

With more tilings learning is faster and the result better: 32 tilings of 8x8 have 32 times the resolution of one, and
generalise as widely.
"""

from __future__ import annotations

from playfield.lessons._linear import game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._tilings import settings

BUDGET = Budget(runs=20, episodes=500, film=True, methods=("sarsa",), own=("alpha", "n_step"))
ALPHA = 0.3
PUBLISHED = {2: (150, 91), 4: (135, 84), 8: (118, 85), 16: (115, 96), 32: (108, 116)}


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes for each number of tilings."""
    lines = settings(ALPHA, PUBLISHED)
    outs = run_all(request, lines)
    return Outcome(
        "mountain-car-tilings",
        "Experiment F: more tilings",
        last_rows(request, lines, outs),
        [steps_curves(request, "MountainCar (the lesson's), alpha 0.3/tilings", lines, outs, ylim=(90, 1000))],
        film=game(lines[-1].problem, outs[-1]),
    )
