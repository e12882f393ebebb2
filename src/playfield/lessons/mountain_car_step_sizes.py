"""Experiment C: Sarsa on MountainCar with three step sizes, the mean of 20 runs of each.

A single run is too noisy to compare step sizes; the mean of 20 runs with an interval is not.

The lesson says that this is Gymnasium's MountainCar. But its figure equals one of an earlier lesson pixel by pixel: a
default argument of its function still was the course's own MountainCar, which is what runs here.
"""

from __future__ import annotations

from playfield.lessons._linear import Setting, game, greedy, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=20, episodes=500, film=True, methods=("sarsa",), own=("alpha",))
FEATURES = "onehot:tiles=8"
PUBLISHED = {0.1: (165, 100), 0.2: (175, 85), 0.5: (140, 68)}  # alpha * 8: steps of the last episodes, seconds


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes for each step size."""
    settings = [
        Setting(
            f"alpha {alpha:g}/8",
            "sarsa",
            "mountain-car",
            FEATURES,
            greedy(alpha / 8, n_step=1),
            published,
            seconds,
        )
        for alpha, (published, seconds) in PUBLISHED.items()
    ]
    outs = run_all(request, settings)
    return Outcome(
        "mountain-car-step-sizes",
        "Experiment C: three step sizes",
        last_rows(request, settings, outs),
        [steps_curves(request, "MountainCar (the lesson's), one-hot features", settings, outs, ylim=(90, 1000))],
        film=game(settings[-1].problem, outs[-1]),
    )
