"""Linear actor-critic on CartPole: the challenge of lesson 18, with tile coding in place of a network.

The actor holds preferences for actions and draws from their softmax; the critic says what a state is worth, and its
error tells both in which direction to move. The challenge's example, a network of 128 units, counts as solved at a
running return of 195 (CartPole-v0, whose episodes last 200 steps at most; here up to 500).
"""

from __future__ import annotations

from playfield.lessons._classic import learn
from playfield.lessons._linear import Setting
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=10, episodes=400)
FEATURES = "iht:tilings=16,tiles=4,size=16384"
ACTOR, CRITIC = 0.1 / 16, 0.3 / 16
OPTIONS = {"alpha": CRITIC, "alpha_actor": ACTOR, "gamma": 0.99, "lam": 0.8}


def run(ask: Ask) -> Outcome:
    """10 runs of 400 episodes: preferences of all actions moved, and of the action taken alone, as in the course."""
    settings = [
        Setting("gradient", "linear_ac", "cartpole", FEATURES, OPTIONS),
        Setting("action taken alone", "linear_ac", "cartpole", FEATURES, OPTIONS | {"taken_only": True}),
    ]
    title = "CartPole, linear actor-critic, 16 tilings of 4 tiles"
    by = "solved, the example"
    return learn(ask, "cartpole-actor-critic", title, settings, solved=195, by=by, random=22, limit=500, film=False)
