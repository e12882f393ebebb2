"""Progress of a lesson and the time left, on standard error: a bar in a terminal, lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from playfield.runs.console import format_seconds

PERIOD = 10.0  # seconds between lines where there is no terminal


class Silent:
    """Reports nothing."""

    def parts(self, count: int) -> None:
        """Ignored."""

    def part(self, label: str) -> Callable[[int, int], None]:
        """Ignored."""
        return lambda done, total: None


class Reporter:
    """Reports the fraction done and the time left. Every part counts the same.

    Args:
        title: shown before the numbers.
        stream: where to write; standard error by default.
        clock: seconds.
    """

    def __init__(self, title: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self.stream, self._clock = title, stream or sys.stderr, clock
        self._start = self._shown = clock()
        self._count, self._begun, self._label = 1, 0, ""
        self._bar: Progress | None = None

    def parts(self, count: int) -> None:
        """The lesson has `count` parts, which begin now: trainings before them have a progress of their own."""
        self._count, self._begun = max(count, 1), 0
        self._start = self._clock()

    def part(self, label: str) -> Callable[[int, int], None]:
        """The next part begins. Returns a function to call with (done, total) during the part."""
        self._begun, self._label = self._begun + 1, label
        before = self._begun - 1
        self._show(before / self._count)
        return lambda done, total: self._show((before + done / max(total, 1)) / self._count)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, fraction: float) -> None:
        fraction = min(fraction, 1.0)
        now = self._clock()
        left = (now - self._start) * (1 - fraction) / fraction if fraction > 0.01 else float("nan")
        if self.stream.isatty():
            self._draw(fraction, left)
        elif now - self._shown >= PERIOD:
            self._shown = now
            told = f"{self.title}: {fraction:.0%}" + (f", {_left(left)}" if _left(left) else "")
            print(told, file=self.stream, flush=True)

    def _draw(self, fraction: float, left: float) -> None:
        if self._bar is None:
            words = TextColumn("{task.fields[left]}  {task.fields[label]}", markup=False)
            columns = (TextColumn(self.title, markup=False), BarColumn(), TaskProgressColumn(), words)
            self._bar = Progress(*columns, console=Console(file=self.stream), transient=True)
            self._bar.add_task("", total=1.0, left="", label="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=fraction, left=_left(left), label=self._label)


def _left(seconds: float) -> str:
    """The time left in words; empty before it is known."""
    return f"{format_seconds(seconds)} left" if math.isfinite(seconds) else ""
