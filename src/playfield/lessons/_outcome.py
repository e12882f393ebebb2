"""What a lesson is asked, and what it gives: curves, pictures and rows with a verdict."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from playfield.lessons._panels import Curves, Panel, _curves
from playfield.lessons._rows import Row

Frames = Iterator[np.ndarray]


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


# What can be drawn -------------------------------------------------------------------------------------------


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
        from playfield.lessons._rows import table

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
