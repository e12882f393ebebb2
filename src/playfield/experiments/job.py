"""One training of an experiment: its command line, its run directory, and how far it is.

Run directories are the only state, so an experiment continues after any interruption.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.errors import DataError, UsageError
from playfield.runs.console import SCORE
from playfield.runs.info import is_run, read_info, spec_from
from playfield.runs.storage import MAX_LINE, open_regular, read_json

QUIET = ("--no-film", "--no-tensorboard", "--quiet")


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        env, label: environment, and the name of the algorithm with its options.
        words: arguments of `playfield train`, without steps, seed and directory.
        seed, steps: of the training.
        directory: run directory.
        games: of the evaluation at its end.
        minutes: length of the training instead of `steps`, which are 0 then: as many as fit into this time.
    """

    env: str
    label: str
    words: tuple[str, ...]
    seed: int
    steps: int
    directory: Path
    games: int = 0
    minutes: float | None = None

    @property
    def name(self) -> str:
        """For progress lines and errors."""
        return f"{self.label} on {self.env}, seed {self.seed}"

    def command(self) -> list[str]:
        """Arguments of `playfield` that start or resume the run."""
        if is_run(self.directory):
            trust = []
            if ":" in self.env:  # the user named this module, so it may be imported; not another that a file names
                stored = spec_from(read_info(self.directory)).id
                trust = ["--trust"] if self.env in (stored, stored.rpartition("-v")[0]) else []
            total = ["--steps", str(self.steps)] if self.minutes is None else []
            return ["train", "--resume", str(self.directory), *total, *trust, *self._after]
        length = ["--steps", str(self.steps)] if self.minutes is None else ["--minutes", f"{self.minutes:g}"]
        own = [*length, "--seed", str(self.seed), "--run", str(self.directory)]
        return ["train", *self.words, *own, *self._after]

    @property
    def _after(self) -> tuple[str, ...]:
        return ("--games", str(self.games), *QUIET)

    def check(self, extend: bool = False) -> None:
        """Raise UsageError where the directory holds a run of another length; with `extend`, only of a longer one."""
        info = self._info()
        if info is None:
            return
        has = info["steps"]
        if has > self.steps:
            raise UsageError(f"{self.directory} holds a run of {has:,} steps: use --steps {has}, or another --dir")
        if has < self.steps and not extend:
            raise UsageError(
                f"{self.directory} holds a run of {has:,} steps: use --steps {has}, another --dir, or --extend "
                f"to train it on to {self.steps:,} (schedules then use the new total)"
            )

    def done(self) -> bool:
        """Whether the run is finished, and evaluated over as many games as were asked for."""
        info = self._info()
        if info is None or not finished(info) or info["steps"] < self.steps:
            return False
        if not self.games:
            return True
        told = evaluation(self.directory, info["result"]["steps"])
        return told is not None and told["games"] >= self.games

    def diverged(self) -> str | None:
        """Why and where the training has diverged, if it has: to go on would diverge again."""
        info = self._info()
        told = (info or {}).get("diverged")
        if told is None:
            return None
        return f"{told['why']} (at step {told['step']:,}; to train it anew, remove {self.directory})"

    def _info(self) -> dict[str, Any] | None:
        """The contents of `run.json`; None before it exists."""
        if not is_run(self.directory):
            return None
        info = read_info(self.directory)
        if not isinstance(info.get("steps"), int):
            raise DataError(f"{self.directory / 'run.json'} has no number of steps")
        return info


def claim_of(directory: Path) -> Path:
    """The directory whose lock is held by the process of an experiment that trains a run, or is about to."""
    return directory.parent / ".claims" / directory.name


def log_of(directory: Path) -> Path:
    """The file of what a training on another machine writes to standard error, beside the run directories."""
    return directory.parent / ".logs" / f"{directory.name}.txt"


def finished(info: dict[str, Any]) -> bool:
    """Whether the run of this `run.json` has all its steps, or has reached its target score."""
    result = info.get("result")
    return result is not None and (result["steps"] >= info.get("steps", math.inf) or result.get("stop") == "target")


_PLAYED = re.compile(r"last-t(?P<temperature>.+)-seed(?P<seed>[0-9]+)-(?P<games>[0-9]+)\.json")
"""Files of evaluations under the run's own protocol; others have more in their names."""


def evaluation(run: Path, steps: int) -> dict[str, Any] | None:
    """The evaluation of a run's last checkpoint, which is at `steps`, over the most games; of equals the lowest seed.

    Only those count that chose actions as the algorithm does when nothing else is asked for: not greedy ones of an
    agent that samples. So a look at a few games, later, does not become the run's score.

    None without one that can be read. That of a run that was made longer since is of an earlier checkpoint: it says
    nothing of this one.
    """
    names = [match for path in (run / "eval").glob("last-t*.json") if (match := _PLAYED.fullmatch(path.name))]
    for name in sorted(names, key=lambda match: (-int(match["games"]), int(match["seed"]))):
        try:
            told = read_json(run / "eval", name[0])[1]
        except DataError:
            continue
        match told:
            case {"mean": float() | int(), "games": int(), "ci95": [float(), float()] | None, "policy": str(policy)}:
                at = re.findall(r", step ([0-9,]+)(?:,|$)", policy)
                own = name["temperature"] == "1" or told.get("default_rule") is True
                if own and (not at or at[-1] == f"{steps:,}"):
                    return dict(told)
    return None


def latest(directory: Path) -> dict[str, str]:
    """The last complete row of a run's metrics.csv, as text; empty before the first."""
    try:
        with open_regular(directory, "metrics.csv") as file:
            header = file.read(MAX_LINE).partition(b"\n")[0].decode().split(",")
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            cells = file.read(8192).rpartition(b"\n")[0].rpartition(b"\n")[2].decode().split(",")
        return dict(zip(header, cells, strict=False))
    except (DataError, OSError, ValueError):
        return {}


def reached(directory: Path) -> tuple[int, float]:
    """(steps, seconds of training) of the last complete row of a run's metrics.csv; zeros before the first."""
    row = latest(directory)
    try:
        return int(row["step"]), float(row.get("time/time_elapsed") or 0)
    except (ValueError, KeyError):
        return 0, 0.0


def score_of(directory: Path) -> float | None:
    """The mean score of a run's last training games in its metrics.csv; None before a game has ended."""
    with contextlib.suppress(ValueError):
        return float(latest(directory).get(SCORE, ""))
    return None
