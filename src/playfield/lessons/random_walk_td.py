"""TD(lambda) on the 19-state random walk: prediction error over step size and lambda.

The walk begins in the middle of a row of 19 states and ends off either side, with -1 on the left and +1 on the
right; true values are known, so the error is too. TD(0) needs many episodes to carry news back; TD(1) is noisy. In
between is best, and the longer the traces, the smaller the step size that is stood.
"""

from __future__ import annotations

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._walk import predict

BUDGET = Budget(runs=100, episodes=10)


def run(ask: Ask) -> Outcome:
    """100 runs of 10 episodes for each lambda and step size."""
    title = "TD(lambda), accumulating traces, 19-state random walk"
    return predict(ask, "random-walk-td", title, "accumulating")
