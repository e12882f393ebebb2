"""Small PPO runs, an environment whose values are known, and one that keeps a record."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from playfield.algos import ppo
from playfield.compute import Compute
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.runs.run import Run

SMALL = ppo.Config(num_envs=8, rollout_steps=16, epochs=4, minibatches=4, net="mlp", clip_reward=False)


def run_for(
    spec: EnvSpec,
    make: Any,
    cfg: ppo.Config,
    steps: int,
    seed: int = 1,
    workers: int = 1,
    fmt: str = "fp32",
    **more,
) -> Run:
    compute = dataclasses.asdict(Compute("cpu", fmt, workers))
    info = {"env": spec.id, "algo": "ppo", "spec": spec, "seed": seed, "steps": steps, "compute": compute}
    info |= {"config": dataclasses.asdict(cfg), "protocol": spec.protocol}
    return Run(info, make, **more)


def named(env: str, cfg: ppo.Config, steps: int, **more) -> Run:
    probe = make_envs(env, 1)
    probe.close()
    return run_for(probe.spec, lambda n: make_envs(env, n), cfg, steps, **more)


class Corridor:
    """`cut` steps to a game, then it ends by termination or truncation. Reward 1 from every state but the first
    where `free_start`. Obs: one number per state, the last for the true end; constant where `blind`."""

    def __init__(self, n: int, cut: int, how: str, blind: bool = False, free_start: bool = True) -> None:
        self.num_envs, self.cut, self.how, self.blind, self.free_start = n, cut, how, blind, free_start
        size = 1 if blind else cut + 1
        self.spec = EnvSpec("corridor", "gymnasium", (size,), "float32", 2, ("a", "b"), {})

    def observe(self, at: np.ndarray) -> np.ndarray:
        if self.blind:
            return np.ones((self.num_envs, 1), np.float32)
        return np.eye(self.cut + 1, dtype=np.float32)[at]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.at = np.asarray(seeds) % self.cut  # games are out of step with each other
        return self.observe(self.at)

    def step(self, actions: np.ndarray) -> Step:
        reward = np.where((self.at == 0) & (not self.free_start), 0, 1).astype(np.float32)
        true = self.at + 1
        ended = true == self.cut
        self.at = np.where(ended, 0, true)
        no = np.zeros(self.num_envs, bool)
        terminated, truncated = {"end": (ended, no), "cut": (no, ended), "both": (ended, ended)}[self.how]
        episodes = [Episode(int(i), float(self.cut), self.cut) for i in np.flatnonzero(ended)]
        return Step(self.observe(self.at), self.observe(true), reward, terminated, truncated, episodes)

    def state(self) -> dict[str, Any]:
        return {"at": self.at.copy()}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        self.at = state["at"].copy()
        return self.observe(self.at)

    def close(self) -> None:
        pass


class Noise:
    """Random observations and rewards; games end or are cut, or both, after a random number of steps.

    `log` has (obs, actions, reward, true successor, terminated, truncated) of every step; `used` of them were
    learnt from.
    """

    def __init__(self, n: int) -> None:
        self.num_envs = n
        self.spec = EnvSpec("noise", "gymnasium", (3,), "float32", 4, tuple("abcd"), {})
        self.log: list[tuple[np.ndarray, ...]] = []
        self.used = 0

    def draw(self) -> np.ndarray:
        return self.random.normal(size=(self.num_envs, 3)).astype(np.float32)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.random = np.random.default_rng(seeds)
        self.obs = self.draw()
        return self.obs

    def step(self, actions: np.ndarray) -> Step:
        following = self.draw()
        reward = (self.random.normal(size=self.num_envs) + actions).astype(np.float32)
        kind = self.random.integers(0, 12, self.num_envs)
        terminated, truncated = (kind == 0) | (kind == 2), (kind == 1) | (kind == 2)
        ended = kind <= 2
        self.log.append((self.obs, actions, reward, following, terminated, truncated))
        self.obs = np.where(ended[:, None], self.draw(), following)
        episodes = [Episode(int(i), 0.0, 1) for i in np.flatnonzero(ended)]
        return Step(self.obs, following, reward, terminated, truncated, episodes)

    def close(self) -> None:
        pass
