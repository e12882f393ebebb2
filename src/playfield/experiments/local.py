"""Runs the jobs of an experiment at a place, by default on this machine, so many at a time.

New runs start, interrupted ones resume, and finished ones are kept. Run directories are the only state, so the same
call continues after any interruption, and several processes with the same jobs share them: who starts a job holds a
lock for it until it has ended. What another process runs is looked at until it ends, and taken over if that process
dies. Processes on one machine can share its cores: each then starts only as many as the others leave room for.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from playfield.errors import DataError, DivergedError, PlayfieldError
from playfield.experiments.heartbeat import Beats, Silence, left, locked
from playfield.experiments.job import Job, claim_of
from playfield.experiments.places import POLL, Local, Place, end_all
from playfield.experiments.progress import Progress
from playfield.runs.lock import RunLock, held, in_use, local_holder
from playfield.runs.signals import AGAIN, QUIT, SAME, stopping

LOOK_ELSEWHERE = 1.0  # seconds between two looks at what other processes run
STOPPING = (f"asking the trainings to save and stop; {AGAIN}", QUIT)
"""What is said at the first signal that stops an experiment, and at the second."""


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


def run_jobs(
    jobs: Sequence[Job],
    parallel: int | Callable[[], int],
    place: Place[Any] | None = None,
    share: Path | None = None,
    quiet: bool = False,
) -> list[Failure]:
    """Run the jobs that are not done, `parallel` at a time, in order. Progress is on standard error unless `quiet`.

    `parallel` is asked again and again where it is a function: nodes come and go.

    With `share`, a directory whose lock says whose turn it is to start one, those count that other processes on this
    machine run.

    The first SIGINT, SIGTERM or SIGHUP makes the place stop them: they save. The second kills them; after the third
    none is waited for. A training that diverges does not stop the others; it is not trained again.

    Returns:
        Those that failed, also earlier where they diverged; the others were run.

    Raises:
        Interrupted: such a signal was received.
        StorageError: a directory cannot be created.
    """
    with signals() as received, Progress(jobs, quiet) as progress:
        schedule = Schedule(jobs, parallel, Local() if place is None else place, progress, share)
        told = 0
        try:
            while schedule.running or (schedule.left and not received):
                if received:
                    told = tell(progress.say, received, told)
                    schedule.stop(kill=len(received) > 1)
                    if len(received) > 2:
                        schedule.leave()
                else:
                    schedule.start()
                schedule.look(stopping=bool(received))
                running = [one.job for one in schedule.running]
                progress.show(running, schedule.waiting, schedule.elsewhere, schedule.parallel)
                time.sleep(POLL)
        finally:
            schedule.end()
    if received:
        raise Interrupted(received[0])
    return schedule.failed


class Schedule:
    """Which jobs wait, run here, run elsewhere, and have failed."""

    def __init__(
        self,
        jobs: Sequence[Job],
        parallel: int | Callable[[], int],
        place: Place[Any],
        progress: Progress,
        share: Path | None = None,
    ) -> None:
        self._parallel, self.place, self.progress, self.share = parallel, place, progress, share
        self._full = 0.0  # when there was no room
        self.failed: list[Failure] = []
        self.waiting = [job for job in jobs if not self._settled(job)]
        self.elsewhere: list[Job] = []
        self.running: list[_Running] = []
        self._looked = 0.0
        self._beats, self._silence = Beats(), Silence()

    @property
    def parallel(self) -> int:
        """How many jobs may run at once now."""
        return self._parallel if isinstance(self._parallel, int) else max(1, self._parallel())

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
        if self.share is not None and time.monotonic() - self._full < LOOK_ELSEWHERE:
            return
        while self.waiting and len(self.running) < self.parallel:
            with contextlib.nullcontext() if self.share is None else held(self.share):
                if not self._room():
                    return
                self._start(self.waiting.pop(0))

    def _room(self) -> bool:
        """Whether other processes on this machine leave room for one more; where not, it is told."""
        if self.share is None:
            return True
        holders = [local_holder(claim_of(job.directory)) or local_holder(job.directory) for job in self.left]
        others = [pid for pid in holders if pid]
        if len(self.running) + len(others) < self.parallel:
            return True
        self._full = time.monotonic()
        self.progress.taken(len(others), sorted(set(others)), self.parallel)
        return False

    def _start(self, job: Job) -> None:
        """Start a job, unless another process is about it."""
        before = left(job.directory)
        if not self._silence.ended(job.directory):
            self._aside(job, before or "another process")
            return
        claim = RunLock(claim_of(job.directory), gone=before is not None)
        try:
            claim.acquire()
        except DataError:
            self._aside(job)
            return
        try:
            if self._settled(job):  # meanwhile, by another process
                claim.release()
                self.progress.ended(job, 0 if job.done() else DivergedError.exit_code)
            elif in_use(job.directory):  # a single training, or one whose experiment has just died
                claim.release()
                self._aside(job)
            else:
                self._beats.begin(job.directory)
                self.progress.started(job)
                self.running.append(_Running(job, self.place.start(job), claim))
        except BaseException:
            self._beats.end(job.directory)
            claim.release()
            raise

    def _aside(self, job: Job, unsure: str = "") -> None:
        """Another process runs a job; `unsure`: who may do so."""
        self.elsewhere.append(job)
        self.progress.elsewhere(job, unsure)

    def _look_elsewhere(self) -> None:
        """Let those wait again that other processes have ended, or left."""
        if time.monotonic() - self._looked < LOOK_ELSEWHERE:
            return
        self._looked = time.monotonic()
        for job in list(self.elsewhere):
            if self._settled(job):
                self.elsewhere.remove(job)
                self.progress.ended(job, 0 if job.done() else DivergedError.exit_code)
            elif not locked(job.directory) and self._silence.ended(job.directory):
                self.elsewhere.remove(job)
                self.waiting.insert(0, job)

    def look(self, stopping: bool) -> None:
        """Collect those that have ended."""
        for one in list(self.running):
            look = self.place.look(one.started)
            self.progress.look(one.job, look.where, look.news)
            if look.running:
                continue
            self.running.remove(one)
            outcome = self.place.collect(one.started)
            self._release(one)
            if outcome.taken and not stopping:
                self._aside(one.job)
                continue
            if outcome.code and not stopping:
                self.failed.append(Failure(one.job, outcome.line, outcome.code))
            self.progress.ended(one.job, outcome.code, outcome.line if outcome.code else "")

    def stop(self, kill: bool = False) -> None:
        """Ask all that run to save and end; with `kill`, end them."""
        for one in self.running:
            self.place.stop(one.started, kill)

    def leave(self) -> None:
        """Wait for none of them any more."""
        for one in self.running:
            self._release(one)
        self.running.clear()

    def _release(self, one: _Running) -> None:
        """Let others have a job."""
        self._beats.end(one.job.directory)
        one.claim.release()

    def end(self) -> None:
        """Let all that still run save, and leave none."""
        end_all(self.place, [one.started for one in self.running])
        for one in self.running:
            self.place.collect(one.started)
            self._release(one)
        self.running.clear()
        self._beats.close()


def tell(say: Callable[[str], None], received: Sequence[int], told: int) -> int:
    """Say what signals do, of which so many were told of before; returns how many are now."""
    for line in STOPPING[told : len(received)]:
        say(line)
    return len(received)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collect the signals that stop work in a list, oldest first, instead of acting on them; see `SAME`."""
    received: list[int] = []
    last = 0.0

    def handler(signum: int, _frame: Any) -> None:
        nonlocal last
        if not received or time.monotonic() - last > SAME:
            last = time.monotonic()
            received.append(signum)

    try:
        old = {s: signal.signal(s, handler) for s in stopping()}
    except ValueError:  # not the main thread: the calling program handles signals
        old = {}
    try:
        yield received
    finally:
        for s, previous in old.items():
            signal.signal(s, previous)
