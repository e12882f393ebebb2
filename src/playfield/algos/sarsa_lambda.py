"""Sarsa(lambda) with linear features and eligibility traces (Sutton and Barto 2018, sections 12.7 and 12.8).

Every weight remembers for a while that its feature was on, and shares in the errors that follow. `trace` is

* `dutch`: true online Sarsa(lambda), which computes exactly what the online lambda-return algorithm would (van Seijen
  et al. 2016);
* `accumulating`: features add to their traces;
* `replacing`: features put their traces to their own value (Singh and Sutton 1996).

1. The next action is chosen before the weights move.
2. At a truncation the values of the last state stand for what would have followed; at a termination nothing follows.
3. Traces of the other actions only fade, in all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from playfield.linear import online
from playfield.linear.episodes import loop
from playfield.linear.features import Coder
from playfield.linear.jit import piece
from playfield.linear.kernels import TERMINATED, add, choose, dot, fade, follow, mark
from playfield.options import Fraction
from playfield.runs.run import Run

TRACES = ("dutch", "accumulating", "replacing")
DUTCH, ACCUMULATING, REPLACING = range(3)


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of Sarsa(lambda)."""

    lam: Fraction = 0.9
    """Lambda, the decay of eligibility traces; 0 is one-step Sarsa."""
    trace: Literal["dutch", "accumulating", "replacing"] = "dutch"
    """dutch (true online), accumulating or replacing."""

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers `memory` has: of what environments share, and of each one's own."""
        return actions * coder.size, 2 * actions * coder.size + 2 * coder.active


PRESETS: dict[str, dict[str, Config]] = {
    "vector": {"default": Config()},
    "MountainCar": {"default": Config(**online.MOUNTAIN_CAR)},
    "CartPole": {"default": Config(**online.CARTPOLE)},
    "Acrobot": {"default": Config(**online.ACROBOT)},
    "atari": {"default": Config(**online.ATARI, features="pixels:size=14")},
    "ram": {"default": Config(**online.ATARI, features="bits")},
}


class Memory(NamedTuple):
    """Weights and traces [A, F], and the last step: features (where, value [K], on), action; `old` value."""

    w: np.ndarray
    z: np.ndarray
    listed: np.ndarray
    length: np.ndarray
    where: np.ndarray
    value: np.ndarray
    last: np.ndarray  # action, features on
    old: np.ndarray
    epsilon: np.ndarray


class Rates(NamedTuple):
    alpha: float
    gamma: float
    lam: float
    trace: int


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """What a run begins with."""
    return Memory(
        w=online.weights(actions, coder, cfg),
        z=np.zeros((actions, coder.size)),
        listed=np.zeros(actions * coder.size, np.int64),
        length=np.zeros(1, np.int64),
        where=np.zeros(coder.active, np.int64),
        value=np.zeros(coder.active),
        last=np.zeros(2, np.int64),
        old=np.zeros(1),
        epsilon=np.full(1, cfg.epsilon),
    )


def rates(cfg: Config) -> Rates:
    return Rates(cfg.alpha, cfg.gamma, cfg.lam, TRACES.index(cfg.trace))


@piece
def begin(m, h, rng, index, value, on):
    """The first action of an episode."""
    fade(m.z, m.listed, m.length, 0.0)
    m.old[0] = 0.0
    return remember(m, choose(m.w, index, value, on, m.epsilon[0], rng)[0], index, value, on)


@piece
def remember(m, action, index, value, on):
    """Keep what the next `learn` needs to know of this step; returns the action."""
    for j in range(on):
        m.where[j] = index[j]
        m.value[j] = value[j]
    m.last[0], m.last[1] = action, on
    return action


@piece
def update(m, h, action, on, q, delta):
    """Let the last step leave its traces, and move all weights by them and the error `delta`; `q` was its value."""
    decay = h.gamma * h.lam
    if h.trace == DUTCH:
        gain = 1.0 - h.alpha * decay * dot(m.z, action, m.where, m.value, on)
        fade(m.z, m.listed, m.length, decay)
        mark(m.z, m.listed, m.length, action, m.where, m.value, on, gain, False)
        follow(m.w, m.z, m.listed, m.length, h.alpha * (delta + q - m.old[0]))
        add(m.w, action, m.where, m.value, on, -h.alpha * (q - m.old[0]))
    else:
        fade(m.z, m.listed, m.length, decay)
        mark(m.z, m.listed, m.length, action, m.where, m.value, on, 1.0, h.trace == REPLACING)
        follow(m.w, m.z, m.listed, m.length, h.alpha * delta)


@piece
def learn(m, h, rng, reward, index, value, on, ended):
    """Learn from a reward and the features of what followed; returns the next action."""
    following, q_next = 0, 0.0
    action, was_on = m.last[0], m.last[1]
    if ended != TERMINATED:
        following = choose(m.w, index, value, on, m.epsilon[0], rng)[0]
        q_next = dot(m.w, following, index, value, on)
    q = dot(m.w, action, m.where, m.value, was_on)
    delta = reward + h.gamma * q_next - q
    update(m, h, action, was_on, q, delta)
    m.old[0] = q_next
    return remember(m, following, index, value, on)


play = loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    online.learn_from(run, cfg, memory, rates, begin, learn)


load = online.load
