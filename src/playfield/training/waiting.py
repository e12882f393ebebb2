"""Says that something is under way as long as it has nothing to show."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from playfield.runs.algorithm import Algorithm, Config
from playfield.runs.console import Say, format_seconds
from playfield.runs.logger import Sinks
from playfield.runs.output import print_line
from playfield.runs.run import Run

PAUSES = (3.0, 12.0, 45.0)
"""Seconds until the first line, from there to the second, and so on; the last one is repeated."""


class Waiting:
    """Inside, a thread says a line after 3 seconds and then more seldom.

    Args:
        say: receives the line; it is called from that thread.
        line: makes it, of the time so far; None where there is something else to see by now: that was the last.
    """

    def __init__(self, say: Say, line: Callable[[str], str | None]) -> None:
        self._say, self._line = say, line
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="playfield-waiting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _work(self) -> None:
        begun = time.monotonic()
        for pause in itertools.chain(PAUSES, itertools.repeat(PAUSES[-1])):
            if self._over.wait(pause):
                return
            line = self._line(format_seconds(time.monotonic() - begun))
            if line is None:
                return
            self._say(line)


def under_way(sinks: Sinks, run: Run, cfg: Config) -> contextlib.AbstractContextManager[object]:
    """A training: until its first numbers are there, its console says that they will come."""
    if sinks.console.quiet:
        return contextlib.nullcontext()
    after = f"the first {cfg.batch:,} steps and what is learnt from them" if cfg.batch > 1 else "the first games"

    def line(time: str) -> str | None:
        if sinks.console.values:
            return None
        return f"step {run.step:,} of {run.total_steps:,} after {time}: the first numbers come after {after}"

    return Waiting(sinks.console.note, line)


def learn(module: Algorithm, run: Run, cfg: Config, sinks: Sinks) -> None:
    """Train, see `Algorithm`; `under_way`."""
    with under_way(sinks, run, cfg):
        module.train(run, cfg)


def measuring(cfg: Config, told: bool) -> contextlib.AbstractContextManager[object]:
    """A measurement of speed."""
    if not told:
        return contextlib.nullcontext()
    return Waiting(print_line, lambda time: f"still measuring after {time}: {cfg.batch:,} steps take long here")
