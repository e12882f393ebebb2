"""Runs the trials of a tuning at a place, so many trainings at a time, and stops those that do badly early.

The journal and the run directories are the only state: the same call goes on after any stop, and several processes
share the trials. A trial belongs to the process that holds the lock of its directory; where that process has died,
another takes the trial over, with the parameters in the journal, and its trainings go on from their checkpoints.

Successive halving: after 1/9 and 3/9 of the budget of the first seed's training, the score of its last games (the
statistic that is optimised, else their mean) is compared with those of the other trials at that point, once there are
three. The best two thirds go on after 1/9, and the best third after 3/9. The others are stopped; their run
directories stay, and can be resumed. The scores are those at exactly these steps, whenever they are looked at, so
what is pruned does not depend on the machine where trials run one after another.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from playfield.errors import DataError, DivergedError, PlayfieldError, UsageError
from playfield.experiments.job import Job, claim_of, reached
from playfield.experiments.local import LOOK_ELSEWHERE, Interrupted, signals, tell
from playfield.experiments.node_shares import Share, Shares
from playfield.experiments.places import POLL, Local, Outcome, Place, end_all
from playfield.experiments.study import PARTS, RUNGS, Study, Trial
from playfield.experiments.tuning import Settings, games_of, together, value_of
from playfield.runs.info import is_run, read_info
from playfield.runs.lock import RunLock, held, in_use, local_holder


class Watcher(Protocol):
    """Who is told how a tuning goes."""

    def started(self, trial: Trial, resumed: bool) -> None:
        """A trial has begun, or goes on."""

    def ended(self, trial: Trial) -> None:
        """A trial has ended; its state says how."""

    def say(self, line: str) -> None:
        """Something a person should know."""

    def taken(self, count: int, processes: Sequence[int], cores: int) -> None:
        """Other processes run so many trainings of this tuning that there is no room for another here."""

    def look(self, active: dict[int, float], where: dict[int, str], shares: Sequence[Share]) -> None:
        """Called often: the trials under way with the fraction of their budget that is done.

        `where`: the nodes of the trainings of each trial, where there are any; `shares`: what each of several has
        done.
        """


@dataclass
class Active:
    """A trial that this process works on.

    Attributes:
        trial, lock: the trial, and the lock of its directory.
        waiting: trainings that have not begun or are to go on.
        values: of each training that has ended, by seed; None: it failed.
        notes: why trainings failed.
        part: the last part of the budget that was compared with other trials.
    """

    trial: Trial
    lock: RunLock
    waiting: list[Job]
    values: dict[int, float | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    pruned: bool = False


@dataclass
class Running:
    """A training that runs, as the place knows it, and the lock that says so."""

    active: Active
    job: Job
    started: Any
    claim: RunLock
    fraction: float = 0.0
    steps: int = 0


def run(
    settings: Settings,
    study: Study,
    parallel: int | Callable[[], int],
    watcher: Watcher,
    place: Place[Any] | None = None,
    share: bool = False,
) -> None:
    """Work on trials until all are done, also those of other processes; `parallel`: as of `local.run_jobs`.

    With `share`, the trainings of other processes on this machine count among those `parallel` ones.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGHUP was received; what runs has saved.
        UsageError: what the tuning begins from cannot be trained.
        PlayfieldError: a training failed for another reason than its parameters, such as a full disk.
    """
    tuner = Tuner(settings, study, parallel, watcher, Local() if place is None else place, share)
    told = 0
    with signals() as received:
        try:
            while True:
                if received:
                    told = tell(watcher.say, received, told)
                    tuner.stop(kill=len(received) > 1)
                    if len(received) > 2:
                        tuner.leave()
                else:
                    tuner.fill()
                tuner.look(stopping=bool(received))
                if not tuner.running and (received or tuner.done()):
                    break
                time.sleep(POLL)
        finally:
            tuner.end()
    if received:
        raise Interrupted(received[0])


class Tuner:
    """The trials that this process works on, and their trainings."""

    def __init__(
        self,
        settings: Settings,
        study: Study,
        parallel: int | Callable[[], int],
        watcher: Watcher,
        place: Place[Any],
        share: bool = False,
    ) -> None:
        self.share, self._full = share, 0.0
        self.settings, self.study, self._parallel, self.watcher, self.place = (
            settings,
            study,
            parallel,
            watcher,
            place,
        )
        self.active: list[Active] = []
        self.running: list[Running] = []
        self._asked = 0.0
        self._exhausted = False
        self._shares = Shares()
        self._nodes: dict[int, dict[int, str]] = {}  # of trials, by seed

    @property
    def parallel(self) -> int:
        """How many trainings may run at once now."""
        return self._parallel if isinstance(self._parallel, int) else max(1, self._parallel())

    def fill(self) -> None:
        """Start trainings while there is room: first those of trials under way, then of the next trial."""
        if self.share and time.monotonic() - self._full < LOOK_ELSEWHERE:
            return
        while len(self.running) < self.parallel:
            if self._next() is None and self._asked_lately():  # a lock is a write to the disk
                return
            with held(self.study.directory / ".room") if self.share else contextlib.nullcontext():
                if not self._room() or not self._start():
                    return

    def _next(self) -> tuple[Active, Job] | None:
        """The next training of a trial under way; None without one."""
        return next(((a, job) for a in self.active for job in a.waiting if not in_use(job.directory)), None)

    def _start(self) -> bool:
        """Start a training, or take up a trial; whether there was one."""
        if (found := self._next()) is None:
            return self._ask()
        active, job = found
        claim = RunLock(claim_of(job.directory))
        try:
            claim.acquire()
        except DataError:  # another process took it since `_next` looked
            return False
        active.waiting.remove(job)
        try:
            steps = reached(job.directory)[0]
            self.running.append(Running(active, job, self.place.start(job), claim, steps=steps))
        except BaseException:
            claim.release()
            raise
        return True

    def _room(self) -> bool:
        """Whether other processes on this machine leave room for one more training; where not, it is told."""
        if not self.share:
            return True
        mine, others = {a.trial.number for a in self.active}, []
        for trial in self.study.trials():
            if trial.state != "running" or trial.number in mine:
                continue
            folder = self.study.folder(trial.number)
            jobs = self.settings.jobs(trial.number, trial.params, folder)
            others += [owner for job in jobs if (owner := local_holder(claim_of(job.directory)))]
        if len(self.running) + len(others) < self.parallel:
            return True
        self._full = time.monotonic()
        self.watcher.taken(len(others), sorted(set(others)), self.parallel)
        return False

    def _asked_lately(self) -> bool:
        """Whether there was no trial to take up, a moment ago."""
        return self._exhausted and time.monotonic() - self._asked < LOOK_ELSEWHERE

    def _ask(self) -> bool:
        """Take up the next trial; whether there was one."""
        if self._asked_lately():
            return False
        self._asked = time.monotonic()
        found = self.study.next(self.settings.trials)
        self._exhausted = found is None
        if found is None:
            return False
        trial, lock = found
        active = Active(trial, lock, self.settings.jobs(trial.number, trial.params, self.study.folder(trial.number)))
        self.active.append(active)
        begun = any(is_run(job.directory) for job in active.waiting)
        self.watcher.started(trial, begun)
        active.pruned = trial.note.startswith("pruned")  # its process died while its training was stopping
        for job in list(active.waiting):
            if job.done() or job.diverged():
                active.waiting.remove(job)
                self._compare(active, job, 1.0)
                self._take(active, job, Outcome(0 if job.done() else 4, job.diverged() or "", None))
        if active.pruned:
            active.waiting.clear()
        self._settle(active)
        return True

    def look(self, stopping: bool) -> None:
        """See how far trainings are, prune trials, and collect what has ended."""
        for one in list(self.running):
            look = self.place.look(one.started)
            for line in look.news:
                self.watcher.say(line)
            active = one.active
            self._shares.at(one.job, look.where)
            if look.where:
                self._nodes.setdefault(active.trial.number, {})[one.job.seed] = look.where
                self._shares.came(one.job, one.steps, look.steps)
                one.steps = look.steps
            total = self.settings.steps or self._total(one.job)
            one.fraction = min(look.steps / total, 1.0) if total else 0.0
            if not look.running:
                self.running.remove(one)
                self._shares.ended(one.job, look.code or 0)
                outcome = self.place.collect(one.started)
                one.claim.release()
                if outcome.code == 0:
                    one.fraction = 1.0
                if not (stopping and outcome.code):
                    self._compare(active, one.job, one.fraction)
                    self._take(active, one.job, outcome)
                self._settle(active, stopping)
            elif not stopping:
                self._compare(active, one.job, one.fraction)
                if active.pruned:
                    active.waiting.clear()
                    self.place.stop(one.started)
        where = {number: ", ".join(sorted(set(nodes.values()))) for number, nodes in self._nodes.items()}
        shares = self._shares.rows([one.job for one in self.running])
        self.watcher.look({a.trial.number: self._fraction(a) for a in self.active}, where, shares)

    def _total(self, job: Job) -> int:
        """Steps of a training whose length is in minutes, once it has begun."""
        try:
            return int(read_info(job.directory)["steps"]) if is_run(job.directory) else 0
        except DataError:
            return 0

    def _fraction(self, active: Active) -> float:
        done = len(active.values) + sum(r.fraction for r in self.running if r.active is active)
        return done / len(self.settings.seeds)

    def _compare(self, active: Active, job: Job, fraction: float) -> None:
        """Compare the first seed's training with other trials where it has come to a rung; see whether to prune."""
        if not self.settings.prune or job.seed != self.settings.seeds[0] or active.pruned:
            return
        for part in RUNGS:
            if fraction * PARTS < part or part in active.trial.passed:
                continue
            total = self.settings.steps or self._total(job)
            score = self.settings.score(games_of(job.directory, total * part / PARTS))
            active.trial.reported[part] = score or 0.0
            if score is not None and self.study.prunes(active.trial.number, part, active.trial.reported[part]):
                active.pruned = True
                return
            active.trial.passed.add(part)

    def _take(self, active: Active, job: Job, outcome: Outcome) -> None:
        """What a training that has ended is worth. Raises PlayfieldError where it failed for no fault of its own."""
        if outcome.code == 0:
            active.values[job.seed] = value_of(self.settings, job)
            if active.values[job.seed] is None:
                active.notes.append(f"seed {job.seed}: no game ended")
        elif active.pruned:
            pass
        elif outcome.taken:
            active.waiting.insert(0, job)  # somebody resumes it by hand
        elif outcome.unplaced:  # on other nodes it would have been trained: it is no value
            why = "this trial is not decided, and the same command goes on with it"
            error = PlayfieldError(f"trial {active.trial.number}, seed {job.seed}: {outcome.line}; {why}")
            error.exit_code = outcome.code
            raise error
        elif outcome.code == UsageError.exit_code and active.trial.number == 0:
            raise UsageError(f"what the tuning begins from cannot be trained: {outcome.line}")
        elif outcome.code in (UsageError.exit_code, DivergedError.exit_code) or outcome.code < 0:
            # A signal that nobody here has sent is most often the system's, where memory is short.
            what = f"ended by signal {-outcome.code}" if outcome.code < 0 else outcome.line
            active.values[job.seed] = None
            active.notes.append(f"seed {job.seed}: {what}")
        else:
            error = PlayfieldError(f"trial {active.trial.number}, seed {job.seed}: {outcome.line}")
            error.exit_code = outcome.code if 1 <= outcome.code <= 6 else 1
            raise error

    def _settle(self, active: Active, stopping: bool = False) -> None:
        """Tell the study of a trial that has ended."""
        if any(r.active is active for r in self.running) or (stopping and not self._complete(active)):
            return
        if active.waiting and not active.pruned:
            return
        number = active.trial.number
        if active.pruned:
            self.study.tell_pruned(number)
        else:
            values = [active.values[seed] for seed in self.settings.seeds]
            known = {str(seed): v for seed, v in active.values.items() if v is not None}
            self.study.tell(number, together(self.settings, values), known, "; ".join(active.notes)[:1000])
        self.active.remove(active)
        active.lock.release()
        self.watcher.ended(self.study.trials()[number])

    def _complete(self, active: Active) -> bool:
        return active.pruned or active.values.keys() >= set(self.settings.seeds)

    def done(self) -> bool:
        """Whether no trial is left, neither here nor in another process."""
        return self._exhausted and not self.active and not self.study.elsewhere([])

    def stop(self, kill: bool = False) -> None:
        """Ask all trainings to save and end; with `kill`, end them."""
        for one in self.running:
            self.place.stop(one.started, kill)

    def leave(self) -> None:
        """Wait for none of them any more."""
        for one in self.running:
            one.claim.release()
        self.running.clear()

    def end(self) -> None:
        """Let all that still run save, leave none, and give all trials back: they can be taken up again."""
        end_all(self.place, [one.started for one in self.running])
        for one in self.running:
            self.place.collect(one.started)
            one.claim.release()
        for active in self.active:
            active.lock.release()
        self.running.clear()
        self.active.clear()
