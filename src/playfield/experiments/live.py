"""Reads the runs of a folder for the live page, again and again: only what has changed since the last time.

Nothing is written. A run that cannot be read is listed with the reason, and hides no other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import PlayfieldError, cut
from playfield.experiments import compare, drawn, records, replicates
from playfield.experiments.compare import LearningCurve, grouped
from playfield.play.statistics import t_interval
from playfield.runs.console import format_scores, format_seconds
from playfield.runs.info import WRONG, read_info
from playfield.runs.lock import holder
from playfield.runs.logger import WINDOW
from playfield.show.compare_plot import BAND
from playfield.show.plots import on_common_steps
from playfield.show.watch.board import Group, Looked, Run

NOTHING = np.empty(0)
FILES = ("run.json", "monitor.csv", "metrics.csv", "eval", "../compare.json")
"""What decides the row and the curve of a run, beside its lock."""


@dataclass(frozen=True, eq=False)
class _Read:
    """A run as it was read: its record, its curve (None: it cannot be drawn), and what its files were then."""

    signature: tuple[Any, ...]
    record: records.Record
    curve: LearningCurve | None


class Reader:
    """The runs under a folder, read again where their files have changed.

    Args:
        folder: where the runs are, at any depth.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, _Read] = {}
        self._looked: Looked | None = None

    def look(self) -> Looked:
        """All runs and the means of their groups. Raises UsageError where the folder is gone."""
        found = {}
        for run in records.find(self.folder):
            before, now = self._read.get(run), _signature(run)
            found[run] = before if before is not None and before.signature == now else _read(run, now)
        if self._looked is not None and list(found.items()) == list(self._read.items()):
            return self._looked
        self._read, self._looked = found, None  # no old answer where this one fails
        curves = compare.pooled([one.curve for one in found.values() if one.curve is not None])
        by_run = {curve.directory: curve for curve in curves.curves}
        left = {one.directory: one for one in curves.left_out}
        places = drawn.label_places(curves.curves)
        runs = []
        for directory in sorted(found, key=lambda run: records.natural(str(run))):
            told, curve = found[directory].record, by_run.get(directory)
            label = curve.label if curve else left[directory].label if directory in left else str(told["algo"] or "")
            note = told["note"] or (f"not drawn: {left[directory].why}" if directory in left else "")
            runs.append(
                Run(
                    directory,
                    {**_cells(told), "note": cut(note)},
                    curve.env if curve else str(told["env"] or ""),
                    label,
                    places[label] if curve else None,
                    curve.steps if curve else NOTHING,
                    curve.means if curve else NOTHING,
                )
            )
        self._looked = Looked(runs, list(_groups([c for c in curves.curves if c.steps.size], places)))
        return self._looked


def _signature(run: Path) -> tuple[Any, ...]:
    """What changes when the files of a run do, or when its training starts or ends."""
    found: list[Any] = [holder(run) is not None]
    for name in FILES:
        try:
            status = os.stat(run / name)
            found.append((status.st_mtime_ns, status.st_size, status.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)


def _read(run: Path, signature: tuple[Any, ...]) -> _Read:
    told, curve = {**dict.fromkeys(records.COLUMNS), "run": str(run), "state": "damaged", "note": ""}, None
    try:
        told = records.record(run)
        if told["state"] != "damaged":
            info = read_info(run)
            if replicates.edited(info):
                told["note"] = "not drawn: its run.json was changed by hand, so it does not say what was trained"
            else:
                curve = compare.read_curve(run, info, WINDOW)
                replicates.labels([(None, info)])  # raises what would else end the look at all runs
    except (PlayfieldError, OSError, *WRONG) as error:
        told, curve = {**told, "state": "damaged", "note": str(error) or type(error).__name__}, None
    return _Read(signature, told, curve)


def _cells(told: records.Record) -> dict[str, Any]:
    """What the table shows of a record, and by what it sorts."""
    score, ends = None, ""
    if told["score"] is not None:
        score, *both = format_scores(*(told[k] for k in ("score", "low", "high") if told[k] is not None))
        ends = " to ".join(both)
    kind = {"evaluation": "games", "training": "training games"}.get(told["scored"] or "", "")
    keys = ("algo", "seed", "state", "step", "steps", "score", "seconds")
    return {key: told[key] for key in keys} | {
        "shown": score,
        "interval": ends,
        "over": f"{told['games']} {kind}" if told["games"] else "",
        "time": None if told["seconds"] is None else format_seconds(told["seconds"]),
    }


def _groups(curves: Sequence[LearningCurve], places: dict[str, int]) -> Iterator[Group]:
    """The mean of each label on each environment with two seeds or more, over the steps that all have reached."""
    for env, in_env in grouped(curves, lambda c: c.env).items():
        for label, group in grouped(in_env, lambda c: c.label).items():
            if len(group) < 2:
                continue
            grid, values = on_common_steps([(c.steps, c.means) for c in group])
            if not grid.size:
                continue
            enough = len(group) >= BAND
            low, high = t_interval(values, limits=compare.limits(env, group[0])) if enough else (None, None)
            yield Group(env, label, places[label], len(group), grid, values.mean(axis=0), low, high)
