"""The picture of a comparison: one panel per environment, one line per algorithm, with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import UsageError
from playfield.play.statistics import t_interval
from playfield.show.plots import CYCLE, GREY, INK, blank_figure, save_figure, short_count, style_axes

PANEL = (840, 700)  # pixels of one panel
WRAP = 3  # panels in a row
STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))  # for more labels than colours
FEW = 3  # up to so many seeds each is drawn too
BAND = 3  # from so many seeds on there is a band: that of two (t = 12.7) would fill every panel


@dataclass(frozen=True)
class Line:
    """One algorithm: scores [seeds, P] at `steps` [P]; `place` among all labels chooses the colour."""

    label: str
    place: int
    steps: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One environment, with the scores of a person and of random play where they are known."""

    title: str
    lines: Sequence[Line]
    human: float | None = None
    random: float | None = None


def comparison(
    out_png: str | Path,
    panels: Sequence[Panel],
    *,
    foot: str,
    ylabel: str = "score of a full game",
    level: float = 0.95,
) -> None:
    """Draw the mean over seeds of each line, and Student's t interval of that mean as a band (none for one seed).

    Panels stand side by side, at most three in a row. Up to three seeds are drawn thinly; two have no band. The axis
    of scores leaves out the first twentieth of the steps, where the means are of few games and may leave the panel.

    Raises:
        UsageError: nothing to draw, a number that is not finite, no .png file.
        StorageError: the file cannot be written.
    """
    if not panels or not all(panel.lines for panel in panels):
        raise UsageError("nothing to draw: no run with a finished game")
    for line in (line for panel in panels for line in panel.lines):
        if not (line.steps.size and np.isfinite(line.steps).all() and np.isfinite(line.scores).all()):
            raise UsageError(f"{line.label}: expected finite scores at one step at least")
    columns = min(len(panels), WRAP)
    rows = math.ceil(len(panels) / columns)
    figure = blank_figure((PANEL[0] * columns, PANEL[1] * rows), foot)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    drawn = []
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        drawn.append((axes, panel, _panel(axes, panel, level)))
        if i % columns == 0:
            axes.set_ylabel(ylabel, fontsize=9, color=INK)
    figure.draw_without_rendering()  # now the heights are known, and labels can make room for each other
    for axes, panel, texts in drawn:
        _part(axes, panel, texts)
    save_figure(figure, out_png)


def _panel(axes: Any, panel: Panel, level: float) -> list[Any]:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    style_axes(axes, panel.title, 11)
    texts = []
    for line in panel.lines:
        color, dashes = CYCLE[line.place % len(CYCLE)], STYLES[line.place // len(CYCLE) % len(STYLES)]
        mean, mark = line.scores.mean(0), "" if len(line.steps) > 1 else "o"
        if len(line.scores) >= BAND:
            axes.fill_between(line.steps, *t_interval(line.scores, level), color=color, alpha=0.13, lw=0)
        if 1 < len(line.scores) <= FEW:
            axes.plot(line.steps, line.scores.T, color=color, lw=0.7, alpha=0.55, ls=dashes)
        axes.plot(line.steps, mean, marker=mark, color=color, lw=2.0, ls=dashes, zorder=3)
        at = {"xytext": (8, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        text = axes.annotate(line.label, (line.steps[-1], mean[-1]), color=color, fontsize=8, **at)
        text.set_parse_math(False)
        texts.append(text)
    shown = np.concatenate([_shown(line, level).ravel() for line in panel.lines])
    least, most = float(shown.min()), float(shown.max())
    room = 0.08 * (most - least) or 0.5
    axes.set_ylim(_references(axes, panel, least - room, most + room))
    axes.set_xlim(0, max(float(line.steps[-1]) for line in panel.lines) or 1)
    axes.set_xlabel("steps (agent decisions)", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short_count(v)))
    return texts


def _shown(line: Line, level: float) -> np.ndarray:
    """What the axis must show of a line."""
    settled = line.scores[:, line.steps >= line.steps[-1] / 20]
    return np.concatenate([settled.ravel(), *(t_interval(settled, level) if len(settled) > FEW else ())])


def _references(axes: Any, panel: Panel, low: float, high: float) -> tuple[float, float]:
    """Lines of a person and of random play; the axis with them where they are near, words where they are far."""
    from matplotlib.patheffects import withStroke

    far, span = [], high - low
    for name, score in (("human", panel.human), ("random play", panel.random)):
        if score is None:
            continue
        if not low - 0.5 * span <= score <= high + 0.5 * span:
            far.append(f"{name} {score:,g} ({'above' if score > high else 'below'})")
            continue
        low, high = min(low, score - 0.05 * span), max(high, score + 0.1 * span)
        axes.axhline(score, color=GREY, lw=1.0, ls=(0, (6, 3)) if name == "human" else (0, (1, 2)), zorder=1.5)
        at = {"xytext": (-2, 1), "textcoords": "offset points", "xycoords": axes.get_yaxis_transform(), "zorder": 5}
        text = axes.annotate(f"{name} {score:,g}", (1, score), va="bottom", ha="right", fontsize=7, color=INK, **at)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    if far:
        axes.text(0.99, 1.02, ", ".join(far), transform=axes.transAxes, ha="right", fontsize=7, color=GREY)
    return low, high


def _part(axes: Any, panel: Panel, texts: Sequence[Any]) -> None:
    """Move the labels at the ends of lines up and down until none hides another."""
    height = axes.get_window_extent().height * 72 / axes.figure.dpi  # points
    low, high = axes.get_ylim()
    ends = [height * (float(line.scores.mean(0)[-1]) - low) / (high - low) for line in panel.lines]
    for text, end, place in zip(texts, ends, spread(ends, 10.5, 4, height - 4), strict=True):
        text.xyann = (12 if abs(place - end) > 2 else 5, place - end)
        if abs(place - end) > 2:
            arrow = {"xytext": text.xyann, "textcoords": "offset points"}
            props = {"arrowstyle": "-", "color": text.get_color(), "lw": 0.6, "shrinkA": 1, "shrinkB": 1}
            axes.annotate("", text.xy, arrowprops=props, annotation_clip=False, **arrow)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """`places` moved as little as may be (least squares) so that they are `gap` apart and within [low, high].

    Labels that touch form a block around their mean (pool adjacent violators). What does not fit is set closer.
    """
    if not places:
        return []
    if len(places) > 1:
        gap = min(gap, (high - low) / (len(places) - 1))
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[list[float]] = []  # [sum, count] of places less their part of the gaps
    for k, i in enumerate(order):
        blocks.append([places[i] - k * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += count
    top = high - (len(places) - 1) * gap
    flat = [min(max(total / count, low), top) for total, count in blocks for _ in range(int(count))]
    moved = [0.0] * len(places)
    for k, i in enumerate(order):
        moved[i] = flat[k] + k * gap
    return moved
