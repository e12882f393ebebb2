"""Experiment C: Sarsa on MountainCar with three step sizes, the mean of 20 runs of each.

One run says little: its curve jumps. The mean of twenty, with an interval, shows what a step size does.

The lesson says that these are Gymnasium's MountainCar. Its picture is that of an earlier lesson to the pixel: the
function's default kept the earlier lesson's own car, which is what runs here.
"""

from __future__ import annotations

from playfield.lessons._linear import Setting, game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=20, episodes=500, film=True)
FEATURES = "onehot:tiles=8"
PUBLISHED = {0.1: (165, 100), 0.2: (175, 85), 0.5: (140, 68)}  # alpha * 8: steps of the last episodes, seconds


def run(ask: Ask) -> Outcome:
    """20 runs of 500 episodes for each step size."""
    settings = [
        Setting(
            f"alpha {alpha:g}/8",
            "sarsa",
            "mountain-car",
            FEATURES,
            {"alpha": alpha / 8, "epsilon": 0.0, "gamma": 1.0, "n_step": 1},
            published,
            seconds,
        )
        for alpha, (published, seconds) in PUBLISHED.items()
    ]
    outs = run_all(ask, settings)
    return Outcome(
        "mountain-car-step-sizes",
        "Experiment C: three step sizes",
        last_rows(ask, settings, outs),
        [steps_curves(ask, "MountainCar (the lesson's), one-hot features", settings, outs, ylim=(90, 1000))],
        film=game(settings[-1].problem, outs[-1]),
    )
