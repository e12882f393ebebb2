"""Figure 12.10: how traces and the step size work together in Sarsa(lambda), in the first 50 episodes.

The book's figure has replacing traces, the lesson's the Dutch ones of true online Sarsa(lambda): both are here. A
lambda between 0 (one step) and 1 (Monte Carlo) is best. What was published is the lesson's best of each lambda.
"""

from __future__ import annotations

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Mark
from playfield.lessons._rows import mean_row
from playfield.lessons._sweep import Branch, curves, sweep

BUDGET = Budget(runs=10, episodes=50)
FEATURES = "tilings:tilings=8,tiles=8"
SECONDS = 145.0  # all of the lesson's, with 3 runs
LAMBDAS = (0.0, 0.68, 0.84, 0.92, 0.96, 0.98, 0.99)
SIZES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)
PUBLISHED = {0.0: 225, 0.68: 195, 0.84: 175, 0.92: 182}
LIMIT = 2_000  # steps of an episode that will not end


def run(ask: Ask) -> Outcome:
    """10 runs of 50 episodes for each lambda, step size and kind of trace."""
    ask.progress.parts(2 * len(LAMBDAS) * len(SIZES))
    panels, rows = [], []
    for trace, title in (("dutch", "True online (the lesson)"), ("replacing", "Replacing traces (the book)")):
        branches = [
            Branch(
                f"{lam:g}", "sarsa_lambda", {"epsilon": 0.0, "gamma": 1.0, "lam": lam, "trace": trace}, SIZES, 1 / 8
            )
            for lam in LAMBDAS
        ]
        found = sweep(
            ask, branches, "mountain-car", FEATURES, lambda out: out.steps.mean(axis=1), LIMIT, within=False
        )
        marks = []
        total = sum(f.seconds for f in found)
        for i, (lam, f) in enumerate(zip(LAMBDAS, found, strict=True)):
            size, values = f.best()
            published = PUBLISHED.get(lam) if trace == "dutch" else None
            setting = f"{trace}, lambda {lam:g}, alpha {size:g}/8"
            first = i == 0
            rows.append(
                mean_row(
                    setting,
                    "steps, best alpha",
                    published,
                    values,
                    judged=ask.as_published,
                    seconds_there=SECONDS if first and trace == "dutch" else None,
                    seconds_here=total if first else None,
                )
            )
            if published is not None:
                marks.append(Mark(i, size, size, published))
        panels.append(curves(title, "alpha * 8", "steps of an episode", found, (160, 300), marks))
    return Outcome(
        "figure-12-10",
        "Figure 12.10: Sarsa(lambda), steps in the first 50 episodes",
        rows,
        panels,
        notes=[
            "Seconds are those of all lambdas and step sizes; the lesson's are of 3 runs, without replacing traces."
        ],
    )
