"""Removes runs, or what they can do without. Never of a run that is training: its lock is held meanwhile."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from playfield.errors import DataError, UsageError
from playfield.experiments.job import claim_of, finished
from playfield.replay import saved
from playfield.runs import checkpoint
from playfield.runs.info import is_run, read_info
from playfield.runs.lock import RunLock, holder
from playfield.runs.storage import as_storage_error, remove


@dataclass(frozen=True)
class Removable:
    """What would be removed of one run.

    Attributes:
        run: its directory.
        paths: files and directories.
        size: of all that would be removed, in bytes.
        why_not: why nothing of it can be removed; empty if it can.
        replay: whether its replay buffer would be removed, too: it can never be trained longer then.
    """

    run: Path
    paths: tuple[Path, ...]
    size: int
    why_not: str = ""
    replay: bool = False


def size(path: Path) -> int:
    """Bytes of a file, or of all files in a directory; links count as such."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(p.lstat().st_size for p in path.rglob("*") if p.is_symlink() or not p.is_dir())


def whole(run: Path) -> Removable:
    """All of a run."""
    if busy := _busy(run):
        return Removable(run, (), 0, busy)
    if not _ours(run):
        return Removable(run, (), 0, "its run.json is not of playfield, and nothing beside it is")
    return Removable(run, (run,), size(run))


def spare(run: Path) -> Removable:
    """What a run can do without: checkpoints but the newest and the best, and the replay buffer of a finished run.

    Nothing where the run is training, or where the newest checkpoint is damaged: an older one may be needed then.
    """
    if busy := _busy(run):
        return Removable(run, (), 0, busy)
    folder = run / "checkpoints"
    older: list[Path] = []
    if folder.is_dir():
        older = checkpoint.checkpoints(folder)
        if older:
            try:
                checkpoint.load(older.pop())
            except DataError as error:
                return Removable(run, (), 0, f"its newest checkpoint is damaged ({error})")
    paths = list(older)
    replay = False
    try:
        replay = finished(read_info(run)) and (run / "replay").is_dir()
    except DataError as error:
        return Removable(run, (), 0, str(error))
    bytes_ = sum(size(path) for path in paths) + (size(run / "replay") if replay else 0)
    return Removable(run, tuple(paths), bytes_, replay=replay)


def _busy(run: Path) -> str:
    # An experiment holds a lock beside it, a tuning that of the trial: they may be about to start or resume it.
    found = next((f for f in map(holder, (run, claim_of(run), run.parent)) if f is not None), None)
    if found is None:
        return ""
    return f"it is running (process {found['pid']} on {found['host']})" if found else "it is running"


def _ours(run: Path) -> bool:
    """Whether a directory is a run of playfield, if a damaged one: other programs write a `run.json`, too."""
    with contextlib.suppress(DataError):
        return bool(read_info(run))
    return any(os.path.lexists(run / name) for name in ("checkpoints", "metrics.csv", "monitor.csv"))


def clean(what: Removable, root: Path) -> None:
    """Remove it; folders under `root` that are empty then, too.

    Raises DataError where the run has been started meanwhile, StorageError where something cannot be removed.
    """
    if what.why_not or not (what.paths or what.replay):
        return
    if not is_run(what.run):
        raise UsageError(f"{what.run} is no run directory")
    with RunLock(what.run):
        if what.replay and finished(read_info(what.run)):  # it may have been made longer meanwhile
            saved.forget(what.run)
        for path in what.paths:
            with as_storage_error(f"cannot remove {path}"):
                remove(path)
    folder = what.run.parent
    while not what.run.exists() and folder != root and folder.is_relative_to(root):
        with contextlib.suppress(OSError):
            folder.rmdir()
        if folder.exists():
            break
        folder = folder.parent
