"""Episodic semi-gradient n-step Sarsa with linear features (Sutton and Barto 2018, sections 10.1 and 10.2).

The book's algorithm, for each step t of an episode, with S, A, R for states, actions, rewards and n for `n_step`:

    take action A_t; observe and store R_{t+1} and S_{t+1}
    if S_{t+1} is terminal: T = t + 1; else choose and store A_{t+1}, epsilon-greedy
    tau = t - n + 1, the time whose estimate is updated
    if tau >= 0:
        G = R_{tau+1} + gamma R_{tau+2} + ... + gamma^{n-1} R_{tau+n}, of rewards up to R_T
        if tau + n < T: G = G + gamma^n q(S_{tau+n}, A_{tau+n})
        w = w + alpha (G - q(S_tau, A_tau)) grad q(S_tau, A_tau)

until tau = T - 1. Here q(s, a) is w[a] times the features of s, so its gradient is the features. `learn` does all
this after the environment's step, with the last n + 1 steps in ring buffers.

1. The next action is chosen before the weights are updated, as in the book.
2. Truncated episodes bootstrap; terminated ones do not.
3. Ties break at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from playfield.linear import online
from playfield.linear.episodes import episode_loop
from playfield.linear.features import Coder
from playfield.linear.jit import Floats, Ints, kernel
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED, add_at, dot_at, epsilon_greedy
from playfield.options import Count, Search
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of Sarsa."""

    search = online.SEARCH | {"n_step": Search(1, 8)}

    n_step: Count = 1
    """The n of n-step returns."""

    @property
    def memory_options(self) -> tuple[str, ...]:
        """The ring of past steps."""
        return ("--n-step",) * (self.n_step > 1)

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers `memory` has: of what environments share, and of each one's own."""
        return actions * coder.size, (self.n_step + 1) * (2 * coder.active + 3)


PRESETS = online.presets(Config)


class Memory(NamedTuple):
    """The weights, and ring buffers of the last n + 1 steps: what belongs to time t is in slot t % (n + 1)."""

    w: Floats  # [A, F] weights
    indices: Ints  # [n + 1, K] active features of S_t
    values: Floats  # [n + 1, K] and their values
    active: Ints  # [n + 1] how many they are
    actions: Ints  # [n + 1] A_t
    rewards: Floats  # [n + 1] R_{t+1}
    t: Ints  # [1] the current time
    epsilon: Floats  # [1]


class Rates(NamedTuple):
    """What the compiled functions need of a Config."""

    alpha: float
    gamma: float


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """Initial weights, and empty ring buffers."""
    slots = cfg.n_step + 1
    return Memory(
        w=online.initial_weights(actions, coder, cfg),
        indices=np.zeros((slots, coder.active), np.int64),
        values=np.zeros((slots, coder.active)),
        active=np.zeros(slots, np.int64),
        actions=np.zeros(slots, np.int64),
        rewards=np.zeros(slots),
        t=np.zeros(1, np.int64),
        epsilon=np.full(1, cfg.at("epsilon", 0.0)),
    )


def rates(cfg: Config, progress: float = 0.0, step: int = 0) -> Rates:
    """The `Rates` of a Config when `progress` of the training is done, at a step."""
    return Rates(cfg.at("alpha", progress, step), cfg.gamma)


@kernel
def begin(m: Memory, h: Rates, rng: np.random.Generator, index: Ints, value: Floats, active: int) -> int:
    """Store S_0; choose and store A_0, which is returned."""
    m.t[0] = 0
    return choose_and_store(m, rng, 0, index, value, active)


@kernel
def choose_and_store(m: Memory, rng: np.random.Generator, slot: int, index: Ints, value: Floats, active: int) -> int:
    """Choose an action in the state of these features, and store both in a slot."""
    for j in range(active):
        m.indices[slot, j] = index[j]
        m.values[slot, j] = value[j]
    m.active[slot] = active
    action = epsilon_greedy(m.w, index, value, active, m.epsilon[0], rng)[0]
    m.actions[slot] = action
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
    """One step of the algorithm, after A_t was taken: from R_{t+1} and the features of S_{t+1} to A_{t+1}."""
    slots, t = len(m.actions), m.t[0]
    n = slots - 1
    # Store R_{t+1}; unless S_{t+1} is terminal, store it and choose A_{t+1}.
    m.rewards[t % slots] = reward
    action = choose_and_store(m, rng, (t + 1) % slots, index, value, active) if ended != TERMINATED else 0
    # Update the estimate of time tau.
    tau = t + 1 - n
    if tau >= 0:
        update(m, h, tau, t + 1, ended != TERMINATED)
    # At the end of the episode, of the times after tau too, with the rewards that there are.
    if ended != ONGOING:
        for late in range(max(tau + 1, 0), t + 1):
            update(m, h, late, t + 1, ended == TRUNCATED)
    m.t[0] = t + 1
    return action


@kernel
def update(m: Memory, h: Rates, tau: int, end: int, bootstrap: bool) -> None:
    """w += alpha (G - q(S_tau, A_tau)) grad q(S_tau, A_tau); G has the rewards up to R_end, then q(S_end, A_end)."""
    slots = len(m.actions)
    g, discount = 0.0, 1.0
    for i in range(tau, end):
        g += discount * m.rewards[i % slots]
        discount *= h.gamma
    if bootstrap:
        s = end % slots
        g += discount * dot_at(m.w, m.actions[s], m.indices, m.values, s, m.active[s])
    s = tau % slots
    q = dot_at(m.w, m.actions[s], m.indices, m.values, s, m.active[s])
    add_at(m.w, m.actions[s], m.indices, m.values, s, m.active[s], h.alpha * (g - q))


play = episode_loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    online.train_online(run, cfg, memory, rates, begin, learn)


load = online.load
