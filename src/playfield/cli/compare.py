"""`playfield compare`."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from playfield.cli.parser import Parser, check_env, directory, env_kwargs, make, real, seed_list, whole
from playfield.cli.places import SLURM, add_on, at_once, check_on, here, nodes_of, opened, pins_of
from playfield.cli.statistic import add_statistic
from playfield.cli.train import understand
from playfield.envs.names import resolve
from playfield.envs.trust import admit
from playfield.errors import DataError, PlayfieldError, UsageError, unknown
from playfield.experiments import file, grid, heartbeat, local, slurm, until
from playfield.experiments.grid import Kind
from playfield.experiments.job import Job
from playfield.experiments.ready import Ready
from playfield.experiments.words import check_words, split_label
from playfield.play.statistics import MEAN
from playfield.runs import catalog
from playfield.runs.lock import held
from playfield.runs.output import complain
from playfield.runs.storage import atomic_write
from playfield.show.formats import check_plot

EXAMPLES = """examples:
  playfield compare CartPole-v1 Acrobot-v1 --algo dqn --algo "dqn --no-double" --algo pqn --steps 50k
  playfield compare breakout --algo dqn --algo c51 --seeds 2 --steps 150k -- --net nips
  playfield compare                                draw again what is in runs/compare, as far as it is
  playfield compare CartPole-v1 --json --dir runs/mine
  playfield compare CartPole-v1 --out cartpole.pdf for a paper: text stays text

The same command goes on after any stop; what is finished is kept. Words after -- go to every training."""
OUT = "the picture: a .png, .svg or .pdf file (default: compare.png in --dir)"


def compare(words: list[str]) -> int:
    """Train algorithms side by side, or draw what was trained: one picture, one table."""
    cut = words.index("--") if "--" in words else len(words)
    p = make("compare", compare.__doc__ or "", EXAMPLES)
    p.add_argument(
        "env",
        nargs="*",
        help="environments, one panel each; without --algo: those to plot. Or a file of an experiment: classic.toml",
    )
    p.add_argument(
        "--algo",
        action="append",
        default=[],
        metavar="WORDS",
        help='an algorithm and its options, as in --algo "dqn --no-double"; give one for each line',
    )
    p.add_argument("--steps", type=whole("--steps", 1), help="timesteps of every training (50k, 1M)")
    p.add_argument(
        "--seeds",
        type=seed_list("--seeds"),
        metavar="N|LIST",
        help="trainings of each: N for seeds 1 to N, or a list of seeds such as 3,7,9 (default 5)",
    )
    p.add_argument(
        "--jobs", type=whole("--jobs", 1, 1024), help="trainings at once (default: the cores that are free)"
    )
    add_on(p)
    p.add_argument("--submit", action="store_true", help="with --on slurm: submit the script, too")
    p.add_argument("--yes", action="store_true", help="start even what will take more than a day")
    p.add_argument("--trust", action="store_true", help="import the module of a module:Id that only a file names")
    p.add_argument("--extend", action="store_true", help="train finished runs on to a larger --steps")
    p.add_argument(
        "--dir",
        type=directory("--dir"),
        help="where the runs lie (default runs/compare; of a file: what it says, or runs/NAME)",
    )
    p.add_argument("--window", type=whole("--window", 1, 1e6), default=100, help="games that count (default 100)")
    p.add_argument("--out", type=directory("--out"), metavar="FILE", help=OUT)
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    _shown(p)
    env_kwargs(p)
    a, extra = p.parse(words[:cut]), words[cut + 1 :]
    check_on(a)
    if a.submit and a.on != SLURM:
        raise UsageError("--submit is for --on slurm")
    if a.env_kwargs:
        extra = ["--env-kwargs", *a.env_kwargs, *extra]
    if a.out is not None:
        check_plot(a.out)
    if a.json and a.table:
        raise UsageError("--json and --table are two outputs: give one")
    if a.games and a.score != "best":
        raise UsageError("--games is for --score best: the fresh games that a best checkpoint plays")
    told = shlex.join(["playfield", "compare", *words])
    if files := [name for name in a.env if name.endswith(".toml")]:
        if a.env != files[:1] or a.algo or extra:
            raise UsageError(f"{files[0]} says what is trained: give no environment, --algo or -- beside it")
        given = file.read(Path(files[0]))
        a.env, a.file = [], files[0]
        a.dir = a.dir or given.directory or Path("runs") / Path(files[0]).stem
        a.jobs = a.jobs or given.jobs
        a.statistic = a.statistic or given.statistic
        changed = {name: getattr(a, name) for name in ("steps", "seeds") if getattr(a, name)}
        kinds = [replace(kind, **_changes(changed)) for kind in given.kinds]
        _admit(kinds, a.trust)
        return _run(a, kinds, given, told)
    a.dir, a.statistic = a.dir or Path("runs/compare"), a.statistic or MEAN
    for env in a.env:
        if env in catalog.algorithms():
            raise UsageError(f"{env} is an algorithm, and environments come first: write --algo {env}")
        if os.path.isfile(env):
            raise UsageError(f"{env} is a file: the name of an experiment's file must end in .toml")
        check_env(env)
    labels = [" ".join(text.split()) for text in a.algo]
    if labels:
        return _run(a, _kinds_of(a, labels, extra), None, told, labels)
    for_training = ("steps", "seeds", "jobs", "on", "store", "extend", "yes")
    training = [f"--{n}" for n in for_training if getattr(a, n)] + ["--"] * bool(extra)
    if training:
        raise UsageError(f"{training[0]} is for training: name what to train, as in --algo dqn --algo pqn")
    if not a.dir.is_dir():
        raise UsageError(f"there is no directory {a.dir}: train first, see playfield compare --help")
    return _show(a, labels)


def _admit(kinds: Sequence[Kind], trust: bool) -> None:
    """Raise DataError where a module would be imported that only the file names, unless it is trusted."""
    for kind in kinds:
        try:
            admit(resolve(kind.env).id, named_by_user=trust)
        except DataError as error:
            raise DataError(f"{kind.file}: {error}") from None


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """What --steps and --seeds change in the kinds of a file."""
    changes: dict[str, Any] = {}
    if "steps" in given:
        changes |= {"steps": given["steps"], "minutes": None}
    if "seeds" in given:
        changes["seeds"] = tuple(given["seeds"])
    return changes


def _kinds_of(a: argparse.Namespace, labels: Sequence[str], extra: Sequence[str]) -> list[Kind]:
    """What the words of the command ask for, checked as far as that goes without torch."""
    if not a.env:
        raise UsageError("which environments? For example: playfield compare CartPole-v1 --algo dqn --steps 50k")
    if a.steps is None:
        raise UsageError("how many steps for each training? For example: --steps 50k")
    for names, what in ((a.env, "environment"), (labels, "--algo")):
        if twice := {n for n in names if names.count(n) > 1}:
            raise UsageError(f"{what} {min(twice)} is given twice")
    check_words(extra, "after --", f"{extra[0]!r} is no option" if extra else "")
    for label in labels:
        if not label.isprintable():
            raise UsageError(f"--algo {label!r}: it holds characters that cannot be printed")
        algo, *own = split_label(label)
        if {*algo.split(",")} <= {"", *catalog.algorithms()} and "," in algo:
            each = " ".join(f"--algo {one}" for one in algo.split(",") if one)
            raise UsageError(f"--algo takes one algorithm, and may be given several times: {each}")
        if algo not in catalog.algorithms():
            raise unknown("algorithm", algo, catalog.algorithms())
        check_words(own, f"in --algo {label!r}", "the algorithm comes first, then its options")
    return grid.from_words(a.env, labels, extra, a.seeds or grid.FIRST_SEEDS, a.steps)


def _run(
    a: argparse.Namespace,
    kinds: Sequence[Kind],
    given: file.Experiment | None,
    command: str,
    labels: Sequence[str] = (),
) -> int:
    """Train what is not trained yet, then show all of it."""
    if a.until is not None:
        until.check([kind.env for kind in kinds])
    ended = _train(a, kinds, given, command)
    if ended is None:
        return 0
    shown = [*given.kinds, *kinds] if given else []  # with the seeds of the file and those of --seeds
    for one in ended:
        if one.diverged:  # a result, which the table counts
            complain(f"{one.job.name}: {one.why}")
    if failed := [one for one in ended if not one.diverged]:
        with contextlib.suppress(UsageError):  # nothing to draw
            _show(a, labels, shown)
        first, why, _ = failed[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        error = PlayfieldError(f"training failed: {first.name}{others}: {why}; the same command tries again")
        error.exit_code = failed[0][2] if failed[0][2] in range(2, 7) else 1
        raise error
    return _show(a, labels, shown)


def _show(a: argparse.Namespace, labels: Sequence[str], kinds: Sequence[Kind] = ()) -> int:
    from playfield.cli.compared import show  # NumPy and matplotlib, which a mistake need not wait for

    return show(a, labels, kinds)


def _shown(p: Parser) -> None:
    """Options for what is shown of runs."""
    p.add_argument("--table", choices=("md", "csv", "latex"), help="the tables on standard output, nothing else")
    p.add_argument(
        "--score",
        choices=("final", "best", "eval"),
        default="final",
        help="final: of the last training games (default); eval: of the evaluation nearest to that step (see "
        "--eval-every of train); best: of fresh games of the best checkpoint",
    )
    add_statistic(p, "of these games, the score of a training")
    p.add_argument("--games", type=whole("--games", 1, 1e6), help="fresh games for --score best (default 30)")
    p.add_argument(
        "--aggregate",
        action="store_true",
        help="IQM, median, mean and optimality gap of normalised scores (default: of two environments or more)",
    )
    p.add_argument(
        "--until",
        type=real("--until", -1e38),
        metavar="SCORE",
        help="also after how many steps, and how much time, each reached this score: the mean, or --statistic, of "
        "the last --window training games",
    )
    p.add_argument("--baseline", metavar="WORDS", help="the algorithm to compare with (default: the first)")
    p.add_argument(
        "--pictures",
        action="store_true",
        help="also pictures of the aggregates: intervals, profiles, curves, matrices",
    )


def _train(
    a: argparse.Namespace, kinds: Sequence[Kind], given: file.Experiment | None, command: str
) -> list[local.Failure] | None:
    """Check everything, then train; returns those that failed, None where they are left to SLURM."""
    ready = Ready(a.dir, lambda words: understand(words)[0], complain, here(a))
    asked, (kinds, jobs, before) = kinds, _plan(a, kinds, ready)
    waiting = [job for job in jobs if not job.done() and not job.diverged()]
    if not waiting:
        return local.run_jobs(jobs, 1) if any(not job.done() for job in jobs) else []
    ready.prepare(kinds)
    ready.check_presets(kinds)
    with opened(a, a.dir, lambda job: ready.of(job.words)) as (place, slots):
        parallel = a.jobs or (slots() if a.on != SLURM else len(waiting))
        ready.check_fit(waiting, parallel)
        if not ready.here:
            ready.check_nodes(kinds, waiting, nodes_of(place))
        prepared = {kind: ready.of(kind.train_words) for kind in kinds}
        if given is not None:
            file.note_differences(given, prepared, complain)
        together = at_once(place, parallel, max(ready.of(job.words).compute.workers for job in waiting))
        ready.say_how_long(waiting, together, a.yes, " if SLURM has room for them" * (a.on == SLURM))
        with held(a.dir / ".claims"):
            if (now := file.stored(a.dir)) != before:  # another process was faster: the steps it has measured count
                kinds, jobs, now = _plan(a, asked, ready)
                ready.prepare(kinds)
                prepared = {kind: ready.of(kind.train_words) for kind in kinds}
            grid.save_labels(a.dir, jobs)
            atomic_write(a.dir / file.NAME, file.resolved(a.dir, prepared, now, a.statistic))
        if a.on == SLURM:
            _queue(a, [job for job in jobs if not job.done() and not job.diverged()], ready)
            return None
        try:
            share = a.dir / ".claims" if place is None and not a.jobs else None
            return local.run_jobs(jobs, a.jobs or slots, place, share)
        except local.Interrupted as stop:
            stop.args = (f"{stop}; what was trained is saved. Go on with: {command}",)
            raise


def _queue(a: argparse.Namespace, jobs: Sequence[Job], ready: Ready) -> None:
    """Write the script of a job array, and submit it where that is asked for. What runs or waits is left out."""
    words = "looking for {:.0f} s whether other machines still run {} of these"
    used = heartbeat.users(
        [job.directory for job in jobs], lambda count: complain(words.format(heartbeat.WATCH, count))
    )
    if running := [job for job in jobs if job.directory in used]:
        more = f", and {len(running) - 1} more" if len(running) > 1 else ""
        complain(f"left out: {running[0].name} is in use by {used[running[0].directory]}{more}")
    queued = slurm.waiting(a.dir, [job for job in jobs if job.directory not in used], complain)
    if queued:
        name = next(job.name for job in jobs if job.directory in queued)
        which = " ".join(map(str, sorted(set(queued.values()))))
        more = f", and {len(queued) - 1} more" if len(queued) > 1 else ""
        complain(
            f"left out: {name} waits in array {which}{more} (to submit them anew: scancel --state=PENDING {which})"
        )
    if left := [job for job in jobs if job.directory not in used and job.directory not in queued]:
        array = slurm.write(a.dir, left, lambda job: pins_of(ready.of(job.words)), a.jobs)
        complain(f"{array.script}: {len(left)} training{'s' * (len(left) > 1)}")
        complain(slurm.submit(array) if a.submit else f"submit it with: sbatch {shlex.quote(str(array.script))}")
    else:
        complain("nothing is left to submit")
    complain(f"draw what is there at any time with: playfield compare --dir {shlex.quote(str(a.dir))}")


def _plan(
    a: argparse.Namespace, asked: Sequence[Kind], ready: Ready
) -> tuple[list[Kind], list[Job], file.Experiment | None]:
    """What is trained, with its steps; its jobs; and what the file beside the results says so far.

    Raises UsageError where the directory has other runs.
    """
    while True:
        before = file.stored(a.dir)
        kinds = [ready.with_steps(kind, before) for kind in asked]
        if file.stored(a.dir) == before:  # nothing came from another process while speeds were measured
            break
    jobs = grid.plan(a.dir, kinds, ready.same)
    for job in jobs:
        job.check(a.extend)
    return kinds, jobs, before
