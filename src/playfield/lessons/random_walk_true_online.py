"""True online TD(lambda) on the 19-state random walk: prediction error over step size and lambda.

The same problem as in `random-walk-td`, with the Dutch trace. It is equivalent to the online lambda-return algorithm,
and works with step sizes that are far too large for TD(lambda) with a large lambda.
"""

from __future__ import annotations

from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._walk import predict

BUDGET = Budget(runs=100, episodes=10, methods=("td_lambda",), own=("alpha", "lam", "trace", "offline"))


def run(request: Request) -> Outcome:
    """100 runs of 10 episodes for each lambda and step size."""
    title = "True online TD(lambda), 19-state random walk"
    return predict(request, "random-walk-true-online", title, "dutch")
