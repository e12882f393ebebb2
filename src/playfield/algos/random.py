"""The random agent: actions are sampled uniformly. It learns nothing; its score is the baseline of comparisons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.algos._actor_critic import make_rollouts
from playfield.envs.base import EnvSpec
from playfield.options import Count
from playfield.runs import algorithm
from playfield.runs.algorithm import Budget, Network
from playfield.runs.run import Run

BUDGETS = {"atari": Budget(100_000, 0.5)}


@dataclass(frozen=True)
class Config(algorithm.Config):
    """The random agent has nothing to tune but its speed."""

    learns = False
    budgets = BUDGETS

    num_envs: Count = 8
    """Number of parallel environments."""
    rollout_steps: Count = 128
    """Steps per environment between two rows of metrics."""


PRESETS: dict[str, dict[str, Config]] = {"atari": {"default": Config()}, "vector": {"default": Config()}}


def train(run: Run, cfg: Config) -> None:
    """Act until the run's total steps or target score are reached."""
    rollouts = make_rollouts(run, cfg.num_envs, 1)
    for _ in run.steps(cfg.batch):
        with run.phase("rollout"):
            for r in rollouts:
                for t in range(cfg.rollout_steps):
                    actions = r.random.integers(run.spec.num_actions, size=r.env.num_envs)
                    r.episodes += [(t, e) for e in r.env.step(actions).episodes]
        run.record(rollouts, cfg.batch)
        run.log({}, updates=0)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """Equal logits for all actions, and a value of 0."""

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(obs)
        return np.zeros((n, spec.num_actions), np.float32), np.zeros(n, np.float32)

    return Network(forward)
