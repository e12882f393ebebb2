"""Standard error of an experiment or a tuning: a table that stays in place on a terminal, lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

from rich.console import RenderableType
from rich.live import Live
from rich.table import Table

from playfield.runs.console import console

REDRAW = 1.0  # seconds between two tables, at least


class Terminal:
    """What is told of trainings while they run. Nobody may be able to read it: the trainings go on.

    Args:
        stays: whether the last table is still there in the end.
        quiet: write nothing.
    """

    def __init__(self, stays: bool, quiet: bool = False) -> None:
        self.console = console(stderr=True)
        self.console.quiet = quiet
        in_place = self.console.is_terminal and not self.console.is_dumb_terminal and not quiet
        self.live = Live(console=self.console, auto_refresh=False, transient=not stays) if in_place else None
        self._shown, self._taken = 0.0, (0, 0)

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            with contextlib.suppress(OSError, ValueError):
                self.live.stop()

    def draw(self, table: Callable[[], RenderableType], at_once: bool = False) -> None:
        """Show a table on a terminal, at most once per second unless `at_once`."""
        if self.live is None or (not at_once and time.monotonic() - self._shown < REDRAW):
            return
        self._shown = time.monotonic()
        with contextlib.suppress(OSError, ValueError):
            self.live.update(table(), refresh=True)

    def say(self, line: str, also_above: bool = True) -> None:
        """A line; on a terminal above the table, unless the table says it, too."""
        if self.live is None or also_above:
            with contextlib.suppress(OSError, ValueError):
                (self.live.console if self.live else self.console).print(line, soft_wrap=True, markup=False)

    def taken(self, count: int, processes: Sequence[int], cores: int) -> None:
        """Other processes run so many trainings of this experiment, which leave no room; told when it changes."""
        if self._taken == (count, len(processes)):
            return
        self._taken = count, len(processes)
        many = len(processes) > 1
        who = f"process{'es' * many} {', '.join(map(str, processes))} run{'s' * (not many)}"
        left = f"{max(cores - count, 0)} of {cores} cores are left here"
        self.say(f"{who} {count} of these trainings: {left} (--jobs overrules)")


def columns(table: Table, *headers: str, right: Sequence[str] = (), style: str = "") -> Table:
    """A table with these headers; those in `right` are of numbers."""
    for header in headers:
        kind: Any = "right" if header in right else "left"
        table.add_column(header, justify=kind, header_style=style or "table.header")
    return table
