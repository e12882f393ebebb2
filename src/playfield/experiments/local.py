"""Runs the jobs of an experiment on this machine, each in its own process.

New runs start, interrupted ones resume, and finished ones are kept. Run directories are the only state, so the same
call continues after any interruption.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from playfield.errors import PlayfieldError
from playfield.experiments.job import Job, reached
from playfield.runs.console import console, format_seconds
from playfield.runs.info import is_run
from playfield.runs.signals import stopping
from playfield.runs.storage import as_storage_error

POLL = 0.2  # seconds between two checks of the children
SAVE_TIMEOUT = 120.0  # seconds that a child may take to save after SIGTERM


class Interrupted(PlayfieldError):
    """SIGINT, SIGTERM or SIGHUP stopped the experiment; `exit_code` is 130, 143 or 129."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


@dataclass
class _Child:
    """A running job, and the file that its standard error goes to."""

    job: Job
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    terminated: bool = False

    def last_line(self) -> str:
        """The last line on standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("playfield: ") if lines else f"exit status {self.process.returncode}"


def run_jobs(jobs: Sequence[Job], parallel: int) -> list[tuple[Job, str, int]]:
    """Run the jobs that are not done, `parallel` at a time, in order. Shows progress on standard error.

    The first SIGINT, SIGTERM or SIGHUP is forwarded to the children as SIGTERM, at which they save; the second kills
    them.

    Returns:
        (job, its last line on standard error, exit code) of each job that failed; the others were run.

    Raises:
        Interrupted: such a signal was received.
        StorageError: a directory cannot be created.
    """
    waiting = [job for job in jobs if not job.done()]
    failed: list[tuple[Job, str, int]] = []
    running: list[_Child] = []
    with _signals() as received, Progress(jobs) as progress:
        try:
            while (waiting and not received) or running:
                while waiting and len(running) < parallel and not received:
                    running.append(_start(waiting.pop(0)))
                    progress.started(running[-1].job)
                _forward(received, running)
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    if child.process.returncode and not received:
                        failed.append((child.job, child.last_line(), child.process.returncode))
                    child.errors.close()
                    progress.ended(child.job, child.process.returncode)
                progress.show([c.job for c in running], waiting, parallel)
                time.sleep(POLL)
        finally:
            _end(running)
    if received:
        raise Interrupted(received[0])
    return failed


def _start(job: Job) -> _Child:
    with as_storage_error(f"create {job.directory.parent}"):
        job.directory.parent.mkdir(parents=True, exist_ok=True)
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads could fill up
    command = [sys.executable, "-m", "playfield.cli._child", str(os.getpid()), *job.command()]
    # Its own session: Ctrl-C reaches only this process, which then signals the child.
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors}
    return _Child(job, subprocess.Popen(command, start_new_session=True, **pipes), errors)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that stop work in a list, oldest first, instead of acting on them."""
    received: list[int] = []
    try:
        old = {s: signal.signal(s, lambda s, _: received.append(s)) for s in stopping()}
    except ValueError:  # not the main thread: the calling program handles signals
        old = {}
    try:
        yield received
    finally:
        for s, previous in old.items():
            signal.signal(s, previous)


def _forward(received: list[int], running: Sequence[_Child]) -> None:
    """Send SIGTERM to each child once; after a second signal, kill them."""
    for child in running if received else ():
        if len(received) > 1:
            child.process.kill()
        elif not child.terminated:  # a second SIGTERM would end it before it has saved
            child.process.terminate()
            child.terminated = True


def _end(running: Sequence[_Child]) -> None:
    """Let the children save, and leave none running."""
    _forward([signal.SIGTERM], running)
    for child in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(SAVE_TIMEOUT)
        child.process.kill()
        child.process.wait()
        child.errors.close()


class Progress:
    """Steps of all jobs on standard error: a bar that stays in place, or a line per event in a pipe."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs, self.total = jobs, sum(job.steps for job in jobs)
        self.finished_runs = sum(job.done() for job in jobs)
        self._console = console(stderr=True)
        self._status = self._console.status("") if self._console.is_terminal else None
        self._steps: dict[Job, tuple[int, float]] = {job: reached(job.directory) for job in jobs}
        self._shown = 0.0

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def started(self, job: Job) -> None:
        """The job was started."""
        verb = "resuming" if is_run(job.directory) else "training"
        self._print(f"{verb} {job.name}")

    def ended(self, job: Job, code: int) -> None:
        """The job ended with this exit code."""
        self.finished_runs += not code
        self._steps[job] = reached(job.directory)
        steps, seconds = self._steps[job]
        how = f"done, {steps / max(seconds, 1e-9):,.0f} steps/s" if not code else f"ended with exit status {code}"
        self._print(f"{job.name}: {how}; {self.finished_runs} of {len(self.jobs)} runs")

    def show(self, running: Sequence[Job], waiting: Sequence[Job], parallel: int) -> None:
        """Redraw the bar, at most once per second."""
        if self._status is None or time.monotonic() - self._shown < 1:
            return
        self._shown = time.monotonic()
        self._steps.update((job, reached(job.directory)) for job in running)
        self._status.update(self._bar(running, seconds_left(self._steps, running, waiting, parallel)))

    def _bar(self, running: Sequence[Job], left: float | None) -> Group:
        done = sum(min(step, job.steps) for job, (step, _) in self._steps.items())
        width = max(10, min(60, self._console.width - 60))
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row(
            ProgressBar(total=max(self.total, 1), completed=done, width=width, complete_style="green"),
            f"{done / max(self.total, 1):.0%} of {self.total:,} steps",
            "" if left is None else f"about {format_seconds(left)} left",
            f"{self.finished_runs} of {len(self.jobs)} runs",
        )
        texts = [Text(f"  {job.name}: {self._steps[job][0]:,} of {job.steps:,}", style="dim") for job in running]
        return Group(line, *texts)

    def _print(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # nobody can read it: the trainings go on
            self._console.print(line, soft_wrap=True, markup=False)


def seconds_left(
    steps: dict[Job, tuple[int, float]], running: Sequence[Job], waiting: Sequence[Job], parallel: int
) -> float | None:
    """Estimated seconds until all jobs are done, `parallel` at a time; None before any speed is known.

    The speed of a job is its own so far; of one that has not started, that of jobs with its label and environment,
    else that of jobs in its environment, else that of all jobs. `steps`: job -> (steps, seconds) so far.
    """

    def speed(chosen: Iterable[Job]) -> float:
        known = [steps[job] for job in chosen if steps[job][0] > 0 and steps[job][1] > 0]
        return sum(s for s, _ in known) / sum(seconds for _, seconds in known) if known else 0.0

    def left(job: Job) -> float:
        same_label = [other for other in steps if (other.env, other.label) == (job.env, job.label)]
        same_env = [other for other in steps if other.env == job.env]
        known = next(v for chosen in ([job], same_label, same_env, steps) if (v := speed(chosen)))
        return max(job.steps - steps[job][0], 0) / known

    if not speed(steps):
        return None
    work = [left(job) for job in (*running, *waiting)]
    return max(sum(work) / parallel, *(left(job) for job in running), 0.0) if work else 0.0
