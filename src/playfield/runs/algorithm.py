"""What an algorithm is to the rest of the package: a module with `Config`, `PRESETS`, `train` and `load`.

A file in `algos/` is an algorithm, under its own name; so is a module that an installed package names in the
entry-point group `playfield.algorithms`. What a training must know of an algorithm beforehand (memory, schedule, how
it is timed and evaluated) its `Config` says: the methods of `Config` here are what holds unless it says otherwise.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, cast

import numpy as np

from playfield.compute import refuse_if_larger
from playfield.envs.base import EnvSpec
from playfield.envs.traces import told
from playfield.envs.user_code import PASSED, RAISED
from playfield.errors import DataError, UsageError, unknown
from playfield.options import Count, Option, Schedule, Search
from playfield.runs.declared import options_of

if TYPE_CHECKING:
    from playfield.runs.run import Run  # it imports torch, which `names` and `load` do without

ALGORITHMS = Path(__file__).parent.parent / "algos"
GROUP = "playfield.algorithms"


@dataclass(frozen=True)
class Need:
    """Bytes of memory and of disk that a training takes, and a line that describes its replay buffer."""

    memory: float
    disk: float = 0.0
    line: str | None = None


@dataclass(frozen=True)
class Budget:
    """Length of a training by default: steps, and about how many minutes an idle machine with two cores takes."""

    steps: int
    minutes: float


BUDGETS = {
    "atari": Budget(800_000, 10),
    "ram": Budget(800_000, 10),
    "vector": Budget(200_000, 0.5),
    "pixels": Budget(200_000, 3),
}
"""By kind of environment, for algorithms that say nothing else."""


@dataclass(frozen=True)
class Config:
    """Base of every algorithm's hyper-parameters.

    Class attributes:
        learns: False for an agent without weights.
        uses_replay: it keeps a replay buffer in the run directory.
        most_workers: workers that it can use; 0: any number.
        processes: its workers may be processes as well as threads: `train` gives `run.group` to its `Learner`.
        evaluation_temperature: of sampling when its agents are evaluated and shown; 1 is the policy that was trained.
        budgets: length of a training by default, by kind of environment as in `PRESETS`, or `KIND/PRESET`; of kinds
            that are not there, see `BUDGETS`. It is the same on every machine: schedules depend on it.
        search: values worth trying in a tuning, by option; see `searches`.
        added: options that later versions added, whose default is what earlier ones did: runs that lack them go on.
    """

    learns: ClassVar[bool] = True
    uses_replay: ClassVar[bool] = False
    most_workers: ClassVar[int] = 0
    processes: ClassVar[bool] = False
    evaluation_temperature: ClassVar[float] = 1.0
    budgets: ClassVar[Mapping[str, Budget]] = {}
    search: ClassVar[Mapping[str, Search]] = {}
    added: ClassVar[frozenset[str]] = frozenset()

    num_envs: Count
    """Number of parallel environments."""
    rollout_steps: Count
    """Steps per environment per rollout."""

    @classmethod
    def budget(cls, kinds: tuple[str, str], preset: str) -> Budget:
        """Length of a training by default, for an environment of these kinds: (general, more special)."""
        general, special = kinds
        keys = (f"{special}/{preset}", f"{general}/{preset}", special, general)
        table = {**BUDGETS, **cls.budgets}
        return next((table[key] for key in keys if key in table), table["vector"])

    @property
    def batch(self) -> int:
        """Environment steps per rollout, over all environments."""
        return self.num_envs * self.rollout_steps

    @property
    def failures(self) -> float:
        """Share of games that start shortly before a life was lost in an earlier one (see `envs.endgames`)."""
        return cast(float, getattr(self, "replay_failures", 0.0))

    @property
    def first_update(self) -> int:
        """Environment steps before the first update."""
        return 0

    def check(self, workers: int = 1) -> None:
        """Raise UsageError for values out of their range, or that cannot go together or with so many workers."""
        for option in options_of(type(self)):
            option.check(getattr(self, option.name))
            if isinstance(getattr(self, option.name), str) and (switch := self._switch(option)):
                raise UsageError(f"{option.flag} is a schedule: turn --{switch.replace('_', '-')} off")
        if self.most_workers and workers > self.most_workers:
            raise UsageError(f"this algorithm uses at most {self.most_workers} worker: use --workers 1")

    def fit(self, spec: EnvSpec) -> Self:
        """The Config as it is used on `spec`. Raises UsageError where it cannot be used there."""
        return self

    def keep(self, directory: Path) -> Self:
        """Copy files that the run depends on into its directory; the Config that reads them there."""
        return self

    def kept(self, directory: Path) -> Self:
        """The Config of a run that goes on or is evaluated, with what `keep` copied."""
        return self

    def reopen(self, spec: EnvSpec, directory: Path) -> Self:
        """As `kept`, for a run that is to train further. Raises DataError where what it depends on is gone."""
        return self.kept(directory)

    def need(self, spec: EnvSpec, directory: Path) -> Need:
        """Memory and disk that training takes, without the environments; `directory` is the run's.

        Raises UsageError where that is more than is free, StorageError for a disk that is too full.
        """
        need = self.batch * (math.prod(spec.obs_shape) * np.dtype(spec.obs_dtype).itemsize + 40)
        refuse_if_larger(need, f"a rollout of {self.batch:,} steps", "lower --rollout-steps or --num-envs")
        return Need(need)

    def timing(self) -> tuple[Self, int]:
        """To measure speed with: (a Config as fast as this that starts to learn early, its rollouts before that)."""
        return self, 0

    def searches(self) -> dict[str, Search]:
        """What is worth trying in a tuning that begins from this Config, by option."""
        values = [(o, getattr(self, o.name)) for o in options_of(type(self)) if o.quantity]
        fixed = {name for o, value in values for name in o.replaced(value)}
        fixed |= {o.name for o, value in values if isinstance(value, str)}
        return {name: space for name, space in self.search.items() if name not in fixed}

    def at(self, name: str, progress: float, step: int = 0) -> float:
        """The value of an option when `progress` of the training is done, at this step: scheduled, or annealed."""
        value = getattr(self, name)
        if isinstance(value, str):
            return Schedule.parse(value).at(progress, step)
        if any(self._switch(o) for o in options_of(type(self)) if o.name == name):
            value *= 1.0 - (1.0 - getattr(self, "anneal_to", 0.0)) * progress
        return cast(float, value)

    @property
    def has_schedules(self) -> bool:
        """Whether the value of an option is a schedule."""
        return any(isinstance(getattr(self, o.name), str) for o in options_of(type(self)) if o.quantity)

    def in_force(self, step: int, steps: int) -> dict[str, float]:
        """What may be scheduled, by what it is called, and its value at a step of a training of `steps`."""
        progress = min(step / steps, 1.0)
        return {o.quantity: self.at(o.name, progress, step) for o in options_of(type(self)) if o.quantity}

    def schedule(self, steps: int) -> list[str]:
        """What changes over a training of `steps`, one clause each."""
        own = [o for o in options_of(type(self)) if o.quantity]
        falling = [o.quantity for o in own if self._switch(o)]
        values = [(o.quantity, getattr(self, o.name)) for o in own]
        clauses = [f"{name}: {text}" for name, text in values if isinstance(text, str)]
        return [*annealed(falling, steps, getattr(self, "anneal_to", 0.0)), *clauses]

    def _switch(self, option: Option) -> str:
        """The switch by which an option is annealed, where it is on."""
        return next((name for name in option.replaces if getattr(self, name, None) is True), "")

    def summary(self) -> str:
        """What the plan says of these hyper-parameters, besides the preset."""
        named = [f"{o.names} {getattr(self, o.name)}" for o in options_of(type(self)) if o.names]
        envs = f"{self.num_envs} environments" if self.num_envs != 1 else "1 environment"
        return ", ".join([*named, f"{envs} x {self.rollout_steps} steps"])


@dataclass(frozen=True)
class Network:
    """A trained agent as a function of observations.

    Attributes:
        forward: observations [N, ...] to NumPy (logits [N, A], values [N]), and action values [N, A] where it learns
            them.
        module: the torch module behind it, where that maps observations to (logits, values); None: it has no such.
        build: makes `module` with fresh weights.
        policy: how it acts at temperature 1: the rule by which it is evaluated.
    """

    forward: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    module: Any = None
    build: Callable[[], Any] | None = None
    policy: str = "sampled"

    def __call__(self, obs: np.ndarray) -> tuple[np.ndarray, ...]:
        return self.forward(obs)


def annealed(quantities: Iterable[str], steps: int, final: float = 0.0) -> list[str]:
    """The clause of a schedule for quantities that fall linearly to `final` times their value."""
    names = ", ".join(quantities)
    return [f"{names}: linear to {final:.0%} at step {steps:,}"] if names else []


AnyConfig = Config
"""`Config` where that name is taken."""


class Algorithm(Protocol):
    """A module that trains agents."""

    @property
    def Config(self) -> type[Config]:
        """Its hyper-parameters: a frozen dataclass."""

    @property
    def PRESETS(self) -> Mapping[str, Mapping[str, AnyConfig]]:
        """{kind of environment: {preset: Config}}; the kinds `atari` and `vector`, and more special ones."""

    def train(self, run: Run, cfg: Any, /) -> None:
        """Train until `run` ends."""

    def load(self, spec: EnvSpec, cfg: Any, weights: dict[str, Any], device: str, /) -> Network:
        """The trained agent; `weights` by parameter name, as saved in `parts/learner/weights`."""


def own_names() -> list[str]:
    """Names of the algorithms in `algos/`."""
    return sorted(p.stem for p in ALGORITHMS.glob("*.py") if not p.stem.startswith("_"))


def names() -> list[str]:
    """Names of all algorithms."""
    return sorted({*own_names(), *importlib.metadata.entry_points(group=GROUP).names})


def exists(name: str) -> bool:
    """Whether there is an algorithm of that name; other packages are searched only where `algos/` has none."""
    return name in own_names() or name in names()


def load(name: str) -> Algorithm:
    """The module of an algorithm.

    Raises UsageError where there is none, or where another package's is broken or lacks what an algorithm has.
    """
    if name in own_names():
        return _complete(importlib.import_module(f"playfield.algos.{name}"), name)
    for entry in importlib.metadata.entry_points(group=GROUP, name=name):
        try:
            module = entry.load()
        except PASSED:
            raise
        except RAISED as error:
            raise UsageError(f"algorithm {name} ({entry.value}) cannot be imported: {told(error)}") from error
        return _complete(module, name)
    raise unknown("algorithm", name, names())


def _complete(module: ModuleType, name: str) -> Algorithm:
    """`module`, if it has all that an algorithm has."""
    if missing := [part for part in ("Config", "PRESETS", "train", "load") if part not in vars(module)]:
        raise UsageError(f"algorithm {name} ({module.__name__}) has no {' and no '.join(missing)}")
    config = module.Config
    if not (isinstance(config, type) and issubclass(config, Config)):
        raise UsageError(f"algorithm {name}: its Config is no subclass of playfield.runs.algorithm.Config")
    try:
        options_of(config)
    except TypeError as error:
        raise UsageError(f"algorithm {name}: {error}") from error
    return cast(Algorithm, module)


def stored_name(info: Mapping[str, Any]) -> str:
    """The algorithm that `run.json` or an agent's card names. Raises DataError where it is not here."""
    name = info["algo"]
    if not isinstance(name, str) or name not in names():
        raise DataError(f"run.json names an algorithm that is not here: {name!r}")
    return name


def stored_config(module: Algorithm, name: str, values: Any) -> Config:
    """The Config that `run.json` or an agent's card holds. Raises DataError where it does not fit the algorithm."""
    try:
        known = {f.name for f in dataclasses.fields(module.Config)}
        if extra := values.keys() - known:
            raise DataError(f"run.json has options that {name} does not know: {', '.join(sorted(extra))}")
        # Options that a later version added may be missing, but not what decides the network.
        if missing := {o.name for o in options_of(module.Config) if o.names} - values.keys():
            raise DataError(f"run.json lacks options of {name}: {', '.join(sorted(missing))}")
        cfg = module.Config(**values)
        for option in options_of(module.Config):
            option.check(getattr(cfg, option.name))
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"run.json has no usable config for {name} ({error!r})") from error
    except UsageError as error:
        raise DataError(f"run.json has no usable config for {name}: {error}") from error
    return cfg
