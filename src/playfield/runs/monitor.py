"""The lines of a monitor.csv, one file for each run: a line for each game that ended."""

from __future__ import annotations

import math

from playfield.errors import DataError
from playfield.runs.csv_table import cells_of
from playfield.runs.strict_json import parse_json

Game = tuple[int, float, int, float]
"""Step of training, score, length, seconds."""

NO_MONITOR = "it is not a monitor file, which starts with #{json} and a header r,l,t"


class MonitorLines:
    """Reads the lines of a monitor.csv one after another, see `logger.read_monitor`.

    Attributes:
        started: the two lines before the first game have been read.
    """

    def __init__(self) -> None:
        self.started = False
        self._number = self._total = 0
        self._header: list[str] = []
        self._column: dict[str, int] = {}

    def game(self, line: bytes) -> Game | None:
        """The game of the next line; None where it has none: the first two lines, empty ones. Raises DataError."""
        self._number += 1
        if not self.started:
            try:
                self._start(line)
            except ValueError as error:
                raise DataError(NO_MONITOR) from error
            return None
        if not line.strip():
            return None
        row, column = cells_of(line), self._column
        try:
            if len(row) != len(self._header):
                raise ValueError
            score, length, seconds = (float(row[column[name]]) for name in ("r", "l", "t"))
            self._total += int(length)
            step = int(float(row[column["step"]])) if "step" in column else self._total
            if not (math.isfinite(score) and math.isfinite(seconds) and 0 <= step < 2**62):
                raise ValueError
        except (ValueError, OverflowError) as error:
            raise DataError(
                f"line {self._number}: {line.decode('utf-8', 'replace').strip()[:80]!r} is not a game"
            ) from error
        return step, score, int(length), seconds

    def _start(self, line: bytes) -> None:
        """Read one of the first two lines. Raises ValueError or DataError."""
        if self._number == 1:
            if not line.startswith(b"#"):
                raise ValueError
            parse_json(line[1:], "its first line", constants=True)
            return
        self._header = cells_of(line)
        self._column = {name: self._header.index(name) for name in ("r", "l", "t")}
        if "step" in self._header:
            self._column["step"] = self._header.index("step")
        self.started = True
