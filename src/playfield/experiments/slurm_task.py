"""A task of a job array: trains what is in its line, unless that is done or another process is about it.

Arrays may be submitted again while earlier ones run or wait, so several tasks can be for one training. Whoever begins
it holds its claim until it has ended, as `local` does, and raises the attempt only then: a look alone ends nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

from playfield.errors import DataError, DivergedError
from playfield.experiments import heartbeat
from playfield.experiments.job import Job, claim_of
from playfield.runs import fence
from playfield.runs.info import is_run
from playfield.runs.lock import IN_USE, RunLock, unreleased
from playfield.runs.storage import lines_of

WAIT = 120.0  # seconds within which a network disk forgets the locks of a machine that was lost


@contextlib.contextmanager
def begun(path: Path, number: int, task: str = "") -> Iterator[list[str] | None]:
    """The words of `playfield` for a line of the file, None if that training is done.

    Inside, the training is this process's, which is its next attempt. `task` is a word of this process's command line
    that no other task has, and that stays where SLURM queues the task again.

    Raises:
        DataError: the file cannot be read, has no such line, or another process is about that training.
        DivergedError: it has diverged, and would diverge again.
    """
    job, pins = _read(path, number)
    if _settled(job):
        yield None
        return
    with _claimed(job, task):
        if _settled(job):  # meanwhile, by another process
            yield None
            return
        yield [*job.command(), *([] if is_run(job.directory) else pins)]


def _read(path: Path, number: int) -> tuple[Job, list[str]]:
    line = next((line for n, line in enumerate(lines_of(path.parent, path.name), 1) if n == number), b"")
    try:
        told = json.loads(line)
        pins = list(told.pop("pins"))
        return Job(**{**told, "words": tuple(told["words"]), "directory": Path(told["directory"])}), pins
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} has no training in line {number}") from None


def _settled(job: Job) -> bool:
    if job.done():
        return True
    if why := job.diverged():
        raise DivergedError(f"{job.name}: {why}")
    return False


@contextlib.contextmanager
def _claimed(job: Job, task: str) -> Iterator[None]:
    """Inside, this process alone trains the job, as its next attempt. Raises DataError where another process does."""
    directory, claimed = job.directory, claim_of(job.directory)
    holder, there = unreleased(claimed) or {}, unreleased(directory)
    again = bool(task) and task in str(holder.get("command", "")).split()
    if there is not None and any(there.get(key) != holder.get(key) for key in ("pid", "host")):
        again = False  # somebody has resumed it by hand since
    if again:  # queued again: SLURM has given up where it ran. What is left of it there, if anything, ends by this
        fence.advance(directory)
    gone = again or heartbeat.left(directory) is not None
    if not again and (found := heartbeat.users([directory])):
        raise DataError(f"{directory}{IN_USE}{found[directory]}: this task leaves the training to it")
    deadline = time.monotonic() + (WAIT if again else 0.0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_locked(claimed, gone, deadline))
        stack.enter_context(heartbeat.beating(directory))
        with _locked(directory, gone, deadline):  # nobody trains it now, so the next number ends nobody
            number = fence.advance(directory)
        os.environ |= fence.told(number, directory)
        yield


@contextlib.contextmanager
def _locked(directory: Path, gone: bool, deadline: float) -> Iterator[None]:
    """Inside, this process has the lock of a directory, for which it waits until then; see `RunLock`."""
    lock = RunLock(directory, gone)
    while True:
        try:
            lock.acquire()
            break
        except DataError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(1.0)
    try:
        yield
    finally:
        lock.release()
