"""Experiment A: Sarsa on MountainCar with position and velocity cut into tiles, each by itself.

The first thing that learns in lesson 18: 9 features for the position, 9 for the velocity, one of each on. The sum
of two weights cannot say "fast, but at the bottom", so the car is slow to learn and jumps back now and then; but
the first episodes of thousands of steps shrink to a few hundred within 45.

The lesson showed one run, from one and the same start (its environment was seeded anew in every episode). Here
there are many, from Gymnasium's random starts: the lesson's numbers must lie among them.

With `--faithful` a second line runs as there: from one start, whose first state has a feature too many, and with the
position's last tile numbered as the velocity's first (which changes nothing: only the goal lies in that tile).
"""

from __future__ import annotations

import numpy as np

from playfield.lessons._linear import Setting, game, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._rows import mean_row

BUDGET = Budget(runs=20, episodes=45, faithful=True, film=True)
ALPHA = 0.1 / 8
EPSILON = 0.1
FIRST, SETTLED = 7_700, 400  # steps: of the lesson's first episode; of most of its last, "below"
SECONDS = 28.3


def run(ask: Ask) -> Outcome:
    """20 runs of 45 episodes of one-step Sarsa."""
    options = {"alpha": ALPHA, "epsilon": EPSILON, "gamma": 1.0, "n_step": 1}
    settings = [Setting("8 tiles", "sarsa", "mountain-car-gym", "onehot:tiles=8", options)]
    if ask.faithful:
        settings.append(
            Setting("as there", "sarsa", "mountain-car-gym", "onehot:tiles=8,faithful=true", options, course=True)
        )
    outs = run_all(ask, settings, first_seed=1)
    rows = []
    for setting, out in zip(settings, outs, strict=True):
        after = np.median(out.steps[:, min(24, ask.episodes - 1) :], axis=1)
        more = {"judged": ask.as_published, "seconds_there": SECONDS, "seconds_here": out.seconds}
        rows.append(
            mean_row(setting.label, "steps, first episode", FIRST, out.steps[:, 0], rule="among runs", **more)
        )
        what = "median steps, episodes 25 to 45"
        rows.append(mean_row(setting.label, what, SETTLED, after, rule="at most", judged=ask.as_published))
    return Outcome(
        "mountain-car-onehot",
        "Experiment A: Sarsa, additive one-hot features",
        rows,
        [steps_curves(ask, "MountainCar, alpha 0.1/8, epsilon 0.1", settings, outs, first=[FIRST])],
        notes=[f"The lesson's seconds are of 1 run, ours of {ask.runs}."],
        film=game(settings[0].problem, outs[0]),
    )
