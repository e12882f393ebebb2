"""Progress of a plan of measurements on standard error: what runs now, and the estimated seconds left."""

from __future__ import annotations

import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from rich.status import Status

from playfield.runs.console import console


class Progress:
    """Call `begin` and `end` around each measurement of `plan`, and `done` with the fraction done in between.

    A terminal shows one line that stays in place; a pipe or file gets one line per measurement.

    Args:
        plan: keys of the measurements, in order.
        labels: key -> what to show.
    """

    def __init__(self, plan: Sequence[Hashable], labels: Mapping[Any, str]) -> None:
        self.plan, self.labels, self.at = plan, labels, -1
        self._took: dict[Hashable, float] = {}
        output = console(stderr=True)
        self._status: Status | None = output.status("") if output.is_terminal else None

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._status:
            self._status.stop()

    def begin(self) -> None:
        """The next measurement begins."""
        self.at += 1
        self._start = time.monotonic()
        text = self.text()
        if self._status:
            self._status.update(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def done(self, fraction: float) -> None:
        """`fraction` of the current measurement is done."""
        self._took[self.plan[self.at]] = (time.monotonic() - self._start) / fraction
        if self._status:
            self._status.update(self.text())

    def end(self) -> None:
        """The current measurement has ended."""
        self._took[self.plan[self.at]] = time.monotonic() - self._start

    def left(self) -> float | None:
        """Estimated seconds left of the whole plan; None before the first estimate."""
        if not self._took:
            return None
        typical = max(self._took.values())  # for what has not been measured yet
        left = sum(self._took.get(key, typical) for key in self.plan[self.at :])
        return max(left - (time.monotonic() - self._start), 0.0)

    def text(self) -> str:
        """The line to show."""
        left = self.left()
        text = f"{self.at + 1} of {len(self.plan)}: {self.labels[self.plan[self.at]]}"
        return text if left is None else f"{text}, about {left:.0f} s left"
