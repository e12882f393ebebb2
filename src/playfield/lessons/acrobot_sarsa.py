"""Acrobot with tile coding: an exercise of lesson 18, "other simple environments".

Two links hang from a pivot, and only the joint between them has a motor; the tip must swing above a line. The
observation has six dimensions, so tilings over all of them would have millions of tiles: an index hash table numbers
only the tiles that are visited. Gymnasium calls Acrobot solved at a mean return of -100; episodes end after 500
steps.
"""

from __future__ import annotations

from playfield.lessons._classic import learn, with_and_without_traces
from playfield.lessons._linear import greedy
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=10, episodes=1_000, film=True, methods=("sarsa", "sarsa_lambda"))
FEATURES = "iht:tilings=16,tiles=3,size=32768"


def run(request: Request) -> Outcome:
    """10 runs of 1000 episodes, with traces and without."""
    settings = with_and_without_traces("acrobot", FEATURES, greedy(0.3 / 16))
    title = "Acrobot, 16 tilings of 3 tiles in 6 dimensions"
    return learn(
        request, "acrobot-sarsa", title, settings, solved=-100, by="solved, Gymnasium", random=-500, limit=500
    )
