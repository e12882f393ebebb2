"""Deep Q-networks (Mnih et al. 2015): the value of each action, learnt towards a target network by the Huber loss.

The loop, its switches (double, dueling, n-step, prioritised, noisy) and where it differs from the papers are in
`offpolicy.py`. Here, Adam and the Huber loss take the place of RMSProp and clipped errors (their gradients are the
same).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from playfield import offpolicy
from playfield.envs.base import EnvSpec
from playfield.learner import load_weights
from playfield.offpolicy import Minibatch
from playfield.run import Run
from playfield.values import QNetwork, identity


@dataclass(frozen=True)
class Config(offpolicy.Config):
    """Hyper-parameters of DQN."""


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(num_envs=8, target_period=2_000, double=True, n_step=3),
        # The paper's sizes; Adam, and epsilon over a tenth of the training, are ours.
        "nature": Config(capacity=1_000_000, learning_starts=50_000, target_period=40_000, epsilon_end=0.1),
    },
    "vector": {
        "default": Config(
            num_envs=8,
            rollout_steps=4,
            capacity=20_000,
            packed=False,
            learning_starts=1_000,
            train_period=4,
            batch_size=64,
            target_period=512,
            lr=1e-3,
            adam_eps=1e-8,
            epsilon_end=0.04,
            epsilon_share=0.16,
            double=True,
            n_step=3,
            clip_reward=False,
        ),
    },
}


def dqn_loss(q: Tensor, batch: Minibatch) -> tuple[Tensor, Tensor]:
    """Huber loss of the values `q` [B] of the actions taken, and the errors target - value [B]."""
    aim = batch.returns + batch.discounts * batch.following
    return F.huber_loss(q, aim, reduction="none"), aim - q


def network(spec: EnvSpec, config: dict[str, Any]) -> QNetwork:
    return QNetwork(spec, config["net"], config["dueling"], noise_std=config["noise_std"] * config["noisy"])


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, vars(cfg))
    offpolicy.learn(run, cfg, net, dqn_loss, identity)


def load(spec: EnvSpec, config: dict[str, Any], weights: dict[str, Any], device: str) -> Any:
    """The trained network as a function of observations (see `offpolicy.policy`)."""
    return offpolicy.policy(load_weights(network(spec, config), weights, device), identity, config, device)
