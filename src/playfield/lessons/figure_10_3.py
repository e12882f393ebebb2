"""Figure 10.3: one-step and 8-step Sarsa on MountainCar.

With n steps in a target, what one step found out reaches n states at once. The book finds that n = 8 learns faster
and ends better; both step sizes are good ones for their n. The number for n = 1 is lesson 14's, of the same method.
"""

from __future__ import annotations

from playfield.lessons._linear import Setting, game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._rows import Row

BUDGET = Budget(runs=20, episodes=500, film=True)
FEATURES = "tilings:tilings=8,tiles=8"
SECONDS = 121 / 2  # both took 2 min 1 s there


def run(ask: Ask) -> Outcome:
    """20 runs of 500 episodes of each."""
    settings = [
        Setting(
            f"n = {n}, alpha {alpha:g}/8",
            "sarsa",
            "mountain-car",
            FEATURES,
            {"alpha": alpha / 8, "epsilon": 0.0, "gamma": 1.0, "n_step": n},
            published,
            SECONDS,
        )
        for n, alpha, published in ((1, 0.5, 118), (8, 0.3, None))
    ]
    outs = run_all(ask, settings)
    rows = last_rows(ask, settings, outs)
    for what, part in (("first 50 episodes", slice(0, 50)), ("last 50 episodes", slice(-50, None))):
        one, eight = (out.steps[:, part].mean() for out in outs)
        holds = bool(eight < one)
        row = Row(settings[1].label, f"steps less n = 1's, {what}", None, float(eight - one))
        rows.append(Row(**{**vars(row), "claim": "fewer than n = 1", "holds": holds, "judged": ask.as_published}))
    return Outcome(
        "figure-10-3",
        "Figure 10.3: one-step and 8-step Sarsa",
        rows,
        [steps_curves(ask, "MountainCar (the lesson's), 8 tilings of 8x8", settings, outs, ylim=(90, 1000))],
        film=game("mountain-car", outs[1]),
    )
