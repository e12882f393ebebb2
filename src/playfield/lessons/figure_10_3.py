"""Figure 10.3: one-step and 8-step Sarsa on MountainCar.

With n-step targets one reward updates the values of n states. The book finds that n = 8 learns faster and ends
better; each step size is a good one for its n. The number for n = 1 is that of lesson 14, of the same method.
"""

from __future__ import annotations

from playfield.lessons._linear import TILINGS, Setting, game, greedy, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row

BUDGET = Budget(runs=20, episodes=500, film=True, methods=("sarsa",), own=("alpha", "n_step"))
SECONDS = 121 / 2  # both took 2 min 1 s in the course


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes for each n."""
    settings = [
        Setting(
            f"n = {n}, alpha {alpha:g}/8",
            "sarsa",
            "mountain-car",
            TILINGS,
            greedy(alpha / 8, n_step=n),
            published,
            SECONDS,
        )
        for n, alpha, published in ((1, 0.5, 118), (8, 0.3, None))
    ]
    outs = run_all(request, settings)
    rows = last_rows(request, settings, outs)
    for what, part in (("first 50 episodes", slice(0, 50)), ("last 50 episodes", slice(-50, None))):
        one, eight = (out.steps[:, part].mean() for out in outs)
        rows.append(
            Row(
                settings[1].label,
                f"steps minus those of n = 1, {what}",
                None,
                float(eight - one),
                claim="fewer than n = 1",
                holds=bool(eight < one),
                compared=request.as_published,
            )
        )
    return Outcome(
        "figure-10-3",
        "Figure 10.3: one-step and 8-step Sarsa",
        rows,
        [steps_curves(request, "MountainCar (the lesson's), 8 tilings of 8x8", settings, outs, ylim=(90, 1000))],
        film=game("mountain-car", outs[1]),
    )
