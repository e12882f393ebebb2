"""Linear actor-critic on CartPole: the challenge of lesson 18, with tile coding in place of a network.

The actor has a preference for each action and samples from their softmax; the critic estimates the value of a state,
and its TD error updates both. The challenge's example, a network with 128 hidden units, counts as solved at a running
mean return of 195 (CartPole-v0, whose episodes last at most 200 steps; here up to 500).
"""

from __future__ import annotations

from playfield.lessons._classic import learn
from playfield.lessons._linear import Setting
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=10, episodes=400, methods=("linear_ac",), own=("taken_only",))
FEATURES = "iht:tilings=16,tiles=4,size=16384"
ACTOR, CRITIC = 0.1 / 16, 0.3 / 16
OPTIONS = {"alpha": CRITIC, "alpha_actor": ACTOR, "gamma": 0.99, "lam": 0.8}


def run(request: Request) -> Outcome:
    """10 runs of 400 episodes: updating the preferences of all actions, or only of the one taken (the course)."""
    settings = [
        Setting("gradient", "linear_ac", "cartpole", FEATURES, OPTIONS),
        Setting("action taken only", "linear_ac", "cartpole", FEATURES, OPTIONS | {"taken_only": True}),
    ]
    title = "CartPole, linear actor-critic, 16 tilings of 4 tiles"
    by = "solved, the example"
    return learn(
        request, "cartpole-actor-critic", title, settings, solved=195, by=by, random=22, limit=500, film=False
    )
