"""The vectorised classic control problems, against Gymnasium's own envs."""

from __future__ import annotations

import json
import time
import warnings

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.envs.base import VectorEnv
from playfield.envs.classic import CLASSIC_IDS, THRESHOLDS, ClassicVectorEnv
from playfield.errors import DataError, EnvError, UsageError


def peer(id: str, **kwargs) -> gymnasium.Env:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # CartPole-v0 is old, and meant to be
        return gymnasium.make(id, **kwargs)


def swing(obs: np.ndarray) -> np.ndarray:
    """Actions that push along the motion: they reach MountainCar's flag and often Acrobot's line."""
    if obs.shape[1] == 2:
        return np.where(obs[:, 1] >= 0, 2, 0)
    return np.where(obs[:, 4] > 0, 0, 2)


def compare(id: str, seeds: list[int], steps: int, clever: bool, **limits) -> tuple[int, int]:
    """Play `steps` steps in both worlds, bit for bit; returns how many games terminated, were truncated."""
    peer_limits = {"max_episode_steps": limits["max_steps"]} if limits else {}
    peers = [peer(id, **peer_limits) for _ in seeds]
    env = ClassicVectorEnv(id, len(seeds), **limits)
    obs = env.reset(np.array(seeds))
    theirs = np.stack([e.reset(seed=s)[0] for e, s in zip(peers, seeds, strict=True)])
    np.testing.assert_array_equal(obs, theirs)
    rng = np.random.default_rng(5)
    scores, lengths = np.zeros(len(seeds)), np.zeros(len(seeds), int)
    ends = [0, 0]
    for _ in range(steps):
        actions = rng.integers(env.spec.num_actions, size=len(seeds))
        if clever:
            actions = np.where(rng.random(len(seeds)) < 0.9, swing(obs), actions)
        record = env.step(actions)
        obs = record.obs
        expected = []
        for i, game in enumerate(peers):
            successor, reward, terminated, truncated, _ = game.step(int(actions[i]))
            scores[i] += reward
            lengths[i] += 1
            np.testing.assert_array_equal(record.next_obs[i], successor)
            assert record.reward[i] == reward
            assert (record.terminated[i], record.truncated[i]) == (terminated, truncated)
            ends[0] += terminated
            ends[1] += truncated
            if terminated or truncated:
                expected.append((i, scores[i], lengths[i]))
                scores[i], lengths[i] = 0, 0
                successor, _ = game.reset()
            np.testing.assert_array_equal(obs[i], successor)
        assert [(e.env, e.score, e.length) for e in record.episodes] == expected
        if not expected:
            assert record.obs is record.next_obs
    for game in peers:
        game.close()
    return ends[0], ends[1]


@pytest.mark.parametrize(
    ("id", "clever", "limits"),
    [
        ("CartPole-v1", False, {}),
        ("CartPole-v0", False, {}),
        ("CartPole-v1", False, {"max_steps": 17}),
        ("Acrobot-v1", False, {}),
        ("Acrobot-v1", True, {}),
        ("MountainCar-v0", False, {}),
        ("MountainCar-v0", True, {}),
    ],
)
def test_every_number_is_gymnasiums(id, clever, limits):
    terminated, truncated = compare(id, [3, 0, 123456789], 2500, clever, **limits)
    if id.startswith("CartPole") or clever:
        assert terminated > 0
    if limits or (id != "CartPole-v1" and id != "CartPole-v0" and not clever):
        assert truncated > 0


@pytest.mark.parametrize("id", CLASSIC_IDS)
def test_dynamics_from_wild_states(id):
    """Single steps from states that play seldom reaches: fast spins, walls, several turns of an angle."""
    env = ClassicVectorEnv(id, 1)
    game = peer(id).unwrapped
    game.reset(seed=0)
    rng = np.random.default_rng(1)
    spread = {2: [2.0, 0.1], 4: [3.0, 13.0, 13.0, 28.0]}[2 if id == "MountainCar-v0" else 4]
    states = rng.uniform(-1, 1, (2000, len(spread))) * spread
    if id == "MountainCar-v0":
        states[:50, 0] = -1.2
        states[50:100, 0] = 0.5
    actions = rng.integers(env.spec.num_actions, size=2000)
    new, reward, terminated = env.game.dynamics(states, actions)
    obs = env.game.observe(new)
    for i in range(2000):
        game.state = states[i].copy()
        game.steps_beyond_terminated = None
        theirs = game.step(int(actions[i]))
        np.testing.assert_array_equal(new[i], np.asarray(game.state))
        np.testing.assert_array_equal(obs[i], theirs[0])
        assert (reward[i], terminated[i]) == (theirs[1], theirs[2])


@pytest.mark.parametrize("id", CLASSIC_IDS)
def test_spec_is_gymnasiums(id):
    env = ClassicVectorEnv(id, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        spec = gymnasium.spec(id)
    game = peer(id)
    assert isinstance(env, VectorEnv)
    assert env.spec.protocol == {"env": id, "time_limit": spec.max_episode_steps}
    assert THRESHOLDS[id] == spec.reward_threshold
    assert env.spec.obs_shape == game.observation_space.shape
    assert env.spec.num_actions == game.action_space.n == len(env.spec.action_names)
    assert (env.spec.kind, env.spec.obs_dtype, env.spec.pixels) == ("classic", "float32", False)
    obs = env.reset(np.arange(2))
    assert (obs.dtype, obs.shape) == (np.float32, (2, *env.spec.obs_shape))
    record = env.step(np.zeros(2, np.int64))
    assert record.reward.dtype == np.float32
    assert record.terminated.dtype == record.truncated.dtype == bool
    json.dumps(env.spec.protocol)


def play(env: ClassicVectorEnv, actions: np.ndarray) -> list[bytes]:
    rows = []
    for row in actions:
        r = env.step(row)
        parts = (r.obs, r.next_obs, r.reward, r.terminated, r.truncated)
        rows.append(b"".join(p.tobytes() for p in parts) + repr(r.episodes).encode())
    return rows


@settings(max_examples=12, deadline=None)
@given(st.sampled_from(CLASSIC_IDS), st.integers(0, 120), st.integers(0, 2**62))
def test_a_restored_env_goes_on_exactly(id, before, seed):
    env = ClassicVectorEnv(id, 3, max_steps=40)
    env.reset(np.array([seed, 1, 2]))
    actions = np.random.default_rng(seed).integers(env.spec.num_actions, size=(before + 60, 3))
    play(env, actions[:before])
    state = env.state()
    # through JSON as a checkpoint would take it
    saved = {k: (v.copy() if isinstance(v, np.ndarray) else json.loads(json.dumps(v))) for k, v in state.items()}
    obs = env.restore(state)
    expected = play(env, actions[before:])
    other = ClassicVectorEnv(id, 3, max_steps=40)
    np.testing.assert_array_equal(other.restore(saved), obs)
    assert play(other, actions[before:]) == expected
    # the first env has moved on: a snapshot is a copy
    np.testing.assert_array_equal(env.restore(state), obs)
    assert play(env, actions[before:]) == expected


def test_obs_changed_in_place_do_no_harm():
    env = ClassicVectorEnv("Acrobot-v1", 2, max_steps=5)
    for touched in env.reset(np.arange(2)), *[env.step(np.ones(2, int)).obs for _ in range(7)]:
        before = touched.copy()
        touched[:] = 99
    np.testing.assert_array_equal(env.restore(env.state()), before)


@pytest.mark.parametrize("id", CLASSIC_IDS)
def test_pictures(id):
    env = ClassicVectorEnv(id, 2)
    env.reset(np.arange(2))
    first = env.render(0)
    assert (first.shape, first.dtype) == ((400, 600, 3), np.uint8)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 5
    np.testing.assert_array_equal(env.render(0), first)
    before = env.state()["states"]
    row = before[0].copy()
    row[0] += 0.3
    assert (env.game.draw(row) != first).any()
    np.testing.assert_array_equal(env.state()["states"], before)
    for far in (row * 1e3, -row * 1e3):  # off the picture is no error
        assert env.game.draw(far).shape == (400, 600, 3)


def test_the_pole_leans_the_way_of_its_angle():
    def centre(angle: float) -> float:
        picture = ClassicVectorEnv("CartPole-v1", 1).game.draw(np.array([0.0, 0, angle, 0]))
        upper = picture[:250].astype(int)
        return float(np.argwhere(np.abs(upper - upper[0, 0]).sum(-1) > 100)[:, 1].mean())

    assert centre(-0.2) < 295 < centre(0.0) < 305 < centre(0.2)


def test_errors():
    with pytest.raises(UsageError, match="did you mean CartPole-v"):
        ClassicVectorEnv("Cartpole", 1)
    with pytest.raises(UsageError, match="number of envs"):
        ClassicVectorEnv("CartPole-v1", 0)
    with pytest.raises(UsageError, match="time limit"):
        ClassicVectorEnv("CartPole-v1", 1, max_steps=0)
    env = ClassicVectorEnv("CartPole-v1", 2)
    for call in (lambda: env.step(np.zeros(2, int)), env.state, lambda: env.render(0)):
        with pytest.raises(EnvError, match="reset"):
            call()
    with pytest.raises(UsageError, match="env 1 got -4"):
        env.reset(np.array([1, -4]))
    with pytest.raises(UsageError, match="one whole seed per env"):
        env.reset(np.arange(3))
    env.reset(np.arange(2))
    with pytest.raises(EnvError, match=r"action 2 for env 1 is not in 0\.\.1"):
        env.step(np.array([0, 2]))
    with pytest.raises(EnvError, match="shape"):
        env.step(np.zeros(3, int))
    with pytest.raises(EnvError, match="whole number"):
        env.step(np.zeros(2))
    with pytest.raises(DataError, match="2 envs of CartPole-v1"):
        ClassicVectorEnv("CartPole-v1", 3).restore(env.state())
    with pytest.raises(DataError, match="Acrobot"):
        ClassicVectorEnv("Acrobot-v1", 2).restore(env.state())


def test_speed():
    """More than 500k steps/s with 64 envs alone on a core; the bound here leaves room for a busy machine."""
    env = ClassicVectorEnv("CartPole-v1", 64)
    env.reset(np.arange(64))
    actions = np.random.default_rng(0).integers(2, size=(1000, 64))
    best = 0.0
    for _ in range(3):
        start = time.perf_counter()
        for row in actions:
            env.step(row)
        best = max(best, 64_000 / (time.perf_counter() - start))
    assert best > 150_000
