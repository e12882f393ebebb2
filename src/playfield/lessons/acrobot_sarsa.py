"""Acrobot with tile coding: an exercise of lesson 18, "other simple environments".

Two links hang from a pivot, and only the joint between them is driven; the tip must swing above a line. Six numbers
are observed, so that tilings of all of them would have millions of cells: a hash table numbers those that are seen.
Solved at -100 says Gymnasium, whose episodes end after 500 steps.
"""

from __future__ import annotations

from playfield.lessons._classic import learn
from playfield.lessons._linear import Setting
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=10, episodes=1_000, film=True)
FEATURES = "iht:tilings=16,tiles=3,size=32768"


def run(ask: Ask) -> Outcome:
    """10 runs of 1000 episodes, with traces and without."""
    options = {"alpha": 0.3 / 16, "epsilon": 0.0, "gamma": 1.0}
    settings = [
        Setting("Sarsa(0.9)", "sarsa_lambda", "acrobot", FEATURES, options | {"lam": 0.9}),
        Setting("Sarsa", "sarsa", "acrobot", FEATURES, options),
    ]
    title = "Acrobot, 16 tilings of 3 tiles in 6 dimensions"
    return learn(ask, "acrobot-sarsa", title, settings, solved=-100, by="solved, Gymnasium", random=-500, limit=500)
