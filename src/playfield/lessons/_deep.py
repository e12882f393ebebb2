"""Lessons that train networks with several settings and seeds: their trainings are ordinary runs, which are kept.

They lie in `runs/lessons/LESSON-STEPS/ENV/SETTING/SEED`, each started by the command line that anyone could type.
What is finished is kept and what was stopped goes on exactly, so the same command continues a lesson after any stop,
and `playfield watch`, `eval` and `compare --dir` take these runs like all others.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield import compute
from playfield.errors import PlayfieldError, UsageError
from playfield.experiments import grid, local, replicates
from playfield.experiments.compare import LearningCurve, read_curve
from playfield.experiments.grid import Kind
from playfield.experiments.job import Job
from playfield.lessons._progress import Silent
from playfield.lessons._request import Request
from playfield.lessons._rows import Row
from playfield.play.statistics import difference_interval, t_interval
from playfield.runs.info import VERSION, is_run, read_info
from playfield.runs.lock import held
from playfield.training.prepare import Need, Prepared, fit_together, prepare
from playfield.training.request import Request as Training
from playfield.training.request import sort_options

RUNS = Path("runs/lessons")
GAME, ALGO = "breakout", "ppo"
WINDOW = 100  # games in a score
POINTS = 60  # of a curve


@dataclass(frozen=True)
class Setting:
    """One line of a comparison.

    Attributes:
        label: in tables, pictures, and the names of directories.
        options: of `playfield.train`, beside those that all settings share.
        published: the published score; None where there is none.
    """

    label: str
    options: Mapping[str, Any]
    published: float | None = None


@dataclass(frozen=True)
class Trained:
    """What a setting came to.

    Attributes:
        setting: it.
        runs: the run directory of each seed.
        curves: of each seed.
        diverged: how many of them diverged.
    """

    setting: Setting
    runs: Sequence[Path]
    curves: Sequence[LearningCurve]
    diverged: int = 0

    @property
    def seconds(self) -> float:
        """Of one training, the mean over seeds."""
        return float(np.mean([curve.seconds for curve in self.curves]))

    def scores_at(self, step: float) -> np.ndarray:
        """Mean score of the last games at `step`, float64 [runs]; NaN where no game has ended by then."""
        return np.array([_at(curve.steps, curve.values, step) for curve in self.curves])

    def scores_after(self, seconds: float) -> np.ndarray:
        """The same after so many seconds of training."""
        return np.array([_at(curve.clock, curve.values, seconds) for curve in self.curves])


def _at(x: np.ndarray, values: np.ndarray, where: float) -> float:
    """The last of `values` [n] whose `x` [n] is at most `where`; NaN before the first."""
    place = int(np.searchsorted(x, where, side="right")) - 1
    return float(values[place]) if place >= 0 else float("nan")


def root(lesson: str, steps: int) -> Path:
    """The directory of a lesson's runs."""
    return RUNS / f"{lesson}-{steps}"


def _fitting(needs: Sequence[Need], most: int, where: Path) -> int:
    """How many trainings, at most `most`, fit into memory and onto the disk at once; 1 where not even two do."""
    for jobs in range(most, 1, -1):
        with contextlib.suppress(UsageError):
            fit_together(needs, jobs, where)
            return jobs
    return 1


def train_all(request: Request, lesson: str, settings: Sequence[Setting], shared: Mapping[str, Any]) -> list[Trained]:
    """Train every setting with every seed, as far as that was not done before.

    Args:
        shared: options of `playfield.train` for all settings; those of the request come after them.

    Raises:
        UsageError: options that do not go together, trainings that do not fit into memory, or runs of other settings.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; all that ran is saved.
    """
    where, seeds = root(lesson, request.steps), tuple(range(1, request.runs + 1))
    own = _words(request.options)
    kinds = []
    for setting in settings:
        label = shlex.join([setting.label, *own]) if own else setting.label
        words = ("--algo", ALGO, *_words({**shared, **setting.options, **request.options}))
        kinds.append(Kind(GAME, label, words, seeds, request.steps))
    try:
        jobs = grid.plan(where, kinds)
    except UsageError as other:  # it speaks of options of `playfield compare`
        raise UsageError(
            f"{where} has runs of other settings, as an earlier version trained them: move it away, and the lesson "
            "trains its own"
        ) from other
    at_once = compute.cores()
    of_setting = [[job for job in jobs if job.label == kind.label] for kind in kinds]
    waiting = [job for job in jobs if not job.done() and not job.diverged()]
    ready = [prepare(_asked(where, {**shared, **s.options, **request.options})) for s in settings] if waiting else []
    for setting_jobs, asked in itertools.zip_longest(of_setting, ready):
        _check_alike(where, setting_jobs, asked)
    if waiting:
        at_once = _fitting([one.need for one in ready for _ in seeds], at_once, where)
        with held(where / ".claims"):
            grid.save_labels(where, jobs)
    try:
        failed = local.run_jobs(jobs, at_once, share=where / ".claims", quiet=isinstance(request.progress, Silent))
    except local.Interrupted as stop:
        stop.args = (f"{stop}; what was trained is saved in {where}, and the same command goes on",)
        raise
    for one in failed:
        if not one.diverged:
            error = PlayfieldError(f"training failed: {one.job.name}: {one.why}; the same command tries again")
            error.exit_code = one.code if one.code in range(2, 7) else 1
            raise error
    found = []
    for setting, kind in zip(settings, kinds, strict=True):
        runs = [kind.home(where) / str(seed) for seed in seeds]
        infos = [read_info(run) for run in runs]
        curves = [read_curve(run, info, WINDOW) for run, info in zip(runs, infos, strict=True)]
        found.append(Trained(setting, runs, curves, sum("diverged" in info for info in infos)))
    return found


def _check_alike(where: Path, jobs: Sequence[Job], asked: Prepared | None) -> None:
    """Refuse what is no replicate: runs of other steps, or of options that another version or machine chose.

    Args:
        jobs: of one setting.
        asked: what a new one would be; None where no job waits.
    """
    there = [(job, read_info(job.directory)) for job in jobs if is_run(job.directory)]
    for job, info in there:
        if info["steps"] != job.steps:
            raise UsageError(
                f"{job.directory} was trained for {info['steps']:,} steps, not {job.steps:,}: move {where} away, and "
                "the lesson trains its own"
            )
        now = replicates.settings(info)
        same = replicates.same(info) == replicates.same(there[0][1])
        if asked and not all(job.done() or job.diverged() for job in jobs):
            expected = _choices(asked, begins=len(there) < len(jobs))
            same = same and all(now.get(key, value) == value for key, value in expected.items())
        if not same:
            raise UsageError(
                f"{job.directory} was trained with other settings than the rest, as another version or machine "
                f"chose them: move {where} away, and the lesson trains its own"
            )


def _choices(asked: Prepared, begins: bool) -> dict[replicates.Key, Any]:
    """What a training here would be, as `replicates.settings` names it: one that `begins`, or one that goes on.

    One that goes on keeps its options, rules and number format.
    """
    told = json.loads(json.dumps({"option": dataclasses.asdict(asked.cfg), "protocol": asked.spec.protocol}))
    versions: dict[replicates.Key, Any] = {("version", "playfield"): VERSION}
    versions["protocol", "ale_py"] = told["protocol"].pop("ale_py")
    if not begins:
        return versions
    rules = {(kind, name): value for kind, part in told.items() for name, value in part.items() if name != "env"}
    return {**versions, **rules, ("run", "precision"): asked.compute.precision}


def _asked(where: Path, options: Mapping[str, Any]) -> Training:
    """The training that these options of `playfield.train` ask for."""
    fields = {field.name for field in dataclasses.fields(Training)}
    sorted_out = sort_options(
        ALGO,
        {name: value for name, value in options.items() if name in fields},
        {name: value for name, value in options.items() if name not in fields},
    )
    return Training(env=GAME, algo=ALGO, workers=1, run=where, **sorted_out)


def _words(options: Mapping[str, Any]) -> list[str]:
    """Options as words of `playfield train`."""
    words = []
    for name, value in options.items():
        words += [f"--{name.replace('_', '-')}", str(value).lower() if isinstance(value, bool) else str(value)]
    return words


def judged(request: Request, least: int) -> bool:
    """Whether a verdict is given: at least the lesson's own steps, and no other options than its own."""
    return request.steps >= least and not request.options


def difference_row(
    setting: str, measure: str, a: np.ndarray, b: np.ndarray, *, compared: bool, published: float | None = None
) -> Row:
    """A row for mean(a) - mean(b), [runs] each, which passes where Welch's 95 % interval is above 0.

    There is no verdict where a value is NaN: of a training in which no game has ended.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    known = bool(np.isfinite(a).all() and np.isfinite(b).all())
    low, high = difference_interval(a.tolist(), b.tolist()) if known else (np.nan, np.nan)
    ours = float(a.mean() - b.mean())
    few, compared = min(len(a), len(b)) < 2, compared and known
    claim = "interval above 0"
    return Row(setting, measure, published, ours, low, high, claim=claim, holds=low > 0, compared=compared, few=few)


def below_row(
    setting: str, measure: str, values: np.ndarray, bound: float, *, compared: bool, published: float | None = None
) -> Row:
    """A row for the mean of `values` [runs], which passes where Student's 95 % interval is below `bound`.

    There is no verdict where a value is NaN.
    """
    values = np.asarray(values, float)
    compared = compared and bool(np.isfinite(values).all())
    low, high = (float(end) for end in t_interval(values))
    more: dict[str, Any] = {"compared": compared, "few": len(values) < 2}
    claim = f"interval below {bound:g}"
    return Row(setting, measure, published, float(values.mean()), low, high, claim=claim, holds=high < bound, **more)


def notes(found: Sequence[Trained], lesson: str, steps: int) -> list[str]:
    """Lines below the table: where the runs lie, how they were trained, and which diverged."""
    where = root(lesson, steps)
    count = sum(len(one.runs) for one in found)
    lines = [
        f"{count} trainings of {steps:,} steps, {compute.cores()} at a time, in {where} "
        f"(playfield compare --dir {shlex.quote(str(where))} draws them)."
    ]
    lines += [
        f"{one.setting.label}: {one.diverged} of {len(one.runs)} diverged; the last score counts to the end."
        for one in found
        if one.diverged
    ]
    return lines
