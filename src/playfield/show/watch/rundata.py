"""Reads checkpoints and learning curve from a run directory, for the live page. Nothing is written there."""

from __future__ import annotations

import math
import os
import threading
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any, Generic, Protocol, TypeVar

import numpy as np

from playfield.errors import DataError, PlayfieldError
from playfield.play.statistics import MEAN, Statistic
from playfield.runs import checkpoint
from playfield.runs.csv_table import cells_of
from playfield.runs.logger import WINDOW
from playfield.runs.monitor import MonitorLines
from playfield.runs.storage import lines_from, open_regular

POINTS = 300  # of the learning curve on the page, at most
MAX_BYTES = 8 << 20  # of a table that are read at one look: about a second


def kept_steps(run: Path) -> list[int]:
    """Training steps of the run's checkpoints, oldest first; empty where they cannot be read."""
    try:
        return [int(path.name[5:17]) for path in checkpoint.checkpoints(run / "checkpoints")]
    except PlayfieldError:
        return []


def has_best(run: Path) -> bool:
    """Whether the run has a best checkpoint."""
    return (run / "checkpoints" / "best").is_dir()


def thinned(steps: np.ndarray, means: np.ndarray, most: int) -> list[list[float]]:
    """At most `most` points [[step, mean], ...] of a line, its first and its last among them."""
    pick = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    return [[int(steps[i]), round(float(means[i]), 3)] for i in pick]


class Curve:
    """The learning curve of a run that may be training; each look reads only what was written since the one before.

    What it keeps does not grow with the run, and it may be used by several threads. Scores come from monitor.csv, as
    means (or another `statistic`) over `WINDOW` games; without games there, the means come from metrics.csv.
    """

    def __init__(self, run: Path, statistic: Statistic = MEAN) -> None:
        self.statistic = statistic
        self._monitor = Growing(run, "monitor.csv", lambda: _Games(statistic))
        self._metrics = Growing(run, "metrics.csv", _Means)
        self._lock = threading.Lock()

    def look(self) -> dict[str, Any] | None:
        """`points` [[step, score], ...], what it `is`, number of `games`, last `step`; None: nothing to show yet.

        A file that cannot be read, or is malformed, gives None: the page works without the curve.
        """
        with self._lock:
            games = self._monitor.look()
            if games is None:
                return None
            found, count = games.line, games.line.count
            if not count and self.statistic == MEAN:  # metrics.csv has means only
                means = self._metrics.look()
                found = means.line if means is not None else found
            points = [[step, round(mean, 3)] for step, mean in found.points()]
        is_ = self.statistic.title
        return {"points": points, "is": is_, "games": count, "step": points[-1][0]} if points else None


class Line:
    """Up to `POINTS` points of a line of any length: every one, every second, every fourth ...; and the last.

    Attributes:
        count: how many points were added.
    """

    def __init__(self) -> None:
        self.count = 0
        self._kept: list[tuple[int, float]] = []
        self._every = 1
        self._last: tuple[int, Callable[[], float]] | None = None

    def add(self, step: int, value: Callable[[], float]) -> None:
        """Add a point; `value` is called now if it is kept, else perhaps later, when it is the last."""
        if self.count % self._every == 0:
            if len(self._kept) == POINTS - 1:
                del self._kept[1::2]
                self._every *= 2
            if self.count % self._every == 0:
                self._kept.append((step, value()))
        self.count += 1
        self._last = step, value

    def points(self) -> list[tuple[int, float]]:
        """(step, value), the first and the last point among them."""
        if self._last is None:
            return []
        end = [] if (self.count - 1) % self._every == 0 else [(self._last[0], self._last[1]())]
        return self._kept + end


def mean_of(scores: Collection[float]) -> float:
    """The mean of scores, between the lowest and the highest whatever rounding makes of it."""
    return min(max(math.fsum(scores) / len(scores), min(scores)), max(scores))


def value_of(statistic: Statistic, scores: Collection[float]) -> float:
    """The statistic of one score or more; a mean lies between the lowest and the highest, see `mean_of`."""
    return mean_of(scores) if statistic == MEAN else statistic.value(list(scores))


class _Games:
    """The moving statistic of the games of a monitor.csv."""

    def __init__(self, statistic: Statistic) -> None:
        self._statistic = statistic
        self.line = Line()
        self._parser = MonitorLines()
        self._scores: deque[float] = deque(maxlen=WINDOW)

    def take(self, line: bytes) -> None:
        """Read the next line. Raises DataError where it is malformed."""
        game = self._parser.game(line)
        if game is not None:
            self._scores.append(game[1])
            self.line.add(game[0], lambda: value_of(self._statistic, self._scores))


class _Means:
    """The column `rollout/ep_rew_mean` of a metrics.csv; rows without it are left out."""

    def __init__(self) -> None:
        self.line = Line()
        self._header: list[str] = []

    def take(self, line: bytes) -> None:
        """Read the next line."""
        cells = cells_of(line)
        if not self._header:
            self._header = cells
            return
        row = dict(zip(self._header, cells, strict=False))
        try:
            step, mean = int(float(row["step"])), float(row["rollout/ep_rew_mean"])
        except (KeyError, ValueError, OverflowError):
            return
        if math.isfinite(mean):
            self.line.add(step, lambda: mean)


class Lines(Protocol):
    """What takes the lines of a table."""

    def take(self, line: bytes) -> None:
        """Read the next line. Raises DataError where it is malformed."""


T = TypeVar("T", bound=Lines)


class Growing(Generic[T]):
    """A table of a run to which rows are added, and what was made of them.

    Args:
        run, name: the directory and the name of the file.
        make: makes what takes the lines; once more whenever the file was replaced or cut.

    Attributes:
        behind: whether the last look has left some of the file to the next one.
    """

    def __init__(self, run: Path, name: str, make: Callable[[], T]) -> None:
        self.run, self.name = run, name
        self._make: Callable[[], T] = make
        self._begin(None)

    def _begin(self, file: tuple[int, int] | None) -> None:
        self._made: T = self._make()
        self._file, self._end, self._last, self._damaged, self.behind = file, 0, b"", False, False

    def look(self) -> T | None:
        """What was made of all rows, up to `MAX_BYTES` more than at the last look; of none without a file.

        None for a malformed file. The last line may be half written: it is read next time.
        """
        try:
            with open_regular(
                self.run, self.name
            ) as file:  # symbolic links are refused: they could lead out of the run
                self._continue(file)
        except (PlayfieldError, OSError):
            self._begin(None)
        return None if self._damaged else self._made

    def _continue(self, file: IO[bytes]) -> None:
        found = os.fstat(file.fileno())
        file.seek(self._end - len(self._last))
        if (found.st_dev, found.st_ino) != self._file or file.read(len(self._last)) != self._last:
            self._begin((found.st_dev, found.st_ino))
            file.seek(0)
        most, self.behind = self._end + MAX_BYTES, False
        try:
            for line in lines_from(file, self.name):
                if self._damaged or not line.endswith(b"\n"):
                    return
                if self._end >= most:
                    self.behind = True
                    return
                self._made.take(line)
                self._end, self._last = self._end + len(line), line
        except DataError:
            self._damaged = True
