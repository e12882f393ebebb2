"""CartPole with tile coding: an exercise of lesson 18, "other simple environments".

A pole stands on a cart that is pushed left or right in every step. Gymnasium calls CartPole-v0 solved at a mean
return of 195, and CartPole-v1, whose episodes last up to 500 steps, at 475.

The reward is 1 per step, so initial values of 0 are pessimistic, and a greedy agent repeats the first action that it
tries. Initial values of 100, the largest return with a discount of 0.99, are optimistic: every action is tried.
"""

from __future__ import annotations

from playfield.lessons._classic import learn, with_and_without_traces
from playfield.lessons._linear import greedy
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=10, episodes=500, film=True, methods=("sarsa", "sarsa_lambda"))
FEATURES = "iht:tilings=16,tiles=4,size=16384"


def run(request: Request) -> Outcome:
    """10 runs of 500 episodes, with traces and without."""
    options = greedy(0.3 / 16) | {"gamma": 0.99, "initial": 100.0}
    settings = with_and_without_traces("cartpole", FEATURES, options)
    title = "CartPole, 16 tilings of 4 tiles in 4 dimensions"
    by = "solved, CartPole-v1"
    return learn(request, "cartpole-sarsa", title, settings, solved=475, by=by, random=22, limit=500)
