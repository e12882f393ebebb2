"""Environments that ignore their seed, or return one buffer: they are trained on, and it is said."""

from __future__ import annotations

import json

import gymnasium as gym
import numpy as np
import pytest

import playfield


class Honest(gym.Env):
    observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def observe(self):
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        return self.observe(), 1.0, self.t >= 10, False, {}


class SeedIgnored(Honest):
    def reset(self, *, seed=None, options=None):
        return super().reset()


class OneBuffer(Honest):
    buffer = None

    def observe(self):
        self.buffer = np.zeros(3, np.float32) if self.buffer is None else self.buffer
        self.buffer[:] = super().observe()
        return self.buffer


class SeedOfTheFirstObservationOnly(Honest):
    def step(self, action):
        _, *rest = super().step(action)
        return np.random.default_rng().uniform(-1, 1, 3).astype(np.float32), *rest


@pytest.mark.parametrize(
    ("env", "said", "exact"),
    [
        (Honest, "", True),
        (SeedIgnored, "does not begin alike after the same seed", False),
        (SeedOfTheFirstObservationOnly, "does not begin alike after the same seed", False),
        (OneBuffer, "returns one buffer again and again", True),
    ],
)
def test_what_is_odd_is_said_and_recorded(env, said, exact, tmp_path, caplog):
    small = {"num_envs": 2, "rollout_steps": 16, "film": False, "tensorboard": False, "games": 0}
    playfield.train(env, "ppo", steps=64, run=tmp_path / "r", quiet=True, **small)
    told = [r.message for r in caplog.records]
    assert len(told) == bool(said)
    assert said in "".join(told)
    assert json.loads((tmp_path / "r/run.json").read_text()).get("exact", True) == exact


def test_one_buffer_is_copied():
    """The rewards are those of an env that returns new arrays: nothing is learnt from overwritten observations."""
    seen = []
    for env in (Honest, OneBuffer):
        envs = playfield.make_envs(env, 2)
        first = envs.reset(np.array([1, 2]))
        kept = first.copy()
        second = envs.step(np.array([0, 1])).obs
        np.testing.assert_array_equal(first, kept)
        seen.append(np.stack([first, second]))
        envs.close()
    np.testing.assert_array_equal(*seen)
