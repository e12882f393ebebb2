"""Figure 10.4: the effect of n and the step size alpha on n-step Sarsa, in the first 50 episodes.

With a larger n, learning is faster at small step sizes and worse at large ones. The book finds that an intermediate
n, 4, is best.
"""

from __future__ import annotations

import numpy as np

from playfield.lessons._linear import TILINGS
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._sweep import Branch, curves, sweep

BUDGET = Budget(runs=20, episodes=50, methods=("sarsa",), own=("alpha", "n_step"))
SECONDS = 292.0  # of the whole lesson
# n: (first, last, step) of alpha * 8.
GRIDS = {1: (0.4, 1.8, 0.1), 2: (0.2, 1.8, 0.1), 4: (0.1, 1.8, 0.1), 8: (0.1, 1.2, 0.07), 16: (0.1, 1.0, 0.07)}
LIMIT = 20_000  # steps after which an episode is truncated


def run(request: Request) -> Outcome:
    """20 runs of 50 episodes for each n and step size."""
    branches = [
        Branch(
            f"n = {n}",
            "sarsa",
            {"epsilon": 0.0, "gamma": 1.0, "n_step": n},
            [round(float(a), 2) for a in np.arange(low, high + by / 2, by)],
            1 / 8,
        )
        for n, (low, high, by) in GRIDS.items()
    ]
    found = sweep(request, branches, "mountain-car", TILINGS, lambda out: out.steps.mean(axis=1), LIMIT)
    rows = []
    for f in found:
        size, values = f.best()
        label = f"{f.branch.label}, alpha {size:g}/8"
        rows.append(mean_row(label, "steps, best alpha", None, values, seconds_here=f.seconds))
    order = sorted(range(len(rows)), key=lambda i: rows[i].ours)
    winner = found[order[0]].branch.label
    rows.append(
        Row(
            winner,
            "best of all",
            None,
            rows[order[0]].ours,
            claim="n = 4 is best",
            holds=winner == "n = 4",
            compared=request.as_published,
            seconds_there=SECONDS,
            seconds_here=sum(f.seconds for f in found),
        )
    )
    return Outcome(
        "figure-10-4",
        "Figure 10.4: n-step Sarsa, steps in the first 50 episodes",
        rows,
        [
            curves(
                "MountainCar (the lesson's), 8 tilings of 8x8", "alpha * 8", "steps of an episode", found, (200, 320)
            )
        ],
    )
