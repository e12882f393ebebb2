"""The trials of a tuning, in a journal file that Optuna reads and writes. This module alone imports Optuna.

Optuna's storage is its journal: lines of JSON to which every process appends, and which each reads from the start.
Nothing in it is pickled. Which trial comes next is decided under a lock, with a sampler that is seeded by the number
of the trial: a tuning that was killed goes on with the trial that would have come.
"""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from playfield.errors import DataError
from playfield.options import Option, Search
from playfield.runs.info import WRONG
from playfield.runs.lock import RunLock, held, in_use
from playfield.runs.storage import as_storage_error, lines_of, open_regular
from playfield.runs.strict_json import parse_json

JOURNAL = "journal.log"
MOST = 64 << 20  # bytes of a journal
MOST_LINES = 500_000
RUNGS = {1: 2, 3: 1}
"""After so many ninths of its budget a trial is compared with the others; so many thirds of them go on.

After 1/9 scores say little where learning has hardly begun, as on Breakout with minutes of budget. So only the worst
are stopped there.
"""
PARTS = 9
LEAST = 3  # other trials that have come as far before one is pruned
NAME = "tuning"

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0; trial 0 has the values that the tuning began from.
        params: the options that were chosen for it.
        state: `waiting`, `running`, `finished`, `pruned` or `failed` (it diverged, or cannot be trained).
        value: what is optimised, where it is finished; where that is the score, also of one that is pruned, so far.
        note: why it failed or where it was pruned.
        seeds: of each training, its seed and its own value.
        reported: early scores, by the ninths of the budget after which they were reported.
        passed: ninths after which it was compared with others and went on.
    """

    number: int
    params: dict[str, Any]
    state: str
    value: float | None
    note: str
    seeds: dict[str, float]
    reported: dict[int, float]
    passed: set[int]


def distribution(search: Search, option: Option) -> BaseDistribution:
    """What Optuna draws an option from."""
    if search.choices:
        return CategoricalDistribution(search.choices)
    if option.type == "int":
        return IntDistribution(int(search.low), int(search.high), log=search.log)
    return FloatDistribution(search.low, search.high, log=search.log)


class _JournalLock:
    """What Optuna locks the journal with while it appends: it vanishes with its process.

    Before each append the end of a line that a killed process has left half-written is cut off.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self._stack = directory, contextlib.ExitStack()

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._stack.enter_context(held(self.directory / ".journal"))
        _cut_torn_line(self.directory / JOURNAL)
        return True

    def release(self) -> None:
        """Give it back."""
        self._stack.close()


def _cut_torn_line(path: Path) -> None:
    with as_storage_error(f"cannot write {path}"), open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail = b""
        while size and not tail.count(b"\n"):
            start = max(0, size - len(tail) - 65536)
            file.seek(start)
            tail = file.read(size - start)
            if not start:
                break
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - len(tail) + tail.rfind(b"\n") + 1)


def _check(directory: Path) -> None:
    """Raise DataError for a journal that is no regular file, too large, or has a line that is no plain JSON."""
    path = directory / JOURNAL
    try:
        with open_regular(directory, JOURNAL, MOST):
            pass
        for number, line in enumerate(lines_of(directory, JOURNAL), 1):
            if number > MOST_LINES:
                raise DataError(f"it has more than {MOST_LINES:,} lines")
            if not line.endswith(b"\n") and line.startswith(b"{"):
                continue  # a write that was cut off
            if not isinstance(parse_json(line, f"line {number}", constants=True), dict):
                raise DataError(f"line {number} is no table")
    except DataError as error:
        raise DataError(f"cannot read {path}: {error}") from None


class Study:
    """The trials of a tuning in a directory. Several processes may have it open at once.

    Args:
        directory: of the tuning; the journal is created where there is none, unless `create` is None.
        space: what is searched, with the option of each.
        default: the values that trial 0 has.
        higher: whether higher values are better.
        seed: of the sampler.
        startup: trials before the sampler follows what it has seen.
        only_read: raise DataError where there is no journal.
    """

    def __init__(
        self,
        directory: Path,
        space: Mapping[str, tuple[Search, Option]],
        default: Mapping[str, Any],
        higher: bool,
        seed: int,
        startup: int,
        only_read: bool = False,
    ) -> None:
        self.directory, self.higher, self.seed, self.startup = directory, higher, seed, startup
        self.distributions = {name: distribution(*pair) for name, pair in space.items()}
        path = directory / JOURNAL
        with contextlib.nullcontext() if only_read else held(directory / ".ask"):
            if path.is_symlink() or path.exists() or only_read:
                _check(directory)
            elif not only_read:
                open_regular(directory, JOURNAL, append=True).close()
            with self._journal():
                storage = optuna.storages.JournalStorage(
                    JournalFileBackend(str(path), lock_obj=_JournalLock(directory))  # type: ignore[arg-type]
                )
                self.study = self._open(storage, default, only_read)

    def _open(self, storage: Any, default: Mapping[str, Any], only_read: bool) -> optuna.Study:
        pruner = optuna.pruners.NopPruner()  # see `prunes`
        names = optuna.get_all_study_names(storage)
        if names not in ([], [NAME]) or (only_read and not names):
            raise DataError(f"{self.directory / JOURNAL} is the journal of something else")
        direction = optuna.study.StudyDirection.MAXIMIZE if self.higher else optuna.study.StudyDirection.MINIMIZE
        if names:
            found = optuna.load_study(study_name=NAME, storage=storage, pruner=pruner)
            if found.directions != [direction]:
                raise DataError(f"{self.directory / JOURNAL} is the journal of another objective")
            return found
        study = optuna.create_study(study_name=NAME, storage=storage, pruner=pruner, direction=direction)
        study.enqueue_trial(dict(default))
        return study

    @contextlib.contextmanager
    def _journal(self) -> Iterator[None]:
        """Inside, mistakes in the journal are its own: a DataError."""
        try:
            yield
        except (AssertionError, *WRONG) as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            raise DataError(f"{self.directory / JOURNAL} is damaged ({reason})") from error

    def trials(self) -> list[Trial]:
        """All trials, by number. Raises DataError for a damaged journal."""
        with self._journal():
            return [self._trial(t) for t in self.study.get_trials(deepcopy=False)]

    def _trial(self, t: Any) -> Trial:
        states = {TrialState.WAITING: "waiting", TrialState.RUNNING: "running", TrialState.PRUNED: "pruned"}
        value = t.value
        if t.state is TrialState.PRUNED and not self.higher:
            value = None  # it was compared by its score, which is no time
        failed = t.state is TrialState.FAIL or (value is not None and not math.isfinite(value))
        note, seeds = t.user_attrs.get("note", ""), t.user_attrs.get("seeds", {})
        params = {name: t.params[name] for name in self.distributions if name in t.params}
        return Trial(
            number=int(t.number),
            params=params
            or {k: v for k, v in t.system_attrs.get("fixed_params", {}).items() if k in self.distributions},
            state="failed" if failed else states.get(t.state, "finished"),
            value=None if failed or value is None else float(value),
            note=str(note)[:1000],
            seeds={str(k): float(v) for k, v in seeds.items()},
            reported={int(k): self._signed(v) or 0.0 for k, v in t.intermediate_values.items()},
            passed={part for part in RUNGS if t.user_attrs.get(f"rung {part}") is False},
        )

    def _signed(self, value: float | None) -> float | None:
        """A score from what the pruner sees, and back: it compares in the direction of the study."""
        return value if value is None or self.higher else -value

    def next(self, most: int) -> tuple[Trial, RunLock] | None:
        """A trial to work on, and the lock that makes it this process's; None where there is none.

        It is one whose process has died, else a new one, while there are fewer than `most`.
        """
        with held(self.directory / ".ask"), self._journal():
            found = self.study.get_trials(deepcopy=False)
            for t in found:
                if t.state is TrialState.RUNNING and (lock := self._claim(t.number)):
                    self._complete(t)
                    return self._trial(self.study.get_trials(deepcopy=False)[t.number]), lock
            waiting = [t.number for t in found if t.state is TrialState.WAITING]
            if len(found) - len(waiting) >= most:
                return None
            number = waiting[0] if waiting else len(found)
            lock = self._claim(number)
            if lock is None:
                raise DataError(f"{self.folder(number)} is in use, although trial {number} has not begun")
            try:
                self.study.sampler = self._sampler(number)
                trial = self.study.ask(self.distributions)
                if trial.number != number:
                    raise ValueError(f"trial {trial.number} came instead of {number}")
                return self._trial(self.study.get_trials(deepcopy=False)[number]), lock
            except BaseException:
                lock.release()
                raise

    def _complete(self, t: Any) -> None:
        """Draw what a trial lacks whose process died while it was drawn: the same, with the same seed."""
        if self.distributions.keys() <= t.params.keys():
            return
        self.study.sampler = self._sampler(t.number)
        trial = self._handle(t.number)
        for name, d in self.distributions.items():
            trial._suggest(name, d)

    def _handle(self, number: int) -> optuna.Trial:
        return optuna.Trial(self.study, self.study.get_trials(deepcopy=False)[number]._trial_id)

    def _sampler(self, number: int) -> optuna.samplers.TPESampler:
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.startup)

    def folder(self, number: int) -> Path:
        """The directory of a trial: a run directory for each seed lies in it."""
        return self.directory / "trials" / f"{number:04d}"

    def _claim(self, number: int) -> RunLock | None:
        if in_use(self.folder(number)):
            return None
        lock = RunLock(self.folder(number))
        try:
            lock.acquire()
        except DataError:
            return None
        return lock

    def elsewhere(self, mine: Sequence[int]) -> bool:
        """Whether another process works on a trial, or has left one that nobody has taken yet."""
        return any(t.state == "running" and t.number not in mine for t in self.trials())

    def prunes(self, number: int, part: int, score: float) -> bool:
        """Report the score of a trial after `part` ninths of its budget; whether it is to be pruned.

        Asynchronous successive halving (Li et al. 2020): the best of those that have come as far go on, see `RUNGS`.
        It is computed here from the scores alone: Optuna's pruner remembers that it was asked, so a process that is
        killed before it has written the answer would get another one.
        """
        trial = self._handle(number)
        with self._journal():
            found = self.study.get_trials(deepcopy=False)
            if (before := found[number].user_attrs.get(f"rung {part}")) is not None:
                return bool(before)
            signed = self._signed(score)
            assert signed is not None
            if part not in found[number].intermediate_values:  # else a process was killed before it had decided
                trial.report(signed, part)
            others = [
                self._signed(t.intermediate_values[part]) or 0.0
                for t in found
                if t.number != number and part in t.intermediate_values
            ]
            keep = max(1, (len(others) + 1) * RUNGS[part] // 3)
            pruned = len(others) >= LEAST and score < sorted([*others, score])[-keep]
            if pruned:
                trial.set_user_attr("note", f"pruned after {part}/{PARTS} of its budget")
            trial.set_user_attr(f"rung {part}", pruned)
        return pruned

    def tell(self, number: int, value: float | None, seeds: Mapping[str, float], note: str = "") -> None:
        """The result of a trial; None: it has failed, which counts as the worst that there can be."""
        worst = -math.inf if self.higher else math.inf
        with self._journal():
            trial = self._handle(number)
            trial.set_user_attr("seeds", dict(seeds))
            if note:
                trial.set_user_attr("note", note)
            self.study.tell(number, worst if value is None else value)

    def tell_pruned(self, number: int) -> None:
        """A trial has been pruned and its training has stopped."""
        with self._journal():
            self.study.tell(number, state=TrialState.PRUNED)

    def best(self) -> Trial | None:
        """The finished trial with the best value; of equals the first."""
        finished = [t for t in self.trials() if t.state == "finished" and t.value is not None]
        sign = -1 if self.higher else 1
        return min(finished, key=lambda t: (sign * (t.value or 0.0), t.number), default=None)

    def importances(self) -> dict[str, float]:
        """How much each option decides whether a trial is among the best ones, by PED-ANOVA; sums to 1.

        Empty while fewer than four trials are finished, where all have the same value, or where so many share the
        worst one that nothing can be said of the best.
        """
        finished = [t for t in self.trials() if t.state == "finished"]
        if len(finished) < 4 or len({t.value for t in finished}) < 2:
            return {}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "Target and region quantiles")  # then all would be told to be equal
                found = optuna.importance.get_param_importances(
                    self.study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
                )
        except (RuntimeError, ValueError, UserWarning):  # the best ones do not differ
            return {}
        return {name: float(v) for name, v in found.items() if math.isfinite(v)}
