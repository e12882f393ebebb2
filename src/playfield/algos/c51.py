"""C51 (Bellemare et al. 2017): the return distribution of each action on fixed atoms, learnt by cross-entropy.

The training loop, its options and its differences from the papers are in `dqn.py`. Here:

1. Priorities are the Kullback-Leibler divergence, as in Rainbow (Hessel et al. 2018): the cross-entropy less the
   entropy of the target, which has no gradient.
2. A projected atom that falls exactly on an atom keeps its whole probability (the paper's algorithm loses it).
"""

from __future__ import annotations

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
    """Hyper-parameters of C51."""

    budgets = VALUE_BUDGETS

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


# Discounted by 0.99, rewards of -1 to 1 add up to at most 100.
VECTOR_SUPPORT = VECTOR | {"atoms": 101, "v_min": -100.0, "v_max": 100.0}
PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI),
        "paper": Config(**NATURE, lr=2.5e-4, eval_epsilon=0.001),
    },
    "vector": {"default": Config(**VECTOR_SUPPORT)},
}


def expectation(logits: Tensor, v_min: float, v_max: float) -> Tensor:
    """Logits [..., K] of K evenly spaced atoms to the expected return [...]."""
    return logits.softmax(-1) @ torch.linspace(v_min, v_max, logits.shape[-1], device=logits.device)


def project(probs: Tensor, returns: Tensor, discounts: Tensor, v_min: float, v_max: float) -> Tensor:
    """The distribution of returns + discounts * z for z with `probs` [B, K], projected on the same K atoms: [B, K].

    The probability of a value between two atoms is split between them so that the mean is unchanged (the paper's
    algorithm 1). `returns` and `discounts` are [B].
    """
    last = probs.shape[-1] - 1
    z = torch.linspace(v_min, v_max, last + 1, device=probs.device)
    shifted = (returns[:, None] + discounts[:, None] * z).clamp(v_min, v_max)
    at = ((shifted - v_min) * (last / (v_max - v_min))).clamp(0, last)
    return project_scatter(probs, at) if probs.device.type == "cpu" else project_dense(probs, at)


def project_scatter(probs: Tensor, at: Tensor) -> Tensor:
    """Split `probs` [B, K] between the atoms left and right of `at` [B, K], fractional atom numbers in [0, K - 1].

    On a GPU the order of the additions, and so the rounding, differs from call to call.
    """
    last = probs.shape[-1] - 1
    left = at.long()
    right, share = (left + 1).clamp(max=last), at - left
    out = torch.zeros_like(probs).scatter_add_(1, left, probs * (1 - share))
    return out.scatter_add_(1, right, probs * share)


def project_dense(probs: Tensor, at: Tensor) -> Tensor:
    """`project_scatter` in a fixed order of additions: atom j gets max(0, 1 - |at - j|) of each. Several times slower
    on a CPU."""
    atoms = torch.arange(probs.shape[-1], device=probs.device)
    near = (at[:, None, :] - atoms[:, None]).abs_().neg_().add_(1).clamp_(min=0)
    return near.mul_(probs[:, None, :]).sum(-1)


def c51_loss(logits: Tensor, batch: Minibatch, v_min: float, v_max: float) -> tuple[Tensor, Tensor]:
    """Cross-entropy [B] of the taken actions' `logits` [B, K] with the projected target, and KL divergence [B]."""
    target = project(batch.target_q.softmax(-1), batch.returns, batch.discounts, v_min, v_max)
    cross_entropy = -(target * logits.log_softmax(-1)).sum(-1)
    return cross_entropy, cross_entropy.detach() + target.xlogy(target).sum(-1)


def network(spec: EnvSpec, cfg: Config) -> QNetwork:
    """Action values, as atoms of each action's return."""
    return QNetwork(spec, cfg.net, cfg.dueling, cfg.atoms, cfg.noise_std * cfg.noisy)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, cfg)
    loss = partial(c51_loss, v_min=cfg.v_min, v_max=cfg.v_max)
    dqn.train_q_network(run, cfg, net, loss, partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max))


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `_q_network.policy`."""
    expect = partial(expectation, v_min=cfg.v_min, v_max=cfg.v_max)
    return policy(load_weights(network(spec, cfg), weights, device), expect, *cfg.epsilons, device)
