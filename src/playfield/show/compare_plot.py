"""The plot of `playfield compare`: a panel per environment, a line per algorithm, with intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, MaxNLocator

from playfield.errors import UsageError
from playfield.play.statistics import t_interval
from playfield.show.plots import CYCLE, GREY, INK, blank_figure, save_figure, short_count, style_axes, wrapped

PANEL = (840, 700)  # pixels of one panel
COLUMNS = 3  # panels in a row, at most
STYLES = ("-", (0, (5, 2)), (0, (1, 1.5)))  # of lines, where there are more labels than colours
FEW = 3  # up to this number of seeds each is drawn too
BAND = 3  # seeds needed for a confidence band: that of two (t = 12.7) would fill the panel


@dataclass(frozen=True)
class Line:
    """One algorithm.

    Attributes:
        label: its name.
        place: index among all labels; chooses colour and line style.
        steps: [P], increasing.
        scores: [seeds, P], at `steps`.
    """

    label: str
    place: int
    steps: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class Panel:
    """One environment, with the human reference score and that of random play where they are known.

    `limits` are the lowest and the highest possible score: no band leaves them.
    """

    title: str
    lines: Sequence[Line]
    human: float | None = None
    random: float | None = None
    limits: tuple[float, float] = (-math.inf, math.inf)


def comparison(
    out: str | Path,
    panels: Sequence[Panel],
    *,
    foot: str,
    ylabel: str = "score of a full game",
    level: float = 0.95,
) -> None:
    """Plot the mean over seeds of each line, with Student's t interval of that mean as a band (three seeds or more).

    Panels stand side by side, at most three in a row. Two or three seeds are also drawn as thin lines. The range of
    the y axis ignores the first twentieth of the steps, where the means are over few games.

    Args:
        out: the file, .png, .svg or .pdf; an existing one is replaced.
        panels: one per environment.
        foot: small print below the plot.
        ylabel: label of the y axes.
        level: confidence level of the interval.

    Raises:
        UsageError: nothing to plot, a number that is not finite, or another ending.
        StorageError: the file cannot be written.
    """
    if not panels or not all(panel.lines for panel in panels):
        raise UsageError("nothing to plot: no run with a finished game")
    for line in (line for panel in panels for line in panel.lines):
        if not (line.steps.size and np.isfinite(line.steps).all() and np.isfinite(line.scores).all()):
            raise UsageError(f"{line.label}: expected finite scores at one step or more")
    columns = min(len(panels), COLUMNS)
    rows = math.ceil(len(panels) / columns)
    figure = blank_figure((PANEL[0] * columns, PANEL[1] * rows), foot)
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.08)
    drawn = []
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1)
        drawn.append((axes, panel, _panel(axes, panel, level)))
        if i % columns == 0:
            axes.set_ylabel(ylabel, fontsize=9, color=INK)
    figure.draw_without_rendering()  # fixes the layout: labels can only be placed when the heights are known
    for axes, panel, texts in drawn:
        _separate_labels(axes, panel, texts)
    save_figure(figure, out)


def _panel(axes: Axes, panel: Panel, level: float) -> list[Annotation]:
    style_axes(axes, panel.title, 11)
    texts = []
    for line in panel.lines:
        color, dashes = CYCLE[line.place % len(CYCLE)], STYLES[line.place // len(CYCLE) % len(STYLES)]
        mean, mark = line.scores.mean(0), "" if len(line.steps) > 1 else "o"
        if len(line.scores) >= BAND:
            axes.fill_between(
                line.steps, *t_interval(line.scores, level, panel.limits), color=color, alpha=0.13, lw=0
            )
        if 1 < len(line.scores) <= FEW:
            axes.plot(line.steps, line.scores.T, color=color, lw=0.7, alpha=0.55, ls=dashes)
        axes.plot(line.steps, mean, marker=mark, color=color, lw=2.0, ls=dashes, zorder=3)
        at: dict[str, Any] = {
            "xytext": (8, 0),
            "textcoords": "offset points",
            "va": "center",
            "annotation_clip": False,
        }
        text = axes.annotate(wrapped(line.label), (line.steps[-1], mean[-1]), color=color, fontsize=8, **at)
        text.set_parse_math(False)
        texts.append(text)
    shown = np.concatenate([_shown(line, level, panel.limits).ravel() for line in panel.lines])
    least, most = float(shown.min()), float(shown.max())
    room = 0.08 * (most - least) or 0.5
    axes.set_ylim(_references(axes, panel, least - room, most + room))
    axes.set_xlim(0, max(float(line.steps[-1]) for line in panel.lines) or 1)
    axes.set_xlabel("steps (agent decisions)", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short_count(v)))
    return texts


def _shown(line: Line, level: float, limits: tuple[float, float]) -> np.ndarray:
    """The values of a line that the y axis must cover."""
    settled = line.scores[:, line.steps >= line.steps[-1] / 20]
    return np.concatenate([settled.ravel(), *(t_interval(settled, level, limits) if len(settled) > FEW else ())])


def _references(axes: Axes, panel: Panel, low: float, high: float) -> tuple[float, float]:
    """Draw human and random scores, as lines if near and else as text; returns the y range with the near ones."""
    far, span = [], high - low
    for name, score in (("human", panel.human), ("random play", panel.random)):
        if score is None:
            continue
        if not low - 0.5 * span <= score <= high + 0.5 * span:
            far.append(f"{name} {score:,g} ({'above' if score > high else 'below'})")
            continue
        low, high = min(low, score - 0.05 * span), max(high, score + 0.1 * span)
        axes.axhline(score, color=GREY, lw=1.0, ls=(0, (6, 3)) if name == "human" else (0, (1, 2)), zorder=1.5)
        place = axes.get_yaxis_transform()
        at: dict[str, Any] = {"xytext": (-2, 1), "textcoords": "offset points", "xycoords": place, "zorder": 5}
        text = axes.annotate(f"{name} {score:,g}", (1, score), va="bottom", ha="right", fontsize=7, color=INK, **at)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    if far:
        axes.text(0.99, 1.02, ", ".join(far), transform=axes.transAxes, ha="right", fontsize=7, color=GREY)
    return low, high


def _separate_labels(axes: Axes, panel: Panel, texts: Sequence[Annotation]) -> None:
    """Move the labels at the ends of lines up or down until none overlaps another."""
    height = axes.get_window_extent().height * 72 / axes.figure.dpi  # points
    low, high = axes.get_ylim()
    ends = [height * (float(line.scores.mean(0)[-1]) - low) / (high - low) for line in panel.lines]
    gap = 10.5 * max(text.get_text().count("\n") + 1 for text in texts)
    for text, end, place in zip(texts, ends, spread(ends, gap, 4, height - 4), strict=True):
        text.xyann = (12 if abs(place - end) > 2 else 5, place - end)
        if abs(place - end) > 2:
            arrow: dict[str, Any] = {"xytext": text.xyann, "textcoords": "offset points"}
            props = {"arrowstyle": "-", "color": text.get_color(), "lw": 0.6, "shrinkA": 1, "shrinkB": 1}
            axes.annotate("", text.xy, arrowprops=props, annotation_clip=False, **arrow)


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Move `places` as little as possible (least squares) until they are `gap` apart and within [low, high].

    Labels that touch form a block around their mean (pool adjacent violators). Where there is not enough room the
    gap is reduced.
    """
    if not places:
        return []
    if len(places) > 1:
        gap = min(gap, (high - low) / (len(places) - 1))
    order = sorted(range(len(places)), key=lambda i: places[i])
    blocks: list[list[float]] = []  # [sum, count] of places minus their offsets in the block
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
