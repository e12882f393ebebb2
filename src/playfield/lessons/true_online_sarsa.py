"""True online Sarsa(lambda) on MountainCar, beside one-step Sarsa.

With an eligibility trace, TD errors also update the weights of features that were active before. With the Dutch trace
the result equals that of the online lambda-return algorithm exactly. Lambda 0 is one-step Sarsa.
"""

from __future__ import annotations

from playfield.lessons._linear import TILINGS, Setting, game, greedy, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=20, episodes=500, film=True, methods=("sarsa_lambda",), own=("alpha", "lam", "trace"))
SECONDS = 143 / 2  # both took 2 min 23 s in the course


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes of each."""
    settings = [
        Setting(
            f"lambda {lam:g}, alpha {alpha:g}/8",
            "sarsa_lambda",
            "mountain-car",
            TILINGS,
            greedy(alpha / 8, lam=lam, trace="dutch"),
            published,
            SECONDS,
        )
        for lam, alpha, published in ((0.0, 0.5, 118), (0.8, 0.3, 108))
    ]
    outs = run_all(request, settings)
    return Outcome(
        "true-online-sarsa",
        "True online Sarsa(lambda)",
        last_rows(request, settings, outs),
        [steps_curves(request, "MountainCar (the lesson's), 8 tilings of 8x8", settings, outs, ylim=(90, 1000))],
        film=game("mountain-car", outs[1]),
    )
