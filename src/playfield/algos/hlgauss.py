"""HL-Gauss (Farebrother et al. 2024, "Stop regressing"): DQN whose values are learnt as a classification.

The target is DQN's number. It becomes a histogram, a Gaussian around it, and the network's logits learn that by
cross-entropy (Imani and White 2018); an action's value is the mean of its histogram. The loop, its switches (double,
dueling, n-step, prioritised, noisy) and where it differs from the papers are in `offpolicy.py`. Here:

1. A target outside the support counts as its nearest end.
2. Prioritised replay goes by the error of the mean, as for DQN (the paper draws uniformly).

A Gaussian is cut off at the ends of the support, which shifts the mean of targets nearer to an end than about three
standard deviations inwards: let the support be a little wider than the returns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from playfield.algos import _dqn_config, dqn
from playfield.algos._dqn_presets import ATARI, VECTOR
from playfield.algos._q_network import QNetwork
from playfield.algos.dqn import Minibatch
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets.learner import load_weights
from playfield.options import Count, Signed
from playfield.play.policy import Network
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(_dqn_config.Config):
    """Hyper-parameters of HL-Gauss."""

    bins: Count = 51
    """Number of bins."""
    v_min: Signed = -10.0
    """Lower end of the support."""
    v_max: Signed = 10.0
    """Upper end of the support."""
    sigma: float = 0.75
    """Standard deviation of a target's Gaussian, in widths of a bin."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if not 2 <= self.bins <= 1000:
            raise UsageError(f"--bins must be between 2 and 1000, not {self.bins}")
        if not self.v_min < self.v_max:
            raise UsageError(f"--v-min {self.v_min:g} must be below --v-max {self.v_max:g}")
        if not 0.05 <= self.sigma <= self.bins:
            raise UsageError(f"--sigma must be between 0.05 and {self.bins} bins, not {self.sigma:g}")


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI),
        # The paper's sizes, those of Dopamine's DQN with Adam.
        "paper": Config(
            capacity=1_000_000,
            learning_starts=20_000,
            target_period=8_000,
            lr=6.25e-5,
            max_grad_norm=0.0,
            epsilon_steps=250_000,
            net="nature",
        ),
    },
    "vector": {
        # Rewards of -1 to 1 discounted by 0.99 add up to at most 100. Bins of 2 instead of 8 made CartPole forget.
        "default": Config(**VECTOR, bins=51, v_min=-200.0, v_max=200.0),
    },
}


def centres(bins: int, v_min: float, v_max: float, device: torch.device) -> Tensor:
    """The middles of `bins` even bins, [K]."""
    half = (v_max - v_min) / bins / 2
    return torch.linspace(v_min + half, v_max - half, bins, device=device)


def expectation(logits: Tensor, v_min: float, v_max: float) -> Tensor:
    """Logits [..., K] of a histogram to its mean [...]."""
    return logits.softmax(-1) @ centres(logits.shape[-1], v_min, v_max, logits.device)


def histogram(targets: Tensor, bins: int, v_min: float, v_max: float, sigma: float) -> Tensor:
    """Shares [B, K] that a Gaussian around each of `targets` [B] has in the bins; their sum is 1.

    A bin's share is a difference of two values of erf. Far from the target both are nearly 1 and little would remain
    of it, so it is taken between values of erfc, by distance to the target, for both sides alike.
    """
    width = (v_max - v_min) / bins
    away = (centres(bins, v_min, v_max, targets.device) - targets.clamp(v_min, v_max)[:, None]).abs()
    scale = 1 / (math.sqrt(2) * sigma * width)
    mass = torch.erfc((away - width / 2) * scale) - torch.erfc((away + width / 2) * scale)
    return mass / mass.sum(-1, keepdim=True)


def hlgauss_loss(logits: Tensor, batch: Minibatch, v_min: float, v_max: float, sigma: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the taken actions' `logits` [B, K] and the target's histogram, and target - value [B]."""
    aim = batch.returns + batch.discounts * expectation(batch.following, v_min, v_max)
    aim = aim.clamp(v_min, v_max)
    shares = histogram(aim, logits.shape[-1], v_min, v_max, sigma)
    return -(shares * logits.log_softmax(-1)).sum(-1), aim - expectation(logits, v_min, v_max)


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values, as bins of each action's return."""
    return QNetwork(spec, cfg.net, cfg.dueling, cfg.bins, cfg.noise_std * cfg.noisy)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    loss = partial(hlgauss_loss, v_min=cfg.v_min, v_max=cfg.v_max, sigma=cfg.sigma)
    dqn.learn(run, cfg, net, loss, partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max))


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `dqn.policy`."""
    expect = partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max)
    return dqn.policy(load_weights(network(spec, cfg), weights, device), expect, cfg.final_epsilon, device)
