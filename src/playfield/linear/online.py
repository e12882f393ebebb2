"""What linear methods share when they learn in any environment: one step at a time, from each at once.

Environments side by side share weights; each has traces of its own. An algorithm brings the compiled functions
`begin` (the first action of an episode) and `learn` (from a reward and what followed, to the next action). With more
than one environment, `dutch` traces are those of the true online methods only nearly: between two steps of one, the
others move the weights.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from playfield.envs.base import EnvSpec, Episode, VectorEnv
from playfield.errors import DataError, DivergedError, UsageError
from playfield.linear import budget
from playfield.linear.coders import settled
from playfield.linear.episodes import entries
from playfield.linear.features import ADDITIVE, FIRST_COME, FOURIER, LEGENDRE, POLYNOMIAL, TABLE, Coder, encode
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED
from playfield.linear.observe import Sight
from playfield.options import Count, FeaturesName, Fraction, PositiveFraction, Signed
from playfield.play.policy import Network
from playfield.runs import algorithm, encoder
from playfield.runs.run import Run


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters that linear methods share."""

    most_workers = 1
    evaluation_temperature = 1.0  # the final policy of training

    num_envs: Count = 1
    """Number of parallel environments; they share weights."""
    rollout_steps: Count = 500
    """Steps per environment between two rows of metrics."""
    features: FeaturesName = "tilings:tilings=8,tiles=8"
    """Features and their options: tilings, iht, onehot, modulo, hashed, fourier, legendre, polynomial, bits,
    identity; of pictures: pixels, or autoencoder:PATH."""
    alpha: float = 0.0
    """Step size; 0: correction / squared length of the features (n with n tilings)."""
    correction: PositiveFraction = 0.5
    """Where alpha is 0: the fraction of an error that one step corrects (Sutton and Barto 2018, section 9.6)."""
    anneal: bool = False
    """Anneal the step size linearly to 0."""
    gamma: Fraction = 0.99
    """Discount factor."""
    epsilon: Fraction = 0.05
    """Initial epsilon (not used by linear_ac, whose policy is a softmax, nor by td_lambda, whose policy is fixed)."""
    epsilon_decay: Fraction = 1.0
    """Factor by which epsilon is multiplied after every episode."""
    initial: Signed = 0.0
    """Initial value of every state and action; an optimistic one makes an agent explore."""
    clip_reward: bool = False
    """Learn from the sign of each reward; scores are not clipped."""

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(1)
        if workers > 1:
            raise UsageError("linear methods learn from one step after the other: use --workers 1")

    def fit(self, spec: EnvSpec) -> Self:
        """With step sizes for these features. Raises UsageError where they do not take these observations."""
        return settled(self, Sight(self.features, spec).coder)

    def keep(self, directory: Path) -> Self:
        """Copy the auto-encoder that the features come from into the run."""
        return dataclasses.replace(self, features=encoder.keep(self.features, directory))

    def kept(self, directory: Path) -> Self:
        """With the auto-encoder that the run keeps."""
        return dataclasses.replace(self, features=encoder.kept(self.features, directory))

    def need(self, spec: EnvSpec, directory: Path) -> algorithm.Need:
        """Weights, traces and past steps."""
        return algorithm.Need(budget.of_training(self, spec.num_actions, Sight(self.features, spec).coder))

    def schedule(self, steps: int) -> list[str]:
        """What is annealed."""
        return algorithm.annealed(["learning rate"] * self.anneal, steps)

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers the method's `memory` has (but for a few): shared, and of each environment."""
        raise NotImplementedError


# Where presets begin. A game of -1 a step needs no random actions: nothing is worth as little as it turns out.
MOUNTAIN_CAR: dict[str, Any] = {"gamma": 1.0, "epsilon": 0.0}
CARTPOLE: dict[str, Any] = {
    "features": "iht:tilings=16,tiles=4,size=16384",
    "gamma": 1.0,
    "epsilon": 0.05,
}
ACROBOT: dict[str, Any] = {
    "features": "iht:tilings=16,tiles=3,size=32768",
    "correction": 0.3,
    "gamma": 1.0,
    "epsilon": 0.0,
}
# Hundreds of features are on at once, so steps are small.
ATARI: dict[str, Any] = {"alpha": 1e-4, "epsilon": 0.05, "clip_reward": True, "rollout_steps": 1_000}


def weights(rows: int, coder: Coder, cfg: Config) -> np.ndarray:
    """[rows, F] weights under which every state is worth `initial`."""
    if coder.kind in (TABLE, FIRST_COME, ADDITIVE):  # so many features are on in every state, each 1
        return np.full((rows, coder.size), cfg.initial / coder.active)
    out = np.zeros((rows, coder.size))
    out[:, 0 if coder.kind in (FOURIER, POLYNOMIAL, LEGENDRE) else -1] = cfg.initial  # the feature that is always 1
    return out


SHARED = ("w", "critic", "epsilon")  # of a memory: what all environments learn together


class Lanes:
    """The environments of a run, with a memory, the last action and the random numbers of each; and what they learn.

    `state()["weights"]` are those that an agent needs.
    """

    def __init__(self, env: VectorEnv, seed: np.random.SeedSequence, cfg: Config, memory: Callable[..., Any]) -> None:
        self.env, n = env, env.num_envs
        self.sight = Sight(cfg.features, env.spec)
        self.coder = self.sight.coder
        env_seed, action_seed = seed.spawn(2)
        self.random = np.random.Generator(np.random.PCG64(action_seed))
        first = memory(env.spec.num_actions, self.coder, cfg)
        shared = {name: getattr(first, name) for name in SHARED if hasattr(first, name)}
        others = [memory(env.spec.num_actions, self.coder, cfg)._replace(**shared) for _ in range(n - 1)]
        self.memories = [first, *others]
        self.shared = shared
        self.obs = env.reset(env_seed.generate_state(n, np.uint32).astype(np.int64) % (2**31 - 1))
        self.seen = self.sight(self.obs)
        self.actions = np.full(n, -1, np.int64)  # -1: not begun
        self.episodes: list[tuple[int, Episode]] = []
        self.seconds = {"emulation": 0.0}
        self._index, self._value = np.zeros(self.coder.active, np.int64), np.zeros(self.coder.active)

    def features(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
        """(indices, values, how many are on) of one prepared observation."""
        return self._index, self._value, encode(self.coder, x, self._index, self._value)

    def weights_finite(self) -> bool:
        return all(bool(np.isfinite(a).all()) for a in self.shared.values())

    def state(self) -> dict[str, Any]:
        agent = {name: a.copy() for name, a in self.shared.items()} | self.sight.state()
        lanes = {
            str(k): {name: a.copy() for name, a in m._asdict().items() if name not in SHARED}
            for k, m in enumerate(self.memories)
        }
        own = {"env": self.env.state(), "random": self.random.bit_generator.state, "actions": self.actions.copy()}
        return {"weights": agent, "lanes": lanes, **own}

    def restore(self, state: dict[str, Any]) -> None:
        for name, a in self.shared.items():
            a[...] = state["weights"][name]
        self.sight.restore(state["weights"])
        for k, m in enumerate(self.memories):
            for name, saved in state["lanes"][str(k)].items():
                getattr(m, name)[...] = saved
        self.obs = self.env.restore(state["env"])
        self.seen = self.sight(self.obs)
        self.random.bit_generator.state = state["random"]
        self.actions = np.array(state["actions"])


def learn_from(
    run: Run,
    cfg: Config,
    memory: Callable[..., Any],
    rates: Callable[[Any], Any],
    begin: Callable[..., int],
    learn: Callable[..., int],
    act: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
) -> None:
    """Train until `run` says that it is enough; with `act`, actions are those of a policy that is given."""
    cfg.check(run.compute.workers)
    lanes = run.workers("lanes", cfg.num_envs, lambda env, seed, _: Lanes(env, seed, cfg, memory))[0]
    cfg = settled(cfg, lanes.coder)
    run.track("learner", lanes, finite=lanes.weights_finite)
    env, rng = lanes.env, lanes.random
    begin, learn = entries(begin, learn)
    for progress in run.steps(cfg.batch):
        h = rates(_annealed(cfg, progress) if cfg.anneal else cfg)
        with run.phase("learning"):
            for t in range(cfg.rollout_steps):
                for i in np.flatnonzero(lanes.actions < 0):
                    lanes.actions[i] = begin(lanes.memories[i], h, rng, *lanes.features(lanes.seen[i]))
                start = time.perf_counter()
                step = env.step(lanes.actions if act is None else act(lanes.obs, rng))
                lanes.seconds["emulation"] += time.perf_counter() - start
                lanes.obs = step.obs
                over = step.terminated | step.truncated
                after = lanes.sight(step.next_obs)
                lanes.seen = lanes.sight(step.obs) if over.any() else after
                rewards = np.sign(step.reward) if cfg.clip_reward else step.reward
                for k, m in enumerate(lanes.memories):
                    ended = TERMINATED if step.terminated[k] else TRUNCATED if step.truncated[k] else ONGOING
                    action = learn(m, h, rng, float(rewards[k]), *lanes.features(after[k]), ended)
                    lanes.actions[k] = -1 if ended else action
                lanes.episodes += [(t, episode) for episode in step.episodes]
                lanes.shared["epsilon"] *= cfg.epsilon_decay ** len(step.episodes)
        if not lanes.weights_finite():
            raise DivergedError(f"the weights are not finite: lower the step size (--alpha, now {cfg.alpha:g})")
        run.record([lanes])
        told = {"train/learning_rate": h.alpha, "rollout/exploration_rate": float(lanes.shared["epsilon"][0])}
        if lanes.coder.told.any():
            told |= {"train/cells": int(lanes.coder.told[0]), "train/collisions": int(lanes.coder.told[1])}
        run.log(told, updates=cfg.batch)


def _annealed(cfg: Config, progress: float) -> Config:
    """`cfg` with step sizes, an actor's too, fallen to a share of 1 - progress."""
    sizes = [f.name for f in dataclasses.fields(cfg) if f.name in ("alpha", "alpha_actor")]
    return dataclasses.replace(cfg, **{name: getattr(cfg, name) * (1 - progress) for name in sizes})


def q_network(spec: EnvSpec, cfg: Config, saved: dict[str, Any]) -> Network:
    """An epsilon-greedy linear agent: (logits, value, action values) of observations."""
    values = linear(spec, cfg, saved)
    epsilon = min(max(float(np.asarray(saved["epsilon"])[0]), 1e-6), 1 - 1e-6)

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q = values(obs, "w")
        probs = np.full(q.shape, epsilon / q.shape[1], np.float32)
        probs[np.arange(len(q)), q.argmax(-1)] += 1 - epsilon
        return np.log(probs), q.max(-1), q

    return Network(forward)


def linear(spec: EnvSpec, cfg: Config, saved: dict[str, Any]) -> Callable[[np.ndarray, str], np.ndarray]:
    """A function of observations [N, ...] and the name of saved weights [A, F] to sums [N, A], float32."""
    sight = Sight(cfg.features, spec)
    arrays = {name: np.asarray(saved[name], np.float64) for name in SHARED if name in saved}
    for name, a in arrays.items():
        if name != "epsilon" and a.shape[-1] != sight.coder.size:
            raise DataError(f"these weights are for other features: {name} has {a.shape[-1]}, not {sight.coder.size}")
    sight.restore(saved)
    index, value = np.zeros(sight.coder.active, np.int64), np.zeros(sight.coder.active)

    def sums(obs: np.ndarray, name: str) -> np.ndarray:
        out = np.zeros((len(obs), len(arrays[name])), np.float32)
        for n, x in enumerate(sight(obs)):
            on = encode(sight.coder, x, index, value)
            out[n] = arrays[name][:, index[:on]] @ value[:on]
        return out

    return sums


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `q_network`."""
    return q_network(spec, cfg, weights)
