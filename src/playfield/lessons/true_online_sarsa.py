"""True online Sarsa(lambda) on MountainCar, beside one-step Sarsa.

A trace lets every weight share in later errors for a while; the Dutch trace is the one with which this equals,
exactly, what the online lambda-return would do. Lambda 0 is one-step Sarsa.
"""

from __future__ import annotations

from playfield.lessons._linear import Setting, game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=20, episodes=500, film=True)
FEATURES = "tilings:tilings=8,tiles=8"
SECONDS = 143 / 2  # both took 2 min 23 s there


def run(ask: Ask) -> Outcome:
    """20 runs of 500 episodes of each."""
    settings = [
        Setting(
            f"lambda {lam:g}, alpha {alpha:g}/8",
            "sarsa_lambda",
            "mountain-car",
            FEATURES,
            {"alpha": alpha / 8, "epsilon": 0.0, "gamma": 1.0, "lam": lam, "trace": "dutch"},
            published,
            SECONDS,
        )
        for lam, alpha, published in ((0.0, 0.5, 118), (0.8, 0.3, 108))
    ]
    outs = run_all(ask, settings)
    return Outcome(
        "true-online-sarsa",
        "True online Sarsa(lambda)",
        last_rows(ask, settings, outs),
        [steps_curves(ask, "MountainCar (the lesson's), 8 tilings of 8x8", settings, outs, ylim=(90, 1000))],
        film=game("mountain-car", outs[1]),
    )
