"""Deep Q-networks (Mnih et al. 2015): the value of each action, learnt towards a target network by the Huber loss.

The loop, its switches (double, dueling, n-step, prioritised, noisy) and where it differs from the papers are in
`offpolicy.py`. Presets of classic control: `default`, another for CartPole from pixels, and `sparse`, whose random
actions are held for a while: that is MountainCar's default. Presets of Atari:

* `default`: a small net and half the papers' samples per step; another for RAM.
* `pong`: twice the samples per step, in small minibatches: what reached 18 in Pong soonest (docs/results.md).
* `nips`, `nature`: the nets and sizes of Mnih et al. 2013 and 2015, both with a target network and clipped errors
  (the Huber loss has their gradients). Theirs are sums over a minibatch of 32, ours means: so epsilon is 0.01 / 32^2.
* `cleanrl`: the sizes of CleanRL's `dqn_atari.py`: Adam, squared error, no clipping of gradients.
* `lesson18`, `lesson18-double`: a course's, with a memory of 10,000 that must be full before learning starts, and an
  update in every step. The course's network saw one picture (`--stack 1`), in which nothing moves; these see four.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from playfield import offpolicy
from playfield.envs.base import EnvSpec
from playfield.learner import load_weights
from playfield.offpolicy import Minibatch
from playfield.presets import ATARI, PIXELS, RAM, SPARSE, VECTOR
from playfield.run import Run
from playfield.values import QNetwork, identity


@dataclass(frozen=True)
class Config(offpolicy.Config):
    """Hyper-parameters of DQN."""

    huber: bool = True
    """Huber loss, which clips errors; else half the squared error."""


PAPERS: dict[str, Any] = {
    "capacity": 1_000_000,
    "learning_starts": 50_000,
    "target_period": 40_000,  # every 10,000 updates
    "optimizer": "rmsprop",
    "lr": 2.5e-4,
    "adam_eps": 0.01 / 32**2,
    "max_grad_norm": 0.0,
    "epsilon_end": 0.1,
    "epsilon_steps": 1_000_000,
}
LESSON = Config(
    capacity=10_000,
    train_period=1,
    huber=False,
    max_grad_norm=0.0,
    adam_eps=1e-7,  # Keras's
    epsilon_steps=200_000,
    net="nature",
)
PRESETS: dict[str, dict[str, Config]] = {
    "atari": {
        "default": Config(**ATARI | {"double": False}),  # double targets cost Breakout its start (docs/results.md)
        "pong": Config(lr=3e-4, net="nips", double=True, n_step=3),
        "nips": Config(**PAPERS, net="nips:norm=none"),
        "nature": Config(**PAPERS, net="nature"),
        "cleanrl": Config(
            capacity=1_000_000, learning_starts=80_000, huber=False, max_grad_norm=0.0, adam_eps=1e-8, net="nature"
        ),
        "lesson18": LESSON,
        "lesson18-double": dataclasses.replace(LESSON, double=True),
    },
    "ram": {"default": Config(**RAM)},
    "vector": {
        "default": Config(**VECTOR),
        "sparse": Config(**SPARSE),
    },
    "MountainCar": {"default": Config(**SPARSE)},
    "pixels": {"default": Config(**PIXELS)},
}


def dqn_loss(q: Tensor, batch: Minibatch, huber: bool = True) -> tuple[Tensor, Tensor]:
    """Loss of the values `q` [B] of the actions taken, and the errors target - value [B]."""
    error = batch.returns + batch.discounts * batch.following - q
    if huber:
        return F.huber_loss(error, torch.zeros_like(error), reduction="none"), error
    return 0.5 * error.square(), error


def network(spec: EnvSpec, config: dict[str, Any]) -> QNetwork:
    return QNetwork(spec, config["net"], config["dueling"], noise_std=config["noise_std"] * config["noisy"])


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    cfg.check(run.compute.workers)
    with run.seeded():
        net = network(run.spec, vars(cfg))
    offpolicy.learn(run, cfg, net, lambda q, batch: dqn_loss(q, batch, cfg.huber), identity)


def load(spec: EnvSpec, config: dict[str, Any], weights: dict[str, Any], device: str) -> Any:
    """The trained network as a function of observations (see `offpolicy.policy`)."""
    return offpolicy.policy(load_weights(network(spec, config), weights, device), identity, config, device)
