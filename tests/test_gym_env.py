"""Any Gymnasium env under the contract: records, errors, snapshots by replay."""

from __future__ import annotations

import json
import warnings
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.envs.action_log import GymnasiumLog
from playfield.envs.base import Episode, VectorEnv
from playfield.envs.classic import ClassicVectorEnv
from playfield.envs.gym_env import GymVectorEnv
from playfield.errors import DataError, EnvError, UsageError


class Counter(gymnasium.Env):
    """Observes the steps of this game; ends by termination, truncation, or both."""

    action_space = spaces.Discrete(3)
    observation_space = spaces.Box(0, 1000, (1,), np.float64)

    def __init__(self, terminate: int = 0, truncate: int = 0) -> None:
        self.ends = terminate, truncate
        self.t = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.array([0.0]), {}

    def step(self, action):
        self.t += 1
        terminate, truncate = self.ends
        return np.array([float(self.t)]), 10.0 + action, self.t == terminate, self.t == truncate, {}


class Dice(gymnasium.Env):
    """Rewards, observations and ends from its own generator; the same array is handed out again and again."""

    action_space = spaces.Discrete(4, start=5)
    observation_space = spaces.Box(0, 255, (3, 6, 5), np.uint8)

    def __init__(self) -> None:
        self.buffer = np.zeros((3, 6, 5), np.uint8)

    def _look(self):
        self.buffer[...] = self.np_random.integers(256, size=self.buffer.shape)
        return self.buffer

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._look(), {}

    def step(self, action):
        assert action in self.action_space
        reward = self.np_random.normal() * float(action)
        end = self.np_random.random()
        return self._look(), reward, end < 0.03, end > 0.98, {}


class Grid(gymnasium.Env):
    """Discrete observations that do not start at 0, drawn as a small picture."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 1}
    action_space = spaces.Discrete(2)
    observation_space = spaces.Discrete(4, start=10)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = 10
        return self.place, {}

    def step(self, action):
        self.place += int(action)
        return self.place, 0.0, self.place == 13, False, {}

    def render(self):
        return np.full((2, 3, 3), self.place, np.uint8)


class Shy(Counter):
    """Promises a picture but takes no render mode."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 1}


class Luck(Counter):
    """Heeds no seed."""

    draws = 0

    def step(self, action):
        Luck.draws += 1
        _, *rest = super().step(action)
        return np.array([float(Luck.draws)]), *rest


@pytest.fixture(autouse=True)
def registered():
    before = dict(gymnasium.registry)
    for env in (Counter, Dice, Grid, Shy, Luck):
        gymnasium.register(f"{env.__name__}-v0", entry_point=env)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


@pytest.mark.parametrize(
    ("terminate", "truncate", "flags", "length"),
    [(3, 0, (True, False), 3), (0, 4, (False, True), 4), (2, 2, (True, True), 2), (1, 0, (True, False), 1)],
)
def test_ends(terminate, truncate, flags, length):
    env = GymVectorEnv("Counter-v0", 2, terminate=terminate, truncate=truncate)
    assert isinstance(env, VectorEnv)
    obs = env.reset(np.arange(2))
    assert obs.dtype == np.float32
    for t in range(1, 13):
        record = env.step(np.array([0, 2]))
        within = (t - 1) % length + 1
        ended = within == length
        np.testing.assert_array_equal(record.next_obs, [[within]] * 2)  # the true successor, at an end too
        np.testing.assert_array_equal(record.obs, [[0 if ended else within]] * 2)
        np.testing.assert_array_equal(record.reward, [10, 12])
        for i in range(2):
            assert (record.terminated[i], record.truncated[i]) == (flags if ended else (False, False))
        expected = [Episode(0, 10.0 * length, length), Episode(1, 12.0 * length, length)] if ended else []
        assert record.episodes == expected
        assert (record.obs is record.next_obs) == (not ended)


def test_only_the_ended_env_is_reset():
    env = GymVectorEnv("Grid-v0", 3)
    np.testing.assert_array_equal(env.reset(np.arange(3)), np.eye(4)[[0, 0, 0]])
    for _ in range(2):
        record = env.step(np.array([1, 0, 1]))
    record = env.step(np.array([1, 1, 0]))
    np.testing.assert_array_equal(record.next_obs, np.eye(4)[[3, 1, 2]])
    np.testing.assert_array_equal(record.obs, np.eye(4)[[0, 1, 2]])
    assert record.terminated.tolist() == [True, False, False]
    assert record.episodes == [Episode(0, 0.0, 3)]


def test_the_time_limit_of_gymnasium_truncates():
    env = GymVectorEnv("Counter-v0", 1, max_episode_steps=7)
    assert env.spec.protocol == {"env": "Counter-v0", "time_limit": 7}
    env.reset(np.arange(1))
    ends = [env.step(np.zeros(1, int)) for _ in range(14)]
    assert [r.truncated[0] for r in ends] == [t % 7 == 0 for t in range(1, 15)]
    assert not any(r.terminated[0] for r in ends)


def test_plays_the_games_of_the_vectorised_cartpole(monkeypatch):
    """Two ways to the same numbers: one env at a time, and all at once."""
    monkeypatch.setattr(GymnasiumLog, "limit", 10**9)
    ours, fast = GymVectorEnv("CartPole-v1", 3), ClassicVectorEnv("CartPole-v1", 3)
    seeds = np.array([7, 8, 2**40])
    np.testing.assert_array_equal(ours.reset(seeds), fast.reset(seeds))
    for actions in np.random.default_rng(0).integers(2, size=(1000, 3)):
        a, b = ours.step(actions), fast.step(actions)
        for name in ("obs", "next_obs", "reward", "terminated", "truncated"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert a.episodes == b.episodes


def test_specs():
    spec = GymVectorEnv("CartPole-v1", 1).spec
    assert (spec.kind, spec.obs_shape, spec.obs_dtype) == ("gymnasium", (4,), "float32")
    assert (spec.num_actions, spec.action_names) == (2, ("0", "1"))
    assert spec.protocol == {"env": "CartPole-v1", "time_limit": 500}
    spec = GymVectorEnv("Dice-v0", 1).spec
    assert (spec.obs_shape, spec.obs_dtype, spec.pixels) == ((3, 6, 5), "uint8", True)
    assert spec.action_names == ("5", "6", "7", "8")
    spec = GymVectorEnv("Grid-v0", 1).spec
    assert (spec.obs_shape, spec.obs_dtype) == ((4,), "float32")
    spec = GymVectorEnv("Counter-v0", 1, terminate=3).spec
    assert spec.protocol == {"env": "Counter-v0", "time_limit": None, "kwargs": {"terminate": 3}}
    spec = GymVectorEnv("Counter-v0", 1, terminate=np.int64(3)).spec  # JSON cannot hold it: as it prints
    assert json.loads(json.dumps(spec.protocol))["kwargs"] == {"terminate": "np.int64(3)"}


def play(env: GymVectorEnv, actions: np.ndarray) -> list[bytes]:
    rows = []
    for row in actions:
        r = env.step(row)
        parts = (r.obs, r.next_obs, r.reward, r.terminated, r.truncated)
        rows.append(b"".join(p.tobytes() for p in parts) + repr(r.episodes).encode())
    return rows


def copied(state: dict[str, Any]) -> dict[str, Any]:
    """Through JSON where it is not an array, as a checkpoint would take it."""
    return {k: (v.copy() if isinstance(v, np.ndarray) else json.loads(json.dumps(v))) for k, v in state.items()}


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["CartPole-v1", "Dice-v0"]), st.integers(0, 300), st.integers(0, 2**62))
def test_a_restored_env_goes_on_exactly(id, before, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GymnasiumLog, "limit", 60)  # several anchors within the test
        env = GymVectorEnv(id, 3)
        env.reset(np.array([seed, 1, 2]))
        actions = np.random.default_rng(seed).integers(env.spec.num_actions, size=(before + 120, 3))
        play(env, actions[:before])
        saved = copied(env.state())
        expected = play(env, actions[before:])
        other = GymVectorEnv(id, 3)
        obs = other.restore(saved)
        assert (obs.dtype, obs.shape) == (np.dtype(env.spec.obs_dtype), (3, *env.spec.obs_shape))
        assert play(other, actions[before:]) == expected
        assert other.exact
        env.restore(saved)  # in the env itself too, which has moved on
        assert play(env, actions[before:]) == expected
        # saving changes nothing: a run that never saved is the same
        plain = GymVectorEnv(id, 3)
        plain.reset(np.array([seed, 1, 2]))
        assert play(plain, actions)[before:] == expected


def test_restored_obs_are_the_last_seen():
    env = GymVectorEnv("Dice-v0", 2)
    for obs in (env.reset(np.arange(2)), *[env.step(np.full(2, 1)).obs for _ in range(40)]):
        last = obs.copy()
        obs[...] = 0  # a learner that works in place
    np.testing.assert_array_equal(GymVectorEnv("Dice-v0", 2).restore(env.state()), last)


def test_logs_stay_short():
    env = GymVectorEnv("Dice-v0", 2)
    env.reset(np.array([4, 9]))
    longest = 0
    actions = np.random.default_rng(0).integers(4, size=(5000, 2))
    for row in actions:
        record = env.step(row)
        state_lengths = env._log.lengths.tolist()
        longest = max(longest, *state_lengths)
        for e in record.episodes:
            assert state_lengths[e.env] <= GymnasiumLog.limit
    assert GymnasiumLog.limit < longest < GymnasiumLog.limit + 500
    state = env.state()
    assert state["anchors"].tolist() == [2, 2]
    assert state["anchor_seeds"].tolist() == [GymnasiumLog.anchor_seed(4, 2), GymnasiumLog.anchor_seed(9, 2)]
    assert len(state["actions"]) == state["log_lengths"].sum() < 2000
    # the anchor is an explicit reset with that seed, followed by the saved actions
    game = gymnasium.make("Dice-v0", disable_env_checker=True)
    obs, _ = game.reset(seed=GymnasiumLog.anchor_seed(4, 2))
    for action in state["actions"][: state["log_lengths"][0]].tolist():
        obs, _, terminated, truncated, _ = game.step(action + 5)
        if terminated or truncated:
            obs, _ = game.reset()
    np.testing.assert_array_equal(env.restore(state)[0], obs)


def test_anchor_seeds():
    assert GymnasiumLog(np.array([123])).seed.tolist() == [123]
    seeds = {GymnasiumLog.anchor_seed(first, k) for first in range(50) for k in range(1, 50)}
    assert len(seeds) == 50 * 49
    assert all(0 <= s < 2**31 for s in seeds)


def test_an_env_that_heeds_no_seed_is_named():
    env = GymVectorEnv("Luck-v0", 2)
    env.reset(np.arange(2))
    state = env.state()
    env.restore(state)
    assert env.exact  # nothing drawn yet
    play(env, np.zeros((3, 2), int))
    with pytest.warns(RuntimeWarning, match="env 0, 1 did not reach its saved state"):
        env.restore(env.state())
    assert not env.exact


def test_restore_refuses_another_env():
    env = GymVectorEnv("CartPole-v1", 2)
    with pytest.raises(EnvError, match="reset"):
        env.state()
    env.reset(np.arange(2))
    with pytest.raises(DataError, match=r"2 envs of .*CartPole-v1"):
        GymVectorEnv("CartPole-v1", 1).restore(env.state())
    with pytest.raises(DataError, match="time_limit"):
        GymVectorEnv("CartPole-v1", 2, max_episode_steps=9).restore(env.state())


def test_module_ids():
    env = GymVectorEnv("gymnasium:CartPole-v1", 1)
    assert env.spec.id == "gymnasium:CartPole-v1"
    assert env.reset(np.arange(1)).shape == (1, 4)


def test_pictures():
    env = GymVectorEnv("Grid-v0", 2)
    env.reset(np.arange(2))
    env.step(np.array([0, 1]))
    np.testing.assert_array_equal(env.render(1), np.full((2, 3, 3), 11, np.uint8))
    for id in ("Counter-v0", "Shy-v0"):
        env = GymVectorEnv(id, 1)
        env.reset(np.arange(1))
        with pytest.raises(UsageError, match="no render mode"):
            env.render(0)


def test_a_picture_from_gymnasium(monkeypatch):
    pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    env = GymVectorEnv("CartPole-v1", 1)
    env.reset(np.arange(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pygame's own
        frame = env.render(0)
    env.close()
    assert (frame.dtype, frame.shape) == (np.uint8, (400, 600, 3))
