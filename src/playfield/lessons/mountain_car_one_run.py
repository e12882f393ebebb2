"""Experiment D: Sarsa on MountainCar with 1, 2, 4, 8 and 16 tilings, one run of each in the lesson.

Tile coding: several grids of 8x8 tiles (tilings) cover position and velocity, each shifted a little. One tile of each
tiling is active, so close states share most features, and distant ones none. The step size is divided by the number
of tilings, since an update changes that many weights.

The lesson showed one run of each; its numbers must be within the range of our runs.
"""

from __future__ import annotations

from playfield.lessons._linear import game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._tilings import settings

BUDGET = Budget(runs=20, episodes=500, film=True, methods=("sarsa",), own=("alpha", "n_step"))
ALPHA = 0.5
PUBLISHED = {1: (165, 4.42), 2: (150, 4.42), 4: (140, 4.42), 8: (125, 4.42), 16: (110, 4.42)}


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes for each number of tilings."""
    lines = settings(ALPHA, PUBLISHED)
    outs = run_all(request, lines, first_seed=1)
    return Outcome(
        "mountain-car-one-run",
        "Experiment D: more tilings, one run of each in the lesson",
        last_rows(request, lines, outs, rule="among runs"),
        [steps_curves(request, "MountainCar (the lesson's), alpha 0.5/tilings", lines, outs, ylim=(90, 1000))],
        notes=[f"The lesson's seconds are of 1 run, ours of {request.runs} runs."],
        film=game(lines[-1].problem, outs[-1]),
    )
