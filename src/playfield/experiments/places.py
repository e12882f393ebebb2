"""Where the jobs of an experiment run: an interface of four calls, and this machine behind it.

A place starts a job, looks at it, stops it, and collects what is left of it. What a job is and how far it came lies
in its run directory, so nothing else goes between a place and its caller. Another place (a cluster, a queue) is
another class with these four methods.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

from playfield.errors import DataError
from playfield.experiments.job import Job, reached
from playfield.runs import fence
from playfield.runs.fence import ELSEWHERE
from playfield.runs.info import is_run, read_info
from playfield.runs.lock import IN_USE, left_elsewhere
from playfield.runs.storage import as_storage_error

LAST = 65536  # bytes at the end of standard error that are looked at

POLL = 0.2  # seconds between two looks at what runs
SAVE_TIMEOUT = 120.0  # seconds that a job may take to save once it was asked to stop
ENDING = 5.0  # seconds for which one that was killed is waited for: a process that waits for a disk ends later

H = TypeVar("H")


@dataclass(frozen=True)
class Look:
    """How a started job is doing.

    Attributes:
        code: its exit code; None while it runs. Below 0: ended by that signal.
        steps, seconds: how far the training is.
        where: the name of the node that it runs on; empty where there is only one.
        news: lines for a person since the last look.
    """

    code: int | None
    steps: int
    seconds: float
    where: str = ""
    news: tuple[str, ...] = ()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self.code is None


@dataclass(frozen=True)
class Outcome:
    """What is left of a job that has ended.

    Attributes:
        code: its exit code; below 0: ended by that signal.
        line: the last line on its standard error, or its exit code in words.
        result: that of `run.json`; None where the training is not finished.
        unplaced: whether it failed for want of a node that can run it, which says nothing about the job.
    """

    code: int
    line: str
    result: dict[str, Any] | None
    unplaced: bool = False

    @property
    def taken(self) -> bool:
        """Whether it ended because another process trains the run."""
        return self.code == DataError.exit_code and (IN_USE in self.line or ELSEWHERE in self.line)


class Place(Protocol[H]):
    """Somewhere to run jobs. `H` is what it knows a started job by."""

    def start(self, job: Job) -> H:
        """Start or resume a job and return at once. Raises StorageError where its directory cannot be made."""

    def look(self, started: H) -> Look:
        """How the job is doing."""

    def stop(self, started: H, kill: bool = False) -> None:
        """Ask the job to save and end, once however often it is called; with `kill` end it at once.

        One that was killed counts as ended after `ENDING` seconds at the latest.
        """

    def collect(self, started: H) -> Outcome:
        """What is left of a job that has ended. What the place holds for it is given back: call it once."""


def end_all(place: Place[H], started: Sequence[H]) -> None:
    """Let all these jobs save, and leave none running; each is still to be collected."""
    for one in started:
        place.stop(one)
    deadline = time.monotonic() + SAVE_TIMEOUT
    while time.monotonic() < deadline and any(place.look(one).running for one in started):
        time.sleep(POLL)
    for one in started:
        place.stop(one, kill=True)


@dataclass
class Child:
    """A job that is a child process, and the file that its standard error goes to."""

    job: Job
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    asked: bool = False
    killed: float = 0.0

    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        code = self.process.poll()
        return -9 if code is None and self.killed and time.monotonic() > self.killed + ENDING else code


class Local:
    """This machine: each job is a child process. It saves and ends when this process is gone."""

    def start(self, job: Job) -> Child:
        """See `Place`."""
        with as_storage_error(f"create {job.directory.parent}"):
            job.directory.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-P", "-m", "playfield.cli._child", str(os.getpid()), *job.command()]
        variables = dict(os.environ)
        if left_elsewhere(job.directory):  # as far as one can see it has ended there; if not, it is to end
            variables |= fence.told(fence.advance(job.directory), Path(os.path.abspath(job.directory)))
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads could fill up
        # Its own session: Ctrl-C reaches only this process, which then signals the child.
        pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors}
        try:
            return Child(job, subprocess.Popen(command, env=variables, start_new_session=True, **pipes), errors)
        except BaseException:
            errors.close()
            raise

    def look(self, started: Child) -> Look:
        """See `Place`."""
        return Look(started.code(), *reached(started.job.directory))

    def stop(self, started: Child, kill: bool = False) -> None:
        """See `Place`."""
        if kill:
            started.process.kill()
            started.killed = started.killed or time.monotonic()
        elif not started.asked:  # a second SIGTERM would end it before it has saved
            started.process.terminate()
            started.asked = True

    def collect(self, started: Child) -> Outcome:
        """See `Place`."""
        while (code := started.code()) is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.process.wait(POLL)
        with started.errors as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST))
            lines = file.read(LAST).decode(errors="replace").strip().splitlines()
        line = lines[-1].removeprefix("playfield: ") if lines else f"exit status {code}"
        return Outcome(code, line, stored_result(started.job))


def stored_result(job: Job) -> dict[str, Any] | None:
    """The result in the `run.json` of a job; None where there is none yet, or it cannot be read."""
    try:
        return read_info(job.directory).get("result") if is_run(job.directory) else None
    except DataError:
        return None
