"""Figure 7.2: n-step TD on the 19-state random walk: prediction error over step size and n.

The walk starts in the middle of 19 states in a row and ends beyond either end, with reward -1 on the left and +1 on
the right. In the first episode one-step TD changes the value of the last state only; a Monte Carlo method changes
those of all states, by the same noisy return. An n in between, about 4, is best, and the larger n, the smaller the
best step size.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._sweep import Branch, Found, curves
from playfield.lessons._tabular import play_all
from playfield.linear.jit import Bools, Floats, jit
from playfield.linear.problems import WALK_STATES, walk_values

BUDGET = Budget(runs=100, episodes=10)
STEPS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
SIZES = (0.02, 0.04, 0.06, 0.08, *(round(0.1 * i, 1) for i in range(1, 11)))
BEST = 4
AROUND = (2, 4, 8)  # n that is "about 4"


@jit
def predict(
    n: int, alpha: float, rng: np.random.Generator, stop: Bools, truth: Floats, values: Floats, errors: Floats
) -> None:
    """n-step TD of `values` [S], in place; `errors` [episodes]: root of the mean square from `truth` after each."""
    count = len(values)
    visited, rewards = np.zeros(n + 1, np.int64), np.zeros(n + 1)  # rings: of step t at t % (n + 1)
    for episode in range(len(errors)):
        if stop[0]:
            return
        state, length, t = count // 2, -1, 0  # length: of the episode, once it is known
        visited[0] = state
        while True:
            if length < 0:
                state += 1 if rng.random() < 0.5 else -1
                over = state < 0 or state >= count
                reward = 0.0
                if over:
                    reward, length = 1.0 if state >= count else -1.0, t + 1
                rewards[(t + 1) % (n + 1)] = reward
                visited[(t + 1) % (n + 1)] = state
            updated = t - n + 1  # the step whose state's value is updated
            if updated >= 0:
                end = updated + n if length < 0 else min(updated + n, length)
                total = 0.0
                for i in range(updated + 1, end + 1):
                    total += rewards[i % (n + 1)]
                if end != length:
                    total += values[visited[end % (n + 1)]]
                at = visited[updated % (n + 1)]
                values[at] += alpha * (total - values[at])
            if length >= 0 and updated == length - 1:
                break
            t += 1
        errors[episode] = np.sqrt(((values - truth) ** 2).mean())


def run(request: Request) -> Outcome:
    """100 runs of 10 episodes for each n and step size."""
    request.progress.parts(len(STEPS) * len(SIZES))
    found, rows, truth = [], list[Row](), walk_values()
    for n in STEPS:
        values, seconds = [], 0.0
        for size in SIZES:

            def play(rng: np.random.Generator, stop: Bools, n: int = n, alpha: float = size) -> float:
                errors = np.zeros(request.episodes)
                predict(n, alpha, rng, stop, truth, np.zeros(WALK_STATES), errors)
                return float(errors.mean())

            errors, took = play_all(request, f"n = {n}, alpha {size:g}", play)
            values.append(errors)
            seconds += took
        found.append(Found(Branch(f"{n}", "", {}, SIZES), np.array(values), seconds))
        size, ends = found[-1].best()
        rows.append(mean_row(f"n = {n}, alpha {size:g}", "RMS error, best alpha", None, ends, seconds_here=seconds))
    errors = [row.ours for row in rows]
    winner = STEPS[int(np.argmin(errors))]
    claim = f"n = {BEST}, or its neighbours {AROUND[0]} and {AROUND[-1]}"
    rows.append(Row("lowest error", "n", BEST, winner, claim=claim, holds=winner in AROUND))
    sizes = [f.best()[0] for f in found]
    falling = all(a >= b for a, b in itertools.pairwise(sizes))
    rows.append(Row("larger n", "best alpha of the largest", None, sizes[-1], claim="never larger", holds=falling))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    xlabel, ylabel = f"alpha ({request.runs_text()})", f"RMS error, first {request.episodes} episodes"
    bottom = min(0.22, 0.95 * min(errors))  # the book's axis; more episodes lead to smaller errors
    panel: Curves = curves("n, over the step size", xlabel, ylabel, found, (bottom, 0.56))
    return Outcome("n-step-walk", "Figure 7.2: n-step TD, 19-state random walk", rows, [panel])
