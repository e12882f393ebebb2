"""TD(lambda) on the 19-state random walk: prediction error over step size and lambda.

The walk starts in the middle of 19 states in a row and ends beyond either end, with reward -1 on the left and +1 on
the right; the true values are known, so the error is too. TD(0) needs many episodes to propagate the rewards; TD(1)
has a high variance. An intermediate lambda is best, and the larger lambda, the smaller the largest stable step size.
"""

from __future__ import annotations

from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._walk import predict

BUDGET = Budget(runs=100, episodes=10, methods=("td_lambda",), own=("alpha", "lam", "trace", "offline"))


def run(request: Request) -> Outcome:
    """100 runs of 10 episodes for each lambda and step size."""
    title = "TD(lambda), accumulating traces, 19-state random walk"
    return predict(request, "random-walk-td", title, "accumulating")
