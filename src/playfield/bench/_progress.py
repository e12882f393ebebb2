"""Progress of a plan of measurements on standard error: what runs now, and the seconds left."""

from __future__ import annotations

import sys
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.status import Status


class Progress:
    """Call `begin` and `end` around each measurement of `plan`, and `done` with its share done in between.

    A terminal shows one line that stays in place; a pipe or file gets one line for each measurement.
    """

    def __init__(self, plan: Sequence[Hashable], labels: Mapping[Any, str]) -> None:
        self.plan, self.labels, self.at = plan, labels, -1
        self._took: dict[Hashable, float] = {}
        console = Console(stderr=True)
        self._status: Status | None = console.status("") if console.is_terminal else None

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._status:
            self._status.stop()

    def begin(self) -> None:
        self.at += 1
        self._start = time.monotonic()
        text = self.text()
        if self._status:
            self._status.update(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def done(self, share: float) -> None:
        """`share` of the present measurement is done."""
        self._took[self.plan[self.at]] = (time.monotonic() - self._start) / share
        if self._status:
            self._status.update(self.text())

    def end(self) -> None:
        self._took[self.plan[self.at]] = time.monotonic() - self._start

    def left(self) -> float | None:
        """Seconds left of the whole plan; None before anything is known."""
        if not self._took:
            return None
        typical = max(self._took.values())  # for what was not measured yet
        left = sum(self._took.get(key, typical) for key in self.plan[self.at :])
        return max(left - (time.monotonic() - self._start), 0.0)

    def text(self) -> str:
        left = self.left()
        text = f"{self.at + 1} of {len(self.plan)}: {self.labels[self.plan[self.at]]}"
        return text if left is None else f"{text}, about {left:.0f} s left"
