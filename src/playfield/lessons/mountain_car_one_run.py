"""Experiment D: Sarsa on MountainCar with 1, 2, 4, 8 and 16 tilings, one run of each in the lesson.

Tile coding: several grids of 8x8 tiles lie over position and velocity, each displaced a little. One tile of each
grid is on, so neighbouring states share most features, and far ones none. The step size is divided by the number of
tilings, as that many weights move at once.

The lesson showed one run of each; its numbers must lie among ours.
"""

from __future__ import annotations

from playfield.lessons._linear import game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._tilings import settings

BUDGET = Budget(runs=20, episodes=500, film=True)
ALPHA = 0.5
PUBLISHED = {1: (165, 4.42), 2: (150, 4.42), 4: (140, 4.42), 8: (125, 4.42), 16: (110, 4.42)}


def run(ask: Ask) -> Outcome:
    """20 runs of 500 episodes for each number of tilings."""
    lines = settings(ALPHA, PUBLISHED)
    outs = run_all(ask, lines, first_seed=1)
    return Outcome(
        "mountain-car-one-run",
        "Experiment D: more tilings, one run of each in the lesson",
        last_rows(ask, lines, outs, rule="among runs"),
        [steps_curves(ask, "MountainCar (the lesson's), alpha 0.5/tilings", lines, outs, ylim=(90, 1000))],
        notes=[f"The lesson's seconds are of 1 run, ours of {ask.runs}."],
        film=game(lines[-1].problem, outs[-1]),
    )
