"""What a Gymnasium env can do wrong, and what a user can ask wrongly: each is named."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from playfield.envs.checks import check_finite
from playfield.envs.gym_env import GymVectorEnv
from playfield.errors import DivergedError, EnvError, UsageError


class Faulty(gymnasium.Env):
    """Well-behaved until its third step, then as `fault` says."""

    action_space: spaces.Space = spaces.Discrete(2)
    observation_space: spaces.Space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, fault: str = "", action_space=None, observation_space=None) -> None:
        self.fault, self.t = fault, 0
        self.action_space = action_space or self.action_space
        self.observation_space = observation_space or self.observation_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        if self.fault == "reset returns obs":
            return np.zeros(2, np.float32)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.t += 1
        obs, reward = np.zeros(2, np.float32), 0.0
        fault = self.fault if self.t == 3 else ""
        if fault == "raise":
            raise RuntimeError("the motor burnt out")
        if fault == "four":
            return obs, reward, False, {}
        changed: dict[str, Any] = {
            "nan obs": (np.array([0, np.nan], np.float32), reward),
            "inf reward": (obs, float("inf")),
            "huge reward": (obs, 1e300),
            "huge obs": (np.array([-1e300, 0]), reward),
            "shape": (np.zeros(3, np.float32), reward),
            "complex": (np.array([0, 1j]), reward),
            "text": (np.array(["a", "b"]), reward),
            "no reward": (obs, None),
        }
        return *changed.get(fault, (obs, reward)), False, False, {}


class OldReset(Faulty):
    def reset(self):  # type: ignore[override]
        return np.zeros(2, np.float32)


@pytest.fixture(autouse=True)
def registered():
    before = dict(gymnasium.registry)
    gymnasium.register("Faulty-v0", entry_point=Faulty)
    gymnasium.register("OldReset-v0", entry_point=OldReset)
    gymnasium.register("Limited-v0", entry_point=Faulty, max_episode_steps=50)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def play(env: GymVectorEnv, steps: int) -> None:
    for _ in range(steps):
        env.step(np.zeros(env.num_envs, int))


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("raise", EnvError, "env 0 failed in step 3, action 1: RuntimeError: the motor burnt out"),
        ("four", EnvError, "step 3.*five values.*split its done"),
        ("nan obs", DivergedError, r"env 0 gave observation\[1\] = nan at step 3 after action 1"),
        ("inf reward", DivergedError, "env 0 gave reward = inf at step 3 after action 1"),
        ("huge reward", DivergedError, "reward = inf"),
        ("huge obs", DivergedError, r"observation\[0\] = -inf"),
        ("shape", EnvError, r"step 3.*shape \(3,\), but \(2,\) was declared"),
        ("text", EnvError, "an observation is <U1"),
        ("complex", EnvError, "an observation is complex128"),
        ("no reward", EnvError, "step 3.*the reward must be a number, not None"),
    ],
)
@pytest.mark.parametrize("id", ["Faulty-v0", "Limited-v0"])
def test_misbehaviour_is_named(id, fault, error, message):
    env = GymVectorEnv(id, 2, fault=fault)
    env.reset(np.arange(2))
    play(env, 2)
    with pytest.raises(error, match=message):
        env.step(np.array([1, 0]))


@pytest.mark.parametrize(("id", "kwargs"), [("OldReset-v0", {}), ("Faulty-v0", {"fault": "reset returns obs"})])
def test_an_old_reset_is_named(id, kwargs):
    with pytest.raises(EnvError, match="env 0 failed in reset at step 0: reset must take"):
        GymVectorEnv(id, 1, **kwargs).reset(np.arange(1))


def test_pixels_must_be_what_they_claim():
    env = GymVectorEnv("Faulty-v0", 1, observation_space=spaces.Box(0, 255, (2,), np.uint8))
    with pytest.raises(EnvError, match="an observation is float32, but uint8 was declared"):
        env.reset(np.arange(1))


def test_the_faulty_env_is_found_among_others():
    env = GymVectorEnv("Faulty-v0", 3, fault="")
    env.reset(np.arange(3))
    env._envs[2].env.unwrapped.fault = "raise"
    play(env, 2)
    with pytest.raises(EnvError, match="env 2 failed in step 3"):
        env.step(np.zeros(3, int))


def test_usage_errors():
    with pytest.raises(UsageError, match="did you mean CartPole-v"):
        GymVectorEnv("CartPoel-v1", 1)
    with pytest.raises(UsageError, match="package:Name-v0"):
        GymVectorEnv("Nothing/Like-It-v9", 1)
    with pytest.raises(UsageError, match="module of 'no_such_module:X-v0'"):
        GymVectorEnv("no_such_module:X-v0", 1)
    with pytest.raises(UsageError, match="did you mean CartPole-v"):
        GymVectorEnv("gymnasium:Cartpole", 1)
    with pytest.raises(UsageError, match="number of envs"):
        GymVectorEnv("CartPole-v1", 0)
    with pytest.raises(UsageError, match="unexpected keyword argument 'gravty'"):
        GymVectorEnv("CartPole-v1", 1, gravty=3)
    with pytest.raises(UsageError, match=r"Pendulum-v1 has actions Box.*only Discrete"):
        GymVectorEnv("Pendulum-v1", 1)
    with pytest.raises(UsageError, match=r"has observations Dict.*FlattenObservation"):
        GymVectorEnv("Faulty-v0", 1, observation_space=spaces.Dict(a=spaces.Discrete(2)))
    env = GymVectorEnv("CartPole-v1", 2)
    with pytest.raises(EnvError, match="reset"):
        env.step(np.zeros(2, int))
    env.reset(np.arange(2))
    with pytest.raises(EnvError, match="action -1 for env 1"):
        env.step(np.array([0, -1]))


def test_check_finite():
    obs, reward = np.zeros((3, 2), np.float32), np.zeros(3, np.float32)
    check_finite(obs, reward, np.arange(3), 1)
    check_finite(np.full((2, 4, 4, 1), 255, np.uint8))
    bad = obs.copy()
    bad[2, 0] = -np.inf
    with pytest.raises(DivergedError, match=r"env 2 gave observation\[0\] = -inf at step 9 after action 7"):
        check_finite(bad, reward, np.array([5, 6, 7]), 9)
    with pytest.raises(DivergedError, match=r"env 8 gave observation\[0\] = -inf at step 4 at its reset"):
        check_finite(bad, step=4, envs=[3, 5, 8])
    with pytest.raises(DivergedError, match="env 1 gave reward = nan"):
        check_finite(bad, np.array([0, np.nan, 0], np.float32), np.zeros(3, int), 2)
