"""n-step semi-gradient Sarsa with linear features (Sutton and Barto 2018, sections 10.1 and 10.2).

The value of an action is a sum of weights, one for each feature that is on. After n more steps its weights move
towards the rewards since then plus the value of the state and action n steps on: with n = 1, after every step.

1. The next action is chosen before the weights move, as in the book.
2. At a truncation the values of the last state stand for what would have followed; at a termination nothing follows.
3. Greedy actions that are equally good are drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from playfield.linear import online
from playfield.linear.episodes import loop
from playfield.linear.features import Coder
from playfield.linear.jit import piece
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED, add_at, choose, dot_at
from playfield.options import Count
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of Sarsa."""

    n_step: Count = 1
    """The n of n-step returns."""

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers `memory` has: of what environments share, and of each one's own."""
        return actions * coder.size, (self.n_step + 1) * (2 * coder.active + 3)


PRESETS: dict[str, dict[str, Config]] = {
    "vector": {"default": Config()},
    "MountainCar": {"default": Config(**online.MOUNTAIN_CAR)},
    "CartPole": {"default": Config(**online.CARTPOLE)},
    "Acrobot": {"default": Config(**online.ACROBOT)},
    "atari": {"default": Config(**online.ATARI, features="pixels:size=14")},
    "ram": {"default": Config(**online.ATARI, features="bits")},
}


class Memory(NamedTuple):
    """Weights [A, F] and a ring of the last n + 1 steps: features (where, value [K], on), actions, rewards."""

    w: np.ndarray
    where: np.ndarray
    value: np.ndarray
    on: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    t: np.ndarray
    epsilon: np.ndarray


class Rates(NamedTuple):
    alpha: float
    gamma: float


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """What a run begins with."""
    ring = cfg.n_step + 1
    return Memory(
        w=online.weights(actions, coder, cfg),
        where=np.zeros((ring, coder.active), np.int64),
        value=np.zeros((ring, coder.active)),
        on=np.zeros(ring, np.int64),
        actions=np.zeros(ring, np.int64),
        rewards=np.zeros(ring),
        t=np.zeros(1, np.int64),
        epsilon=np.full(1, cfg.epsilon),
    )


def rates(cfg: Config) -> Rates:
    return Rates(cfg.alpha, cfg.gamma)


@piece
def begin(m, h, rng, index, value, on):
    """The first action of an episode."""
    m.t[0] = 0
    return _remember(m, rng, 0, index, value, on)


@piece
def _remember(m, rng, slot, index, value, on):
    for j in range(on):
        m.where[slot, j] = index[j]
        m.value[slot, j] = value[j]
    m.on[slot] = on
    m.actions[slot] = choose(m.w, index, value, on, m.epsilon[0], rng)[0]
    return m.actions[slot]


@piece
def _update(m, h, first, last, bootstrap):
    """Move the value of step `first` towards the rewards up to step `last`, and what is expected there."""
    ring = len(m.actions)
    target, discount = 0.0, 1.0
    for i in range(first, last):
        target += discount * m.rewards[i % ring]
        discount *= h.gamma
    if bootstrap:
        s = last % ring
        target += discount * dot_at(m.w, m.actions[s], m.where, m.value, s, m.on[s])
    s = first % ring
    old = dot_at(m.w, m.actions[s], m.where, m.value, s, m.on[s])
    add_at(m.w, m.actions[s], m.where, m.value, s, m.on[s], h.alpha * (target - old))


@piece
def learn(m, h, rng, reward, index, value, on, ended):
    """Learn from a reward and the features of what followed; returns the next action."""
    ring, t = len(m.actions), m.t[0]
    n = ring - 1
    m.rewards[t % ring] = reward
    action = _remember(m, rng, (t + 1) % ring, index, value, on) if ended != TERMINATED else 0
    if t + 1 >= n:
        _update(m, h, t + 1 - n, t + 1, ended != TERMINATED)
    if ended != ONGOING:
        for first in range(max(t + 2 - n, 0), t + 1):
            _update(m, h, first, t + 1, ended == TRUNCATED)
    m.t[0] = t + 1
    return action


play = loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    online.learn_from(run, cfg, memory, rates, begin, learn)


load = online.load
