"""What an experiment trains: environments, algorithms with options, and seeds; and where each of its runs lies.

Run directories are ROOT/ENV/SLUG/SEED; the slug is made from the label, by default the algorithm's name with its
options. `compare.json` in ROOT/ENV/SLUG has the label, the arguments of `playfield train` that its runs were started
with, and its place: the number of the label in plots and tables.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.envs.names import resolve
from playfield.errors import DataError, UsageError
from playfield.experiments.job import Job
from playfield.runs.storage import as_storage_error, atomic_write, read_json

FIRST_SEEDS = (1, 2, 3, 4, 5)
"""The seeds of an experiment that names none."""


@dataclass(frozen=True)
class Kind:
    """Trainings that differ in nothing but the seed.

    Attributes:
        env, label: environment, and the name of the algorithm with its options.
        words: arguments of `playfield train` after the environment.
        seeds: one training for each.
        steps: of each; None: what fits into `minutes`.
        minutes: of each, at the speed that is measured before the first one starts.
        games: of the evaluation at the end of each.
        file: where it is written, as in `grid.toml, line 7`; empty for the words of a command.
    """

    env: str
    label: str
    words: tuple[str, ...]
    seeds: tuple[int, ...] = FIRST_SEEDS
    steps: int | None = None
    minutes: float | None = None
    games: int = 0
    file: str = ""

    @property
    def train_words(self) -> tuple[str, ...]:
        """Arguments of `playfield train`, without steps, seed and directory."""
        return (self.env, "--workers", "1", *self.words)

    @property
    def name(self) -> str:
        """For errors."""
        return f"{self.file}: {self.label} on {self.env}" if self.file else f"{self.label} on {self.env}"

    def home(self, root: Path) -> Path:
        """The directory of its runs."""
        return root / folder(self.env) / slug(self.label)


def slug(label: str) -> str:
    """A label as a directory's name: `dqn --double true` -> `dqn-double-true`."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", label).strip("-.") or "run"


def folder(env: str) -> str:
    """An environment's name as a directory's: `ALE/Breakout-v5` -> `breakout`."""
    return re.sub(r"[/:]", "-", resolve(env).id)


def from_words(
    envs: Sequence[str], labels: Sequence[str], extra: Sequence[str], seeds: Iterable[int], steps: int | None
) -> list[Kind]:
    """The kinds of trainings that the words of a command name.

    Args:
        labels: algorithms with their options, as in `dqn --double true`.
        extra: more arguments of `playfield train` for all; a label's own options come after them, and count.
    """
    kinds = []
    for env in envs:
        for label in labels:
            algo, *own = shlex.split(label)
            kinds.append(Kind(env, label, ("--algo", algo, *extra, *own), tuple(seeds), steps))
    return kinds


Same = Callable[[Kind, Sequence[str]], bool]
"""Whether arguments of `playfield train` mean what those of a kind mean, though they are written otherwise."""


def plan(root: Path, kinds: Sequence[Kind], same: Same = lambda kind, words: False) -> list[Job]:
    """All jobs of an experiment in the order in which they run: the first seed of every algorithm first.

    Raises UsageError where two jobs would have the same directory, or it has runs with other options.
    """
    found: dict[Path, Kind] = {}
    for kind in kinds:
        home = kind.home(root)
        if (other := found.setdefault(home, kind)) is not kind:
            raise UsageError(
                f"{kind.label} on {kind.env} and {other.label} on {other.env} would have the same directory {home}: "
                "use two --dir"
            )
    for home, kind in found.items():
        if not _has_runs(home):
            continue
        stored = stored_label(home)
        if stored is None:
            raise UsageError(f"{home} has runs that `playfield compare` did not start: use another --dir")
        if stored["words"] != list(kind.train_words) and not same(kind, stored["words"]):
            raise UsageError(
                f"{home} has runs with other options (playfield train {shlex.join(stored['words'])}): "
                "use those, or another --dir"
            )
    jobs = []
    most = max((len(kind.seeds) for kind in kinds), default=0)
    envs = list(dict.fromkeys(kind.env for kind in kinds))
    for env in envs:
        for n in range(most):
            for kind in kinds:
                if kind.env == env and n < len(kind.seeds):
                    assert kind.steps is not None, "minutes are made steps before"
                    seed = kind.seeds[n]
                    jobs.append(
                        Job(
                            env,
                            kind.label,
                            kind.train_words,
                            seed,
                            kind.steps,
                            kind.home(root) / str(seed),
                            kind.games,
                        )
                    )
    return jobs


def save_labels(root: Path, jobs: Sequence[Job]) -> None:
    """Write `compare.json` where there are no runs yet. A new label is numbered after all others in `root`."""
    places: dict[str, int] = {}
    for path in root.glob("*/*/compare.json"):
        if stored := stored_label(path.parent):
            places[stored["label"]] = max(stored["place"], places.get(stored["label"], 0))
    for job in jobs:
        home = job.directory.parent
        place = places.setdefault(job.label, max(places.values(), default=-1) + 1)
        if not _has_runs(home):
            with as_storage_error(f"create {home}"):
                home.mkdir(parents=True, exist_ok=True)
            stored = {"label": job.label, "place": place, "words": list(job.words)}
            atomic_write(home / "compare.json", json.dumps(stored, indent=2) + "\n")


def _has_runs(home: Path) -> bool:
    return any(home.glob("*/run.json"))


def stored_label(home: Path) -> dict[str, Any] | None:
    """The contents of `compare.json`; None where there is none. Raises DataError where it is damaged."""
    path = home / "compare.json"
    if not os.path.lexists(path):
        return None
    try:
        stored = read_json(home, path.name)[1]
    except DataError as error:
        raise DataError(f"cannot read {path}: {error}") from None
    match stored:
        case {"label": str(label), "place": int(), "words": [*words]} if (
            all(isinstance(w, str) for w in words) and label.isprintable()
        ):
            return dict(stored)
    raise DataError(f"{path} is damaged: it lacks label, place or words, or its label cannot be printed")
