"""What a trial is: a number, a name, what is expected, and a function that tries it some times."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Seen:
    """What a trial saw.

    Attributes:
        count: tries.
        failures: one line for each try that did not go as expected.
        figures: measured numbers by name.
        not_run: why nothing was tried; empty if something was.
        all_there_is: whether no more can be tried, though these are fewer than were asked for.
    """

    count: int = 0
    failures: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    not_run: str = ""
    all_there_is: bool = False

    def check(self, good: bool, words: str) -> bool:
        """Count a try; `words` say what was seen if it is not good."""
        self.count += 1
        if not good:
            self.failures.append(words[:400])
        return good


@dataclass
class Ask:
    """How a trial is to be run: `count` tries of `part` in the empty directory `folder`, until `deadline`."""

    count: int
    part: str
    folder: Path
    deadline: float
    label: str = ""
    started: float = field(default_factory=time.monotonic)

    def rounds(self, count: int | None = None) -> Iterator[int]:
        """0, 1, ... below `count`, while there is time; progress is shown."""
        total = self.count if count is None else count
        for n in range(total):
            if n and time.monotonic() > self.deadline:
                return
            yield n
            self.show(n + 1, total)

    def show(self, done: int, total: int) -> None:
        """Show how far the trial is on standard error, if that is a terminal."""
        if sys.stderr.isatty():
            took = time.monotonic() - self.started
            left = min(took / done * (total - done), max(0.0, self.deadline - time.monotonic()))
            print(f"\r{self.label}: {done} of {total}, {took:.0f} s, {left:.0f} s left ", end="", file=sys.stderr)


Parts = Callable[[], list[str]]


@dataclass(frozen=True)
class Trial:
    """A trial: `run(ask)` tries it `ask.count` times and returns what it saw.

    Attributes:
        number: of the list of trials.
        name: of the command line.
        expected: what must be seen, in words.
        short, long: tries in the short and in the long set; 0: not in that set.
        parts: names of what it is done for in turn, such as algorithms; one empty name otherwise.
        short_parts: those of the short set (default: the first).
        fewer: parts whose tries take long, and how many of the long set they have.
    """

    number: int
    name: str
    expected: str
    run: Callable[[Ask], Seen]
    short: int
    long: int
    parts: Parts
    short_parts: tuple[str, ...] = ()
    fewer: Mapping[str, int] = field(default_factory=dict)

    def owed(self, part: str) -> int:
        """Tries of a part in the long set."""
        return self.fewer.get(part, self.long)


TRIALS: dict[str, Trial] = {}


def trial(
    number: int,
    name: str,
    expected: str,
    *,
    short: int,
    long: int,
    parts: Parts = lambda: [""],
    short_parts: tuple[str, ...] = (),
    fewer: Mapping[str, int] | None = None,
) -> Callable[[Callable[[Ask], Seen]], Callable[[Ask], Seen]]:
    """Register the function below as a trial."""

    def register(run: Callable[[Ask], Seen]) -> Callable[[Ask], Seen]:
        TRIALS[name] = Trial(number, name, expected, run, short, long, parts, short_parts, fewer or {})
        return run

    return register


def not_run(number: int, name: str, expected: str, reason: str) -> None:
    """Register a trial that cannot be tried here."""
    trial(number, name, expected, short=0, long=1)(lambda ask: Seen(not_run=reason))
