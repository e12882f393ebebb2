"""Q-learning with linear features, and with eligibility traces Watkins's Q(lambda) and true online Q(lambda).

Watkins 1989; Sutton and Barto 2018, sections 6.5 and 12.10; van Seijen et al. 2016. The target is the value of the
best next action, whichever is taken. With `lam` above 0 traces carry errors back as far as actions were greedy:
`trace` is `accumulating`, `replacing`, or `dutch`, whose update is that of true online Sarsa(lambda) along greedy
actions.

1. The next action is chosen before the weights move; where it is not greedy, all traces end.
2. At a truncation the values of the last state stand for what would have followed; at a termination nothing follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from playfield.algos import sarsa_lambda
from playfield.algos.sarsa_lambda import begin, memory, rates, remember, update
from playfield.linear import online
from playfield.linear.episodes import loop
from playfield.linear.jit import piece
from playfield.linear.kernels import TERMINATED, best, choose, dot, fade
from playfield.options import Fraction
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(sarsa_lambda.Config):
    """Hyper-parameters of Q-learning."""

    lam: Fraction = 0.0
    """Lambda, the decay of eligibility traces; 0 is one-step Q-learning."""


PRESETS: dict[str, dict[str, Config]] = {
    "vector": {"default": Config()},
    "MountainCar": {"default": Config(**online.MOUNTAIN_CAR)},
    "CartPole": {"default": Config(**online.CARTPOLE)},
    "Acrobot": {"default": Config(**online.ACROBOT)},
    "atari": {"default": Config(**online.ATARI, features="pixels:size=14")},
    "ram": {"default": Config(**online.ATARI, features="bits")},
}


@piece
def learn(m, h, rng, reward, index, value, on, ended):
    """Learn from a reward and the features of what followed; returns the next action."""
    following, is_greedy, q_next = 0, True, 0.0
    action, was_on = m.last[0], m.last[1]
    if ended != TERMINATED:
        following, is_greedy = choose(m.w, index, value, on, m.epsilon[0], rng)
        q_next = best(m.w, index, value, on)
    q = dot(m.w, action, m.where, m.value, was_on)
    delta = reward + h.gamma * q_next - q
    update(m, h, action, was_on, q, delta)
    m.old[0] = q_next
    if not is_greedy:
        fade(m.z, m.listed, m.length, 0.0)
        m.old[0] = 0.0
    return remember(m, following, index, value, on)


play = loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    online.learn_from(run, cfg, memory, rates, begin, learn)


load = online.load
