"""What a lesson returns: a picture of curves or images, and rows that compare numbers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from playfield.lessons._panels import Curves, Panel, curve_data
from playfield.lessons._picture import png, vector
from playfield.lessons._rows import Row, table

Frames = Iterator[np.ndarray]


@dataclass(frozen=True)
class Outcome:
    """The result of a lesson. A notebook shows its picture.

    Attributes:
        name, title: of the lesson.
        rows: published numbers beside ours.
        panels: the parts of the picture.
        notes: lines printed below the table.
        foot: small print below the picture.
        columns: panels per row.
        film: makes the frames of a game, uint8 [H, W, 3], for a GIF; None: no game is played.
        fps: frames per second of the film.
        data: more entries for the JSON file.
        changed: what was not run as published, see `Request.changed`.
    """

    name: str
    title: str
    rows: Sequence[Row]
    panels: Sequence[Panel]
    notes: Sequence[str] = ()
    foot: str = ""
    columns: int = 3
    film: Callable[[], Frames] | None = None
    fps: float = 30.0
    data: dict[str, Any] = field(default_factory=dict)
    changed: str = ""

    @property
    def heading(self) -> str:
        """The title, with what was not run as published."""
        return f"{self.title} (here: {self.changed})" if self.changed else self.title

    def table(self) -> str:
        """The rows as a text table."""
        return table(self.rows)

    def png(self) -> bytes:
        """The picture, as the bytes of a PNG file."""
        return png(self.heading, self.panels, self.columns, self.foot)

    def picture(self, kind: str = "png") -> bytes:
        """The picture, as the bytes of a `png`, `svg` or `pdf` file."""
        if kind == "png":
            return self.png()
        return vector(self.heading, self.panels, self.columns, self.foot, kind=kind)

    def _repr_png_(self) -> bytes:
        return self.png()

    def plain(self) -> dict[str, Any]:
        """Everything but images, for JSON."""
        return {
            "lesson": self.name,
            "title": self.title,
            "foot": self.foot,
            "changed": self.changed,
            "rows": [row.plain() for row in self.rows],
            "notes": list(self.notes),
            "curves": [curve for panel in self.panels if isinstance(panel, Curves) for curve in curve_data(panel)],
            **self.data,
        }

    def pillow(self) -> Image.Image:
        """The picture as a Pillow image."""
        return Image.open(io.BytesIO(self.png()))
