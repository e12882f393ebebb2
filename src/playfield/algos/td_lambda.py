"""TD(lambda): the state values of a fixed policy, with linear features (Sutton and Barto 2018, chapter 12).

`trace` is `dutch` for true online TD(lambda) (van Seijen and Sutton 2014), which computes exactly what the online
lambda-return algorithm would, or `accumulating` for TD(lambda) as Sutton defined it in 1988. The book's true online
algorithm, with x for the features of a state:

    x = x(S); z = 0; V_old = 0
    for each step of the episode:
        take an action of the policy; observe R, S'; x' = x(S')
        V = w.x; V' = w.x'
        delta = R + gamma V' - V
        z = gamma lambda z + (1 - alpha gamma lambda z.x) x
        w = w + alpha (delta + V - V_old) z - alpha (V - V_old) x
        V_old = V'; x = x'

With `offline` the weights change only where an episode ends: what they change by is collected in d. d and z are 0 at
the start of an episode, and V and V' are by the weights w that it began with. With dutch traces:

        z = gamma lambda z + (1 - alpha gamma lambda z.x) x
        d = d + alpha delta z - alpha (d.x) x
    at the end: w = w + d

That computes exactly what the offline lambda-return algorithm would (section 12.1), one update after another towards
the lambda-returns, without keeping the episode. With accumulating traces d = d + alpha delta z: the same updates, all
of them from the weights of the start.

1. The policy acts at random (`random`), or is an agent's (a run's, or a shipped one); it does not change.
2. Truncated episodes bootstrap; terminated ones do not.
3. With `offline` and several environments, the end of one's episode changes the weights within those of the others.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.linear import online
from playfield.linear.episodes import episode_loop
from playfield.linear.features import Coder, encode
from playfield.linear.jit import Floats, Ints, kernel
from playfield.linear.kernels import (
    ONGOING,
    TERMINATED,
    add,
    add_traces,
    decay_traces,
    dot,
    sample_uniform,
    update_traces,
)
from playfield.options import Fraction, PolicyName
from playfield.play.frozen import FrozenPolicy, check_name
from playfield.play.policy import explainer
from playfield.runs.algorithm import Network
from playfield.runs.run import Run

TRACES = ("dutch", "accumulating")
DUTCH, ACCUMULATING = range(2)


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of TD(lambda)."""

    explores = False
    search = {}  # noqa: RUF012 - as in the base; the scores are those of the policy that it evaluates

    lam: Fraction = 0.8
    """Lambda, the decay of eligibility traces; 0 is TD(0)."""
    trace: Literal["dutch", "accumulating"] = "dutch"
    """dutch (true online) or accumulating."""
    offline: bool = False
    """Change the weights only where an episode ends; with dutch traces: the offline lambda-return algorithm."""
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

    @property
    def divisor(self) -> int:
        """Dutch traces carry along what the other environments have changed."""
        return self.num_envs if self.trace == "dutch" and self.lam else 1

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers `memory` has: of what environments share, and of each one's own."""
        return coder.size, (2 + self.offline) * coder.size + 2 * coder.active


PRESETS = online.presets(Config)


class Memory(NamedTuple):
    """Weights, traces, and the last state."""

    w: Floats  # [1, F] weights
    z: Floats  # [1, F] eligibility traces
    nonzero: Ints  # [F] and [1]: which of them are not zero, see `linear.kernels`
    length: Ints
    indices: Ints  # [K] active features of S
    values: Floats  # [K] and their values
    active: Ints  # [1] how many they are
    v_old: Floats  # [1] V_old
    change: Floats  # [1, F] by which the weights will change at the end of the episode; [1, 0] unless `offline`
    actions: Ints  # [1] number of actions to sample from
    truth: Floats  # [states] true values, where they are known
    errors: Floats  # [episodes] RMS error after each episode, where `truth` is known
    epsilon: Floats  # [1] not used: the policy is fixed


class Rates(NamedTuple):
    """What the compiled functions need of a Config; `trace` is an index of `TRACES`."""

    alpha: float
    gamma: float
    lam: float
    trace: int
    offline: bool


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """Initial weights, and traces of zero."""
    return Memory(
        w=online.initial_weights(1, coder, cfg),
        z=np.zeros((1, coder.size)),
        nonzero=np.zeros(coder.size, np.int64),
        length=np.zeros(1, np.int64),
        indices=np.zeros(coder.active, np.int64),
        values=np.zeros(coder.active),
        active=np.zeros(1, np.int64),
        v_old=np.zeros(1),
        change=np.zeros((1, coder.size if cfg.offline else 0)),
        actions=np.full(1, actions),
        truth=np.zeros(0),
        errors=np.zeros(0),
        epsilon=np.ones(1),
    )


def rates(cfg: Config, progress: float = 0.0, step: int = 0) -> Rates:
    """The `Rates` of a Config when `progress` of the training is done, at a step."""
    return Rates(cfg.at("alpha", progress, step), cfg.gamma, cfg.lam, TRACES.index(cfg.trace), cfg.offline)


@kernel
def begin(m: Memory, h: Rates, rng: np.random.Generator, index: Ints, value: Floats, active: int) -> int:
    """Reset the traces, V_old and the change; returns the first action, at random."""
    for i in range(m.change.shape[1]):
        m.change[0, i] = 0.0
    decay_traces(m.z, m.nonzero, m.length, 0.0)
    m.v_old[0] = 0.0
    return store(m, rng, index, value, active)


@kernel
def store(m: Memory, rng: np.random.Generator, index: Ints, value: Floats, active: int) -> int:
    """Keep the features of the state for the next `learn`; returns a random action."""
    for j in range(active):
        m.indices[j] = index[j]
        m.values[j] = value[j]
    m.active[0] = active
    return sample_uniform(rng, m.actions[0]) if m.actions[0] > 1 else 0


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
    """One step of the algorithm: from R and the features of S' to the next action, at random."""
    last_active = m.active[0]
    v_next = dot(m.w, 0, index, value, active) if ended != TERMINATED else 0.0
    v = dot(m.w, 0, m.indices, m.values, last_active)
    delta = reward + h.gamma * v_next - v
    decay, gain = h.gamma * h.lam, 1.0
    if h.trace == DUTCH:
        gain -= h.alpha * decay * dot(m.z, 0, m.indices, m.values, last_active)
    decay_traces(m.z, m.nonzero, m.length, decay)
    update_traces(m.z, m.nonzero, m.length, 0, m.indices, m.values, last_active, gain, False)
    if h.offline:
        before = dot(m.change, 0, m.indices, m.values, last_active) if h.trace == DUTCH else 0.0
        add_traces(m.change, m.z, m.nonzero, m.length, h.alpha * delta)
        add(m.change, 0, m.indices, m.values, last_active, -h.alpha * before)
        if ended != ONGOING:
            for i in range(m.change.shape[1]):
                m.w[0, i] += m.change[0, i]
    elif h.trace == DUTCH:
        add_traces(m.w, m.z, m.nonzero, m.length, h.alpha * (delta + v - m.v_old[0]))
        add(m.w, 0, m.indices, m.values, last_active, -h.alpha * (v - m.v_old[0]))
    else:
        add_traces(m.w, m.z, m.nonzero, m.length, h.alpha * delta)
    m.v_old[0] = v_next
    return store(m, rng, index, value, active)


@kernel
def store_error(m: Memory, coder: Coder, obs: Floats, index: Ints, value: Floats, episode: int) -> None:
    """After an episode: the RMS error over the states 0, 1, ... whose true values are known, into `m.errors`."""
    truth, total = m.truth, 0.0
    for s in range(len(truth)):
        obs[0] = s
        total += (dot(m.w, 0, index, value, encode(coder, obs, index, value)) - truth[s]) ** 2
    if len(truth):
        m.errors[episode] = (total / len(truth)) ** 0.5


play = episode_loop(begin, learn, store_error)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    fixed = run.track("policy", FrozenPolicy(cfg.policy, run.spec, run.compute.device))
    online.train_online(run, cfg, memory, rates, begin, learn, fixed.choose)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The fixed policy as an agent, with the values learnt for it."""
    values, policy = online.linear(spec, cfg, weights), FrozenPolicy(cfg.policy, spec, device).policy

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.log(np.maximum(explainer(policy)(obs)["probs"], 1e-30)), values(obs, "w")[:, 0]

    return Network(forward)
