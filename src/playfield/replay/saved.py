"""The replay memory that a run saved, opened to be looked at, checked before going on from it, or dropped.

Looking changes nothing: a run that trains goes on undisturbed, and its lock stays where it is.
"""

from __future__ import annotations

import datetime
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.envs.base import EnvSpec
from playfield.errors import DataError, UsageError
from playfield.play.agent import shipped
from playfield.replay.buffer import Replay
from playfield.replay.segments import Segments, needed
from playfield.runs import catalog
from playfield.runs.info import newest_run, no_run, read_info, spec_from

DROPPED = "replay_dropped"  # in run.json: since when a run has no replay files any more


@dataclass(frozen=True)
class Memory:
    """A run's saved replay memory.

    Attributes:
        replay: all lanes of all workers: `len`, `index`, `replay[i]`, `order`, `read`.
        step: of the checkpoint that it lies in.
        files, disk_bytes: what it takes in the run's directory.
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


def open_replay(run: str | Path = "last") -> Replay:
    """The replay memory in the newest checkpoint of `run`, to look at: nothing of the run is changed.

    Args:
        run: a run directory, or `last` for the newest under `runs/`. It may be training.

    Raises:
        UsageError: no such run, or one without a replay memory. DataError: no checkpoint of it is whole.

    Example:
        >>> memory = playfield.open_replay("last")
        >>> len(memory), memory.index
        >>> obs, action, reward, next_obs, done = memory[17]
    """
    return find_memory(run).replay


def locate_run(name: str | Path, even_dropped: bool = False) -> Path:
    """The run directory that `name` stands for, where it can have a replay memory; raises UsageError."""
    run = newest_run() if str(name) == "last" else Path(name)
    if not (run / "run.json").exists():
        if str(name) in shipped():
            raise UsageError(f"{name} is an agent that ships without its replay memory: give a run directory or last")
        raise no_run(name)
    info = read_info(run)
    if not catalog.entry(info["algo"]).uses_replay:
        raise UsageError(f"{run} has no replay memory: {info['algo']} learns without one")
    if not even_dropped:
        refuse_dropped(run, info)
    return run


def refuse_dropped(run: Path, info: dict[str, Any]) -> None:
    """Raise UsageError where the replay files of a run were deleted by `drop`."""
    if DROPPED in info:
        raise UsageError(
            f"the replay memory of {run} was deleted on {info[DROPPED]} (playfield replay --drop), so it cannot be "
            "trained longer nor its memory looked at; its agent can still be evaluated, watched and filmed"
        )


def closing(run: Path) -> str:
    """A line for the end of a training: what the replay files take, and what may be done with them."""
    count, size = disk_use(run)
    name = shlex.quote(str(run))
    return f"\nits memory:   playfield replay {name} ({size / 1e6:,.0f} MB; --drop deletes it)" if count else ""


def find_memory(name: str | Path) -> Memory:
    """`open_replay`, with where it was found."""
    from playfield.runs import checkpoint

    run = locate_run(name)
    info = read_info(run)
    spec = spec_from(info)
    opened: list[Replay] = []

    def take(found: checkpoint.Checkpoint) -> None:
        saved = _memories(run, found.tree)
        try:
            opened[:] = [Replay.opened(spec, saved)]
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise DataError(f"holds no replay memory that this playfield can open ({error!r})") from error

    try:
        parts = [f"parts/actor-{k}/replay" for k in range(int(info["compute"]["workers"]))]
    except (KeyError, TypeError, ValueError):
        raise DataError(f"{run / 'run.json'} does not say how many workers it has") from None
    found = checkpoint.load(run / "checkpoints", parts, take)
    count, size = disk_use(run)
    return Memory(run, info, spec, opened[0], found.step, count, size, found.skipped)


def _memories(run: Path, tree: dict[str, Any]) -> list[tuple[dict[str, Any], Path]]:
    """The saved memory of each worker, with the directory of its files."""
    parts = tree.get("parts", {})
    names = sorted((name for name in parts if name.startswith("actor-")), key=lambda name: int(name[6:]))
    saved = [(parts[name]["replay"], run / "replay" / name[6:]) for name in names if "replay" in parts[name]]
    if not saved:
        raise DataError("holds no replay memory")
    return saved


def whole(run: Path) -> Callable[[Any], None]:
    """What `checkpoint.take_over` asks: DataError unless all replay files are whole that a checkpoint needs."""

    def check(found: Any) -> None:
        if not any("replay" in part for part in found.tree["parts"].values() if isinstance(part, dict)):
            return
        for state, directory in _memories(run, found.tree):
            files = Segments(directory)
            for entry in needed(state):
                files.read(entry)

    return check


def disk_use(run: Path) -> tuple[int, int]:
    """How many replay files a run has, and their bytes."""
    sizes = [path.stat().st_size for path in (run / "replay").glob("*/*.seg")]
    return len(sizes), sum(sizes)


def drop(name: str | Path, *, anyway: bool = False, say: Callable[[str], None]) -> None:
    """Delete the replay files of a run, after saying what that costs: it can never be trained longer.

    Raises UsageError for a run that has steps left, unless `anyway`; DataError while one is training.
    """
    from playfield.runs import checkpoint
    from playfield.runs.lock import RunLock
    from playfield.runs.storage import as_storage_error, remove

    run = locate_run(name, even_dropped=True)  # a deletion may have been cut short
    with RunLock(run):
        info = read_info(run)
        done = max((int(path.name[5:]) for path in checkpoint.checkpoints(run / "checkpoints")), default=0)
        ended = done >= info.get("steps", 0) or (info.get("result") or {}).get("steps") == done  # at its target
        if not ended and not anyway:
            raise UsageError(
                f"{run} has done {done:,} of {info['steps']:,} steps, and could not go on without its replay memory: "
                "finish it, or add --yes"
            )
        count, size = disk_use(run)
        say(
            f"deleting the replay memory of {run}: {count} files, {size / 1e6:,.1f} MB. The run cannot be trained "
            "any longer, nor its memory looked at; its agent can still be evaluated, watched and filmed"
        )
        info[DROPPED] = datetime.date.today().isoformat()
        checkpoint.atomic_write(run / "run.json", json.dumps(info, indent=2) + "\n")  # first: a resume must know
        if (run / "replay").exists():
            with as_storage_error(f"cannot delete {run / 'replay'}"):
                remove(run / "replay")
