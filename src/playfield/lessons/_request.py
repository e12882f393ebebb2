"""What is asked of a lesson: its budget, the options that were given, and where to report progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Progress(Protocol):
    """Reports how far a lesson is."""

    def parts(self, count: int) -> None:
        """The lesson has `count` parts."""

    def part(self, label: str) -> Callable[[int, int], None]:
        """The next part begins. Returns a function to call with (done, total) during the part."""


@dataclass(frozen=True)
class Budget:
    """What a lesson runs by default, as published. 0: the lesson has no such option.

    Attributes:
        runs: runs of each setting.
        episodes: episodes of a run.
        steps: environment steps of a training.
        faithful: whether it can reproduce the mistakes of the course's code.
        film: whether it plays a game that can be filmed.
        pixels: whether its picture shows pixels only, which is a PNG file whatever is asked.
        methods: algorithms whose options it takes; where there are several, those that all have.
        own: options of these that it sets itself: it compares their values, or has a number published for one.
    """

    runs: int = 0
    episodes: int = 0
    steps: int = 0
    faithful: bool = False
    film: bool = False
    pixels: bool = False
    methods: tuple[str, ...] = ()
    own: tuple[str, ...] = ()

    def words(self) -> str:
        """The options that the lesson has, for an error message."""
        own = [f"--{what}" for what in ("runs", "episodes", "steps") if getattr(self, what)]
        return f"it has {' and '.join(own)}" if own else "it has no budget to change"


def _typed(value: Any) -> str:
    """An option's value as it is typed."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Request:
    """What a lesson is asked to run.

    Attributes:
        runs, episodes, steps: see `Budget`.
        faithful: reproduce the mistakes of the course's code.
        as_published: the budget is the published one, so results can be compared with published numbers.
        progress: where to report progress.
        options: of its methods, instead of those that were published.
    """

    runs: int
    episodes: int
    steps: int
    faithful: bool
    as_published: bool
    progress: Progress
    options: Mapping[str, Any] = field(default_factory=dict)

    def changed(self, budget: Budget) -> str:
        """What is not the lesson's default, as in `500 runs, 5,000 steps, --initial -100`; empty where all is."""
        sizes = [(what, getattr(self, what), getattr(budget, what)) for what in ("runs", "episodes", "steps")]
        words = [f"{now:,} {what if now > 1 else what[:-1]}" for what, now, own in sizes if now != own]
        words += ["--faithful"] * self.faithful
        words += [f"--{name.replace('_', '-')} {_typed(value)}" for name, value in self.options.items()]
        return ", ".join(words)

    def runs_text(self) -> str:
        """What a curve shows, for the label of an axis: `mean of 20 runs` or `one run`."""
        return f"mean of {self.runs} runs" if self.runs > 1 else "one run"
