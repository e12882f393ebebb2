"""Experiment A: Sarsa on MountainCar with position and velocity divided into tiles separately.

The first agent of lesson 18: 9 features for the position, 9 for the velocity, one of each active. A sum of two
weights cannot represent how position and velocity interact, so learning is slow and unstable; but episodes of
thousands of steps become a few hundred within 45 episodes.

The lesson showed one run that always starts in the same state (its environment was seeded again in every episode).
Here there are many runs with Gymnasium's random initial states: the lesson's numbers must be within their range.

`--faithful` adds a second curve that reproduces the lesson: one initial state, with one feature too many, and the
last tile of the position has the index of the first tile of the velocity (which changes nothing: that tile contains
only the goal).
"""

from __future__ import annotations

import numpy as np

from playfield.lessons._linear import Setting, game, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import mean_row

BUDGET = Budget(runs=20, episodes=45, faithful=True, film=True, methods=("sarsa",))
ALPHA = 0.1 / 8
EPSILON = 0.1
FIRST, LAST = 7_700, 400  # steps: of the lesson's first episode; upper bound for most of its last ones
SECONDS = 28.3


def run(request: Request) -> Outcome:
    """20 runs of 45 episodes of one-step Sarsa."""
    options = {"alpha": ALPHA, "epsilon": EPSILON, "gamma": 1.0, "n_step": 1}
    settings = [Setting("8 tiles", "sarsa", "mountain-car-gym", "onehot:tiles=8", options)]
    if request.faithful:
        settings.append(
            Setting(
                "as in the course", "sarsa", "mountain-car-gym", "onehot:tiles=8,faithful=true", options, course=True
            )
        )
    outs = run_all(request, settings, first_seed=1)
    rows = []
    for setting, out in zip(settings, outs, strict=True):
        after = np.median(out.steps[:, min(24, request.episodes - 1) :], axis=1)
        more = {"compared": request.as_published, "seconds_there": SECONDS, "seconds_here": out.seconds}
        rows.append(
            mean_row(setting.label, "steps, first episode", FIRST, out.steps[:, 0], rule="among runs", **more)
        )
        what = "median steps, episodes 25 to 45"
        rows.append(mean_row(setting.label, what, LAST, after, rule="at most", compared=request.as_published))
    return Outcome(
        "mountain-car-onehot",
        "Experiment A: Sarsa, additive one-hot features",
        rows,
        [steps_curves(request, "MountainCar, alpha 0.1/8, epsilon 0.1", settings, outs, first=[FIRST])],
        notes=[f"The lesson's seconds are of 1 run, ours of {request.runs} runs."],
        film=game(settings[0].problem, outs[0]),
    )
