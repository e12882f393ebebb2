"""Runs the jobs of an experiment at a place, by default on this machine, so many at a time.

New runs start, interrupted ones resume, and finished ones are kept. Run directories are the only state, so the same
call continues after any interruption, and several processes with the same jobs share them: who starts a job holds a
lock for it until it has ended. What another process runs is looked at until it ends, and taken over if that process
dies.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from playfield.errors import DataError, DivergedError, PlayfieldError
from playfield.experiments.job import Job, reached
from playfield.experiments.places import Local, Place
from playfield.runs.console import console, format_seconds
from playfield.runs.info import is_run
from playfield.runs.lock import IN_USE, RunLock, in_use
from playfield.runs.signals import stopping

POLL = 0.2  # seconds between two looks at what runs
LOOK_ELSEWHERE = 1.0  # seconds between two looks at what other processes run
SAVE_TIMEOUT = 120.0  # seconds that a job may take to save once it was asked to stop


class Interrupted(PlayfieldError):
    """SIGINT, SIGTERM or SIGHUP stopped the experiment; `exit_code` is 130, 143 or 129."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class Failure(NamedTuple):
    """A job that failed: its last line on standard error and its exit code."""

    job: Job
    why: str
    code: int

    @property
    def diverged(self) -> bool:
        """Whether its training diverged: a result, not an error. To try it again would diverge again."""
        return self.code == DivergedError.exit_code


@dataclass
class _Running:
    """A job that this process has started, as the place knows it, and the lock that says so."""

    job: Job
    started: Any
    claim: RunLock


def run_jobs(jobs: Sequence[Job], parallel: int, place: Place[Any] | None = None) -> list[Failure]:
    """Run the jobs that are not done, `parallel` at a time, in order. Shows progress on standard error.

    The first SIGINT, SIGTERM or SIGHUP makes the place stop them: they save. The second kills them. A training that
    diverges does not stop the others; it is not trained again.

    Returns:
        Those that failed, also earlier where they diverged; the others were run.

    Raises:
        Interrupted: such a signal was received.
        StorageError: a directory cannot be created.
    """
    with signals() as received, Progress(jobs) as progress:
        schedule = Schedule(jobs, parallel, Local() if place is None else place, progress)
        try:
            while schedule.running or (schedule.left and not received):
                if received:
                    schedule.stop(kill=len(received) > 1)
                else:
                    schedule.start()
                schedule.look(stopping=bool(received))
                progress.show([r.job for r in schedule.running], schedule.left, parallel)
                time.sleep(POLL)
        finally:
            schedule.end()
    if received:
        raise Interrupted(received[0])
    return schedule.failed


class Schedule:
    """Which jobs wait, run here, run elsewhere, and have failed."""

    def __init__(self, jobs: Sequence[Job], parallel: int, place: Place[Any], progress: Progress) -> None:
        self.parallel, self.place, self.progress = parallel, place, progress
        self.failed: list[Failure] = []
        self.waiting = [job for job in jobs if not self._settled(job)]
        self.elsewhere: list[Job] = []
        self.running: list[_Running] = []
        self._looked = 0.0

    @property
    def left(self) -> list[Job]:
        """Jobs that this process has not started and that are not done."""
        return [*self.waiting, *self.elsewhere]

    def _settled(self, job: Job) -> bool:
        """Whether the job is done, or known to have diverged."""
        if job.done():
            return True
        if why := job.diverged():
            self.failed.append(Failure(job, why, DivergedError.exit_code))
        return bool(why)

    def start(self) -> None:
        """Start as many of those that wait as there is room for; what other processes run is put aside."""
        self._look_elsewhere()
        while self.waiting and len(self.running) < self.parallel:
            job = self.waiting.pop(0)
            claim = RunLock(job.directory.parent / ".claims" / job.directory.name)
            try:
                claim.acquire()
            except DataError:  # another process is about it
                self._aside(job)
                continue
            try:
                if self._settled(job):  # meanwhile, by another process
                    claim.release()
                    self.progress.ended(job, 0 if job.done() else DivergedError.exit_code)
                elif in_use(job.directory):  # a single training, or one whose experiment has just died
                    claim.release()
                    self._aside(job)
                else:
                    self.progress.started(job)
                    self.running.append(_Running(job, self.place.start(job), claim))
            except BaseException:
                claim.release()
                raise

    def _aside(self, job: Job) -> None:
        self.elsewhere.append(job)
        self.progress.elsewhere(job)

    def _look_elsewhere(self) -> None:
        """Let those wait again that other processes have ended, or left."""
        if time.monotonic() - self._looked < LOOK_ELSEWHERE:
            return
        self._looked = time.monotonic()
        for job in list(self.elsewhere):
            if self._settled(job):
                self.elsewhere.remove(job)
                self.progress.ended(job, 0 if job.done() else DivergedError.exit_code)
            elif not in_use(job.directory) and not in_use(job.directory.parent / ".claims" / job.directory.name):
                self.elsewhere.remove(job)
                self.waiting.insert(0, job)

    def look(self, stopping: bool) -> None:
        """Collect those that have ended."""
        for one in list(self.running):
            if self.place.look(one.started).running:
                continue
            self.running.remove(one)
            outcome = self.place.collect(one.started)
            one.claim.release()
            if outcome.code == DataError.exit_code and IN_USE in outcome.line and not stopping:
                self._aside(one.job)
                continue
            if outcome.code and not stopping:
                self.failed.append(Failure(one.job, outcome.line, outcome.code))
            self.progress.ended(one.job, outcome.code)

    def stop(self, kill: bool = False) -> None:
        """Ask all that run to save and end; with `kill`, end them."""
        for one in self.running:
            self.place.stop(one.started, kill)

    def end(self) -> None:
        """Let all that still run save, and leave none."""
        self.stop()
        deadline = time.monotonic() + SAVE_TIMEOUT
        while time.monotonic() < deadline and any(self.place.look(one.started).running for one in self.running):
            time.sleep(POLL)
        self.stop(kill=True)
        for one in self.running:
            self.place.collect(one.started)
            one.claim.release()
        self.running.clear()


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
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

    def elsewhere(self, job: Job) -> None:
        """Another process runs the job."""
        self._print(f"{job.name}: running elsewhere, in another process")

    def ended(self, job: Job, code: int) -> None:
        """The job ended with this exit code."""
        self.finished_runs += not code
        self._steps[job] = reached(job.directory)
        steps, seconds = self._steps[job]
        how = f"done, {steps / max(seconds, 1e-9):,.0f} steps/s" if not code else f"ended with exit status {code}"
        how = f"diverged after {steps:,} steps" if code == DivergedError.exit_code else how
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
