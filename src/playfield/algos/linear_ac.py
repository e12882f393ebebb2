"""Actor-critic with linear features and traces (Sutton and Barto 2018, sections 13.5 and 13.6).

The actor prefers actions by sums of weights and draws them by softmax over `tau`; the critic values states. One
error, reward + gamma v(next) - v, moves both along their traces.

1. The critic's traces are accumulating. With `lam` 0 both are one-step methods.
2. The actor's step shrinks by gamma every step of an episode only with `discounted` (the book's boxes; most
   implementations leave it out).
3. `taken_only` moves the preferences of the action taken alone, as a course has it; the gradient moves all of them.
4. At a truncation the value of the last state stands for what would have followed; at a termination nothing follows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.linear import online
from playfield.linear.episodes import loop
from playfield.linear.features import Coder
from playfield.linear.jit import piece
from playfield.linear.kernels import ONGOING, TERMINATED, dot, fade, follow, mark
from playfield.options import Fraction, Positive, PositiveFraction
from playfield.play.policy import Network
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of the linear actor-critic."""

    alpha_actor: float = 0.0
    """The actor's step size; `alpha` is the critic's. 0: correction_actor / squared length of the features."""
    correction_actor: PositiveFraction = 0.16
    """Where alpha_actor is 0: the actor's step size, times the squared length of the features."""
    lam: Fraction = 0.8
    """Lambda, the decay of both eligibility traces."""
    tau: Positive = 1.0
    """Temperature of the softmax."""
    discounted: bool = False
    """Multiply the actor's update by gamma^t, as the policy gradient theorem does."""
    taken_only: bool = False
    """Update only the preferences of the action taken."""

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers `memory` has: of what environments share, and of each one's own."""
        rows = actions + 1  # the critic's
        return rows * coder.size, 2 * rows * coder.size + 2 * coder.active


PRESETS: dict[str, dict[str, Config]] = {
    "vector": {"default": Config()},
    "MountainCar": {"default": Config(**online.MOUNTAIN_CAR)},
    "CartPole": {"default": Config(**online.CARTPOLE | {"gamma": 0.99, "correction": 0.3}, correction_actor=0.2)},
    "Acrobot": {"default": Config(**online.ACROBOT, correction_actor=0.32)},
    "atari": {"default": Config(**online.ATARI, features="pixels:size=14")},
    "ram": {"default": Config(**online.ATARI, features="bits")},
}


class Memory(NamedTuple):
    """The actor's weights w and traces z [A, F], the critic's [1, F]; `listed` and `length` as in `linear.maths`.

    The last step: features (where, value [K]), `last` (action, features on), `probs` [A]; `shrunk` is gamma^t.
    """

    w: np.ndarray
    z: np.ndarray
    listed: np.ndarray
    length: np.ndarray
    critic: np.ndarray
    critic_z: np.ndarray
    critic_listed: np.ndarray
    critic_length: np.ndarray
    where: np.ndarray
    value: np.ndarray
    last: np.ndarray
    probs: np.ndarray
    shrunk: np.ndarray
    epsilon: np.ndarray


class Rates(NamedTuple):
    alpha: float
    alpha_actor: float
    gamma: float
    lam: float
    tau: float
    discounted: bool
    taken_only: bool


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """What a run begins with."""
    return Memory(
        w=np.zeros((actions, coder.size)),
        z=np.zeros((actions, coder.size)),
        listed=np.zeros(actions * coder.size, np.int64),
        length=np.zeros(1, np.int64),
        critic=online.weights(1, coder, cfg),
        critic_z=np.zeros((1, coder.size)),
        critic_listed=np.zeros(coder.size, np.int64),
        critic_length=np.zeros(1, np.int64),
        where=np.zeros(coder.active, np.int64),
        value=np.zeros(coder.active),
        last=np.zeros(2, np.int64),
        probs=np.zeros(actions),
        shrunk=np.ones(1),
        epsilon=np.zeros(1),
    )


def rates(cfg: Config) -> Rates:
    return Rates(cfg.alpha, cfg.alpha_actor, cfg.gamma, cfg.lam, cfg.tau, cfg.discounted, cfg.taken_only)


@piece
def begin(m, h, rng, index, value, on):
    """The first action of an episode."""
    fade(m.z, m.listed, m.length, 0.0)
    fade(m.critic_z, m.critic_listed, m.critic_length, 0.0)
    m.shrunk[0] = 1.0
    return _draw(m, h, rng, index, value, on)


@piece
def _draw(m, h, rng, index, value, on):
    """Draw an action by softmax, and keep what `learn` needs to know of the step."""
    top, total = -math.inf, 0.0
    for a in range(len(m.w)):
        m.probs[a] = dot(m.w, a, index, value, on) / h.tau
        top = max(top, m.probs[a])
    for a in range(len(m.w)):
        m.probs[a] = math.exp(m.probs[a] - top)
        total += m.probs[a]
    left, action = rng.random() * total, len(m.w) - 1
    for a in range(len(m.w)):
        if left < m.probs[a]:
            action = a
            break
        left -= m.probs[a]
    for a in range(len(m.w)):
        m.probs[a] /= total
    for j in range(on):
        m.where[j] = index[j]
        m.value[j] = value[j]
    m.last[0], m.last[1] = action, on
    return action


@piece
def learn(m, h, rng, reward, index, value, on, ended):
    """Learn from a reward and the features of what followed; returns the next action."""
    action, was_on = m.last[0], m.last[1]
    v_next = dot(m.critic, 0, index, value, on) if ended != TERMINATED else 0.0
    delta = reward + h.gamma * v_next - dot(m.critic, 0, m.where, m.value, was_on)
    decay = h.gamma * h.lam
    fade(m.critic_z, m.critic_listed, m.critic_length, decay)
    mark(m.critic_z, m.critic_listed, m.critic_length, 0, m.where, m.value, was_on, 1.0, False)
    fade(m.z, m.listed, m.length, decay)
    for a in range(len(m.w)):
        if a == action or not h.taken_only:
            slope = ((1.0 if a == action else 0.0) - m.probs[a]) / h.tau * m.shrunk[0]
            mark(m.z, m.listed, m.length, a, m.where, m.value, was_on, slope, False)
    follow(m.critic, m.critic_z, m.critic_listed, m.critic_length, h.alpha * delta)
    follow(m.w, m.z, m.listed, m.length, h.alpha_actor * delta)
    if h.discounted:
        m.shrunk[0] *= h.gamma
    return _draw(m, h, rng, index, value, on) if ended == ONGOING else 0


play = loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    online.learn_from(run, cfg, memory, rates, begin, learn)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent: (logits, value) of observations."""
    sums = online.linear(spec, cfg, weights)

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return sums(obs, "w") / np.float32(cfg.tau), sums(obs, "critic")[:, 0]

    return Network(forward)
