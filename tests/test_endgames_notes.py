"""End-game replay: which states a game notes before it loses a life, and how long their uses are remembered."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from playfield.envs import failures
from playfield.envs.endgames import Endgames
from test_endgames import CLASSIC, V5, games, lines

SERVED = dataclasses.replace(V5, sticky=0.0)  # nothing moves until the agent presses FIRE, and no life is lost
NOTHING, FIRE = 0, 1


def noted(waited: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[int], Endgames]:
    """(length of a game in which a life is lost, lengths of the states that it has noted, the games)."""
    env, found = games(0.0, 1, SERVED), []

    def keep(i: int) -> None:
        found.append((len(env._log.actions[i]), [length for length, _ in env._notes[i]]))

    monkeypatch.setattr(env, "_keep", keep)
    for step in range(waited + 200):
        env.step(np.array([NOTHING if step < waited else FIRE]))
        if found:
            return *found[0], env
    pytest.fail("no life was lost")


def test_states_of_the_last_200_steps_are_noted_every_20(monkeypatch):
    """By hand: of a life longer than 200 steps the ten multiples of 20 before the step in which it is lost."""
    lengths, waited = set(), 263
    for _ in range(4):
        length, states, _ = noted(waited, monkeypatch)
        last = (length - 1) // 20 * 20
        assert states == list(range(last - 180, last + 1, 20))
        assert length - states[0] <= failures.BEFORE == 200
        lengths.add(length % 20 == 0)
        waited += -length % 20 or 7
    assert lengths == {True, False}, "both were tried"


def test_notes_of_a_long_life_are_in_a_snapshot(monkeypatch):
    _, states, env = noted(263, monkeypatch)
    other = Endgames("breakout", 1, SERVED, 0.0)
    other.restore(env.state())
    assert [length for length, _ in other._notes[0]] == states
    assert len(states) == 10


def test_uses_of_a_state_that_a_game_is_about_to_note_are_remembered():
    """Games are handled one after another in a step: a later one may come upon that state in the very same."""
    env = games(0.5, 2, CLASSIC)
    for _ in range(19):
        env.step(np.zeros(2, np.int64))
    env._log.actions[1].append(0)  # the step is played, its note is not written yet
    seed, actions = lines(env)[1]
    assert (len(actions), len(env._notes[1])) == (20, 0)
    env._dropped.add(seed, actions, failures.TIMES)
    env._dropped.forget(env._reached())
    assert env._dropped.of(seed, actions) == failures.TIMES
