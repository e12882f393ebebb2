"""TD(lambda): what states are worth under a fixed policy, with linear features (Sutton and Barto 2018, chapter 12).

`trace` is `dutch` for true online TD(lambda) (van Seijen and Sutton 2014), which computes exactly what the online
lambda-return algorithm would, or `accumulating` for TD(lambda) as Sutton defined it in 1988.

1. The policy is random play (`random`), or an agent's (a run, or one that ships); it does not change.
2. At a truncation the value of the last state stands for what would have followed; at a termination nothing follows.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.linear import online
from playfield.linear.episodes import loop
from playfield.linear.features import Coder, encode
from playfield.linear.jit import piece
from playfield.linear.kernels import TERMINATED, add, dot, draw, fade, follow, mark
from playfield.options import Fraction, PolicyName
from playfield.play.frozen import FrozenPolicy, check_name
from playfield.play.policy import Network
from playfield.runs.run import Run

TRACES = ("dutch", "accumulating")
DUTCH, ACCUMULATING = range(2)


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of TD(lambda)."""

    lam: Fraction = 0.8
    """Lambda, the decay of eligibility traces; 0 is TD(0)."""
    trace: Literal["dutch", "accumulating"] = "dutch"
    """dutch (true online) or accumulating."""
    policy: PolicyName = "random"
    """The policy to evaluate: random, a run directory, or a shipped agent."""

    def check(self, workers: int = 1) -> None:
        super().check(workers)
        check_name(self.policy)

    def fit(self, spec: EnvSpec) -> Self:
        """With step sizes, and the hash of the policy's weights."""
        return dataclasses.replace(super().fit(spec), policy=FrozenPolicy(self.policy, spec).pinned)

    def reopen(self, spec: EnvSpec, directory: Path) -> Self:
        """Raise DataError where the policy has changed or is gone."""
        FrozenPolicy(self.policy, spec)
        return super().reopen(spec, directory)

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers `memory` has: of what environments share, and of each one's own."""
        return coder.size, 2 * coder.size + 2 * coder.active


PRESETS: dict[str, dict[str, Config]] = {
    "vector": {"default": Config()},
    "MountainCar": {"default": Config(**online.MOUNTAIN_CAR)},
    "CartPole": {"default": Config(**online.CARTPOLE)},
    "Acrobot": {"default": Config(**online.ACROBOT)},
    "atari": {"default": Config(**online.ATARI, features="pixels:size=14")},
    "ram": {"default": Config(**online.ATARI, features="bits")},
}


class Memory(NamedTuple):
    """Weights and traces [1, F], and the last state: features (where, value [K], on); `old` value.

    `actions` is how many there are to draw from; `truth` [states] are known values, for the errors of `play`.
    """

    w: np.ndarray
    z: np.ndarray
    listed: np.ndarray
    length: np.ndarray
    where: np.ndarray
    value: np.ndarray
    on: np.ndarray
    old: np.ndarray
    actions: np.ndarray
    truth: np.ndarray
    errors: np.ndarray
    epsilon: np.ndarray


class Rates(NamedTuple):
    alpha: float
    gamma: float
    lam: float
    trace: int


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """What a run begins with."""
    return Memory(
        w=online.weights(1, coder, cfg),
        z=np.zeros((1, coder.size)),
        listed=np.zeros(coder.size, np.int64),
        length=np.zeros(1, np.int64),
        where=np.zeros(coder.active, np.int64),
        value=np.zeros(coder.active),
        on=np.zeros(1, np.int64),
        old=np.zeros(1),
        actions=np.full(1, actions),
        truth=np.zeros(0),
        errors=np.zeros(0),
        epsilon=np.ones(1),
    )


def rates(cfg: Config) -> Rates:
    return Rates(cfg.alpha, cfg.gamma, cfg.lam, TRACES.index(cfg.trace))


@piece
def begin(m, h, rng, index, value, on):
    """The first action of an episode, at random."""
    fade(m.z, m.listed, m.length, 0.0)
    m.old[0] = 0.0
    return _remember(m, rng, index, value, on)


@piece
def _remember(m, rng, index, value, on):
    for j in range(on):
        m.where[j] = index[j]
        m.value[j] = value[j]
    m.on[0] = on
    return draw(rng, m.actions[0]) if m.actions[0] > 1 else 0


@piece
def learn(m, h, rng, reward, index, value, on, ended):
    """Learn from a reward and the features of what followed; returns the next action, at random."""
    was_on = m.on[0]
    v_next = dot(m.w, 0, index, value, on) if ended != TERMINATED else 0.0
    v = dot(m.w, 0, m.where, m.value, was_on)
    delta = reward + h.gamma * v_next - v
    decay = h.gamma * h.lam
    if h.trace == DUTCH:
        gain = 1.0 - h.alpha * decay * dot(m.z, 0, m.where, m.value, was_on)
        fade(m.z, m.listed, m.length, decay)
        mark(m.z, m.listed, m.length, 0, m.where, m.value, was_on, gain, False)
        follow(m.w, m.z, m.listed, m.length, h.alpha * (delta + v - m.old[0]))
        add(m.w, 0, m.where, m.value, was_on, -h.alpha * (v - m.old[0]))
    else:
        fade(m.z, m.listed, m.length, decay)
        mark(m.z, m.listed, m.length, 0, m.where, m.value, was_on, 1.0, False)
        follow(m.w, m.z, m.listed, m.length, h.alpha * delta)
    m.old[0] = v_next
    return _remember(m, rng, index, value, on)


@piece
def _after(m, coder, obs, index, value, episode):
    """Into `m.errors`: root of the mean squared error over the states 0, 1, ... whose true values are known."""
    truth, total = m.truth, 0.0
    for s in range(len(truth)):
        obs[0] = s
        total += (dot(m.w, 0, index, value, encode(coder, obs, index, value)) - truth[s]) ** 2
    if len(truth):
        m.errors[episode] = (total / len(truth)) ** 0.5


play = loop(begin, learn, _after)


def train(run: Run, cfg: Config) -> None:
    """Train until `run` says that it is enough."""
    fixed = run.track("policy", FrozenPolicy(cfg.policy, run.spec, run.compute.device))
    online.learn_from(run, cfg, memory, rates, begin, learn, fixed.act)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The fixed policy as an agent, with the values learnt for it."""
    values, policy = online.linear(spec, cfg, weights), FrozenPolicy(cfg.policy, spec, device).policy

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.log(np.maximum(policy.explain(obs)["probs"], 1e-30)), values(obs, "w")[:, 0]

    return Network(forward)
