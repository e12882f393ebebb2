"""Example 6.7, figure 6.5: maximisation bias, and double Q-learning, which has none.

From the first square "right" ends the episode without a reward, and "left" leads to a square with ten actions, all of
which end it with a reward of mean -0.1 and standard deviation 1. So "left" is always wrong. But the highest of ten
noisy estimates is too high: Q-learning takes it for the value of "left", and at first goes left most of the time.
Double Q-learning chooses the best action by one table and takes its value from another, which is not too high on
average. With epsilon 0.1 the best share of lefts is 5 %, and Q-learning always has more. The book says that it has
about 5 % more even at asymptote, which 300 episodes are not: here it is still falling then (`--episodes 3000 --runs
2000` ends with 7.4 %).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from playfield.lessons import _rows
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._tabular import best, choose, play_all
from playfield.linear.jit import Bools, Floats, jit
from playfield.play.statistics import difference_interval

BUDGET = Budget(runs=10_000, episodes=300)
LEFT, RIGHT = 0, 1
CHOICES = 10  # actions in the square on the left
ALPHA, EPSILON = 0.1, 0.1
OPTIMAL = 0.05  # share of lefts that an epsilon-greedy policy cannot avoid
METHODS = ("Q-learning", "double Q-learning")
LAST = 20  # episodes in the mean that is compared


@jit
def learn(
    double: bool,
    alpha: float,
    epsilon: float,
    rng: np.random.Generator,
    stop: Bools,
    a: Floats,
    b: Floats,
    lefts: Floats,
) -> None:
    """Learn tables a [2, 2] of the first square and b [2, B] of the left one, and count `lefts` [episodes], 0 or 1.

    Only row 0 of both is used unless `double`, whose policy is epsilon-greedy in the sum of the rows.
    """
    for episode in range(len(lefts)):
        if stop[0]:
            return
        first = choose(a[0] + a[1], epsilon, rng)
        row = 1 if double and rng.random() < 0.5 else 0
        if first == RIGHT:
            a[row, RIGHT] -= alpha * a[row, RIGHT]
            continue
        lefts[episode] = 1.0
        top = best(b[row], rng)
        a[row, LEFT] += alpha * (b[1 - row if double else row, top] - a[row, LEFT])
        second = choose(b[0] + b[1], epsilon, rng)
        reward = -0.1 + rng.standard_normal()
        row = 1 if double and rng.random() < 0.5 else 0
        b[row, second] += alpha * (reward - b[row, second])


def run(request: Request) -> Outcome:
    """10,000 runs of 300 episodes of both methods."""
    request.progress.parts(len(METHODS))
    x, last = np.arange(1, request.episodes + 1), min(LAST, request.episodes)
    measure = f"share of lefts, {_rows.last(last, 'episode')}"
    rows: list[Row] = []
    lines, shares, at_end = [], [], list[Floats]()
    for number, label in enumerate(METHODS):

        def play(rng: np.random.Generator, stop: Bools, double: bool = bool(number)) -> Floats:
            lefts = np.zeros(request.episodes)
            learn(double, ALPHA, EPSILON, rng, stop, np.zeros((2, 2)), np.zeros((2, CHOICES)), lefts)
            return lefts

        found, seconds = play_all(request, label, play)
        lefts = np.stack(found)
        ends = lefts[:, -last:].mean(axis=1)
        rows.append(mean_row(label, measure, None, ends, seconds_here=seconds))
        at_end.append(ends)
        lines.append(Line(label, x, 100 * lefts))
        shares.append(lefts.mean(axis=0))
    low, high = difference_interval(*(ends.tolist() for ends in at_end))
    ours = rows[0].ours - rows[1].ours
    less = f"{METHODS[0]} less {METHODS[1]}"
    rows.append(Row(less, measure, None, ours, low, high, claim="interval above 0", holds=low > 0))
    peaks = [float(share.max()) for share in shares]
    means = [float(share.mean()) for share in shares]
    rows.append(_claim(METHODS[0], "highest share of lefts", peaks[0], "above three quarters", peaks[0] > 0.75))
    less = "less than half of Q-learning's"
    beyond = [mean - OPTIMAL for mean in means]
    rows.append(_claim(METHODS[1], "lefts beyond 5 %, all episodes", beyond[1], less, beyond[1] < beyond[0] / 2))
    lines.append(Line("best", x, np.full((1, len(x)), 100 * OPTIMAL)))
    panel = Curves("Left, which is wrong", f"episode ({request.runs_text()})", "% of lefts", lines, ylim=(0, 100))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    notes = [f"alpha {ALPHA}, epsilon {EPSILON}, {CHOICES} actions on the left."]
    return Outcome("double-q", "Example 6.7: Q-learning and double Q-learning", rows, [panel], notes=notes)


def _claim(label: str, measure: str, ours: float, claim: str, holds: bool) -> Row:
    return Row(label, measure, None, ours, claim=claim, holds=holds)
