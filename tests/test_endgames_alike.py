"""End-game replay by an agent that always does the same: it leaves the same states again and again."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from playfield.envs import endgames, failures, uses
from playfield.envs.endgames import Endgames
from playfield.errors import DataError
from playfield.runs.tree import tree_hash
from test_endgames import CLASSIC, games, lines


class Played:
    """Games of an agent that always fires, and how many started from each state."""

    def __init__(self, env: Endgames) -> None:
        self.env, self.starts = env, Counter()
        self.largest = 0

    def step(self) -> None:
        ended = {episode.env for episode in self.env.step(np.ones(self.env.num_envs, np.int64)).episodes}
        self.starts.update(lines(self.env)[i] for i in ended if self.env._games[i].replayed)
        kept = Counter((one.seed, one.actions) for one in self.env._kept)
        assert max(kept.values(), default=1) == 1, "a state is kept twice"
        assert len(kept) <= endgames.KEPT
        self.largest = max(self.largest, len(self.env._dropped))


@pytest.mark.parametrize("places", [2, 6])
def test_a_state_begins_at_most_five_games_and_is_kept_once(places, monkeypatch):
    """With few places states are dropped before they are used up, and come again."""
    monkeypatch.setattr(endgames, "KEPT", places)
    played = Played(games(0.9, 4, CLASSIC))
    for _ in range(1500):
        played.step()
    assert max(played.starts.values()) == failures.TIMES
    assert played.largest > 0


def test_uses_of_dropped_states_are_in_a_snapshot(monkeypatch):
    monkeypatch.setattr(endgames, "KEPT", 3)
    played = Played(games(0.9, 3, CLASSIC))
    for _ in range(1000):
        played.step()
        if len(played.env._dropped) and played.env._kept:
            break
    else:
        pytest.fail("nothing was dropped")
    state = played.env.state()
    other = Played(Endgames("breakout", 3, CLASSIC, 0.9))
    other.env.restore(state)
    assert len(other.env._dropped) == len(played.env._dropped)
    assert tree_hash(other.env.state()) == tree_hash(state)
    for _ in range(300):
        played.step()
        other.step()
    assert tree_hash(other.env.state()) == tree_hash(played.env.state())


def test_what_an_earlier_version_kept_twice_is_kept_once(monkeypatch):
    env = games(0.9, 2, CLASSIC)
    while len(env._kept) < 2:
        env.step(np.ones(2, np.int64))
    state = env.state()
    del state["dropped"]
    first, second = (k.actions for k in env._kept[:2])
    twice = {name: np.concatenate([a, a]) for name, a in state["kept"].items()}
    twice["used"][:] = 1
    twice["used"][[0, len(env._kept)]] = (4, 2)
    other = Endgames("breakout", 2, CLASSIC, 0.9)
    other.restore({**state, "kept": twice})
    assert (other._kept[0].actions, other._kept[0].used) == (second, 2)
    assert (len(other._kept), len(other._dropped)) == (len(env._kept) - 1, 1)
    assert other._dropped.of(int(env._kept[0].seed), first) == failures.TIMES


def test_uses_are_remembered_while_the_state_can_come_again_and_bounded(monkeypatch):
    monkeypatch.setattr(uses, "REMEMBERED", 2)
    found = uses.Uses()
    found.add(1, b"abc", 3)
    found.add(2, b"abcd", 5)
    found.add(2, b"", 0)  # begins no game less for that
    assert (found.of(1, b"abc"), found.of(1, b"abd"), found.of(2, b"abc")) == (3, 0, 0)
    assert found.full
    found.forget({1: 3, 2: 5})  # of seed 2 only states of five actions on can come
    assert (found.of(1, b"abc"), found.of(2, b"abcd"), found.full) == (3, 0, False)
    assert (found.take(1, b"abc"), len(found)) == (3, 0)


def test_no_state_is_kept_where_its_uses_could_not_be_remembered(monkeypatch):
    monkeypatch.setattr(uses, "REMEMBERED", 0)
    env = games(0.9, 2, CLASSIC)
    for _ in range(400):
        env.step(np.ones(2, np.int64))
    assert not env._kept


@pytest.mark.parametrize("used", [0, failures.TIMES + 1])
def test_uses_that_cannot_be_are_refused(used):
    state = {name: np.array([used], np.int64) for name in uses.COLUMNS}
    with pytest.raises(DataError, match="more uses of a state than there are"):
        uses.Uses().restore(state)
