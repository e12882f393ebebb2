"""`playfield compare`."""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.arguments import ALIASES
from playfield.cli.parser import check_env, directory, env_kwargs, kebab, make, say_line, seed_list, whole
from playfield.cli.train import understand
from playfield.errors import PlayfieldError, StorageError, UsageError, unknown
from playfield.runs import catalog
from playfield.runs.console import console, format_seconds, format_value, table
from playfield.runs.output import complain
from playfield.show.formats import check_plot
from playfield.training.prepare import fit_together, prepare
from playfield.training.request import Request

EXAMPLES = """examples:
  playfield compare CartPole-v1 Acrobot-v1 --algo dqn --algo "dqn --double true" --algo pqn --steps 50k
  playfield compare breakout --algo dqn --algo c51 --seeds 2 --steps 150k -- --net nips
  playfield compare                                draw again what is in runs/compare, as far as it is
  playfield compare CartPole-v1 --json --dir runs/mine
  playfield compare CartPole-v1 --out cartpole.pdf for a paper: text stays text

The same command goes on after any stop; what is finished is kept. Words after -- go to every training."""
OUT = "the picture: a .png, .svg or .pdf file (default: compare.png in --dir)"
LISTED = 10  # runs that were left out
# Words of `train` that a comparison sets itself.
logger = logging.getLogger(__name__)
OURS = {
    "algo",
    "steps",
    "minutes",
    "seed",
    "run",
    "resume",
    "games",
    "target-score",
    "target-games",
    "film",
    "no-film",
}
OURS |= {"tensorboard", "no-tensorboard", "quiet", "profile", "help"}


def compare(words: list[str]) -> int:
    """Train algorithms side by side, or draw what was trained: one picture, one table."""
    cut = words.index("--") if "--" in words else len(words)
    p = make("compare", compare.__doc__ or "", EXAMPLES)
    p.add_argument("env", nargs="*", help="environments, one panel each; without --algo: those to plot")
    p.add_argument(
        "--algo",
        action="append",
        default=[],
        metavar="WORDS",
        help='an algorithm and its options, as in --algo "dqn --double true"; give one for each line',
    )
    p.add_argument("--steps", type=whole("--steps", 1), help="timesteps of every training (50k, 1M)")
    p.add_argument(
        "--seeds",
        type=seed_list("--seeds"),
        metavar="N|LIST",
        help="trainings of each: N for seeds 1 to N, or a list of seeds such as 3,7,9 (default 5)",
    )
    p.add_argument("--jobs", type=whole("--jobs", 1, 1024), help="trainings at once (default: the cores)")
    p.add_argument("--extend", action="store_true", help="train finished runs on to a larger --steps")
    p.add_argument(
        "--dir",
        type=directory("--dir"),
        default=Path("runs/compare"),
        help="where the runs lie (default runs/compare)",
    )
    p.add_argument("--window", type=whole("--window", 1, 1e6), default=100, help="games in the mean (default 100)")
    p.add_argument("--out", type=directory("--out"), metavar="FILE", help=OUT)
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    env_kwargs(p)
    a, extra = p.parse(words[:cut]), words[cut + 1 :]
    if a.env_kwargs:
        extra = ["--env-kwargs", *a.env_kwargs, *extra]
    for env in a.env:
        check_env(env)
    if a.out is not None:
        check_plot(a.out)
    labels = [" ".join(text.split()) for text in a.algo]
    if not labels:
        given = [f"--{n}" for n in ("steps", "seeds", "jobs", "extend") if getattr(a, n)] + ["--"] * bool(extra)
        if given:
            raise UsageError(f"{given[0]} is for training: name what to train, as in --algo dqn --algo pqn")
        if not a.dir.is_dir():
            raise UsageError(f"there is no directory {a.dir}: train first, see playfield compare --help")
        return _show(a, labels)
    ended = _train(a, labels, extra, shlex.join(["playfield", "compare", *words]))
    for one in ended:
        if one.diverged:  # a result, which the table counts
            complain(f"{one.job.name}: {one.why}")
    if failed := [one for one in ended if not one.diverged]:
        with contextlib.suppress(UsageError):  # nothing to draw
            _show(a, labels)
        first, why, _ = failed[0]
        others = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        error = PlayfieldError(f"training failed: {first.name}{others}: {why}; the same command tries again")
        error.exit_code = failed[0][2] if failed[0][2] in range(2, 7) else 1
        raise error
    return _show(a, labels)


def _train(a: argparse.Namespace, labels: Sequence[str], extra: Sequence[str], command: str) -> list[Any]:
    """Check everything, then train; returns those that failed."""
    if not a.env:
        raise UsageError("which environments? For example: playfield compare CartPole-v1 --algo dqn --steps 50k")
    if a.steps is None:
        raise UsageError("how many steps for each training? For example: --steps 50k")
    for names, what in ((a.env, "environment"), (labels, "--algo")):
        if twice := {n for n in names if names.count(n) > 1}:
            raise UsageError(f"{what} {min(twice)} is given twice")
    check_words(extra, "after --", f"{extra[0]!r} is no option" if extra else "")
    for label in labels:
        algo, *own = split_label(label)
        if algo not in catalog.algorithms():
            raise unknown("algorithm", algo, catalog.algorithms())
        check_words(own, f"in --algo {label!r}", "the algorithm comes first, then its options")
    from playfield.experiments import compare, local

    trainings = compare.plan(a.dir, a.env, labels, extra, a.seeds or range(1, 6), a.steps)
    for training in trainings:
        training.check(a.extend)
    if waiting := [t for t in trainings if not t.done()]:
        jobs = a.jobs or compute.cores()
        _understand_all(waiting, jobs, a.dir)
        compare.save_labels(a.dir, trainings)
        try:
            return local.run_jobs(trainings, jobs)
        except local.Interrupted as stop:
            stop.args = (f"{stop}; what was trained is saved. Go on with: {command}",)
            raise
    return []


def split_label(label: str) -> list[str]:
    """An algorithm and its options, as in `dqn --double true`."""
    try:
        words = shlex.split(label)
    except ValueError as error:
        raise UsageError(f"--algo {label!r}: {error}") from None
    if not words:
        raise UsageError(f"--algo takes an algorithm and its options: {', '.join(catalog.algorithms())}")
    return words


def check_words(
    words: Sequence[str], where: str, why: str, ours: Collection[str] = frozenset(OURS), who: str = "a comparison"
) -> None:
    """Words of `train` that a label or the end of the command may hold."""
    if words and not words[0].startswith("-"):
        raise UsageError(f"{where}: {why}")
    for word in words:
        name = kebab(word).partition("=")[0].removeprefix("--")
        meant = {name, *ALIASES.get(name, ())}
        if word.startswith("-") and (meant & set(ours) or word == "-h"):
            raise UsageError(f"{word.partition('=')[0]} {where}: {who} sets that itself")


def _understand_all(trainings: Sequence[Any], jobs: int, root: Path) -> None:
    """Every mistake in the words of the trainings, and what does not fit here, before the first one starts."""
    understood = []
    for t in {t.words: t for t in trainings}.values():
        with _naming(t):
            understood.append((t, understand([*t.words, "--steps", str(t.steps)])[0]))
    needs = {}
    for t, options in understood:
        with _naming(t):
            needs[t.words] = prepare(Request(**{**options, "run": root})).need
    fit_together([needs[t.words] for t in trainings], jobs, root)


@contextlib.contextmanager
def _naming(t: Any) -> Any:
    try:
        yield
    except (UsageError, StorageError) as error:
        raise type(error)(f"{t.label} on {t.env}: {error}") from None


def _show(a: argparse.Namespace, labels: Sequence[str]) -> int:
    from playfield.experiments import compare, drawn

    found = compare.choose(compare.read(a.dir, a.window), a.env, labels)
    rows = compare.rows(found.curves, a.window)
    out = a.out or a.dir / "compare.png"
    left = [{"run": str(x.directory), "why": x.why} for x in found.left_out]
    failed: Exception | None = None
    try:
        drawn.plot(found, out, a.window)
    except Exception as error:  # the table comes first: it is what the trainings were for
        failed = error
    picture = None if failed else str(out)
    if a.json:
        same = [{"env": env, "labels": names} for env, names in found.alike]
        print(json.dumps({"picture": picture, "rows": rows, "left_out": left, "same_settings": same}))
    else:
        _print(rows)
        for note in found.notes:
            say_line(note)
        for one in left[:LISTED]:
            say_line(f"  {one['run']}: {one['why']}")
        if len(left) > LISTED:
            say_line(f"  and {len(left) - LISTED} more: --json lists all")
    if failed is not None and a.out is not None:
        raise failed
    if failed is not None:
        logger.warning("no picture: %s", failed if isinstance(failed, PlayfieldError) else repr(failed))
    elif not a.json:
        say_line(f"picture: {out}")
    return 0


def _print(rows: Sequence[dict[str, Any]]) -> None:
    output = console(110, markup=True)
    headers = ("environment", "algorithm", "seeds", "at step", "mean score", "95 % interval", "steps/s")
    lines = table(output, *headers, "time of a run", texts=2)
    before = None
    for row in rows:
        interval = "-" if row["low"] is None else f"{format_value(row['low'])} to {format_value(row['high'])}"
        open_runs = row["finished"].count(False) - row["diverged"]
        states = [f"{n} {word}" for n, word in ((open_runs, "unfinished"), (row["diverged"], "diverged")) if n]
        lines.add_row(
            row["env"] if row["env"] != before else "",
            row["label"],
            str(len(row["seeds"])) + (f" ({', '.join(states)})" if states else ""),
            f"{row['step']:,}",
            format_value(row["mean"]),
            interval,
            "-" if row["steps_per_second"] is None else f"{row['steps_per_second']:,.0f}",
            format_seconds(row["seconds"]),
        )
        before = row["env"]
    output.print(lines)
    say_line(
        f"Mean raw score of the last {rows[0]['window']} training games at that step; "
        "the interval is Student's t over seeds. Runs of a line differ in nothing but the seed."
    )
