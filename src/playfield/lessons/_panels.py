"""The panels that a lesson's picture is made of: curves, surfaces, areas, grids and images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class Line:
    """One curve per run, y [runs, P] at x [P]; plotted as their mean with its 95 % interval."""

    label: str
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Mark:
    """A published number: a horizontal line from x0 to x1 at y in the colour of line `place`; a dot where x0 = x1."""

    place: int
    x0: float
    x1: float
    y: float


@dataclass(frozen=True)
class Curves:
    """One pair of axes with lines or bars, and marks.

    Attributes:
        log: logarithmic y axis.
        ylim: lower and upper end of the y axis; None: chosen from the data.
        bars: plot bars instead of lines.
        names: labels of the bars, where x is not a number.
        marked: what the marks are, for the legend.
    """

    title: str
    xlabel: str
    ylabel: str
    lines: Sequence[Line]
    marks: Sequence[Mark] = ()
    log: bool = False
    ylim: tuple[float, float] | None = None
    bars: bool = False
    names: tuple[str, ...] = ()
    marked: str = "published"


@dataclass(frozen=True)
class Surface:
    """A function of two variables as a surface in 3D, z [len(y), len(x)], with the `labels` of the three axes."""

    title: str
    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    labels: tuple[str, str, str]


@dataclass(frozen=True)
class Areas:
    """A map of a choice: chosen int [len(y), len(x)] is an index into `names`.

    `text` int [len(y), len(x)]: numbers to print in the cells, -1 for none; `signs` [len(y), len(x)]: texts there.
    `labels` of the two axes.
    `none`: the index of what is no choice, shown in grey; -1 where every cell has a choice.
    """

    title: str
    x: np.ndarray
    y: np.ndarray
    chosen: np.ndarray
    names: Sequence[str]
    labels: tuple[str, str]
    text: np.ndarray | None = None
    signs: np.ndarray | None = None
    none: int = -1


@dataclass(frozen=True)
class Grid:
    """A table of numbers as a coloured grid, values [len(rows), len(columns)]; `labels` of rows and columns."""

    title: str
    values: np.ndarray
    rows: Sequence[str]
    columns: Sequence[str]
    labels: tuple[str, str]


@dataclass(frozen=True)
class Picture:
    """An image, uint8 [H, W, 3], shown unchanged."""

    title: str
    pixels: np.ndarray


Panel = Curves | Surface | Areas | Grid | Picture


def read_picture(path: Path) -> Picture:
    """The image file at `path` as a panel without a title."""
    with Image.open(path) as image:
        return Picture("", np.asarray(image.convert("RGB")))


def curve_data(panel: Curves) -> list[dict[str, Any]]:
    """The mean curves of a panel for JSON, NaN as null."""
    found = []
    for line in panel.lines:
        mean = np.asarray(line.y, float).mean(axis=0)
        values = [round(v, 4) if math.isfinite(v) else None for v in mean.tolist()]
        found.append(
            {"panel": panel.title, "label": line.label, "runs": len(line.y), "x": line.x.tolist(), "y": values}
        )
    return found
