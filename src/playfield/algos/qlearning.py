"""Q-learning with linear features, and with eligibility traces Watkins's Q(lambda) and true online Q(lambda).

Watkins 1989; Sutton and Barto 2018, sections 6.5 and 12.10; van Seijen et al. 2016. The target is R + gamma times the
value of a greedy next action, whichever is taken. With `lam` above 0, traces carry errors back as far as the actions
were greedy: `trace` is `accumulating`, `replacing`, or `dutch`, whose update is that of true online Sarsa(lambda)
along greedy actions.

1. The next action is chosen before the weights are updated; if it is not greedy, all traces are reset.
2. Truncated episodes bootstrap; terminated ones do not. Ties break at random.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from playfield.algos import sarsa_lambda
from playfield.algos.sarsa_lambda import Memory, Rates, begin, memory, rates, store, update
from playfield.linear import online
from playfield.linear.episodes import episode_loop
from playfield.linear.jit import Floats, Ints, kernel
from playfield.linear.kernels import TERMINATED, decay_traces, dot, epsilon_greedy, max_value
from playfield.options import Fraction
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(sarsa_lambda.Config):
    """Hyper-parameters of Q-learning."""

    lam: Fraction = 0.0
    """Lambda, the decay of eligibility traces; 0 is one-step Q-learning."""


PRESETS = online.presets(Config)


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
    """Learn from the reward of the last action and the features of the next state; returns the next action."""
    next_action, is_greedy, q_next = 0, True, 0.0
    action, last_active = m.last[0], m.last[1]
    if ended != TERMINATED:
        next_action, is_greedy = epsilon_greedy(m.w, index, value, active, m.epsilon[0], rng)
        q_next = max_value(m.w, index, value, active)
    q = dot(m.w, action, m.indices, m.values, last_active)
    delta = reward + h.gamma * q_next - q
    update(m, h, action, last_active, q, delta)
    m.q_old[0] = q_next
    if not is_greedy:
        decay_traces(m.z, m.nonzero, m.length, 0.0)
        m.q_old[0] = 0.0
    return store(m, next_action, index, value, active)


play = episode_loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    online.train_online(run, cfg, memory, rates, begin, learn)


load = online.load
