"""QR-DQN (Dabney et al. 2018): quantiles of each action's return, learnt by quantile regression with a Huber loss.

The loop, its switches (double, dueling, n-step, prioritised, noisy) and where it differs from the papers are in
`offpolicy.py`. Here:

1. Prioritised replay goes by the error of the mean, as for DQN (the paper draws uniformly).
2. `default` has 51 quantiles (the paper: 200); the loss compares each with each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from playfield.algos import _dqn_config, dqn
from playfield.algos._dqn_presets import ATARI, VECTOR
from playfield.algos._q_network import QNetwork
from playfield.algos.dqn import Minibatch
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets.learner import load_weights
from playfield.options import Count, Positive
from playfield.play.policy import Network
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(_dqn_config.Config):
    """Hyper-parameters of QR-DQN."""

    quantiles: Count = 51
    """Number of quantiles."""
    kappa: Positive = 1.0
    """Huber threshold."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if not 2 <= self.quantiles <= 1000:
            raise UsageError(f"--quantiles must be between 2 and 1000, not {self.quantiles} (one is --algo dqn)")
        if not self.kappa > 0:
            raise UsageError(f"--kappa must be above 0, not {self.kappa:g}")


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI),
        # The paper's sizes: those of the Nature DQN, and Adam.
        "paper": Config(
            capacity=1_000_000,
            learning_starts=50_000,
            target_period=40_000,
            lr=5e-5,
            adam_eps=0.01 / 32,
            max_grad_norm=0.0,
            epsilon_steps=1_000_000,
            net="nature",
            quantiles=200,
        ),
    },
    "vector": {
        "default": Config(**VECTOR),
    },
}


def mean(quantiles: Tensor) -> Tensor:
    """Quantiles [..., K], each of the same weight, to the expected return [...]."""
    return quantiles.mean(-1)


def qrdqn_loss(quantiles: Tensor, batch: Minibatch, kappa: float) -> tuple[Tensor, Tensor]:
    """Quantile Huber loss of the taken actions' `quantiles` [B, K], and the error of their mean [B].

    Quantile i stands for the level (i + 1/2) / K. It is compared with every quantile of the target: a sum over i, a
    mean over the target's.
    """
    aim = batch.returns[:, None] + batch.discounts[:, None] * batch.following
    count = quantiles.shape[-1]
    level = ((torch.arange(count, device=quantiles.device) + 0.5) / count)[:, None]
    error = aim[:, None, :] - quantiles[:, :, None]  # [B, K, K of the target]
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=kappa) / kappa
    weight = (level - (error.detach() < 0).float()).abs()
    return (weight * huber).mean(-1).sum(-1), aim.mean(-1) - quantiles.mean(-1)


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values, as quantiles of each action's return."""
    return QNetwork(spec, cfg.net, cfg.dueling, cfg.quantiles, cfg.noise_std * cfg.noisy)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    dqn.learn(run, cfg, net, partial(qrdqn_loss, kappa=cfg.kappa), mean)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `dqn.policy`."""
    return dqn.policy(load_weights(network(spec, cfg), weights, device), mean, cfg.final_epsilon, device)
