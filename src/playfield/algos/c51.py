"""C51 (Bellemare et al. 2017): the distribution of each action's return, on fixed atoms, learnt by cross-entropy.

The loop, its switches (double, dueling, n-step, prioritised, noisy) and where it differs from the papers are in
`offpolicy.py`. Here:

1. Prioritised replay goes by the Kullback-Leibler divergence, as in Rainbow (Hessel et al. 2018): the cross-entropy
   less the entropy of the target, which nothing can be learnt from. Both have the same gradient.
2. An atom that moves onto another one exactly keeps all of its probability (the paper's algorithm loses it).
"""

from __future__ import annotations

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
    """Hyper-parameters of C51."""

    atoms: Count = 51
    """Number of atoms."""
    v_min: Signed = -10.0
    """The lowest atom; returns below count as this."""
    v_max: Signed = 10.0
    """The highest atom; returns above count as this."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if not 2 <= self.atoms <= 1000:
            raise UsageError(f"--atoms must be between 2 and 1000, not {self.atoms}")
        if not self.v_min < self.v_max:
            raise UsageError(f"--v-min {self.v_min:g} must be below --v-max {self.v_max:g}")


PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI),
        # The paper's sizes: those of the Nature DQN, and Adam.
        "paper": Config(
            capacity=1_000_000,
            learning_starts=50_000,
            target_period=40_000,
            lr=2.5e-4,
            adam_eps=0.01 / 32,
            max_grad_norm=0.0,
            epsilon_steps=1_000_000,
            net="nature",
        ),
    },
    "vector": {
        # Rewards of -1 to 1 discounted by 0.99 add up to at most 100.
        "default": Config(**VECTOR, atoms=101, v_min=-100.0, v_max=100.0),
    },
}


def expectation(logits: Tensor, v_min: float, v_max: float) -> Tensor:
    """Logits [..., K] of evenly spaced returns to the expected return [...]."""
    return logits.softmax(-1) @ torch.linspace(v_min, v_max, logits.shape[-1], device=logits.device)


def project(probs: Tensor, returns: Tensor, discounts: Tensor, v_min: float, v_max: float) -> Tensor:
    """The distribution of returns + discounts * z, where z is distributed as `probs` [B, K], on the same K atoms.

    What falls between two atoms is shared by them, the nearer one getting more, so that the mean stays where it was.
    """
    last = probs.shape[-1] - 1
    z = torch.linspace(v_min, v_max, last + 1, device=probs.device)
    moved = (returns[:, None] + discounts[:, None] * z).clamp(v_min, v_max)
    at = ((moved - v_min) * (last / (v_max - v_min))).clamp(0, last)
    return scattered(probs, at) if probs.device.type == "cpu" else gathered(probs, at)


def scattered(probs: Tensor, at: Tensor) -> Tensor:
    """Shares `probs` [B, K] out to the atoms left and right of `at` [B, K], places in 0 to K - 1.

    On a GPU the order in which it adds up, and so the rounding, differs from time to time.
    """
    last = probs.shape[-1] - 1
    left = at.long()
    right, share = (left + 1).clamp(max=last), at - left
    out = torch.zeros_like(probs).scatter_add_(1, left, probs * (1 - share))
    return out.scatter_add_(1, right, probs * share)


def gathered(probs: Tensor, at: Tensor) -> Tensor:
    """`scattered` as a sum over all atoms in a fixed order: atom j takes max(0, 1 - |at - j|) of each. On a CPU this
    costs several times as much."""
    atoms = torch.arange(probs.shape[-1], device=probs.device)
    near = (at[:, None, :] - atoms[:, None]).abs_().neg_().add_(1).clamp_(min=0)
    return near.mul_(probs[:, None, :]).sum(-1)


def c51_loss(logits: Tensor, batch: Minibatch, v_min: float, v_max: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the taken actions' `logits` [B, K] and the projected target, and the divergence [B]."""
    aim = project(batch.following.softmax(-1), batch.returns, batch.discounts, v_min, v_max)
    cross = -(aim * logits.log_softmax(-1)).sum(-1)
    return cross, cross.detach() + aim.xlogy(aim).sum(-1)


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values, as atoms of each action's return."""
    return QNetwork(spec, cfg.net, cfg.dueling, cfg.atoms, cfg.noise_std * cfg.noisy)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    loss = partial(c51_loss, v_min=cfg.v_min, v_max=cfg.v_max)
    dqn.learn(run, cfg, net, loss, partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max))


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `dqn.policy`."""
    expect = partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max)
    return dqn.policy(load_weights(network(spec, cfg), weights, device), expect, cfg.final_epsilon, device)
