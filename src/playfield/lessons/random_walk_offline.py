"""Figure 12.3: the offline lambda-return algorithm on the 19-state random walk, by offline true online TD(lambda).

The lambda-return of a state is a mean of its n-step returns, each with lambda times the weight of the one before. It
is known at the end of an episode only; then the offline algorithm moves the values of all states that were visited
towards theirs, one after another. Offline true online TD(lambda) finds the very same weights with a trace, and need
not keep the episode. Compare `n-step-walk`, whose best n is about as good as the best lambda here, and
`random-walk-true-online`, whose weights change at every step: within an episode it uses what it has just learnt.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from playfield.lessons import n_step_walk
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._tabular import play_all
from playfield.lessons._walk import predict
from playfield.linear.jit import Bools
from playfield.linear.problems import WALK_STATES, walk_values

BUDGET = Budget(runs=100, episodes=10, methods=("td_lambda",), own=("alpha", "lam", "trace", "offline"))
STEPS = (2, 4, 8)
SIZES = (0.2, 0.3, 0.4, 0.5, 0.6)
MARGIN = 0.02  # the book: slightly better than n-step TD; within this they are taken for equal


def run(request: Request) -> Outcome:
    """100 runs of 10 episodes for each lambda and step size, and of n-step TD with those near its best."""
    title = "Figure 12.3: offline lambda-return algorithm, 19-state random walk"
    told = predict(request, "random-walk-offline", title, "dutch", later=len(STEPS) * len(SIZES), offline=True)
    best, label, seconds, truth = np.full(1, np.inf), "", 0.0, walk_values()
    for n in STEPS:
        for size in SIZES:

            def play(rng: np.random.Generator, stop: Bools, n: int = n, alpha: float = size) -> float:
                errors = np.zeros(request.episodes)
                n_step_walk.predict(n, alpha, rng, stop, truth, np.zeros(WALK_STATES), errors)
                return float(errors.mean())

            errors, took = play_all(request, f"n = {n}, alpha {size:g}", play)
            seconds += took
            if np.mean(errors) < best.mean():
                best, label = np.array(errors), f"n-step TD, n = {n}, alpha {size:g}"
    lowest = min(row.ours for row in told.rows if row.measure == "RMS error, best alpha")
    ratio, claim = lowest / float(best.mean()), f"at most {1 + MARGIN:g}"
    rows = [
        mean_row(label, "RMS error, best n and alpha", None, best, seconds_here=seconds),
        Row("best lambda / best n", "RMS error", None, ratio, claim=claim, holds=ratio <= 1 + MARGIN),
    ]
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    return dataclasses.replace(told, rows=[*told.rows, *rows])
