"""What a lesson is asked, and what it gives: curves, pictures and rows with a verdict."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from playfield.stats import t_interval

Frames = Iterator[np.ndarray]
FEW = "too few runs"  # a verdict
READING = 0.05  # published numbers were read off pictures: they may be off by so much


class Progress(Protocol):
    """How far a lesson is: `part` begins one of `parts`, and returns what to call with (done, all) within it."""

    def parts(self, count: int) -> None: ...
    def part(self, label: str) -> Callable[[int, int], None]: ...


@dataclass(frozen=True)
class Budget:
    """What a lesson runs unless told otherwise, as published; 0: it has no such thing."""

    runs: int = 0
    episodes: int = 0
    steps: int = 0
    faithful: bool = False
    film: bool = False
    """It plays a game that can be filmed."""

    def words(self) -> str:
        own = [f"--{what}" for what in ("runs", "episodes", "steps") if getattr(self, what)]
        return f"it has {' and '.join(own)}" if own else "it has no budget to change"


@dataclass(frozen=True)
class Ask:
    """What was asked of a lesson. `as_published`: its rows may be judged."""

    runs: int
    episodes: int
    steps: int
    faithful: bool
    as_published: bool
    progress: Any


@dataclass(frozen=True)
class Row:
    """One line of the table: a published number, ours, and whether they agree.

    `rule` says when: `within` a share `tolerance` of the published number; `at most` or `at least` that number;
    `among runs`: the published number, of a single run, lies between the lowest and the highest of our runs (5 %
    either way: it was read off a picture); `same`: equal. Where words were published and not a number, `claim` is
    what they say and `holds` whether it is so here. `low` and `high` are Student's 95 % interval of our mean, or the
    range of the runs for `among runs`.
    """

    setting: str
    measure: str
    published: float | None
    ours: float
    low: float = math.nan
    high: float = math.nan
    rule: str = "within"
    tolerance: float = 0.1
    seconds_there: float | None = None
    seconds_here: float | None = None
    judged: bool = True
    few: bool = False
    """It was made of so few runs that nothing can be said of it."""
    claim: str = ""
    holds: bool | None = None

    @property
    def verdict(self) -> str:
        """`pass`, `differs`, `too few runs`, or `-` where nothing was published or the budget was another."""
        if not self.judged or (self.holds is None and self.published is None):
            return "-"
        if self.few:
            return FEW
        if self.holds is not None:
            return "pass" if self.holds else "differs"
        assert self.published is not None
        holds = {
            "within": abs(self.ours - self.published) <= self.tolerance * abs(self.published),
            "at most": self.ours <= self.published,
            "at least": self.ours >= self.published,
            "among runs": self.low * (1 - READING) <= self.published <= self.high * (1 + READING),
            "same": self.ours == self.published,
        }
        return "pass" if holds[self.rule] else "differs"

    def rule_words(self) -> str:
        """When the row passes."""
        if self.claim:
            return self.claim
        if self.published is None:
            return "-"
        if self.rule == "among runs":
            return f"among runs ±{READING:.0%}"
        return f"within {self.tolerance:.0%}" if self.rule == "within" else self.rule

    def plain(self) -> dict[str, Any]:
        """For JSON: NaN as null."""
        numbers = {"ours": self.ours, "low": self.low, "high": self.high}
        return {
            "setting": self.setting,
            "measure": self.measure,
            "published": self.published,
            **{name: value if math.isfinite(value) else None for name, value in numbers.items()},
            "rule": self.rule_words(),
            "verdict": self.verdict,
            "seconds_there": self.seconds_there,
            "seconds_here": self.seconds_here,
        }


def mean_row(setting: str, measure: str, published: float | None, values: np.ndarray, **more: Any) -> Row:
    """A row of the mean over runs, values [runs], with its interval."""
    values = np.asarray(values, float)
    low, high = t_interval(values)
    if more.get("rule") == "among runs":
        low, high = values.min(), values.max()
        more["few"] = len(values) < 10  # a range of few runs says little
    return Row(setting, measure, published, float(values.mean()), float(low), float(high), **more)


# What can be drawn -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """Curves of all runs, y [runs, P] at x [P]; drawn as their mean with its interval."""

    label: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Mark:
    """A published number: a dashed line from x0 to x1 at y, in the colour of line `place`; a dot where x0 = x1."""

    place: int
    x0: float
    x1: float
    y: float


@dataclass(frozen=True)
class Curves:
    """One pair of axes with lines, or with bars, and published numbers (or what `marked` says they are)."""

    title: str
    xlabel: str
    ylabel: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    log: bool = False
    ylim: tuple[float, float] | None = None
    bars: bool = False
    names: tuple[str, ...] = ()  # of the bars, where not numbers
    marked: str = "published"


@dataclass(frozen=True)
class Surface:
    """A function of two numbers, z [len(y), len(x)], in three dimensions."""

    title: str
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    labels: tuple[str, str, str]


@dataclass(frozen=True)
class Areas:
    """Which of `names` is chosen where: chosen int [len(y), len(x)]; `text` numbers to write in, -1 for none."""

    title: str
    x: np.ndarray
    y: np.ndarray
    chosen: np.ndarray
    names: Sequence[str]
    labels: tuple[str, str]
    text: np.ndarray | None = None


@dataclass(frozen=True)
class Picture:
    """A picture, uint8 [H, W, 3], shown as it is."""

    title: str
    pixels: np.ndarray


Panel = Curves | Surface | Areas | Picture


@dataclass(frozen=True)
class Outcome:
    """What a lesson found. In a notebook it shows itself as its picture."""

    name: str
    title: str
    rows: Sequence[Row]
    panels: Sequence[Panel]
    notes: Sequence[str] = ()
    foot: str = ""
    columns: int = 3
    """Panels beside each other."""
    film: Callable[[], Frames] | None = None
    """The frames of a game, for a GIF."""
    fps: float = 30.0
    data: dict[str, Any] = field(default_factory=dict)
    """More for the JSON file."""

    def table(self) -> str:
        """The rows as text."""
        from playfield.lessons._report import table

        return table(self.rows)

    def png(self) -> bytes:
        """The picture, a PNG file's bytes."""
        from playfield.lessons._picture import png

        return png(self)

    def _repr_png_(self) -> bytes:
        return self.png()

    def plain(self) -> dict[str, Any]:
        """Everything but pictures, for JSON."""
        return {
            "lesson": self.name,
            "title": self.title,
            "foot": self.foot,
            "rows": [row.plain() for row in self.rows],
            "notes": list(self.notes),
            "curves": [curve for panel in self.panels if isinstance(panel, Curves) for curve in _curves(panel)],
            **self.data,
        }

    def pillow(self) -> Any:
        """The picture as a Pillow image."""
        from PIL import Image

        return Image.open(io.BytesIO(self.png()))


def _curves(panel: Curves) -> list[dict[str, Any]]:
    found = []
    for line in panel.lines:
        mean = np.asarray(line.y, float).mean(axis=0)
        values = [round(v, 4) if math.isfinite(v) else None for v in mean.tolist()]
        found.append(
            {"panel": panel.title, "label": line.label, "runs": len(line.y), "x": line.x.tolist(), "y": values}
        )
    return found
