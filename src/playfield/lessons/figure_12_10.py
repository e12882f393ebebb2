"""Figure 12.10: the effect of lambda and the step size on Sarsa(lambda), in the first 50 episodes.

The book's figure has replacing traces, the lesson's the Dutch traces of true online Sarsa(lambda): here are both. An
intermediate lambda, between 0 (one-step) and 1 (Monte Carlo), is best. Published are the lesson's best results of
each lambda.
"""

from __future__ import annotations

from playfield.lessons._linear import TILINGS
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Mark
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import mean_row
from playfield.lessons._sweep import Branch, curves, sweep

BUDGET = Budget(runs=10, episodes=50, methods=("sarsa_lambda",), own=("alpha", "lam", "trace"))
SECONDS = 145.0  # of the whole lesson, with 3 runs
LAMBDAS = (0.0, 0.68, 0.84, 0.92, 0.96, 0.98, 0.99)
SIZES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)
PUBLISHED = {0.0: 225, 0.68: 195, 0.84: 175, 0.92: 182}
LIMIT = 2_000  # steps after which an episode is truncated


def run(request: Request) -> Outcome:
    """10 runs of 50 episodes for each lambda, step size and kind of trace."""
    request.progress.parts(2 * len(LAMBDAS) * len(SIZES))
    panels, rows = [], []
    for trace, title in (("dutch", "True online (the lesson)"), ("replacing", "Replacing traces (the book)")):
        branches = [
            Branch(
                f"{lam:g}", "sarsa_lambda", {"epsilon": 0.0, "gamma": 1.0, "lam": lam, "trace": trace}, SIZES, 1 / 8
            )
            for lam in LAMBDAS
        ]
        found = sweep(
            request, branches, "mountain-car", TILINGS, lambda out: out.steps.mean(axis=1), LIMIT, count_parts=False
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
                    compared=request.as_published,
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
            "Seconds are of all lambdas and step sizes; those of the course are of 3 runs, without replacing traces."
        ],
    )
