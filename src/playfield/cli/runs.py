"""`playfield runs`."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playfield.cli.parser import directory, make, say_line, seed_list
from playfield.cli.statistic import add_statistic
from playfield.compute import readable_size
from playfield.errors import DataError, UsageError, unknown, visible
from playfield.experiments.clean import clean, spare, whole
from playfield.experiments.records import COLUMNS, SORTS, STATES, list_runs, other_games
from playfield.play.statistics import MEAN, Statistic
from playfield.runs.console import console, format_scores, format_seconds, table

EXAMPLES = """examples:
  playfield runs                                  every run under runs/
  playfield runs --env breakout --sort score      those of one game, the best first
  playfield runs runs/compare --state stopped     what is not finished
  playfield runs --statistic median               the median of each run's games, not their mean
  playfield runs --csv > runs.csv                 for a spreadsheet; --json for programs
  playfield runs --state diverged --remove        says what would be removed; --yes removes it
  playfield runs --prune --yes                    keeps the newest and the best checkpoint of each run

In Python: playfield.list_runs("runs"), a list of dictionaries that pandas.DataFrame takes."""


def runs(words: list[str]) -> int:
    """List the runs under a folder, with scores and states; remove or prune them."""
    p = make("runs", runs.__doc__ or "", EXAMPLES)
    p.add_argument(
        "folder",
        nargs="*",
        type=directory("folder"),
        help="where the runs are, at any depth, or runs themselves (default runs)",
    )
    p.add_argument("--env", help="only runs of this environment")
    p.add_argument("--algo", help="only of this algorithm")
    p.add_argument("--preset", help="only of this preset")
    p.add_argument(
        "--seed", type=seed_list("--seed"), metavar="N|LIST", help="only of seeds 1 to N, or of a list 3,7"
    )
    p.add_argument("--state", help=f"only {', '.join(STATES)}")
    p.add_argument("--sort", default="run", metavar="KEY", help=f"by {', '.join(SORTS)} (default run)")
    p.add_argument("--reverse", action="store_true", help="in the opposite order")
    add_statistic(p, "of its games, the score of a run", MEAN)
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    p.add_argument("--csv", action="store_true", help="CSV on standard output, nothing else")
    p.add_argument("--remove", action="store_true", help="remove the runs that are listed; never a running one")
    p.add_argument(
        "--prune",
        action="store_true",
        help="remove their older checkpoints (not the newest and the best), and replay buffers of finished runs",
    )
    p.add_argument("--yes", action="store_true", help="with --remove and --prune: do it")
    a = p.parse(words)
    for kind, name, known in (("state", a.state, STATES), ("key", a.sort, SORTS)):
        if name is not None and name not in known:
            raise unknown(kind, name, known)
    if a.remove and a.prune:
        raise UsageError("give --remove or --prune, not both")
    if a.json and a.csv:
        raise UsageError("give --json or --csv, not both")
    if a.yes and not (a.remove or a.prune):
        raise UsageError("--yes goes with --remove or --prune")
    if (a.remove or a.prune) and (a.json or a.csv):
        raise UsageError(f"--{'remove' if a.remove else 'prune'} prints no --{'json' if a.json else 'csv'}")
    folders = a.folder or [Path("runs")]
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no directory {folder}: train first, or name where the runs are")
    filters = {"env": a.env, "algo": a.algo, "preset": a.preset, "seed": a.seed, "state": a.state}
    found = list_runs(folders, **filters, sort=a.sort, reverse=a.reverse, statistic=a.statistic.name)
    if a.json:
        print(json.dumps(found))
    elif a.csv:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        print(text.getvalue(), end="")
    elif a.remove or a.prune:
        return _clean(a, folders, [Path(r["run"]) for r in found])
    else:
        _print(found, folders, a.statistic)
    return 0


def _print(found: Sequence[dict[str, Any]], folders: Sequence[Path], statistic: Statistic) -> None:
    if not found:
        say_line(f"no such run under {', '.join(map(str, folders))}")
        return
    output = console(150)
    score = "score" if statistic == MEAN else statistic.title
    headers = ("run", "environment", "algorithm", "state", "seed", "steps", score, "95 % interval", "over")
    lines = table(output, *headers, "time", texts=4)
    for r in found:
        score, *ends = _scores(r)
        of = {"evaluation": "games", "training": "training games"}.get(r["scored"], "")
        lines.add_row(
            visible(r["run"]),
            visible(str(r["env"] or "-")),
            visible(_algorithm(r)),
            r["state"],
            "-" if r["seed"] is None else str(r["seed"]),
            _steps(r),
            score,
            " to ".join(ends),
            f"{r['games']} {of}" if r["games"] else "",
            "-" if r["seconds"] is None else format_seconds(r["seconds"]),
        )
    output.print(lines)
    counts = Counter(r["state"] for r in found)
    say_line(f"{len(found)} run{'s' * (len(found) > 1)}: " + ", ".join(f"{n} {s}" for s, n in counts.items()))
    for r in [r for r in found if r["note"]][:10]:
        say_line(visible(f"  {r['run']}: {r['state']}: {r['note']}"))


def _algorithm(r: dict[str, Any]) -> str:
    """The algorithm, its preset, and options by which a score means something else than that of a whole training."""
    if not r["algo"]:
        return "-"
    preset = [f"preset {r['preset']}"] if r["preset"] not in (None, "default") else []
    return ", ".join([r["algo"], *preset, *other_games(r)])


def _scores(r: dict[str, Any]) -> list[str]:
    if r["score"] is None:
        return ["-"]
    return format_scores(r["score"], *([r["low"], r["high"]] if r["low"] is not None else []))


def _steps(r: dict[str, Any]) -> str:
    if r["steps"] is None:
        return "-"
    step = r["step"] or 0
    return f"{step:,}" if step >= r["steps"] else f"{step:,} of {r['steps']:,}"


def _clean(a: argparse.Namespace, folders: Sequence[Path], found: Sequence[Path]) -> int:
    chosen = [(whole if a.remove else spare)(run) for run in found]
    kept = [one for one in chosen if one.why_not]
    chosen = [one for one in chosen if one.paths or one.replay]
    for one in kept:
        say_line(visible(f"stays as it is: {one.run}: {one.why_not}"))
    if not chosen:
        say_line("nothing to remove")
        return DataError.exit_code if kept else 0
    done = "removed" if a.yes else "would be removed"
    freed = 0
    for one in chosen:
        if a.yes:
            clean(one, next(f for f in folders if one.run.is_relative_to(f)))
        what = [
            *[os.path.relpath(path, one.run) for path in one.paths if path != one.run],
            *["the replay buffer: it cannot be trained longer"] * one.replay,
        ]
        say_line(visible(f"{done}: {one.run}{': ' * bool(what)}{', '.join(what)} ({readable_size(one.size)})"))
        freed += one.size
    say_line(f"{len(chosen)} run{'s' * (len(chosen) > 1)}, {readable_size(freed)}")
    if not a.yes:
        raise UsageError("nothing was removed: add --yes to do it")
    return DataError.exit_code if kept else 0
