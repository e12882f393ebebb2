"""Hyper-parameters that DQN and its family share."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np

from playfield.algos import _search
from playfield.algos._actor import linear
from playfield.envs import make_from
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.options import (
    Count,
    Epsilon,
    EvalEpsilon,
    Excludes,
    Fraction,
    LearningRate,
    NetName,
    Range,
    Schedule,
    Search,
)
from playfield.replay.budget import replay_need, sampling_bytes
from playfield.runs import algorithm


@dataclass(frozen=True)
class ReplayConfig(algorithm.Config):
    """Base of algorithms that learn from minibatches of a replay buffer."""

    uses_replay = True

    capacity: Count
    """Replay buffer size, in observations."""
    learning_starts: Count
    """Environment steps before the first update."""
    train_period: Count
    """Environment steps between updates (SB3: train_freq)."""
    batch_size: Count
    """Minibatch size, in transitions."""
    n_step: Count
    """The n of n-step returns."""
    net: NetName
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""

    @property
    def first_minibatch(self) -> int:
        """Steps after which every worker's replay buffer has enough to sample from."""
        return max(self.batch_size, 2 * self.num_envs) * self.n_step

    @property
    def first_update(self) -> int:
        """Environment steps before the first update."""
        return self.learning_starts

    @property
    def least_capacity(self) -> int:
        """Observations that every environment's n-step returns need."""
        return 2 * self.num_envs * (self.n_step + 8)

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if self.batch % self.train_period:
            raise UsageError(f"--train-period {self.train_period} must divide the rollout of {self.batch} steps")
        if self.batch_size % workers:
            raise UsageError(
                f"--batch-size {self.batch_size} must divide by the {workers} workers (or use --workers 1)"
            )
        if self.capacity < self.least_capacity:
            raise UsageError(f"--capacity must be at least {self.least_capacity} for {self.num_envs} environments")
        if self.batch_size > self.capacity:
            raise UsageError(f"--batch-size {self.batch_size} is more than --capacity {self.capacity} holds")
        if self.batch > self.capacity:
            raise UsageError(
                f"a rollout of {self.batch} steps does not fit --capacity {self.capacity}: lower --rollout-steps"
            )
        if self.learning_starts < self.first_minibatch:
            raise UsageError(f"--learning-starts must be at least {self.first_minibatch}: one minibatch")

    def fit(self, spec: EnvSpec) -> Self:
        """Raise UsageError where the network does not take these observations."""
        bodies.check(self.net, spec.obs_shape)
        return self

    def timing(self) -> tuple[Self, int]:
        """Learn from the first minibatch on, since steps before are faster, and with a small replay buffer."""
        capacity = min(self.capacity, max(10_000, self.least_capacity))
        early = dataclasses.replace(self, learning_starts=self.first_minibatch, capacity=capacity)
        return early, -(-early.learning_starts // early.batch)


@dataclass(frozen=True)
class Config(ReplayConfig):
    """Hyper-parameters that DQN and its family share."""

    added = frozenset({"eval_epsilon", "epsilon", "replay_failures"})
    search = _search.DQN

    num_envs: Count = 8
    """Number of parallel environments."""
    rollout_steps: Count = 4
    """Steps per environment per rollout."""
    capacity: Count = 100_000
    """Replay buffer size, in observations."""
    packed: Annotated[bool, Excludes("mmap")] = True
    """Compress pixel observations in the replay buffer."""
    mmap: Annotated[bool, Excludes("packed")] = False
    """Keep the replay buffer's observations in a memory-mapped file of the run, for more than fit into memory."""
    learning_starts: Count = 10_000
    """Environment steps before the first update."""
    train_period: Count = 4
    """Environment steps between updates (SB3: train_freq)."""
    batch_size: Count = 32
    """Minibatch size, in transitions."""
    target_period: Count = 1_000
    """Environment steps between updates of the target network."""
    lr: LearningRate = 1e-4
    """Learning rate."""
    anneal: bool = False
    """Anneal the learning rate linearly to 0."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """adam, or rmsprop (centred, decay 0.95)."""
    adam_eps: float = 1.5e-4
    """Optimizer epsilon (RMSprop: inside the square root)."""
    max_grad_norm: float = 10.0
    """Maximum gradient norm (0: no clipping)."""
    gamma: Fraction = 0.99
    """Discount factor."""
    n_step: Count = 1
    """The n of n-step returns."""
    epsilon: Epsilon = -1.0
    """Epsilon, or a schedule of it, in place of `epsilon_start`, `epsilon_end`, `epsilon_share` and `epsilon_steps`
    (-1: by these). As with them, it stays at its start until learning starts."""
    epsilon_start: Fraction = 1.0
    """Initial epsilon."""
    epsilon_end: Fraction = 0.01
    """Final epsilon."""
    epsilon_share: Fraction = 0.1
    """Exploration fraction: the part of training over which epsilon is annealed."""
    epsilon_steps: int = 0
    """Steps over which epsilon is annealed, instead of a fraction (0: see `epsilon_share`)."""
    eval_epsilon: EvalEpsilon = -1.0
    """Epsilon of evaluation and films (-1: the final epsilon of training)."""
    epsilon_zeta: float = 0.0
    """Exponent, above 1, of the zeta distribution of how many steps a random action is repeated (0: one step)."""
    double: bool = False
    """Double DQN: select the target action with the online network."""
    dueling: bool = False
    """Dueling heads: a value and advantages."""
    noisy: bool = False
    """NoisyNet exploration instead of epsilon-greedy."""
    noise_std: float = 0.5
    """Initial noise standard deviation (sigma_0), divided by the square root of a layer's inputs."""
    alpha: Fraction = 0.0
    """Priority exponent of prioritised replay (0: uniform replay)."""
    beta: Fraction = 0.4
    """Initial exponent of the importance-sampling weights; annealed to 1."""
    net: NetName = "auto"
    """Network body (`playfield nets` lists them) with its options, as in nature:width=2,norm=layer."""
    concurrent: bool = False
    """Collect with the target network in parallel with learning."""
    clip_reward: bool = True
    """Learn from the sign of each reward; scores are not clipped."""
    replay_failures: Annotated[float, Range(0, 0.9)] = 0.0
    """Share of games that start up to 200 steps before a life was lost in an earlier one (Atari; 0: none)."""

    @property
    def sampled(self) -> int:
        """Transitions sampled at once, for all updates of a rollout."""
        return self.batch_size * (self.batch // self.train_period)

    @property
    def final_epsilon(self) -> float:
        """Probability of a random action at the end of training."""
        if self.noisy or self.epsilon == -1:
            return 0.0 if self.noisy else self.epsilon_end
        return self.at("epsilon", 1.0)

    @property
    def epsilons(self) -> tuple[float, float]:
        """Epsilon of evaluation, and the final one of training."""
        return (self.final_epsilon if self.eval_epsilon < 0 else self.eval_epsilon), self.final_epsilon

    def exploration_rate(self, step: int, progress: float) -> float:
        """Probability of a random action at a step, `progress` of the whole training.

        Before learning starts it stays at its initial value: an untrained network favours the same few actions.
        """
        waits = step < self.learning_starts
        if self.noisy:
            return 1.0 if waits else 0.0
        if self.epsilon != -1:
            return self.at("epsilon", 0.0 if waits else progress)
        if waits:
            return self.epsilon_start
        past = step / self.epsilon_steps if self.epsilon_steps else progress / (self.epsilon_share or 1e-9)
        return linear(self.epsilon_start, self.epsilon_end, past)

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if 0 < self.epsilon_zeta <= 1:
            raise UsageError(f"--epsilon-zeta must be above 1, or 0 for none, not {self.epsilon_zeta:g}")
        check_epsilon(self.epsilon)
        if self.noisy and self.epsilon != -1:
            raise UsageError("--noisy true explores by noise: --epsilon has no meaning with it")
        if self.noisy and not self.noise_std:
            raise UsageError("--noisy true explores by noise: --noise-std must be above 0")

    def searches(self) -> dict[str, Search]:
        """Without epsilon where noise explores."""
        return {name: s for name, s in super().searches().items() if not (self.noisy and name.startswith("epsilon_"))}

    def need(self, spec: EnvSpec, directory: Path) -> algorithm.Need:
        """The replay buffer, and what is sampled from it at once."""
        waiting = 3 * self.batch if self.concurrent else 0  # observations that are not in the buffer yet
        return buffer_need(
            spec,
            self.net,
            self.capacity,
            self.sampled,
            packed=self.packed,
            alpha=self.alpha,
            mapped=directory if self.mmap else None,
            waiting=waiting,
        )

    def schedule(self, steps: int) -> list[str]:
        """What is annealed."""
        clauses = super().schedule(steps)
        if not self.noisy and self.epsilon == -1:
            last = self.epsilon_steps or round(self.epsilon_share * steps)
            clauses.append(f"epsilon: {self.epsilon_start:g} to {self.epsilon_end:g} at step {last:,}")
        if self.alpha:
            clauses.append(f"beta: {self.beta:g} to 1 at step {steps:,}")
        return clauses

    def in_force(self, step: int, steps: int) -> dict[str, float]:
        """With epsilon, and the exponent of prioritised replay's weights."""
        progress = min(step / steps, 1.0)
        found = super().in_force(step, steps) | {"epsilon": self.exploration_rate(step, progress)}
        return found | ({"beta": linear(self.beta, 1.0, progress)} if self.alpha else {})


def check_epsilon(epsilon: float | str) -> None:
    """Raise UsageError where an epsilon is neither -1 nor a probability, or has no value at the end of training."""
    if isinstance(epsilon, str) and Schedule.parse(epsilon).per:
        raise UsageError(f"--epsilon {epsilon}: per= has no last value, which evaluation needs: leave it out")
    if not isinstance(epsilon, str) and -1 < epsilon < 0:
        raise UsageError(f"--epsilon takes a number between 0 and 1, or a schedule, not {epsilon:g}")


def buffer_need(
    spec: EnvSpec,
    net: str,
    capacity: int,
    sampled: int,
    *,
    packed: bool,
    alpha: float = 0.0,
    mapped: Path | None = None,
    waiting: int = 0,
) -> algorithm.Need:
    """Memory and disk of a replay buffer, of `sampled` transitions, and of `waiting` observations beside it."""
    env = make_from(spec, 1)
    try:
        extra = sampling_bytes(spec, net, sampled)
        extra += waiting * math.prod(spec.obs_shape) * np.dtype(spec.obs_dtype).itemsize
        return algorithm.Need(*replay_need(env, capacity, packed, alpha, mapped, extra))
    finally:
        env.close()
