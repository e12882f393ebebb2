"""Sarsa(lambda) with linear features and eligibility traces (Sutton and Barto 2018, sections 12.7 and 12.8).

The book's true online algorithm, with x for the features of state and action:

    choose A in the initial state; x = x(S, A); z = 0; Q_old = 0
    for each step of the episode:
        take action A; observe R, S'; choose A' in S', epsilon-greedy; x' = x(S', A')
        Q = w.x; Q' = w.x'
        delta = R + gamma Q' - Q
        z = gamma lambda z + (1 - alpha gamma lambda z.x) x
        w = w + alpha (delta + Q - Q_old) z - alpha (Q - Q_old) x
        Q_old = Q'; x = x'; A = A'

That is `trace` = `dutch`: it computes exactly what the online lambda-return algorithm would (van Seijen et al. 2016).
`accumulating` adds x to gamma lambda z, `replacing` sets traces to x where x is not 0 (Singh and Sutton 1996); both
then update w = w + alpha delta z.

1. The next action is chosen before the weights are updated, as in the book.
2. Truncated episodes bootstrap; terminated ones do not. Ties break at random.
3. Replacing traces do not clear those of the actions not taken: these decay, as with the other two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from playfield.linear import online
from playfield.linear.episodes import episode_loop
from playfield.linear.features import Coder
from playfield.linear.jit import Floats, Ints, kernel
from playfield.linear.kernels import (
    TERMINATED,
    add,
    add_traces,
    decay_traces,
    dot,
    epsilon_greedy,
    update_traces,
)
from playfield.options import Fraction, Search
from playfield.runs.run import Run

TRACES = ("dutch", "accumulating", "replacing")
DUTCH, ACCUMULATING, REPLACING = range(3)


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of Sarsa(lambda)."""

    search = online.SEARCH | {"lam": Search(0.0, 0.99)}

    lam: Fraction = 0.9
    """Lambda, the decay of eligibility traces; 0 is one-step Sarsa."""
    trace: Literal["dutch", "accumulating", "replacing"] = "dutch"
    """dutch (true online), accumulating or replacing."""

    @property
    def divisor(self) -> int:
        """Dutch traces carry along what the other environments have changed."""
        return self.num_envs if self.trace == "dutch" and self.lam else 1

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers `memory` has: of what environments share, and of each one's own."""
        return actions * coder.size, 2 * actions * coder.size + 2 * coder.active


PRESETS = online.presets(Config)


class Memory(NamedTuple):
    """Weights, traces, and the last state and action."""

    w: Floats  # [A, F] weights
    z: Floats  # [A, F] eligibility traces
    nonzero: Ints  # [A * F] and [1]: which of them are not zero, see `linear.kernels`
    length: Ints
    indices: Ints  # [K] active features of S
    values: Floats  # [K] and their values
    last: Ints  # [2] A, and how many features are active
    q_old: Floats  # [1] Q_old
    epsilon: Floats  # [1]


class Rates(NamedTuple):
    """What the compiled functions need of a Config; `trace` is an index of `TRACES`."""

    alpha: float
    gamma: float
    lam: float
    trace: int


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """Initial weights, and traces of zero."""
    return Memory(
        w=online.initial_weights(actions, coder, cfg),
        z=np.zeros((actions, coder.size)),
        nonzero=np.zeros(actions * coder.size, np.int64),
        length=np.zeros(1, np.int64),
        indices=np.zeros(coder.active, np.int64),
        values=np.zeros(coder.active),
        last=np.zeros(2, np.int64),
        q_old=np.zeros(1),
        epsilon=np.full(1, cfg.at("epsilon", 0.0)),
    )


def rates(cfg: Config, progress: float = 0.0, step: int = 0) -> Rates:
    """The `Rates` of a Config when `progress` of the training is done, at a step."""
    return Rates(cfg.at("alpha", progress, step), cfg.gamma, cfg.lam, TRACES.index(cfg.trace))


@kernel
def begin(m: Memory, h: Rates, rng: np.random.Generator, index: Ints, value: Floats, active: int) -> int:
    """Reset the traces and Q_old; choose and return the first action."""
    decay_traces(m.z, m.nonzero, m.length, 0.0)
    m.q_old[0] = 0.0
    return store(m, epsilon_greedy(m.w, index, value, active, m.epsilon[0], rng)[0], index, value, active)


@kernel
def store(m: Memory, action: int, index: Ints, value: Floats, active: int) -> int:
    """Keep the action and the features of the state that it is taken in, for the next `learn`; returns the action."""
    for j in range(active):
        m.indices[j] = index[j]
        m.values[j] = value[j]
    m.last[0], m.last[1] = action, active
    return action


@kernel
def learn(
    m: Memory,
    h: Rates,
    rng: np.random.Generator,
    reward: float,
    index: Ints,
    value: Floats,
    active: int,
    ended: int,
) -> int:
    """One step of the algorithm, after A was taken: from R and the features of S' to A'."""
    next_action, q_next = 0, 0.0
    action, last_active = m.last[0], m.last[1]
    if ended != TERMINATED:
        next_action = epsilon_greedy(m.w, index, value, active, m.epsilon[0], rng)[0]
        q_next = dot(m.w, next_action, index, value, active)
    q = dot(m.w, action, m.indices, m.values, last_active)
    delta = reward + h.gamma * q_next - q
    update(m, h, action, last_active, q, delta)
    m.q_old[0] = q_next
    return store(m, next_action, index, value, active)


@kernel
def update(m: Memory, h: Rates, action: int, active: int, q: float, delta: float) -> None:
    """Update the traces by the last state and action, whose value was `q`, and the weights by the TD error."""
    decay = h.gamma * h.lam
    if h.trace == DUTCH:
        gain = 1.0 - h.alpha * decay * dot(m.z, action, m.indices, m.values, active)
        decay_traces(m.z, m.nonzero, m.length, decay)
        update_traces(m.z, m.nonzero, m.length, action, m.indices, m.values, active, gain, False)
        add_traces(m.w, m.z, m.nonzero, m.length, h.alpha * (delta + q - m.q_old[0]))
        add(m.w, action, m.indices, m.values, active, -h.alpha * (q - m.q_old[0]))
    else:
        decay_traces(m.z, m.nonzero, m.length, decay)
        update_traces(m.z, m.nonzero, m.length, action, m.indices, m.values, active, 1.0, h.trace == REPLACING)
        add_traces(m.w, m.z, m.nonzero, m.length, h.alpha * delta)


play = episode_loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    online.train_online(run, cfg, memory, rates, begin, learn)


load = online.load
