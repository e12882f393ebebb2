"""Which games cannot have end-game replay: all of them are played from states, as `failures.INEXACT` says."""

from __future__ import annotations

import numpy as np
import pytest

from playfield.envs import failures
from playfield.envs.atari_facts import LIVES_AND_ACTIONS
from playfield.envs.endgames import Endgames, _play
from test_endgames import CLASSIC

BEFORE, AFTER = (40, 300, 900), 500  # steps to a state, and from there
TRIES = 3  # TicTacToe3D goes on exactly from most states


def goes_on_exactly(game: str) -> bool:
    """Whether all that follows on nine states is the same again, by the same emulator and by another."""
    env = Endgames(game, 1, CLASSIC, 0.1)
    one, other = env._games[0], env._emulator(game, env._fire)
    for seed in range(TRIES):
        random = np.random.default_rng(seed + 1)
        for steps in BEFORE:
            one.seed(seed)
            _play(one, random.integers(env.spec.num_actions, size=steps).tolist())
            state, actions = one.snapshot(), random.integers(env.spec.num_actions, size=AFTER).tolist()
            followed = _play(one, actions)
            for again in (one, other):
                again.go_to(state)
                if _play(again, actions) != followed:
                    return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("game", sorted(LIVES_AND_ACTIONS))
def test_games_that_do_not_go_on_as_they_did_are_those_refused(game):
    assert goes_on_exactly(game) == (game not in failures.INEXACT)
