"""Gymnasium's MountainCar with tile coding and true online Sarsa(lambda).

Gymnasium calls MountainCar solved at a mean return of -110 over 100 episodes, that is 110 steps per episode. The same
method as a training: `playfield train MountainCar-v0 --algo sarsa_lambda`.
"""

from __future__ import annotations

from playfield.lessons._classic import learn, with_and_without_traces
from playfield.lessons._linear import greedy
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=20, episodes=1_000, film=True, methods=("sarsa", "sarsa_lambda"))
FEATURES = "tilings:tilings=16,tiles=8"


def run(request: Request) -> Outcome:
    """20 runs of 1000 episodes, with traces and without."""
    settings = with_and_without_traces("mountain-car-gym", FEATURES, greedy(0.3 / 16))
    title = "MountainCar, 16 tilings of 8x8"
    by = "solved, Gymnasium"
    return learn(request, "mountain-car-sarsa", title, settings, solved=-110, by=by, random=-1_000, limit=1_000)
