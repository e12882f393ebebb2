"""QR-DQN (Dabney et al. 2018): quantiles of each action's return, learnt by quantile regression with a Huber loss.

The training loop, its options and its differences from the papers are in `dqn.py`. Here:

1. With prioritised replay, priorities are the TD error of the mean (the paper samples uniformly).
2. `default` has 51 quantiles (the paper: 200); the loss compares every pair of quantiles.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from playfield.algos import _dqn_config, dqn
from playfield.algos._dqn_presets import ATARI, NATURE, VALUE_BUDGETS, VECTOR
from playfield.algos._q_network import QNetwork, policy
from playfield.algos.dqn import Minibatch
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets.learner import load_weights
from playfield.options import Count, Positive
from playfield.runs.algorithm import Network
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(_dqn_config.Config):
    """Hyper-parameters of QR-DQN."""

    budgets = VALUE_BUDGETS

    quantiles: Count = 51
    """Number of quantiles."""
    kappa: Positive = 1.0
    """Huber threshold."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if not 2 <= self.quantiles <= 1000:
            raise UsageError(f"--quantiles must be between 2 and 1000, not {self.quantiles} (one is --algo dqn)")


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI),
        "paper": Config(**NATURE, lr=5e-5, quantiles=200, eval_epsilon=0.001),
    },
    "vector": {"default": Config(**VECTOR)},
}


def mean(quantiles: Tensor) -> Tensor:
    """Quantiles [..., K], equally weighted, to the expected return [...]."""
    return quantiles.mean(-1)


def qrdqn_loss(quantiles: Tensor, batch: Minibatch, kappa: float) -> tuple[Tensor, Tensor]:
    """Quantile Huber loss [B] of the taken actions' `quantiles` [B, K], and the TD error of their mean [B].

    Quantile i has the level (i + 1/2) / K and is compared with every quantile of the target: the loss is a sum over
    i and a mean over the target's quantiles.
    """
    target = batch.returns[:, None] + batch.discounts[:, None] * batch.target_q
    count = quantiles.shape[-1]
    level = ((torch.arange(count, device=quantiles.device) + 0.5) / count)[:, None]
    error = target[:, None, :] - quantiles[:, :, None]  # [B, K, K of the target]
    huber = F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=kappa) / kappa
    weight = (level - (error.detach() < 0).float()).abs()
    return (weight * huber).mean(-1).sum(-1), target.mean(-1) - quantiles.mean(-1)


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values, as quantiles of each action's return."""
    return QNetwork(spec, cfg.net, cfg.dueling, cfg.quantiles, cfg.noise_std * cfg.noisy)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    dqn.train_q_network(run, cfg, net, partial(qrdqn_loss, kappa=cfg.kappa), mean)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `_q_network.policy`."""
    return policy(load_weights(network(spec, cfg), weights, device), mean, *cfg.epsilons, device)
