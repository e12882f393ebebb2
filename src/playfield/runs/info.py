"""`run.json`, what a run directory says of itself: read, written, and found by name."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playfield.envs.base import EnvSpec
from playfield.errors import DataError, UsageError, nearest
from playfield.runs.storage import atomic_write

WRONG = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)
"""What values of the wrong kind raise, somewhere, when they are used."""

VERSION = importlib.metadata.version("playfield")


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


def spec_from(info: dict[str, Any]) -> EnvSpec:
    """The `EnvSpec` stored in `run.json`."""
    stored = info["spec"]
    try:
        names, bounds = tuple(str(a) for a in stored["action_names"]), stored.get("obs_bounds")
        # Versions that stored no first action named those of Gymnasium's environments by their numbers.
        first = int(names[0]) if stored["kind"] == "gymnasium" and "first_action" not in stored else 0
        return EnvSpec(
            id=str(stored["id"]),
            kind=str(stored["kind"]),
            obs_shape=tuple(int(n) for n in stored["obs_shape"]),
            obs_dtype=str(stored["obs_dtype"]),
            num_actions=int(stored["num_actions"]),
            action_names=names,
            protocol=dict(stored["protocol"]),
            first_action=int(stored.get("first_action", first)),
            obs_bounds=None if bounds is None else _bounds(bounds, int(stored["obs_shape"][-1])),
            states=tuple((int(n), int(first)) for n, first in stored.get("states", ())),
        )
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"run.json has no usable spec ({error})") from None


def _bounds(stored: Any, size: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`EnvSpec.obs_bounds` from JSON, for a last axis of `size`. Raises ValueError where they are none."""
    low, high = (tuple(float(x) for x in side) for side in stored)
    if len(low) != len(high) or len(low) not in (1, size) or not all(map(math.isfinite, low + high)):
        raise ValueError("obs_bounds are no bounds")
    return low, high


def read_info(run: Path) -> dict[str, Any]:
    """`run.json` of a run directory. Raises DataError where it is missing or no JSON object."""
    try:
        info = json.loads((run / "run.json").read_text("utf-8"))
    except OSError:
        raise DataError(f"{run} is not a run directory: it has no run.json") from None
    except (ValueError, RecursionError):
        raise DataError(f"{run / 'run.json'} is damaged: not JSON") from None
    if not isinstance(info, dict) or "spec" not in info or "algo" not in info or not isinstance(info["algo"], str):
        raise DataError(f"{run / 'run.json'} does not describe a run")
    return info


def newest_run(root: Path = Path("runs")) -> Path:
    """The run under `root` that wrote a checkpoint last. Raises UsageError when there is none."""
    marks = list(root.glob("**/checkpoints/last"))
    if not marks:
        raise UsageError(f"no run with a checkpoint under {root}/: train one first (`playfield train breakout`)")
    return max(marks, key=lambda p: p.stat().st_mtime).parent.parent


def is_run(directory: Path | str) -> bool:
    """Whether a directory is that of a run: it has a `run.json`."""
    return (Path(directory) / "run.json").exists()


def run_to_resume(directory: Path) -> Path:
    """The run directory that `--resume` names; `last` is the newest. Raises UsageError where there is no run."""
    if not directory.is_dir() and directory == Path("last"):
        directory = newest_run()
    if not is_run(directory) and not (directory / "checkpoints").exists():
        raise no_run(directory)
    return directory


def all_runs() -> list[str]:
    """Every run directory under `runs/`."""
    return [str(path.parent) for path in Path("runs").glob("**/run.json")]


def no_run(name: str | Path) -> UsageError:
    """The error for a directory that is no run: it names the runs within, or the nearest."""
    runs = all_runs()
    close = [run for run in runs if Path(run).is_relative_to(name)][:3] or nearest(str(name), runs)
    return UsageError(f"no run directory {name}" + (f": did you mean {', '.join(close)}?" if close else ""))


NEEDED = {"algo", "compute", "config", "extensions", "seed", "spec", "steps", "versions"}
"""What `run.json` must hold to go on."""


def write_info(directory: Path, info: dict[str, Any]) -> None:
    """Write run.json atomically."""
    plain = {
        **info,
        "spec": info["spec"] if isinstance(info["spec"], dict) else dataclasses.asdict(info["spec"]),
    }
    atomic_write(directory / "run.json", json.dumps(plain, indent=2) + "\n")
