"""MountainCar with the preset of one command: tile coding and true online Sarsa(lambda), on Gymnasium's rules.

Gymnasium calls its MountainCar solved at a mean return of -110 over 100 episodes, that is, 110 steps. The same
learner as a training: `playfield train MountainCar-v0 --algo sarsa_lambda`.
"""

from __future__ import annotations

from playfield.lessons._classic import learn
from playfield.lessons._linear import Setting
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=20, episodes=1_000, film=True)
FEATURES = "tilings:tilings=16,tiles=8"


def run(ask: Ask) -> Outcome:
    """20 runs of 1000 episodes, with traces and without."""
    options = {"alpha": 0.3 / 16, "epsilon": 0.0, "gamma": 1.0}
    settings = [
        Setting("Sarsa(0.9)", "sarsa_lambda", "mountain-car-gym", FEATURES, options | {"lam": 0.9}),
        Setting("Sarsa", "sarsa", "mountain-car-gym", FEATURES, options),
    ]
    title = "MountainCar, 16 tilings of 8x8"
    by = "solved, Gymnasium"
    return learn(ask, "mountain-car-sarsa", title, settings, solved=-110, by=by, random=-1_000, limit=1_000)
