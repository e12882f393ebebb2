"""TD(lambda) with 50 tilings on the 1,000-state random walk: error over step size and lambda.

On 19 states with a weight each, a lambda between 0 and 1 is best (lesson `random-walk-td`). Here tiles share what is
learnt among 200 states, which a trace would do: little is left for lambda, and one-step TD is as good as any. The end
of an episode alone, lambda 1, says least. The larger lambda is, the smaller is the best step size.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from playfield.lessons import _big_walk as walk
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._sweep import Branch, Found, curves
from playfield.lessons._tabular import play_all
from playfield.linear.jit import Bools

BUDGET = Budget(runs=100, episodes=10)
TILINGS = 50
LAMBDAS = (0.0, 0.4, 0.8, 0.9, 0.95, 0.99, 1.0)
# Of all tilings together:
SIZES = (0.002, 0.005, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)


def run(request: Request) -> Outcome:
    """100 runs of 10 episodes for each lambda and step size."""
    request.progress.parts(len(LAMBDAS) * len(SIZES))
    truth, _ = walk.exact()
    alike = np.full(walk.STATES, 1 / walk.STATES)
    index, factor = walk.tilings(TILINGS)
    found, rows = [], list[Row]()
    for lam in LAMBDAS:
        values, seconds = [], 0.0
        for size in SIZES:

            def play(rng: np.random.Generator, stop: Bools, lam: float = lam, size: float = size) -> float:
                errors, w = np.zeros(request.episodes), np.zeros(int(index.max()) + 1)
                walk.td_lambda(size / TILINGS, lam, rng, stop, index, factor, w, truth, alike, errors)
                return float(errors.mean())

            errors, took = play_all(request, f"lambda {lam:g}, alpha {size:g}", play)
            values.append(errors)
            seconds += took
        found.append(Found(Branch(f"{lam:g}", "", {}, SIZES), np.array(values), seconds))
        size, ends = found[-1].best()
        label, measure = f"lambda {lam:g}, alpha {size:g}/{TILINGS}", "RMS error, best alpha"
        rows.append(mean_row(label, measure, None, ends, seconds_here=seconds))
    errors = [row.ours for row in rows]
    best, worst = (LAMBDAS[int(pick(errors))] for pick in (np.argmin, np.argmax))
    rows.append(Row("lowest error", "lambda", None, best, claim="at most 0.8", holds=best <= 0.8))
    rows.append(Row("highest error", "lambda", None, worst, claim="Monte Carlo, 1", holds=worst == 1))
    sizes = [f.best()[0] for f in found]
    falling = all(a >= b for a, b in itertools.pairwise(sizes))
    rows.append(Row("larger lambda", "best alpha of lambda 1", None, sizes[-1], claim="never larger", holds=falling))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    xlabel, ylabel = f"alpha x {TILINGS} ({request.runs_text()})", f"RMS error, first {request.episodes} episodes"
    panel = curves("Lambda, over the step size", xlabel, ylabel, found, (0.2, 0.6))
    return Outcome("walk-tilings-td", "TD(lambda) with tilings, 1,000-state random walk", rows, [panel])
