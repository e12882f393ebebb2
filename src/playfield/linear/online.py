"""The online training loop that linear methods share, in any environment: an update after every step.

Parallel environments share weights; each has its own traces. An algorithm brings the compiled functions `begin` (the
first action of an episode) and `learn` (from a reward and the next state's features to the next action). With several
environments, `dutch` traces are only approximately true online: between two steps of one, the others update the
weights, and the difference of old and new value that goes along the traces is theirs too. With the step size of one
environment that diverges; divided by their number it does not (`Config.divisor`).
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

import numpy as np

from playfield.envs.base import EnvSpec, Episode, VectorEnv, env_seeds
from playfield.envs.checks import like
from playfield.errors import DataError, DivergedError, UsageError
from playfield.linear import budget
from playfield.linear.coders import with_step_sizes
from playfield.linear.episodes import Kernel, Memory, Rates, entry_points
from playfield.linear.features import (
    ADDITIVE,
    FIRST_COME,
    FOURIER,
    IDENTITY,
    LEGENDRE,
    POLYNOMIAL,
    STATES,
    TABLE,
    Coder,
    encode,
)
from playfield.linear.jit import Floats, Ints
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED
from playfield.linear.observe import Observer
from playfield.linear.restored import check, ranges
from playfield.options import (
    Count,
    FeaturesName,
    Fraction,
    LearningRate,
    PositiveFraction,
    Range,
    Scheduled,
    Search,
    Signed,
    shown_number,
)
from playfield.play.policy import epsilon_greedy
from playfield.runs import algorithm, divergence, encoder
from playfield.runs.algorithm import Budget, Network
from playfield.runs.run import Run

BUDGETS = {
    "atari": Budget(1_000_000, 10),
    "ram": Budget(1_000_000, 10),
    "vector": Budget(200_000, 1),
}
# Of a step size that is given (alpha), its surroundings are searched instead of the correction: see `searches`.
SEARCH = {
    "correction": Search(0.02, 1.0, log=True),
    "epsilon": Search(0.0, 0.2),
    "epsilon_decay": Search(choices=(0.99, 0.995, 0.999, 1.0)),
    "gamma": Search(choices=(0.95, 0.99, 0.999, 1.0)),
}


@dataclass(frozen=True)
class Config(algorithm.Config):
    """Hyper-parameters that linear methods share."""

    most_workers = 1
    budgets = BUDGETS
    search = SEARCH
    explores: ClassVar[bool] = True  # by epsilon
    step_sizes: ClassVar[dict[str, str]] = {
        "alpha": "correction"
    }  # each with the option that chooses it where it is 0
    num_envs: Count = 1
    """Number of parallel environments; they share weights."""
    rollout_steps: Count = 500
    """Steps per environment between two rows of metrics."""
    features: FeaturesName = "tilings:tilings=8,tiles=8"
    """Features and their options: tilings, iht, grid, onehot, modulo, hashed, fourier, legendre, polynomial,
    bits, identity, table (of Discrete observations); of pictures: pixels, or autoencoder:PATH."""
    alpha: LearningRate = 0.0
    """Step size; 0: correction / squared length of the features (n with n tilings); with dutch traces also divided
    by the number of environments."""
    correction: PositiveFraction = 0.5
    """Where alpha is 0: the fraction of an error that one step corrects (Sutton and Barto 2018, section 9.6)."""
    anneal: bool = False
    """Anneal the step size linearly to 0."""
    gamma: Fraction = 0.99
    """Discount factor."""
    epsilon: Annotated[float | str, Range(0, 1), Scheduled("epsilon", ("epsilon_decay",))] = 0.05
    """Epsilon, the initial one with `epsilon_decay` (not used by linear_ac, whose policy is a softmax, nor by
    td_lambda, whose policy is fixed)."""
    epsilon_decay: Fraction = 1.0
    """Factor by which epsilon is multiplied after every episode."""
    initial: Signed = 0.0
    """Initial value of every state and action; an optimistic one makes an agent explore."""
    clip_reward: bool = False
    """Learn from the sign of each reward; scores are not clipped."""

    def fit(self, spec: EnvSpec) -> Self:
        """With step sizes for these features. Raises UsageError where they do not take these observations."""
        return with_step_sizes(self, Observer(self.features, spec).coder, self.divisor)

    def keep(self, directory: Path) -> Self:
        """Copy the auto-encoder that the features come from into the run."""
        return dataclasses.replace(self, features=encoder.keep(self.features, directory))

    def kept(self, directory: Path) -> Self:
        """With the auto-encoder that the run keeps."""
        return dataclasses.replace(self, features=encoder.kept(self.features, directory))

    def need(self, spec: EnvSpec, directory: Path) -> algorithm.Need:
        """Weights, traces and past steps."""
        return algorithm.Need(budget.training_bytes(self, spec.num_actions, Observer(self.features, spec).coder))

    @property
    def divisor(self) -> int:
        """Of step sizes that are chosen here: more than 1 where environments disturb each other's updates."""
        return 1

    @property
    def memory_options(self) -> tuple[str, ...]:
        """Options besides --features and --num-envs that make memory larger as they are set."""
        return ()

    def searches(self) -> dict[str, Search]:
        """Of each step size either itself, up to 30 times larger and smaller, or what chooses it."""
        found = super().searches()
        for size, correction in self.step_sizes.items():
            given = getattr(self, size)
            if not given or correction not in found:
                continue
            del found[correction]
            if not isinstance(given, str):
                found[size] = Search(given / 30, given * 30, log=True)
        return found

    def check(self, workers: int = 1) -> None:
        """Raise UsageError where values cannot go together."""
        super().check(workers)
        if isinstance(self.epsilon, str) and self.epsilon_decay != 1:
            raise UsageError("--epsilon is a schedule: leave out --epsilon-decay")
        if isinstance(self.epsilon, str) and not self.explores:
            raise UsageError("--epsilon is not used by this method, so a schedule of it has no meaning")

    def numbers(self, actions: int, coder: Coder) -> tuple[int, int]:
        """How many numbers the method's `memory` has (but for a few): shared, and of each environment."""
        raise NotImplementedError


C = TypeVar("C", bound=Config)

# Options of the preset `default` by kind of environment, which all linear methods begin from. A reward of -1 per step
# needs no random actions: the initial values of 0 are optimistic.
_ATARI: dict[str, Any] = {
    "alpha": 1e-4,  # hundreds of features are active at once
    "epsilon": 0.05,
    "clip_reward": True,
    "rollout_steps": 1_000,
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "vector": {},
    "states": {"features": "table", "correction": 0.1},  # of a table: alpha is the correction
    "MountainCar": {"gamma": 1.0, "epsilon": 0.0},
    "CartPole": {"features": "iht:tilings=16,tiles=4,size=16384", "gamma": 1.0, "epsilon": 0.05},
    "Acrobot": {"features": "iht:tilings=16,tiles=3,size=32768", "correction": 0.3, "gamma": 1.0, "epsilon": 0.0},
    "atari": _ATARI | {"features": "pixels:size=14"},
    "ram": _ATARI | {"features": "bits"},
}


def presets(config: type[C], **own: dict[str, Any]) -> dict[str, dict[str, C]]:
    """`PRESETS` of a linear method: `DEFAULTS`, and where they differ its own options by kind of environment."""
    return {kind: {"default": config(**options | own.get(kind, {}))} for kind, options in DEFAULTS.items()}


def initial_weights(rows: int, coder: Coder, cfg: Config) -> Floats:
    """[rows, F] weights by which every state has the value `initial`."""
    if coder.kind in (TABLE, FIRST_COME, ADDITIVE, STATES):  # the active features are 1, as many in every state
        return np.full((rows, coder.size), cfg.initial / coder.active)
    if coder.kind == IDENTITY and len(coder.dims):  # one-hot vectors, as many as spaces of named states
        return np.full((rows, coder.size), cfg.initial / len(coder.dims))
    out = np.zeros((rows, coder.size))
    out[:, 0 if coder.kind in (FOURIER, POLYNOMIAL, LEGENDRE) else -1] = cfg.initial  # the constant feature
    return out


SHARED = ("w", "critic", "epsilon")  # fields of a `Memory` that all environments share
# Names in checkpoints of the fields that have another name here.
SAVED_AS = {
    "indices": "where",
    "values": "value",
    "active": "on",
    "nonzero": "listed",
    "critic_nonzero": "critic_listed",
    "q_old": "old",
    "v_old": "old",
    "discount": "shrunk",
}
OPTIONAL = ("change",)  # of an option that is off: empty, and not in checkpoints, as before there was the option


def kept(name: str, array: np.ndarray) -> bool:
    """Whether a field of a `Memory` is in checkpoints, as that of one environment."""
    return name not in SHARED and (name not in OPTIONAL or array.size > 0)


class OnlineLearner:
    """The environments of a run, and what is learnt in them: shared weights, and traces for each environment.

    Attributes:
        memories: the method's `Memory` for each environment; the arrays named in `SHARED` are the same in all.
        shared: these arrays by name.
        random: for actions.
        obs: [N, ...] current observations; `inputs` [N, D] is what the coder takes of them.
        actions: [N] next actions; -1 at the start of an episode.
        episodes: (step within the rollout, finished episode), until `Run.record` takes them.
    """

    def __init__(
        self, env: VectorEnv, seed: np.random.SeedSequence, cfg: Config, memory: Callable[..., Memory]
    ) -> None:
        self.env, n = env, env.num_envs
        self.observer = Observer(cfg.features, env.spec)
        self.coder = self.observer.coder
        env_seed, action_seed = seed.spawn(2)
        self.random = np.random.Generator(np.random.PCG64(action_seed))
        memories: list[Any] = [memory(env.spec.num_actions, self.coder, cfg) for _ in range(n)]
        self.shared: dict[str, Floats] = {name: a for name, a in memories[0]._asdict().items() if name in SHARED}
        self.memories = [m._replace(**self.shared) for m in memories]
        self.obs = env.reset(env_seeds(env_seed, n))
        self.inputs = self.observer(self.obs)
        self.actions = np.full(n, -1, np.int64)
        self.episodes: list[tuple[int, Episode]] = []
        self.seconds = {"emulation": 0.0}
        self._size = max(divergence.LARGE, self._largest())
        self._index, self._value = np.zeros(self.coder.active, np.int64), np.zeros(self.coder.active)

    def features(self, x: Floats) -> tuple[Ints, Floats, int]:
        """(index [K], value [K], how many are active): the features of one row [D] of `inputs`."""
        return self._index, self._value, encode(self.coder, x, self._index, self._value)

    def weights_finite(self) -> bool:
        """Whether all weights are finite."""
        return all(bool(np.isfinite(a).all()) for a in self.shared.values())

    def growth(self) -> float:
        """The largest weight, as a multiple of `divergence.LARGE` or of the largest one at the start."""
        return self._largest() / self._size

    def _largest(self) -> float:
        return max(max(float(a.max()), -float(a.min())) for a in self.shared.values())

    def state(self) -> dict[str, Any]:
        """`weights`, which are all that an agent needs; traces, environments, random numbers, next actions."""
        agent = {name: a.copy() for name, a in self.shared.items()} | self.observer.state()
        own = {
            str(k): {SAVED_AS.get(name, name): a.copy() for name, a in m._asdict().items() if kept(name, a)}
            for k, m in enumerate(self.memories)
        }
        rest = {"env": self.env.state(), "random": self.random.bit_generator.state, "actions": self.actions.copy()}
        return {"weights": agent, "lanes": own, **rest}

    def begin(self, weights: dict[str, Any]) -> None:
        """Start from these weights, which `state` returned; epsilon starts as the options say."""
        for name, a in self.shared.items():
            if name != "epsilon":
                a[...] = like(name, weights[name], a)
        self.observer.restore(weights)
        self._size = max(self._size, self._largest())

    def restore(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""
        for name, a in self.shared.items():
            a[...] = like(name, state["weights"][name], a)
        self.observer.restore(state["weights"])
        for k, m in enumerate(self.memories):
            arrays, saved = m._asdict(), state["lanes"][str(k)]
            most = ranges(self.env.spec.num_actions, self.coder.size, self.coder.active, arrays)
            for name, a in arrays.items():
                if kept(name, a):
                    a[...] = check(name, saved[SAVED_AS.get(name, name)], a, most)
        self.obs = self.env.restore(state["env"])
        self.inputs = self.observer(self.obs)
        self.random.bit_generator.state = state["random"]
        last = {"actions": self.env.spec.num_actions - 1}
        self.actions = check("actions", state["actions"], self.actions, last)


def train_online(
    run: Run,
    cfg: Config,
    memory: Callable[..., Memory],
    rates: Callable[[Any, float, int], Rates],
    begin: Kernel,
    learn: Kernel,
    act: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
) -> None:
    """Train until the run's total steps or target score are reached.

    Args:
        memory: makes what the method keeps for one environment, of (number of actions, coder, cfg).
        rates: the numbers that `begin` and `learn` take, of a Config when a share of the training is done, at a step.
        begin, learn: see `episodes.episode_loop`.
        act: a fixed policy, from observations [N, ...] and random numbers to actions [N]; None: actions are those
            that `begin` and `learn` return.

    Raises:
        DivergedError: a weight is not finite.
    """
    cfg.check(run.compute.workers)
    learner = run.workers("lanes", cfg.num_envs, lambda env, seed, _: OnlineLearner(env, seed, cfg, memory))[0]
    cfg = with_step_sizes(cfg, learner.coder, cfg.divisor)
    run.track("learner", learner, finite=learner.weights_finite, growth=learner.growth)
    env, rng, shared = learner.env, learner.random, learner.shared
    begin, learn = entry_points(begin, learn)
    for progress in run.steps(cfg.batch):
        h = rates(cfg, progress, run.step)
        if isinstance(cfg.epsilon, str):
            shared["epsilon"][...] = cfg.at("epsilon", progress, run.step)
        with run.phase("learning"):
            for t in range(cfg.rollout_steps):
                # The first action of each new episode.
                for i in np.flatnonzero(learner.actions < 0):
                    learner.actions[i] = begin(learner.memories[i], h, rng, *learner.features(learner.inputs[i]))
                # Take the actions.
                start = time.perf_counter()
                step = env.step(learner.actions if act is None else act(learner.obs, rng))
                learner.seconds["emulation"] += time.perf_counter() - start
                learner.obs = step.obs
                over = step.terminated | step.truncated
                next_inputs = learner.observer(step.next_obs)
                learner.inputs = learner.observer(step.obs) if over.any() else next_inputs
                rewards = np.sign(step.reward) if cfg.clip_reward else step.reward
                # Update the weights, and choose the next actions.
                for k, m in enumerate(learner.memories):
                    ended = TERMINATED if step.terminated[k] else TRUNCATED if step.truncated[k] else ONGOING
                    action = learn(m, h, rng, float(rewards[k]), *learner.features(next_inputs[k]), ended)
                    learner.actions[k] = -1 if ended else action
                learner.episodes += [(t, episode) for episode in step.episodes]
                shared["epsilon"] *= cfg.epsilon_decay ** len(step.episodes)
        if not learner.weights_finite():
            now = shown_number(cfg.alpha)
            raise DivergedError(f"the weights are not finite: lower the step size (--alpha, now {now})")
        run.record([learner])
        metrics = {"train/learning_rate": h.alpha, "rollout/exploration_rate": float(shared["epsilon"][0])}
        if learner.coder.counts.any():
            metrics |= {
                "train/cells": int(learner.coder.counts[0]),
                "train/collisions": int(learner.coder.counts[1]),
            }
        if isinstance(getattr(cfg, "alpha_actor", None), str):
            metrics["train/actor_learning_rate"] = h.alpha_actor
        run.log(metrics, updates=cfg.batch)


def q_network(spec: EnvSpec, cfg: Config, saved: dict[str, Any]) -> Network:
    """An epsilon-greedy linear agent: observations [N, ...] to (logits [N, A], value [N], action values [N, A])."""
    values = linear(spec, cfg, saved)
    return epsilon_greedy(lambda obs: values(obs, "w"), float(np.asarray(saved["epsilon"])[0]))


def linear(spec: EnvSpec, cfg: Config, saved: dict[str, Any]) -> Callable[[np.ndarray, str], np.ndarray]:
    """A function of observations [N, ...] and a name of saved weights [A, F], to their product with the features.

    It returns float32 [N, A]. Raises DataError where the weights are for other features.
    """
    observer = Observer(cfg.features, spec)
    coder = observer.coder
    arrays = {name: np.asarray(saved[name], np.float64) for name in SHARED if name in saved}
    for name, a in arrays.items():
        if name != "epsilon" and (a.ndim != 2 or a.shape[1] != coder.size or len(a) not in (1, spec.num_actions)):
            raise DataError(f"these weights are for other features: {name} is {list(a.shape)}, not [*, {coder.size}]")
    observer.restore(saved)
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)

    def product(obs: np.ndarray, name: str) -> np.ndarray:
        out = np.zeros((len(obs), len(arrays[name])), np.float32)
        for n, x in enumerate(observer(obs)):
            active = encode(coder, x, index, value)
            out[n] = arrays[name][:, index[:active]] @ value[:active]
        return out

    return product


def load(spec: EnvSpec, cfg: Config, weights: dict[str, Any], device: str) -> Network:
    """The trained agent, see `q_network`."""
    return q_network(spec, cfg, weights)
