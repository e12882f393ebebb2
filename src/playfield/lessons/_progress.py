"""How far a lesson is, and the time left, on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

from playfield.runs.console import format_seconds

PERIOD = 10.0  # seconds between lines where there is no terminal


class Silent:
    """Says nothing."""

    def parts(self, count: int) -> None:
        """Ignored."""

    def part(self, label: str) -> Callable[[int, int], None]:
        return lambda done, every: None


class Told:
    """Says how far a lesson is. Parts count alike; the time left is that of the share done so far."""

    def __init__(self, title: str, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.title, self.stream, self._clock = title, stream or sys.stderr, clock
        self._start = self._shown = clock()
        self._count, self._begun, self._label = 1, 0, ""
        self._bar: Any = None

    def parts(self, count: int) -> None:
        """A lesson of `count` parts begins."""
        self._count, self._begun = max(count, 1), 0

    def part(self, label: str) -> Callable[[int, int], None]:
        """The next part begins; call what is returned with (done, all)."""
        self._begun, self._label = self._begun + 1, label
        before = self._begun - 1
        self._show(before / self._count)
        return lambda done, every: self._show((before + done / max(every, 1)) / self._count)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _show(self, share: float) -> None:
        share = min(share, 1.0)
        now = self._clock()
        left = (now - self._start) * (1 - share) / share if share > 0.01 else float("nan")
        if self.stream.isatty():
            self._draw(share, left)
        elif now - self._shown >= PERIOD:
            self._shown = now
            print(f"{self.title}: {share:.0%}, {format_seconds(left)} left", file=self.stream, flush=True)

    def _draw(self, share: float, left: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

            words = TextColumn("{task.fields[left]} left  {task.fields[label]}", markup=False)
            columns = (TextColumn(self.title, markup=False), BarColumn(), TaskProgressColumn(), words)
            self._bar = Progress(*columns, console=Console(file=self.stream), transient=True)
            self._bar.add_task("", total=1.0, left="?", label="")
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=share, left=format_seconds(left), label=self._label)
