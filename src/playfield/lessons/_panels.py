"""What a lesson's picture is made of: panels with curves, marks, surfaces and areas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


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


def _curves(panel: Curves) -> list[dict[str, Any]]:
    found = []
    for line in panel.lines:
        mean = np.asarray(line.y, float).mean(axis=0)
        values = [round(v, 4) if math.isfinite(v) else None for v in mean.tolist()]
        found.append(
            {"panel": panel.title, "label": line.label, "runs": len(line.y), "x": line.x.tolist(), "y": values}
        )
    return found
