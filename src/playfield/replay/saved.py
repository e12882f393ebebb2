"""The replay buffer that a run saved: opened for inspection, checked before resuming, or deleted.

Inspection changes nothing: a run that is training goes on, and keeps its lock.
"""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield import arguments as takes
from playfield.compute import readable_size
from playfield.envs.base import EnvSpec
from playfield.errors import DataError, UsageError
from playfield.play.agent import shipped
from playfield.replay.buffer import Replay
from playfield.replay.segments import Segments, needed
from playfield.runs import algorithm, catalog, checkpoint, foreign
from playfield.runs.console import Say
from playfield.runs.info import is_run, newest_run, no_run, read_info, spec_from, stored, write_info
from playfield.runs.lock import RunLock
from playfield.runs.storage import as_storage_error, remove

DROPPED = "replay_dropped"  # in run.json: the date on which a run's replay files were deleted


@dataclass(frozen=True)
class Memory:
    """A run's saved replay buffer.

    Attributes:
        run: the run's directory.
        info: its `run.json`.
        spec: of its environment.
        replay: all lanes of all workers: `len`, `index`, `replay[i]`, `order`, `read`.
        step: training step of the checkpoint that refers to it.
        files, disk_bytes: number and size of its files in the run's directory.
        skipped: why newer checkpoints could not be used, one line each.
    """

    run: Path
    info: dict[str, Any]
    spec: EnvSpec
    replay: Replay
    step: int
    files: int
    disk_bytes: int
    skipped: list[str]


@takes.checked(run=takes.path)
def open_replay(run: str | Path = "last") -> Replay:
    """The replay buffer in the newest checkpoint of `run`, for inspection: the run is not changed.

    Args:
        run: a run directory, or `last` for the newest under `runs/`. It may be training.

    Raises:
        UsageError: no such run, or one without a replay buffer. DataError: all its checkpoints are damaged.

    Example:
        >>> replay = playfield.open_replay("last")
        >>> len(replay), replay.index
        >>> obs, action, reward, next_obs, done = replay[17]
    """
    return find_memory(run).replay


def locate_run(name: str | Path, even_dropped: bool = False) -> Path:
    """The run directory called `name` (`last`: the newest). Raises UsageError for one without a replay buffer."""
    run = newest_run() if str(name) == "last" else Path(name)
    if not is_run(run):
        if str(name) in shipped():
            raise UsageError(f"{name} is an agent that ships without its replay buffer: give a run directory or last")
        raise no_run(name)
    info = read_info(run)
    if not catalog.entry(algorithm.stored_name(info)).uses_replay:
        raise UsageError(f"{run} has no replay buffer: {info['algo']} does not use one")
    if not even_dropped:
        refuse_dropped(run, info)
    return run


def refuse_dropped(run: Path, info: dict[str, Any]) -> None:
    """Raise UsageError where the replay files of a run were deleted by `drop`."""
    if DROPPED in info:
        raise UsageError(
            f"the replay buffer of {run} was deleted on {info[DROPPED]} (playfield replay --drop), so it can neither "
            "be trained longer nor its buffer inspected; its agent can still be evaluated, watched and filmed"
        )


def closing(run: Path) -> str:
    """A line for the end of a training: the size of the replay files, and how to inspect or delete them."""
    count, size = disk_use(run)
    name = shlex.quote(str(run))
    return f"\nits replay:   playfield replay {name} ({readable_size(size)}; --drop deletes it)" if count else ""


def find_memory(name: str | Path) -> Memory:
    """`open_replay`, with the run and the checkpoint that it was found in."""
    run = locate_run(name)
    info = read_info(run)
    spec = spec_from(info)
    opened: list[Replay] = []

    def take(found: checkpoint.Checkpoint) -> None:
        foreign.check(info, found)
        with stored("its replay buffer"):
            opened[:] = [Replay.opened(spec, _memories(run, found.tree))]

    if "compute" not in info:
        raise DataError(f"{run / 'run.json'} does not say how many workers it has")
    parts = [f"parts/actor-{k}/replay" for k in range(info["compute"]["workers"])]
    found = checkpoint.load(run / "checkpoints", parts, take)
    count, size = disk_use(run)
    return Memory(run, info, spec, opened[0], found.step, count, size, found.skipped)


def _memories(run: Path, tree: dict[str, Any]) -> list[tuple[dict[str, Any], Path]]:
    """The saved buffer of each worker, with the directory of its files."""
    parts = tree.get("parts", {})
    names = sorted((name for name in parts if name.startswith("actor-")), key=lambda name: int(name[6:]))
    saved = [(parts[name]["replay"], run / "replay" / name[6:]) for name in names if "replay" in parts[name]]
    if not saved:
        raise DataError("has no replay buffer")
    return saved


def whole(run: Path, info: dict[str, Any]) -> Callable[[Any], None]:
    """A check for `checkpoint.take_over`: DataError for one of another run, or with a damaged replay file."""

    def check(found: Any) -> None:
        foreign.check(info, found)
        with stored("it"):
            if not any("replay" in part for part in found.tree["parts"].values() if isinstance(part, dict)):
                return
            for state, directory in _memories(run, found.tree):
                files = Segments(directory)
                for entry in needed(state):
                    files.read(entry)

    return check


def disk_use(run: Path) -> tuple[int, int]:
    """Number of a run's replay files, and their bytes."""
    sizes = [path.stat().st_size for path in (run / "replay").glob("*/*.seg")]
    return len(sizes), sum(sizes)


def drop(name: str | Path, *, anyway: bool = False, say: Say) -> None:
    """Delete the replay files of a run, which can then never be trained longer.

    Args:
        anyway: also of a run that has not reached its total steps.
        say: receives a line that names the consequences, before anything is deleted.

    Raises:
        UsageError: the run has steps left, without `anyway`. DataError: it is training.
    """
    run = locate_run(name, even_dropped=True)  # an earlier deletion may have been interrupted
    with RunLock(run):
        info = read_info(run)
        done = max((int(path.name[5:]) for path in checkpoint.checkpoints(run / "checkpoints")), default=0)
        ended = done >= info.get("steps", 0) or (info.get("result") or {}).get("steps") == done  # at its target
        if not ended and not anyway:
            raise UsageError(
                f"{run} has done {done:,} of {info['steps']:,} steps, and could not be resumed without its replay "
                "buffer: finish it, or add --yes"
            )
        count, size = disk_use(run)
        say(
            f"deleting the replay buffer of {run}: {count} files, {readable_size(size)}. The run can no longer be "
            "trained, nor its buffer inspected; its agent can still be evaluated, watched and filmed"
        )
        forget(run)


def forget(run: Path) -> None:
    """Delete the replay files of a run whose lock is held."""
    info = read_info(run)
    info[DROPPED] = datetime.date.today().isoformat()
    write_info(run, info)  # before the files: resuming must know
    if (run / "replay").exists():
        with as_storage_error(f"cannot delete {run / 'replay'}"):
            remove(run / "replay")
