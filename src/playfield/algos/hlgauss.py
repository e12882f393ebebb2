"""HL-Gauss (Farebrother et al. 2024, "Stop regressing"): DQN whose values are learnt as a classification.

DQN's scalar target is turned into a histogram, a Gaussian around the target, and the network's logits are trained on
it by cross-entropy (Imani and White 2018); an action's value is the mean of its histogram. The training loop, its
options and its differences from the papers are in `dqn.py`. Here:

1. A target outside the support is clipped to it.
2. With prioritised replay, priorities are the TD error of the mean (the paper samples uniformly).

The Gaussian is truncated at the ends of the support, which biases the mean of targets within about three standard
deviations of an end: choose a support somewhat wider than the range of returns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from playfield.algos import _dqn_config, dqn
from playfield.algos._dqn_presets import ATARI, NATURE, VALUE_BUDGETS, VECTOR
from playfield.algos._q_network import QNetwork, policy
from playfield.algos.dqn import Minibatch
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets.learner import load_weights
from playfield.options import Count, Signed
from playfield.runs.algorithm import Network
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(_dqn_config.Config):
    """Hyper-parameters of HL-Gauss."""

    budgets = VALUE_BUDGETS

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


# The sizes of Dopamine's DQN with Adam, which the paper uses.
DOPAMINE = NATURE | {
    "learning_starts": 20_000,
    "target_period": 8_000,
    "adam_eps": 1.5e-4,
    "epsilon_steps": 250_000,
    "eval_epsilon": 0.001,
    "net": "nature:init=glorot",
}
PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI),
        "paper": Config(**DOPAMINE, lr=6.25e-5),
    },
    # Discounted by 0.99, rewards of -1 to 1 add up to at most 100. Bins of width 2 instead of 8 made CartPole forget.
    "vector": {"default": Config(**VECTOR, bins=51, v_min=-200.0, v_max=200.0)},
}


def centres(bins: int, v_min: float, v_max: float, device: torch.device) -> Tensor:
    """The centres [K] of K = `bins` bins of equal width."""
    half = (v_max - v_min) / bins / 2
    return torch.linspace(v_min + half, v_max - half, bins, device=device)


def expectation(logits: Tensor, v_min: float, v_max: float) -> Tensor:
    """Logits [..., K] of a histogram to its mean, the expected return [...]."""
    return logits.softmax(-1) @ centres(logits.shape[-1], v_min, v_max, logits.device)


def histogram(targets: Tensor, bins: int, v_min: float, v_max: float, sigma: float) -> Tensor:
    """Probability [B, K] of each bin under a Gaussian around each of `targets` [B], normalised to a sum of 1.

    A bin's probability is a difference of two values of erf. Far from the target both are nearly 1 and the difference
    would lose its digits, so it is computed from erfc of the distance to the target.
    """
    width = (v_max - v_min) / bins
    distance = (centres(bins, v_min, v_max, targets.device) - targets.clamp(v_min, v_max)[:, None]).abs()
    scale = 1 / (math.sqrt(2) * sigma * width)
    mass = torch.erfc((distance - width / 2) * scale) - torch.erfc((distance + width / 2) * scale)
    return mass / mass.sum(-1, keepdim=True)


def hlgauss_loss(logits: Tensor, batch: Minibatch, v_min: float, v_max: float, sigma: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy [B] of the taken actions' `logits` [B, K] with the target's histogram, and the TD error [B]."""
    target = batch.returns + batch.discounts * expectation(batch.target_q, v_min, v_max)
    target = target.clamp(v_min, v_max)
    probs = histogram(target, logits.shape[-1], v_min, v_max, sigma)
    return -(probs * logits.log_softmax(-1)).sum(-1), target - expectation(logits, v_min, v_max)


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values, as bins of each action's return."""
    return QNetwork(spec, cfg.net, cfg.dueling, cfg.bins, cfg.noise_std * cfg.noisy)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    loss = partial(hlgauss_loss, v_min=cfg.v_min, v_max=cfg.v_max, sigma=cfg.sigma)
    dqn.train_q_network(run, cfg, net, loss, partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max))


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `_q_network.policy`."""
    expect = partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max)
    return policy(load_weights(network(spec, cfg), weights, device), expect, *cfg.epsilons, device)
