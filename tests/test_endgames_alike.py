"""End-game replay by an agent that always does the same: states that are alike."""

from __future__ import annotations

from collections import Counter

import numpy as np

from playfield.envs import endgames, failures
from test_endgames import CLASSIC, games


def test_states_that_are_alike_are_told_apart(monkeypatch):
    """Games that start from one state go on alike where the same is done: each leaves a state that is the same."""
    monkeypatch.setattr(endgames, "KEPT", 6)
    env, alike, used = games(0.9, 4, CLASSIC), 0, 0
    for _ in range(1500):
        env.step(np.ones(4, np.int64))
        counted = Counter((kept.seed, kept.actions) for kept in env._kept)
        alike = max(alike, *counted.values(), 0)
        used = max([used, *(kept.used for kept in env._kept)])
    assert alike > 1
    assert used == failures.TIMES - 1, "some were used up"
