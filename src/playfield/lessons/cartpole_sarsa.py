"""CartPole with tile coding: an exercise of lesson 18, "other simple environments".

A pole stands on a cart that must be pushed left or right in every step. Gymnasium calls CartPole-v0 solved at a
mean return of 195; CartPole-v1, whose episodes last up to 500 steps, at 475.

A step earns 1 here, so weights of 0 are no promise, and a greedy agent keeps to the first thing that earns anything.
The weights begin at 100, what the discount of 0.99 allows at most: every action is tried until it disappoints.
"""

from __future__ import annotations

from playfield.lessons._classic import learn
from playfield.lessons._linear import Setting
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=10, episodes=500, film=True)
FEATURES = "iht:tilings=16,tiles=4,size=16384"


def run(ask: Ask) -> Outcome:
    """10 runs of 500 episodes, with traces and without."""
    options = {"alpha": 0.3 / 16, "epsilon": 0.0, "gamma": 0.99, "initial": 100.0}
    settings = [
        Setting("Sarsa(0.9)", "sarsa_lambda", "cartpole", FEATURES, options | {"lam": 0.9}),
        Setting("Sarsa", "sarsa", "cartpole", FEATURES, options),
    ]
    title = "CartPole, 16 tilings of 4 tiles in 4 dimensions"
    by = "solved, CartPole-v1"
    return learn(ask, "cartpole-sarsa", title, settings, solved=475, by=by, random=22, limit=500)
