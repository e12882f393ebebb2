"""What a user asks of one training. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield import arguments as takes
from playfield.arguments import ALIASES
from playfield.envs import arguments
from playfield.errors import UsageError, shown
from playfield.options import MOST_SEED, Option
from playfield.runs import catalog, goal

# What numbers and words a training takes, on the command line as in Python.
TAKES = {
    option.name: option
    for option in (
        Option("steps", "int", None, "", low=1),
        Option("minutes", "float", None, "", low=0.01, high=1e6),
        Option("target_games", "int", None, "", low=1, high=1e6),
        Option("seed", "int", 1, "", high=MOST_SEED),
        Option("workers", "int", 0, "", high=1024),
        Option("nodes", "int", 1, "", low=1, high=256),
        Option("save_seconds", "float", 60.0, ""),
        Option("env_timeout", "float", 60.0, "", high=1e6),
        Option("keep", "int", 3, "", low=1, high=1e6),
        Option("eval_every", "int", None, "", low=1),
        Option("eval_games", "int", 10, "", low=1, high=1e6),
        Option("games", "int", 30, "", high=1e6),
        Option("device", "str", "auto", "", choices=("auto", "cpu", "cuda")),
        Option("precision", "str", "auto", "", choices=("auto", "bf16", "fp32")),
        Option("workers_as", "str", "auto", "", choices=("auto", "threads", "processes")),
        *(
            Option(name, "str", None, "")
            for name in ("algo", "preset", "protocol", "view", "init_from", "rendezvous")
        ),
        *(Option(name, "bool", True, "") for name in ("tensorboard", "console", "film")),
    )
}
OPTIONAL = {
    "steps",
    "minutes",
    "target_score",
    "target_games",
    "run",
    "protocol",
    "view",
    "eval_every",
    "env_timeout",
    "init_from",
    "rendezvous",
}
"""What may be None: chosen by playfield."""
FOUND = {"preset_file"}
"""Fields of `Request` that playfield fills in: nobody gives them."""


def check_values(values: Mapping[str, Any]) -> None:
    """Raise UsageError for a value of a wrong type, or outside its range; names are fields of `Request`."""
    for name, value in values.items():
        if value is None and name in OPTIONAL:
            continue
        if name in TAKES:
            TAKES[name].check(value)
        elif name == "env_kwargs":
            arguments.checked(value)
        elif name in ("parts", "config"):
            takes.table(name, value)
        elif name == "run":
            check_directory("run", value)
    goal.requested(values.get("target_score"), None)


def check_directory(name: str, value: Any) -> None:
    """Raise UsageError for what is no path of a directory. Path("") would be the current folder."""
    takes.path(name, value)
    if str(value).strip() == ".":
        raise UsageError(f"{name} takes the path of a directory of its own, not the current one")


@dataclass(frozen=True)
class Request:
    """A new training as it was asked for; None: chosen by playfield.

    Attributes:
        env: `breakout`, `CartPole-v1`, any Gymnasium id.
        algo: name of the algorithm.
        preset: name of a set of hyper-parameters of the algorithm, or a file of them (see `runs.preset_file`).
        steps: total steps, summed over the environments; None: a number that depends on environment, algorithm and
            preset alone (`Config.budget`), unless `minutes` is given.
        minutes: choose the steps that fit into this time at the measured speed. Not together with `steps`.
        target_score: stop early when the mean score of the last `target_games` games reaches this.
        target_games: games in that mean; None: 100.
        seed: of everything random, 0 to 2**53 - 1.
        run: run directory; None: the next free number under `runs/ENV/ALGO/`.
        device: `auto`, `cpu` or `cuda`.
        precision: of network bodies: `auto`, `bf16` or `fp32`.
        workers: how many share the environments and every minibatch, those of all machines together; 0: chosen by
            the number of cores, see `compute.best_workers`.
        workers_as: `threads` or `processes`, which end with the same bits on a CPU; `auto`: see `prepare.workers_as`.
        nodes: machines that train together, this one included; PPO, A2C and PQN only.
        rendezvous: with `nodes`: HOST:PORT, the address of this machine at which it waits for the others, which join
            with `playfield train --join`.
        protocol: Atari only: `classic`, `v4` or `v5`; None: the one that the name of the environment implies.
        view: Atari only: an observation view such as `mono,trim`.
        env_kwargs: not Atari: arguments of the environment, such as `{"is_slippery": False}`.
        env_timeout: seconds that one call of the environment may take; 0: as many as it likes; None: 60.
        parts: protocol settings to change, such as `{"sticky": 0.25}`.
        config: hyper-parameters to change, fields of the algorithm's `Config`.
        save_seconds: maximum seconds between two checkpoints.
        keep: checkpoints to keep.
        eval_every: evaluate the agent every so many steps, at most once a rollout, beside the training; None: only at
            the end.
        eval_games: games of each of these evaluations.
        tensorboard: write TensorBoard events.
        console: print progress.
        init_from: a run, one of its checkpoints or a shipped agent whose weights to start from; None: random ones.
        preset_file: what such a file said, once it is read; `preset` is then the one that it begins from.
        games: games of the evaluation at the end; 0: none.
        film: film the best of these games.
    """

    env: str
    algo: str = "ppo"
    preset: str = "default"
    steps: int | None = None
    minutes: float | None = None
    target_score: float | None = None
    target_games: int | None = None
    seed: int = 1
    run: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    workers_as: str = "auto"
    nodes: int = 1
    rendezvous: str | None = None
    protocol: str | None = None
    view: str | None = None
    env_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict)
    env_timeout: float | None = None
    parts: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    save_seconds: float = 60.0
    keep: int = 3
    eval_every: int | None = None
    eval_games: int = 10
    tensorboard: bool = True
    console: bool = True
    games: int = 30
    film: bool = True
    init_from: str | None = None
    preset_file: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        values = {field.name: takes.as_python(getattr(self, field.name)) for field in dataclasses.fields(self)}
        for name, value in values.items():
            object.__setattr__(self, name, value)
        check_values(values)


PROTOCOL_PARTS = (
    "sticky",
    "skip",
    "skip_min",
    "noop",
    "cap",
    "life_loss",
    "fire_reset",
    "full_actions",
    "stack",
    "size",
    "colour",
    "obs",
    "mode",
    "difficulty",
)
"""Settings of an environment's protocol that have an option of their own on the command line."""


def sort_options(algo: str, options: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `Request` from `options` (such fields) and `more`: options by the names of the command line.

    Raises UsageError for a name that is none of these, with the nearest ones, and for one that is given twice.
    """
    own = {o.name for o in catalog.options(algo)}
    config, parts = dict(options.get("config", {})), dict(options.get("parts", {}))
    for name, value in more.items():
        meant = [name, *(alias.replace("-", "_") for alias in ALIASES.get(name.replace("_", "-"), ()))]
        if other := next((m for m in meant if m in own), None):
            where, name = config, other
        elif name in PROTOCOL_PARTS:
            where = parts
        elif other := next((m for m in meant if m in TAKES), None):
            raise UsageError(f"{name} is called {other} here")
        else:
            fields = {field.name for field in dataclasses.fields(Request)} - FOUND
            known = [*fields, *own, *PROTOCOL_PARTS, "quiet", "say", "resume", "trust"]
            raise UsageError(f"no option called {shown(name)}: {catalog.why_not(algo, name, known)}")
        if name in where:
            raise UsageError(f"{name} is given twice")
        where[name] = value
    return {**options, "config": config, "parts": parts}
