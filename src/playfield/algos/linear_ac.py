"""Actor-critic with linear features and eligibility traces (Sutton and Barto 2018, sections 13.5 and 13.6).

The actor has a preference for each action, linear in the features, and samples from their softmax with temperature
`tau`; the critic estimates state values. One TD error, R + gamma v(S') - v(S), updates both along their traces.

1. The critic's traces are accumulating. With `lam` 0 both are one-step methods.
2. The actor's update is multiplied by gamma^t only with `discounted` (the book's boxes have it; most implementations
   leave it out).
3. `taken_only` updates the preference of the action taken alone, as a course has it; the gradient updates all.
4. Truncated episodes bootstrap; terminated ones do not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.linear import online
from playfield.linear.episodes import episode_loop
from playfield.linear.features import Coder
from playfield.linear.jit import Floats, Ints, kernel
from playfield.linear.kernels import ONGOING, TERMINATED, add_traces, decay_traces, dot, update_traces
from playfield.options import Fraction, Positive, PositiveFraction, Scheduled, Search
from playfield.runs.algorithm import Network
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(online.Config):
    """Hyper-parameters of the linear actor-critic."""

    explores = False
    step_sizes = {"alpha": "correction", "alpha_actor": "correction_actor"}  # noqa: RUF012 (as in the base)
    search = {  # noqa: RUF012 (as in the base)
        "correction": online.SEARCH["correction"],
        "correction_actor": Search(0.01, 1.0, log=True),
        "gamma": online.SEARCH["gamma"],
        "lam": Search(0.0, 0.99),
    }

    alpha_actor: Annotated[float | str, Scheduled("actor's learning rate", ("anneal",))] = 0.0
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


PRESETS = online.presets(
    Config,
    CartPole={"gamma": 0.99, "correction": 0.3, "correction_actor": 0.2},
    Acrobot={"correction_actor": 0.32},
)


class Memory(NamedTuple):
    """Weights and traces of actor and critic, and the last state and action."""

    w: Floats  # [A, F] the actor's weights
    z: Floats  # [A, F] the actor's traces
    nonzero: Ints  # [A * F] and [1]: which of them are not zero, see `linear.kernels`
    length: Ints
    critic: Floats  # [1, F] the critic's weights
    critic_z: Floats  # [1, F] the critic's traces
    critic_nonzero: Ints  # [F] and [1]
    critic_length: Ints
    indices: Ints  # [K] active features of S
    values: Floats  # [K] and their values
    last: Ints  # [2] A, and how many features are active
    probs: Floats  # [A] pi(a | S)
    discount: Floats  # [1] gamma^t, the book's I
    epsilon: Floats  # [1] not used: the policy is a softmax


class Rates(NamedTuple):
    """What the compiled functions need of a Config."""

    alpha: float
    alpha_actor: float
    gamma: float
    lam: float
    tau: float
    discounted: bool
    taken_only: bool


def memory(actions: int, coder: Coder, cfg: Config) -> Memory:
    """Initial weights, and traces of zero."""
    return Memory(
        w=np.zeros((actions, coder.size)),
        z=np.zeros((actions, coder.size)),
        nonzero=np.zeros(actions * coder.size, np.int64),
        length=np.zeros(1, np.int64),
        critic=online.initial_weights(1, coder, cfg),
        critic_z=np.zeros((1, coder.size)),
        critic_nonzero=np.zeros(coder.size, np.int64),
        critic_length=np.zeros(1, np.int64),
        indices=np.zeros(coder.active, np.int64),
        values=np.zeros(coder.active),
        last=np.zeros(2, np.int64),
        probs=np.zeros(actions),
        discount=np.ones(1),
        epsilon=np.zeros(1),
    )


def rates(cfg: Config, progress: float = 0.0, step: int = 0) -> Rates:
    """The `Rates` of a Config when `progress` of the training is done, at a step."""
    alpha, alpha_actor = (cfg.at(name, progress, step) for name in ("alpha", "alpha_actor"))
    return Rates(alpha, alpha_actor, cfg.gamma, cfg.lam, cfg.tau, cfg.discounted, cfg.taken_only)


@kernel
def begin(m: Memory, h: Rates, rng: np.random.Generator, index: Ints, value: Floats, active: int) -> int:
    """Reset the traces; sample and return the first action."""
    decay_traces(m.z, m.nonzero, m.length, 0.0)
    decay_traces(m.critic_z, m.critic_nonzero, m.critic_length, 0.0)
    m.discount[0] = 1.0
    return sample_and_store(m, h, rng, index, value, active)


@kernel
def sample_and_store(m: Memory, h: Rates, rng: np.random.Generator, index: Ints, value: Floats, active: int) -> int:
    """Sample an action from the softmax, and keep it and the state's features for the next `learn`."""
    top, total = -math.inf, 0.0
    for a in range(len(m.w)):
        m.probs[a] = dot(m.w, a, index, value, active) / h.tau
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
    """Learn from the reward of the last action and the features of the next state; returns the next action."""
    action, last_active = m.last[0], m.last[1]
    # The TD error.
    v_next = dot(m.critic, 0, index, value, active) if ended != TERMINATED else 0.0
    delta = reward + h.gamma * v_next - dot(m.critic, 0, m.indices, m.values, last_active)
    # The critic's traces: grad v(S) is the features.
    decay = h.gamma * h.lam
    decay_traces(m.critic_z, m.critic_nonzero, m.critic_length, decay)
    update_traces(m.critic_z, m.critic_nonzero, m.critic_length, 0, m.indices, m.values, last_active, 1.0, False)
    # The actor's traces: grad ln pi(A | S) is the features times (1 if a is A else 0) - pi(a | S), over tau.
    decay_traces(m.z, m.nonzero, m.length, decay)
    for a in range(len(m.w)):
        if a == action or not h.taken_only:
            gain = ((1.0 if a == action else 0.0) - m.probs[a]) / h.tau * m.discount[0]
            update_traces(m.z, m.nonzero, m.length, a, m.indices, m.values, last_active, gain, False)
    # Both updates.
    add_traces(m.critic, m.critic_z, m.critic_nonzero, m.critic_length, h.alpha * delta)
    add_traces(m.w, m.z, m.nonzero, m.length, h.alpha_actor * delta)
    if h.discounted:
        m.discount[0] *= h.gamma
    return sample_and_store(m, h, rng, index, value, active) if ended == ONGOING else 0


play = episode_loop(begin, learn)


def train(run: Run, cfg: Config) -> None:
    """Train until the run's total steps or target score are reached."""
    online.train_online(run, cfg, memory, rates, begin, learn)


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent: (logits, value) of observations."""
    sums = online.linear(spec, cfg, weights)

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return sums(obs, "w") / np.float32(cfg.tau), sums(obs, "critic")[:, 0]

    return Network(forward)
