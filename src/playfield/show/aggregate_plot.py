"""Pictures of aggregate statistics, in the manner of Agarwal et al. 2021.

Intervals, performance profiles, curves, and matrices. An algorithm has one colour in all of them, that of its place.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from playfield.errors import UsageError
from playfield.show.compare_plot import STYLES
from playfield.show.plots import CYCLE, GREY, INK, blank_figure, save_figure, short_count, style_axes, wrapped

LETTER = 8.4  # pixels of one in the small print, at most on average
# No colour of an algorithm: those are names here.
LOW_HIGH = LinearSegmentedColormap.from_list("low_high", ["#8C510A", "#FFFFFF", "#01665E"])
ZERO_UP = LinearSegmentedColormap.from_list("zero_up", ["#FFFFFF", "#3C3C46"])


@dataclass(frozen=True)
class Interval:
    """A number of one algorithm; `low` and `high` are None from a single run."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Band:
    """A line of one algorithm with its pointwise interval.

    Attributes:
        label: its name.
        place: index among all labels; chooses colour and line style.
        at: [P], increasing.
        value, low, high: [P]; the ends are NaN from a single run.
    """

    label: str
    place: int
    at: np.ndarray
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def color_of(place: int) -> str:
    """The colour of a label in every picture."""
    return CYCLE[place % len(CYCLE)]


def intervals(
    out: str | Path,
    labels: Sequence[str],
    places: Sequence[int],
    panels: Sequence[tuple[str, Sequence[Interval]]],
    *,
    foot: str,
) -> None:
    """A panel for each statistic: a bar for each algorithm's interval, with a line at the value.

    Args:
        out: the file, .png, .svg or .pdf.
        labels, places: of the algorithms, from above down.
        panels: title, and the numbers of all algorithms.
        foot: small print below.

    Raises UsageError for nothing to plot or another ending, StorageError where the file cannot be written.
    """
    _need(labels)
    names = [wrapped(label) for label in labels]
    figure = _figure(1800, 150 + max(70 * len(labels), 46 * sum(n.count("\n") + 1 for n in names)), foot)
    for i, (title, numbers) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        style_axes(axes, title, 10)
        axes.grid(axis="y", visible=False)
        axes.grid(axis="x", color="#E8E8EC", lw=0.8)
        for row, (place, one) in enumerate(zip(places, numbers, strict=True)):
            color = color_of(place)
            if one.low is not None and one.high is not None:
                axes.barh(row, one.high - one.low, 0.5, one.low, color=color, alpha=0.35, lw=0)
            axes.plot([one.value] * 2, [row - 0.25, row + 0.25], color=color, lw=2.5, solid_capstyle="butt")
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_yticks(range(len(labels)), names if i == 0 else [""] * len(labels))
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        ends = [end for one in numbers for end in (one.value, one.low, one.high) if end is not None]
        room = 0.08 * (max(ends) - min(ends)) or 0.05
        axes.set_xlim(min(ends) - room, max(ends) + room)
        _plain_ticks(axes)
    save_figure(figure, out)


def profiles(out: str | Path, lines: Sequence[Band], *, title: str, xlabel: str, foot: str) -> None:
    """Performance profiles: the fraction of runs with a score above each value; see `intervals` for errors."""
    figure, axes = _lines(lines, title, foot)
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel("fraction of runs with a higher score", fontsize=9, color=INK)
    axes.set_ylim(-0.02, 1.02)
    save_figure(figure, out)


def curves(
    out: str | Path, lines: Sequence[Band], *, title: str, xlabel: str, ylabel: str, foot: str, steps: bool
) -> None:
    """Scores against steps (`steps`) or seconds; see `intervals` for errors."""
    figure, axes = _lines(lines, title, foot)
    axes.set_xlabel(xlabel, fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.set_xlim(0, max(float(line.at[-1]) for line in lines) or 1)
    if steps:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short_count(v)))
    save_figure(figure, out)


def matrix(
    out: str | Path,
    rows: Sequence[str],
    columns: Sequence[str],
    shades: np.ndarray,
    texts: Sequence[Sequence[str]],
    *,
    title: str,
    foot: str,
    bar: str,
    middle: float | None = None,
    row_places: Sequence[int] | None = None,
    column_places: Sequence[int] | None = None,
) -> None:
    """A table whose cells have a shade.

    Args:
        out: the file, .png, .svg or .pdf.
        rows, columns: their names.
        shades: [rows, columns]; NaN: an empty cell.
        texts: in the cells.
        title: of the picture.
        foot: small print below.
        bar: what the shades are.
        middle: the value that is white, with two colours around it and 0 and 1 as ends; None: white is the lowest.
        row_places, column_places: of algorithms, whose names have their colours then.

    See `intervals` for errors.
    """
    _need(rows)
    names, heads = [wrapped(r) for r in rows], [wrapped(c, 16) for c in columns]
    top = 40 * max(h.count("\n") + 1 for h in heads)
    body = max(90 * len(rows), 46 * sum(n.count("\n") + 1 for n in names))
    figure = _figure(700 + 210 * len(columns), 120 + top + body, foot)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontsize=12, color=INK, pad=10, weight="bold", parse_math=False)
    if middle is not None:
        image = axes.imshow(shades, cmap=LOW_HIGH, norm=TwoSlopeNorm(middle, 0, 1), aspect="auto")
    else:
        known = shades[np.isfinite(shades)]
        low, high = min(0.0, float(known.min())), max(float(known.max()), 1e-9)
        image = axes.imshow(shades, cmap=ZERO_UP, vmin=low, vmax=high, aspect="auto")
    for r, line in enumerate(texts):
        for c, words in enumerate(line):
            shade = image.cmap(image.norm(shades[r, c])) if np.isfinite(shades[r, c]) else (1, 1, 1, 1)
            dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 0.55
            text = axes.text(c, r, words, ha="center", va="center", fontsize=8, color="white" if dark else INK)
            text.set_parse_math(False)
    axes.set_xticks(range(len(columns)), heads)
    axes.set_yticks(range(len(rows)), names)
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.xaxis.set_ticks_position("top")
    for ticks, places in ((axes.get_yticklabels(), row_places), (axes.get_xticklabels(), column_places)):
        for i, tick in enumerate(ticks):
            tick.set_parse_math(False)
            if places is not None:
                tick.set_color(color_of(places[i]))
                tick.set_fontweight("bold")
    for side in axes.spines.values():
        side.set_visible(False)
    shown = figure.colorbar(image, ax=axes, fraction=0.04, pad=0.02)
    shown.set_label(bar, fontsize=8, color=INK)
    shown.ax.tick_params(labelsize=7, colors=GREY)
    shown.outline.set_visible(False)
    save_figure(figure, out)


def _figure(width: int, height: int, foot: str) -> Figure:
    """A figure whose axes have `height` pixels, with as much more as the small print needs.

    It is wrapped here: matplotlib measures every beginning of a long line, which takes a second a picture.
    """
    rows = [row for line in foot.splitlines() for row in textwrap.wrap(line, int(width / LETTER))]
    figure = blank_figure((width, height + 18 * len(rows)), "\n".join(rows))
    figure.texts[-1].set_wrap(False)
    return figure


def _lines(lines: Sequence[Band], title: str, foot: str) -> tuple[Figure, Axes]:
    _need(lines)
    figure = _figure(1500, 760, foot)
    axes = figure.add_subplot()
    style_axes(axes, title)
    for line in lines:
        how: dict[str, Any] = {"color": color_of(line.place), "ls": STYLES[line.place // len(CYCLE) % len(STYLES)]}
        if np.isfinite(line.low).all():
            axes.fill_between(line.at, line.low, line.high, color=how["color"], alpha=0.13, lw=0)
        axes.plot(
            line.at, line.value, lw=2.0, label=wrapped(line.label), marker="" if len(line.at) > 1 else "o", **how
        )
    legend = figure.legend(loc="outside right upper", fontsize=8, frameon=False, labelcolor=INK)
    for text in legend.get_texts():
        text.set_parse_math(False)
    _plain_ticks(axes)
    return figure, axes


def _plain_ticks(axes: Axes) -> None:
    for text in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        text.set_parse_math(False)


def _need(things: Sequence[Any]) -> None:
    if not things:
        raise UsageError("nothing to plot: no algorithm has scores on all environments")
