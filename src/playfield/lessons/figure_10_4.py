"""Figure 10.4: how the number of steps n and the step size alpha work together, in the first 50 episodes.

A larger n learns faster with a small step size, and stands less of a large one. The book finds an intermediate n,
4, to be best.
"""

from __future__ import annotations

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._sweep import Branch, curves, sweep

BUDGET = Budget(runs=20, episodes=50)
FEATURES = "tilings:tilings=8,tiles=8"
SECONDS = 292.0  # all of it, there
# n: alpha * 8 from, to, by.
GRIDS = {1: (0.4, 1.8, 0.1), 2: (0.2, 1.8, 0.1), 4: (0.1, 1.8, 0.1), 8: (0.1, 1.2, 0.07), 16: (0.1, 1.0, 0.07)}
LIMIT = 20_000  # steps of an episode that will not end


def run(ask: Ask) -> Outcome:
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
    found = sweep(ask, branches, "mountain-car", FEATURES, lambda out: out.steps.mean(axis=1), LIMIT)
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
            judged=ask.as_published,
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
