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

import numpy as np

from playfield import online
from playfield.algos import sarsa_lambda
from playfield.algos.sarsa_lambda import begin, memory, rates, remember, update
from playfield.linear.features import encode
from playfield.linear.jit import jit, piece
from playfield.linear.maths import ENDLESS, ONGOING, TERMINATED, TRUNCATED, best, choose, dot, fade
from playfield.linear.problems import STATE, observe, start, step
from playfield.run import Run


@dataclass(frozen=True)
class Config(sarsa_lambda.Config):
    """Hyper-parameters of Q-learning."""

    lam: float = 0.0
    """Decay of traces (lambda): 0 is one-step Q-learning."""


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


@jit
def play(problem, coder, m, h, rng, decay, max_steps, steps, returns):
    """Episodes of a problem of `linear.problems`; fills `steps` and `returns` [episodes], to an endless one."""
    state, obs = np.zeros(STATE), np.zeros(len(coder.low))
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    for episode in range(len(steps)):
        start(problem, rng, state)
        observe(problem, state, obs)
        action = begin(m, h, rng, index, value, encode(coder, obs, index, value))
        ended, t, score = ONGOING, 0, 0.0
        while ended == ONGOING:
            reward, over = step(problem, rng, state, action)
            observe(problem, state, obs)
            t += 1
            score += reward
            ended = TERMINATED if over else TRUNCATED if t == max_steps else ONGOING
            action = learn(m, h, rng, reward, index, value, encode(coder, obs, index, value), ended)
        m.epsilon[0] *= decay
        steps[episode], returns[episode] = t, score
        if t == ENDLESS:
            return


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    online.learn_from(run, cfg, memory, rates, begin, learn)


load = online.load
