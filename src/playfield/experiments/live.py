"""Reads the runs of a folder for the live page, again and again: only what has changed since the last time.

Of games only those are read that were written since, and a curve keeps at most some hundred points: neither time nor
memory grows with the length of a run. Nothing is written. A run that cannot be read is listed with the reason, and
hides no other.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import DataError, PlayfieldError, cut
from playfield.experiments import compare, drawn, records, replicates
from playfield.experiments.compare import LearningCurve, grouped
from playfield.play.statistics import MEAN, Statistic, t_interval
from playfield.runs.console import format_scores, format_seconds
from playfield.runs.info import WRONG, read_info
from playfield.runs.lock import holder
from playfield.runs.logger import WINDOW, read_monitor
from playfield.runs.monitor import Game, MonitorLines
from playfield.show.compare_plot import BAND
from playfield.show.plots import on_common_steps
from playfield.show.watch.board import Group, Looked, Run
from playfield.show.watch.rundata import Growing, Line, value_of

NOTHING = np.empty(0)
FILES = ("run.json", "monitor.csv", "metrics.csv", "eval", "../compare.json")
"""What decides the row and the curve of a run, beside its lock."""


class _Games:
    """The games of a monitor.csv in order, as they come: the last scores, and the curve up to the total of steps.

    Games that ended at the same step are ordered by their scores, as `sorted` does it, once the step is over.
    """

    def __init__(self, total: float, statistic: Statistic) -> None:
        self.total, self._statistic = total, statistic
        self.scores: deque[float] = deque(maxlen=WINDOW)  # of all games
        self._line, self._window = Line(), deque[float](maxlen=WINDOW)  # of those up to the total
        self._parser, self._same = MonitorLines(), list[Game]()

    def take(self, line: bytes) -> None:
        """Read the next line. Raises DataError where it is malformed."""
        game = self._parser.game(line)
        if game is None:
            return
        if self._same and (game[0] != self._same[0][0] or len(self._same) >= WINDOW):
            self._add()
        self._same.append(game)

    def _add(self) -> None:
        for step, score, _, _ in sorted(self._same):
            self.scores.append(score)
            if step <= self.total:
                self._window.append(score)
                self._line.add(step, lambda: value_of(self._statistic, self._window))
        self._same.clear()

    def end(self) -> None:
        """No more lines for now: those at the last step count, too."""
        self._add()

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """(steps [n], moving statistic [n])."""
        found = self._line.points()
        return np.array([step for step, _ in found], float), np.array([mean for _, mean in found], float)


@dataclass(frozen=True, eq=False)
class _Read:
    """A run as it was read: its record, its curve (None: it cannot be drawn), and what its files were then.

    `games` reads on where it has stopped; None: nothing was read yet.
    """

    signature: tuple[Any, ...]
    record: records.Record
    curve: LearningCurve | None
    games: Growing[_Games] | None

    @property
    def behind(self) -> bool:
        """Whether some of its games are left to the next look."""
        return self.games is not None and self.games.behind


class Reader:
    """The runs under a folder, read again where their files have changed.

    Args:
        folder: where the runs are, at any depth.
        statistic: of a run's games, its score and its curve.
    """

    def __init__(self, folder: Path, statistic: Statistic = MEAN) -> None:
        self.folder, self._statistic = folder, statistic
        self._read: dict[Path, _Read] = {}
        self._looked: Looked | None = None

    def look(self) -> Looked:
        """All runs and the means of their groups. Raises UsageError where the folder is gone."""
        found = {}
        for run in records.find(self.folder):
            before, now = self._read.get(run), _signature(run)
            same = before is not None and before.signature == now and not before.behind
            found[run] = before if before is not None and same else _read(run, now, before, self._statistic)
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
                    curve.values if curve else NOTHING,
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


def _read(run: Path, signature: tuple[Any, ...], before: _Read | None, statistic: Statistic) -> _Read:
    told, curve = {**dict.fromkeys(records.COLUMNS), "run": str(run), "state": "damaged", "note": ""}, None
    games = None if before is None else before.games
    try:
        info = read_info(run)
        total = info.get("steps", 0)
        seen = None if games is None else games.look()
        if games is None or (seen is not None and seen.total != total):  # it is to be longer now
            games = Growing(run, "monitor.csv", lambda: _Games(total, statistic))
            seen = games.look()
        if seen is not None:
            seen.end()
            if not seen.scores and not signature[0] and os.path.lexists(run / "monitor.csv"):
                read_monitor(run / "monitor.csv")  # without a whole line it may be anything
        told = records.record(run, lambda: _whole(run, seen).scores, statistic)
        if told["state"] != "damaged":
            seen = _whole(run, seen)
            if replicates.edited(info):
                told["note"] = "not drawn: its run.json was changed by hand, so it does not say what was trained"
            else:
                steps, values = seen.points()
                curve = compare.curve_of(run, info, steps, values, np.zeros(len(steps)), statistic)
                replicates.labels([(None, info)])  # raises what would else end the look at all runs
    except (PlayfieldError, OSError, *WRONG) as error:
        told, curve = {**told, "state": "damaged", "note": str(error) or type(error).__name__}, None
    return _Read(signature, told, curve, games)


def _whole(run: Path, seen: _Games | None) -> _Games:
    """The games of a run. Raises DataError where its table is malformed."""
    if seen is None:
        read_monitor(run / "monitor.csv")  # says what is wrong
        raise DataError(f"{run / 'monitor.csv'} was changed while it was read")
    return seen


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
        "options": ", ".join(records.other_games(told)),
        "time": None if told["seconds"] is None else format_seconds(told["seconds"]),
    }


def _groups(curves: Sequence[LearningCurve], places: dict[str, int]) -> Iterator[Group]:
    """The mean of each label on each environment with two seeds or more, over the steps that all have reached."""
    for env, in_env in grouped(curves, lambda c: c.env).items():
        for label, group in grouped(in_env, lambda c: c.label).items():
            if len(group) < 2:
                continue
            grid, values = on_common_steps([(c.steps, c.values) for c in group])
            if not grid.size:
                continue
            enough = len(group) >= BAND
            low, high = t_interval(values, limits=compare.limits(env, group[0])) if enough else (None, None)
            yield Group(env, label, places[label], len(group), grid, values.mean(axis=0), low, high)
