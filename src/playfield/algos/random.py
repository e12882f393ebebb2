"""The random agent: every action equally likely. It learns nothing; its score is the floor of every comparison."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.algos._actor_critic import make_rollouts
from playfield.envs.base import EnvSpec
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config:
    """The random agent has nothing to tune but its speed."""

    num_envs: int = 8
    """Environments stepped at once."""
    rollout_steps: int = 128
    """Steps of each environment between two reports."""

    @property
    def batch(self) -> int:
        return self.num_envs * self.rollout_steps

    def check(self, workers: int = 1) -> None:
        """Nothing can be wrong."""


PRESETS: dict[str, dict[str, Config]] = {"atari": {"default": Config()}, "vector": {"default": Config()}}


def train(run: Run, cfg: Config) -> None:
    """Play until `run` says that it is enough."""
    rollouts = make_rollouts(run, cfg.num_envs, 1)
    for _ in run.steps(cfg.batch):
        with run.phase("rollout"):
            for r in rollouts:
                for t in range(cfg.rollout_steps):
                    actions = r.random.integers(run.spec.num_actions, size=r.env.num_envs)
                    r.episodes += [(t, e) for e in r.env.step(actions).episodes]
        run.record(rollouts, cfg.batch)
        run.log({}, updates=0)


def load(spec: EnvSpec, config: dict[str, Any], weights: dict[str, Any], device: str) -> Any:
    """Equal logits and no value, as a function of observations."""

    def network(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(obs)
        return np.zeros((n, spec.num_actions), np.float32), np.zeros(n, np.float32)

    return network
