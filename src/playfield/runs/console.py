"""What a training run shows in the terminal: a table that stays in place, or plain blocks in a pipe or log
file, or in a notebook one line with a bar.

The names are those of the metrics; `rollout/ep_rew_mean` is shown as the score. If the reader goes away (`|
head`, a closed terminal) the console falls silent and training goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

import rich.console
import rich.live
from rich import box
from rich.columns import Columns
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from playfield.runs.notebook import Line, in_notebook
from playfield.runs.output import Say as Say
from playfield.runs.output import discard

SCORE = "rollout/ep_rew_mean"
REDRAW = 0.2  # seconds between redraws of the live table
_BARS = "▁▂▃▄▅▆▇█"


def format_value(value: Any) -> str:
    """A number as people read it: 0.42, 24.5, 10,240, 1.2e-05, nan. Everything else as `str`."""
    if isinstance(value, str) or value is None:
        return str(value)
    if isinstance(value, int):
        return f"{int(value):,}"
    number = float(value)
    if not math.isfinite(number):
        return str(number)
    size = abs(number)
    if number == round(number) and size < 1e15:
        return f"{int(number):,}"
    if size < 1e-4 or size >= 1e15:
        return f"{number:.3g}"
    return f"{number:,.0f}" if size >= 9999.5 else f"{number:,.1f}" if size >= 999.5 else f"{number:.3g}"


def format_scores(*scores: float) -> list[str]:
    """Scores that are read together, with as many decimals as give the largest three digits, but at least one."""
    largest = max((abs(s) for s in scores if math.isfinite(s)), default=0.0)
    decimals = min(max(1, 3 - math.ceil(math.log10(largest))), 9) if largest else 1
    return [f"{s:.{decimals}f}" for s in scores]


def format_seconds(seconds: float) -> str:
    """A duration as 3.1 s, 42 s, 9 min 30 s, 1 h 02 min or 2 d 3 h; `?` where it is not finite."""
    if not math.isfinite(seconds):
        return "?"
    seconds = max(0.0, seconds)
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def sparkline(values: list[float], width: int) -> str:
    """The last values as one line of bars, at most `width` wide; longer histories are averaged."""
    values = [value for value in values if math.isfinite(value)]
    if len(values) > width:
        edges = [i * len(values) // width for i in range(width + 1)]
        values = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    if len(values) < 2:
        return ""
    low, high = min(values), max(values)
    step = (high - low) or 1.0
    return "".join(_BARS[min(7, int((value - low) / step * 8))] for value in values)


def plain_block(heading: str, values: Mapping[str, Any]) -> str:
    """One block of text: a heading, then the values by group, as Stable-Baselines3 users know it."""
    rows: list[tuple[str, str]] = []
    for group, items in grouped(values).items():
        if group:
            rows.append((f"{group}/", ""))
        rows += [(f"{'   ' if group else ''}{name}", format_value(value)) for name, value in items]
    left = max([len(name) for name, _ in rows], default=0)
    right = max([len(text) for _, text in rows], default=0)
    rule = "-" * (left + right + 7)
    lines = [f"| {name:<{left}} | {text:<{right}} |" for name, text in rows]
    return "\n".join([heading, rule, *lines, rule]) + "\n"


def grouped(values: Mapping[str, Any]) -> dict[str, list[tuple[str, Any]]]:
    """`{"train/loss": 1}` -> `{"train": [("loss", 1)]}`; rollout first, time last, names in order."""
    groups: dict[str, list[tuple[str, Any]]] = {}
    rank = {"": 0, "rollout": 1, "eval": 2, "train": 3, "time": 9}
    for key in sorted(values, key=lambda key: (rank.get(key.rpartition("/")[0], 5), key)):
        group, _, name = key.rpartition("/")
        groups.setdefault(group, []).append((name, values[key]))
    return groups


class Console:
    """The terminal as a sink.

    Args:
        title: what runs, e.g. `breakout, ppo`.
        total_steps: the length of the run, for the progress bar and the time left; None if open.
        stream: where to write; standard output by default.
        quiet: write nothing.
        period: seconds between two blocks where the stream is not a terminal.
    """

    def __init__(
        self,
        title: str = "",
        total_steps: int | None = None,
        stream: TextIO | None = None,
        quiet: bool = False,
        period: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.total_steps, self.period = title, total_steps, period
        self._line = Line() if stream is None and not quiet and in_notebook() else None
        self.stream = stream if stream is not None else sys.stdout
        self.quiet = quiet or self.stream is None
        self.step = 0
        self.best = math.nan
        self.values: dict[str, Any] = {}
        self._history: list[float] = []
        self._clock = clock
        self._shown = -math.inf
        self._dirty = False
        self._live: Any = None
        self._in_place = not self.quiet and self._is_terminal()

    def _is_terminal(self) -> bool:
        try:
            return self.stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
        except (OSError, ValueError):
            return False

    def log(self, step: int, values: Mapping[str, Any], best: float = math.nan) -> None:
        """Take new values; older names stay. `best` is the best score of one game so far."""
        self.step, self.best = step, best
        self.values |= values
        score = values.get(SCORE)
        if isinstance(score, int | float):
            self._history.append(float(score))
            if len(self._history) > 4000:
                self._history = [(a + b) / 2 for a, b in zip(*[iter(self._history)] * 2, strict=False)]
        self._dirty = True
        if self._clock() - self._shown >= (REDRAW if self._in_place or self._line else self.period):
            self._show()

    def note(self, text: str) -> None:
        """A line of text above the table."""
        if self._live is not None:
            self._try(lambda: self._live.console.print(text, markup=False, highlight=False))
        else:
            self._try(lambda: self._write(text + "\n"))

    def close(self) -> None:
        """Show the last values and give the terminal back."""
        if self._dirty:
            self._show()
        if self._live is not None:
            self._try(self._live.stop)
        self._live = None

    def _try(self, action: Callable[[], Any]) -> None:
        """Write, or fall silent for good if nobody can read it any more."""
        if self.quiet:
            return
        try:
            action()
        except (OSError, ValueError):  # a broken pipe, a closed terminal, a closed file, no room
            self.quiet = True
            live, self._live = self._live, None
            if live is not None:
                with contextlib.suppress(OSError, ValueError):
                    live.stop()
            discard(self.stream)

    def _write(self, text: str) -> None:
        encoding = self.stream.encoding or "utf-8"
        self.stream.write(text.encode(encoding, "replace").decode(encoding))
        self.stream.flush()

    def _show(self) -> None:
        self._shown, self._dirty = self._clock(), False
        if (line := self._line) is not None:
            done = self.step / self.total_steps if self.total_steps else None
            self._try(lambda: line.show(self._heading(), done))
        elif not self._in_place:
            self._try(lambda: self._write(plain_block(self._heading(), self.values)))
        else:
            self._try(self._draw)

    def _left(self) -> float:
        """Seconds left at the present speed; NaN if unknown."""
        speed = self.values.get("time/fps", 0)
        if not self.total_steps or not speed or not math.isfinite(speed):
            return math.nan
        return float(max(0, self.total_steps - self.step) / speed)

    def _heading(self) -> str:
        parts = [self.title] if self.title else []
        if self.total_steps:
            parts.append(f"{self.step:,} of {self.total_steps:,} steps ({min(1, self.step / self.total_steps):.0%})")
        else:
            parts.append(f"{self.step:,} steps")
        if SCORE in self.values:
            parts.append(f"score {format_value(self.values[SCORE])}")
        if math.isfinite(self._left()):
            parts.append(f"{format_seconds(self._left())} left")
        return ", ".join(parts)

    def _draw(self) -> None:
        if self._live is None:
            self._live = _start_live(self.stream)
        self._live.update(self._table(self._live.console.width, self._live.console.encoding), refresh=True)

    def _table(self, width: int, encoding: str) -> Any:
        width = min(width - 1, 96)
        head = Table.grid(expand=False)
        head.width = width
        head.add_column(ratio=1, no_wrap=True)
        head.add_column(justify="right", no_wrap=True)
        steps = f"{self.step:,}" + (f" of {self.total_steps:,}" if self.total_steps else "") + " steps"
        head.add_row(Text(self.title, style="bold"), Text(steps))
        parts: list[Any] = [head]
        if self.total_steps:
            bar = Table.grid(padding=(0, 1, 0, 0))
            done = min(1.0, self.step / self.total_steps)
            bar.add_row(
                ProgressBar(
                    total=1.0, completed=done, width=width - 5, complete_style="green", finished_style="green"
                ),
                f"{done:4.0%}",
            )
            parts.append(bar)
        times = [f"{format_value(self.values.get('time/fps', math.nan))} steps/s"]
        if "time/time_elapsed" in self.values:
            times.append(f"{format_seconds(float(self.values['time/time_elapsed']))} so far")
        if math.isfinite(self._left()):
            times.append(f"{format_seconds(self._left())} left")
        parts.append(Text("   ".join(times), style="dim"))
        if SCORE in self.values:
            line = Text("\nscore ")
            line.append(format_value(self.values[SCORE]), style="bold green")
            if math.isfinite(self.best):
                line.append(f"   best game {format_value(self.best)}")
            if encoding.lower().startswith("utf"):
                line.append("   " + sparkline(self._history, max(8, width - len(line) - 4)), style="green")
            parts.append(line)
        tables = []
        for group, items in grouped(self.values).items():
            items = [(name, value) for name, value in items if f"{group}/{name}" != SCORE]
            if group == "time" or not items:
                continue
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
            table.add_row(Text(group or "run", style="bold cyan"), "")
            for name, value in items:
                table.add_row(Text(f"  {name}"), Text(format_value(value), style=_style(value)))
            tables.append(table)
        if tables:
            parts.append(Padding(Columns(tables, padding=(0, 3)), (1, 0, 0, 0)))
        return rich.console.Group(*parts)


def _style(value: Any) -> str:
    return "bold red" if isinstance(value, float) and not math.isfinite(value) else ""


class _Terminal(rich.console.Console):
    def on_broken_pipe(self) -> None:  # rich would end the process
        raise BrokenPipeError


def _start_live(stream: TextIO) -> Any:
    live = rich.live.Live(console=_Terminal(file=stream, soft_wrap=False), auto_refresh=False)
    live.start()
    live.console.show_cursor(True)  # a killed run must not leave a terminal without one
    return live


def console(width: int = 100, *, stderr: bool = False, markup: bool = False) -> rich.console.Console:
    """A rich console on standard output, or standard error, that does not highlight numbers.

    Args:
        width: in characters, where the stream is not a terminal; a terminal has its own.
        markup: interpret tags such as `[bold]`.
    """
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream is not None and stream.isatty()
    return _Terminal(stderr=stderr, highlight=False, markup=markup, width=None if terminal else width)


def table(output: rich.console.Console, *headers: str, title: str | None = None, texts: int = 1) -> Table:
    """A rich table for `output`: the first `texts` columns are left-aligned, the others right-aligned.

    On a terminal there is a rule under the headers; in a pipe or log file there are no lines.
    """
    lines = box.SIMPLE_HEAD if output.is_terminal else None
    made = Table(box=lines, title=title, title_justify="left", padding=(0, 1))
    for i, header in enumerate(headers):
        made.add_column(header, justify="left" if i < texts else "right")
    return made
