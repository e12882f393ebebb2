"""Viewed games: the stack, the ends, and exact continuation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.envs import make_envs, make_from
from playfield.envs.action_log import AtariLog
from playfield.envs.atari import Atari
from playfield.envs.atari_protocol import protocol
from playfield.envs.atari_viewed import Viewed
from playfield.envs.base import Step, VectorEnv
from playfield.envs.views import View
from playfield.errors import DataError, EnvError, UsageError

VIEWS = ("mono,trim,aimbot", "grey,keep", "3col,blacken,counters")


def seeds(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int64)


def copied(s: Step) -> Step:
    return Step(s.obs.copy(), s.next_obs.copy(), s.reward.copy(), s.terminated.copy(), s.truncated.copy(), s.episodes)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["classic", "v5"])
def test_observations_are_views_of_each_envs_own_frames(view, name):
    """Each env against a View of its own, which sees that env's frames only, game by game."""
    n, k = 2, 3
    rules = protocol(name, stack=k, cap=600)
    env, raw = Viewed("breakout", n, rules, view), Atari("breakout", n, rules, raw=True)
    obs, frames = env.reset(seeds(n)), raw.reset(seeds(n))
    assert obs.shape == (n, *env.spec.obs_shape)
    lone = [View.parse(view) for _ in range(n)]
    yes, no = np.ones(1, bool), np.zeros(1, bool)
    history = [[lone[i](frames[i : i + 1], yes)[0]] * k for i in range(n)]
    ends = lives = 0
    for t in range(260):
        for i in range(n):
            assert np.array_equal(obs[i], np.concatenate(history[i], -1)), t
        actions = np.random.default_rng(t).integers(4, size=n)
        s, r = env.step(actions), raw.step(actions)
        assert np.array_equal(s.reward, r.reward)
        assert np.array_equal(s.terminated, r.terminated)
        assert np.array_equal(s.truncated, r.truncated)
        assert s.episodes == r.episodes
        assert np.array_equal(env.lives, raw.lives)
        ended = [e.env for e in r.episodes]
        for i in range(n):
            fell = bool(raw.life_lost[i])
            lives += fell
            seen = lone[i](r.next_obs[i : i + 1], yes if fell else no)[0]
            history[i] = [*history[i][1:], seen]
            assert np.array_equal(s.next_obs[i], np.concatenate(history[i], -1)), t
            if i in ended:
                ends += 1
                lone[i] = View.parse(view)
                history[i] = [lone[i](r.obs[i : i + 1], yes)[0]] * k
        assert (s.obs is s.next_obs) == (not ended)
        obs = s.obs
    assert ends >= 1
    assert lives >= 1


def test_raw_frames_are_not_altered(monkeypatch):
    env = Viewed("breakout", 2, protocol(), "3col,keep,aimbot")
    step = env._raw.step
    kept: list[tuple[np.ndarray, np.ndarray]] = []

    def spy(actions):
        s = step(actions)
        kept.append((s.obs, s.obs.copy()))
        return s

    monkeypatch.setattr(env._raw, "step", spy)
    env.reset(seeds(2))
    marks = 0
    for _ in range(120):
        s = env.step(np.zeros(2, np.int64))
        frame, copy = kept.pop()
        assert np.array_equal(frame, copy)
        marks += not np.array_equal(s.obs[..., -3:], frame)
    assert marks > 0  # the aimbot did paint


def play(env: VectorEnv, steps: int, key: int) -> list[Step]:
    draws = np.random.default_rng(key).integers(4, size=(steps, env.num_envs))
    return [copied(env.step(actions)) for actions in draws]


@settings(max_examples=5, deadline=None)
@given(
    before=st.integers(0, 150),
    n=st.integers(1, 3),
    view=st.sampled_from(VIEWS),
    anchor=st.sampled_from([20, 100]),
    name=st.sampled_from(["classic", "v5"]),
)
def test_a_fresh_object_continues_exactly(before, n, view, anchor, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtariLog, "limit", anchor)
        env, fresh = (Viewed("breakout", n, protocol(name, cap=400), view) for _ in range(2))
        env.reset(seeds(n))
        play(env, before, before)
        obs = env._stack.copy()
        assert np.array_equal(fresh.restore(env.state()), obs)
        for a, b in zip(play(env, 40, 1), play(fresh, 40, 1), strict=True):
            assert np.array_equal(a.obs, b.obs)
            assert np.array_equal(a.next_obs, b.next_obs)
            assert np.array_equal(a.reward, b.reward)
            assert a.episodes == b.episodes


def test_a_state_is_not_changed_by_going_on():
    env = Viewed("breakout", 1, protocol(), VIEWS[0])
    env.reset(seeds(1))
    play(env, 30, 0)
    state = env.state()
    stack = state["stack"].copy()
    a = play(env, 20, 1)
    assert np.array_equal(state["stack"], stack)
    env.restore(state)
    b = play(env, 20, 1)
    assert all(np.array_equal(x.obs, y.obs) for x, y in zip(a, b, strict=True))


def test_spec_and_making():
    env = make_envs("breakout", 2, view="aimbot,mono,trim", stack=2)
    assert isinstance(env, Viewed)
    assert isinstance(env, VectorEnv)
    assert env.spec.obs_shape == (173, 143, 2)
    assert env.spec.protocol["view"] == "mono,trim,aimbot"
    assert env.spec.pixels
    again = make_from(env.spec, 1)
    assert again.spec == env.spec
    assert make_envs("pong", 1, view="grey").spec.obs_shape == (210, 160, 4)


def test_bad_use():
    with pytest.raises(UsageError, match="Breakout"):
        Viewed("pong", 1, protocol(), "mono,trim")
    with pytest.raises(UsageError, match="did you mean mono"):
        Viewed("breakout", 1, protocol(), "monoo")
    env = Viewed("breakout", 1, protocol(), "mono")
    with pytest.raises(EnvError, match="reset"):
        env.step(np.zeros(1, np.int64))
    with pytest.raises(EnvError, match="reset"):
        env.state()
    env.reset(seeds(1))
    with pytest.raises(DataError, match="view"):
        Viewed("breakout", 1, protocol(), "grey").restore(env.state())
    with pytest.raises(DataError, match="stack"):
        Viewed("breakout", 2, protocol(), "mono").restore(env.state())
