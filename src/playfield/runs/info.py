"""`run.json`, what a run directory says of itself: read, written, and found by name."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from playfield.envs.base import EnvSpec
from playfield.errors import DataError, UsageError, nearest, shown
from playfield.runs import described
from playfield.runs.storage import atomic_write, read_json, refuse_links

WRONG = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What values of the wrong kind raise, somewhere, when they are used."""

VERSION = importlib.metadata.version("playfield")


@functools.cache
def source() -> str:
    """What tells one state of this package's source from another of the same version: part of a hash of its files."""
    root, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).as_posix()):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:12]


@contextlib.contextmanager
def stored(what: str) -> Iterator[None]:
    """Inside, values of the file `what` are used: mistakes in them are its own, not the user's, so a DataError."""
    try:
        yield
    except UsageError as error:
        raise DataError(f"{what} cannot be used: {error}") from error
    except WRONG as error:
        raise unusable(what, error) from error


def unusable(what: str, error: Exception) -> DataError:
    """The error for a file whose values raised `error`, one of `WRONG`, where they were used."""
    reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return DataError(f"{what} cannot be used: it is damaged, or of another version ({reason})")


def spec_from(info: Mapping[str, Any]) -> EnvSpec:
    """The `EnvSpec` stored in `run.json` or an agent's card. Raises DataError where none is that can be used."""
    try:
        return described.spec_of(info["spec"])
    except (DataError, KeyError) as error:
        raise DataError(f"run.json cannot be used: {error}") from None


def read_info(run: Path) -> dict[str, Any]:
    """`run.json` of a run directory, each value of its kind (see `described`).

    Raises DataError where it is missing, damaged or no regular file, or where parts of the run are links.
    """
    path = run / "run.json"
    if not os.path.lexists(path):
        raise DataError(f"{run} is not a run directory: it has no run.json")
    try:
        refuse_links(run)
        info: dict[str, Any] = read_json(run, "run.json", constants=True)[1]
    except (DataError, OSError) as error:
        raise DataError(f"{run} cannot be read: {error}") from None
    try:
        described.check(info)
    except DataError as error:
        raise DataError(f"{path} is damaged, or of another version: {error}") from None
    return info


def newest_run(root: Path = Path("runs")) -> Path:
    """The run under `root` that wrote a checkpoint last. Raises UsageError when there is none."""
    marks = [path for path in root.glob("**/checkpoints/last") if not _hidden(path, root)]
    if not marks:
        raise UsageError(f"no run with a checkpoint under {root}/: train one first (`playfield train breakout`)")
    return max(marks, key=lambda p: p.stat().st_mtime).parent.parent


def is_run(directory: Path | str) -> bool:
    """Whether a directory is that of a run: it has a `run.json`. Raises DataError where one may not look into it."""
    try:
        os.lstat(Path(directory) / "run.json")
    except PermissionError as error:
        raise DataError(f"cannot look into {directory}: {error.strerror}") from None
    except (OSError, ValueError):  # not there; or no possible name
        return False
    return True


def run_to_resume(directory: Path) -> Path:
    """The run directory that `--resume` names; `last` is the newest. Raises UsageError where there is no run."""
    if not os.path.isdir(directory) and directory == Path("last"):
        directory = newest_run()
    if not is_run(directory) and not os.path.isdir(directory / "checkpoints"):
        raise no_run(directory)
    return directory


def runs_under(folder: Path | str) -> Iterator[Path]:
    """Run directories at or under `folder`, by name; links are not followed, and a run holds no runs.

    Folders below it whose names begin with a dot are not looked into: what they hold is on its way.
    """
    for place, names, files in os.walk(folder):
        if "run.json" in files:
            names.clear()
            yield Path(place)
        names[:] = sorted(name for name in names if not name.startswith("."))


def all_runs() -> list[str]:
    """Every run directory under `runs/`."""
    root = Path("runs")
    return [str(path.parent) for path in root.glob("**/run.json") if not _hidden(path, root)]


def _hidden(path: Path, root: Path) -> bool:
    """Whether a folder between them has a name that begins with a dot."""
    return any(name.startswith(".") for name in path.relative_to(root).parts)


def no_run(name: str | Path) -> UsageError:
    """The error for a directory that is no run: it names the runs within, or the nearest."""
    runs = all_runs()
    close = [run for run in runs if Path(run).is_relative_to(name)][:3] or nearest(str(name), runs)
    hint = f": did you mean {', '.join(close)}?" if close else ""
    return UsageError(f"no run directory {shown(str(name), plain=True)}{hint}")


NEEDED = {"algo", "compute", "config", "env", "extensions", "protocol", "seed", "spec", "steps", "versions"}
"""What `run.json` must hold to go on."""


def write_info(directory: Path, info: dict[str, Any]) -> None:
    """Write run.json atomically."""
    plain = {
        **info,
        "spec": info["spec"] if isinstance(info["spec"], dict) else dataclasses.asdict(info["spec"]),
    }
    atomic_write(directory / "run.json", json.dumps(plain, indent=2) + "\n")
