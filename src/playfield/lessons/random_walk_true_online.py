"""True online TD(lambda) on the 19-state random walk: prediction error over step size and lambda.

The same problem as in `random-walk-td`, with the Dutch trace. It does what the online lambda-return algorithm does,
and stands step sizes at which TD(lambda) with long traces has long become useless.
"""

from __future__ import annotations

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._walk import predict

BUDGET = Budget(runs=100, episodes=10)


def run(ask: Ask) -> Outcome:
    """100 runs of 10 episodes for each lambda and step size."""
    title = "True online TD(lambda), 19-state random walk"
    return predict(ask, "random-walk-true-online", title, "dutch")
