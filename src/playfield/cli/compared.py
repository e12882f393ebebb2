"""What `playfield compare` shows: tables, pictures, JSON."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from playfield.cli.parser import say_line
from playfield.envs.names import resolve
from playfield.errors import PlayfieldError, UsageError
from playfield.experiments import chosen, compare, drawn, pictures, summary, tables, until
from playfield.experiments.grid import Kind
from playfield.play.statistics import MEAN
from playfield.runs.console import console, format_seconds, format_value, table
from playfield.runs.output import complain, lose

LISTED = 10  # runs that were left out
logger = logging.getLogger(__name__)


def show(a: argparse.Namespace, labels: Sequence[str], kinds: Sequence[Kind] = ()) -> int:
    """Read the runs of a comparison, write its pictures and print its tables; of a file, those of its `kinds`."""
    found = compare.choose(compare.read(a.dir, a.window, a.statistic), a.env, labels)
    if kinds:
        found = compare.of_file(found, kinds, a.file, a.dir)
    trusted = {c.env for c in found.curves} if a.trust else {resolve(env).id for env in a.env}
    how: dict[str, Any] = {"games": a.games or chosen.GAMES, "trusted": trusted, "say": complain}
    choice = chosen.choose(found.curves, a.score, a.window, **how)
    rows = compare.rows(found.curves, a.window, choice.scores)
    together, why = _summary(a, found, choice)
    times = None if a.until is None else until.find(found.curves, a.until, a.window)
    when = "" if times is None else until.note(a.until, a.window, found.curves)
    out = a.out or a.dir / "compare.png"
    more: list[Path] = []
    failed: Exception | None = None
    try:
        drawn.plot(found, out, a.window)
        if a.pictures and together is not None:
            more = pictures.draw(together, found.curves, out, a.window)
    except Exception as error:  # the table comes first: it is what the trainings were for
        failed = error
    left = [{"run": str(x.directory), "why": x.why} for x in found.left_out]
    notes = [_sentence(choice, rows), *drawn.protocols(found.curves), *found.notes]
    if a.json:
        same = [{"env": env, "labels": names} for env, names in found.alike]
        told: dict[str, Any] = {
            "picture": None if failed else str(out),
            "rows": rows,
            "left_out": left,
            "same_settings": same,
            "notes": found.notes,
            "versions": found.versions,
        }
        ends = {env: compare.compared_at(group) for env, group in compare.grouped(found.curves, _env).items()}
        told |= {"compared_at": ends}
        score = {"kind": choice.kind, "statistic": choice.statistic.name, "note": choice.note}
        told |= {"pictures": [str(path) for path in more], "score": score}
        if times is not None:
            each = [one.as_dict() for one in times]
            told["until"] = {"score": a.until, "window": a.window, "note": when, "rows": each}
        told |= {"aggregates": together.as_dict() if together else None, "no_aggregates": why or None}
        print(json.dumps(told))
    elif a.table:
        sys.stdout.write(tables.text(a.table, rows, [*notes, why] if why else notes, together, times or (), when))
    else:
        _print(rows, _sentence(choice, rows))
        for note in found.notes:
            say_line(note)
        for one in left[:LISTED]:
            say_line(f"  {one['run']}: {one['why']}")
        if len(left) > LISTED:
            say_line(f"  and {len(left) - LISTED} more: --json lists all")
        if times is not None:
            _print_times(times, when)
        if together is not None:
            _print_together(together)
        if why:
            say_line(why)
    if failed is not None and (a.out is not None or a.pictures):
        raise failed
    if failed is not None:
        logger.warning("no picture: %s", failed if isinstance(failed, PlayfieldError) else repr(failed))
    elif not a.json and not a.table:
        say_line(f"picture{'s' * bool(more)}: {', '.join(map(str, [out, *more]))}")
    return 0


def _env(curve: compare.LearningCurve) -> str:
    return curve.env


def _summary(
    a: argparse.Namespace, found: compare.Found, choice: chosen.Choice
) -> tuple[summary.Summary | None, str]:
    """Aggregates, where they were asked for or there are two environments or more; else why there are none."""
    asked = a.aggregate or a.pictures or a.baseline is not None
    if not asked and len({c.env for c in found.curves}) < 2:
        return None, ""
    try:
        return summary.summarise(found.curves, choice, baseline=a.baseline), ""
    except UsageError as error:
        if asked:
            raise
        return None, f"No aggregates: {str(error).rstrip('.')}."


def _sentence(choice: chosen.Choice, rows: Sequence[dict[str, Any]]) -> str:
    counts = sorted({len(row["seeds"]) for row in rows})
    seeds = f"{' or '.join(map(str, counts))} seed{'s' * (counts[-1] > 1)}"
    over = "" if choice.statistic == MEAN else f", mean over {seeds}"
    definition = f" {choice.statistic.definition}".rstrip()
    return (
        f"{choice.note[0].upper()}{choice.note[1:]}{over}.{definition} Interval: Student's t over {seeds}. Runs of a "
        "line differ in nothing but the seed."
    )


def _print(rows: Sequence[dict[str, Any]], sentence: str) -> None:
    output = console(110)  # without markup: labels may hold brackets
    headers = ("environment", "algorithm", "seeds", "at step", tables.head_of(rows), "95 % interval", "steps/s")
    lines = table(output, *headers, "time of a run", texts=2)
    before = None
    for row in rows:
        interval = "-" if row["low"] is None else f"{format_value(row['low'])} to {format_value(row['high'])}"
        lines.add_row(
            row["env"] if row["env"] != before else "",
            row["label"],
            tables.seeds(row),
            f"{row['step']:,}",
            format_value(row["mean"]),
            interval,
            "-" if row["steps_per_second"] is None else f"{row['steps_per_second']:,.0f}",
            format_seconds(row["seconds"]),
        )
        before = row["env"]
    _print_lines(output, lines)
    say_line(sentence)


def _print_times(times: Sequence[until.Until], sentence: str) -> None:
    output = console(110)  # without markup: labels may hold brackets
    lines = table(output, *until.HEADS, texts=2)
    for one in times:
        lines.add_row(*one.cells())
    _print_lines(output, lines)
    say_line(sentence)


def _print_together(together: summary.Summary) -> None:
    heads, cells = tables.aggregate_cells(together)
    output = console(110)  # without markup: labels may hold brackets
    lines = table(output, *heads)
    for row in cells:
        lines.add_row(*(cell.replace(" [", "\n[") if i else cell for i, cell in enumerate(row)))
    _print_lines(output, lines)
    for note in together.notes:
        say_line(note)


def _print_lines(output: Console, lines: Table) -> None:
    """Print a table; where that cannot be, say so: runs and picture are saved."""
    try:
        output.print(lines)
    except (OSError, ValueError) as error:
        lose(error)
