"""The picture of a lesson: its panels in one figure, with published numbers beside our curves.

`png` and `vector` need no display; `window` shows the same figure with pyplot.
"""

from __future__ import annotations

import io
import math
import os
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends import BackendFilter, backend_registry
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

from playfield.errors import UsageError
from playfield.lessons._panels import Areas, Curves, Grid, Panel, Picture, Surface
from playfield.lessons._rows import number
from playfield.play.statistics import t_interval
from playfield.show.compare_plot import STYLES, spread
from playfield.show.plots import (
    CYCLE,
    DPI,
    GREY,
    INK,
    ORANGE,
    SKY,
    blank_figure,
    figure_bytes,
    render,
    style_axes,
    wrapped,
)

CELL = (720, 570)  # pixels of one panel among several
ALONE = (1080, 700)
BAND = 3  # runs from which on the interval is shown as a band
PALE = ("#F0F0F4", SKY, ORANGE)
COLOURS = 200  # in the PNG of a plot: with fewer, bands of many lines leave none for the lines themselves
PER_LETTER = 16  # pixels of a letter of a title, at most on average
FEW = 600  # points of a line that can be distinguished


def png(title: str, panels: Sequence[Panel], columns: int = 3, foot: str = "") -> bytes:
    """The figure as the bytes of a PNG file; the same panels give the same bytes.

    Plots are reduced to few colours; a single image is written unchanged.

    Args:
        title: of the figure.
        columns: panels per row.
        foot: small print at the bottom.
    """
    if len(panels) == 1 and isinstance(panels[0], Picture):
        image = Image.fromarray(panels[0].pixels)
    else:
        figure = blank_figure(_size(panels, columns), foot)
        _draw(figure, title, panels, columns)
        image = Image.fromarray(render(figure))
        image = image.quantize(COLOURS, dither=Image.Dither.NONE)
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return data.getvalue()


def vector(title: str, panels: Sequence[Panel], columns: int = 3, foot: str = "", *, kind: str) -> bytes:
    """The figure as the bytes of an SVG or PDF file (`kind`); images in it stay images."""
    figure = blank_figure(_size(panels, columns), foot)
    _draw(figure, title, panels, columns)
    return figure_bytes(figure, kind)


def check_display() -> None:
    """Raise UsageError where no window can be opened."""
    if matplotlib.rcParams["backend"] == "agg" or os.environ.get("MPLBACKEND", "").lower() == "agg":
        raise UsageError(
            "--show: matplotlib is set to write files only (MPLBACKEND=agg): unset it, or leave out --show"
        )
    shown = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if os.name == "posix" and sys.platform != "darwin" and not shown:
        raise UsageError("--show needs a display: leave it out, and open the PNG file that is written")
    try:
        plt = _pyplot()
    except ImportError as error:
        raise UsageError(f"--show: matplotlib cannot open a window here: {error}") from None
    if plt.get_backend().lower() not in map(str.lower, backend_registry.list_builtin(BackendFilter.INTERACTIVE)):
        raise UsageError("--show: matplotlib has no GUI toolkit here: install PyQt6, or leave out --show")


def window(title: str, panels: Sequence[Panel], columns: int = 3) -> None:
    """Show the figure in a window, and wait until it is closed. Surfaces can be rotated."""
    plt = _pyplot()
    width, height = _size(panels, columns)
    figure = plt.figure(figsize=(width / DPI, height / DPI), dpi=100, layout="constrained")
    _draw(figure, title, panels, columns)
    plt.show()


def _pyplot() -> Any:
    """pyplot: imported for a window only, since it picks a GUI toolkit."""
    import matplotlib.pyplot as plt

    return plt


def _shape(panels: Sequence[Panel], columns: int) -> tuple[int, int]:
    columns = min(len(panels), columns)
    return math.ceil(len(panels) / columns), columns


def _size(panels: Sequence[Panel], columns: int) -> tuple[int, int]:
    """Width and height of the figure, pixels."""
    rows, columns = _shape(panels, columns)
    if len(panels) > 1:
        return CELL[0] * columns, CELL[1] * rows + 40
    only = panels[0]
    if isinstance(only, Picture):
        height, width = only.pixels.shape[:2]
        return max(width + 60, 700), height + 140
    return ALONE


def _draw(figure: Any, title: str, panels: Sequence[Panel], columns: int) -> None:
    rows, columns = _shape(panels, columns)
    width = int(_size(panels, columns)[0] / PER_LETTER)
    figure.suptitle("\n".join(textwrap.wrap(title, width)), x=0.01, ha="left", fontsize=12, weight="bold", color=INK)
    figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.08)
    labels = []
    for i, panel in enumerate(panels):
        three = {"projection": "3d"} if isinstance(panel, Surface) else {}
        axes = figure.add_subplot(rows, columns, i + 1, **three)
        labels.append((axes, panel, _panel(axes, panel)))
    figure.draw_without_rendering()  # labels are moved apart below, which needs the final heights
    for axes, panel, texts in labels:
        if isinstance(panel, Curves):
            _spread_labels(axes, texts)


def _panel(axes: Any, panel: Panel) -> list[Any]:
    if isinstance(panel, Curves):
        return _curves(axes, panel)
    if isinstance(panel, Surface):
        _surface(axes, panel)
    elif isinstance(panel, Areas):
        _areas(axes, panel)
    elif isinstance(panel, Grid):
        _grid(axes, panel)
    else:
        _picture(axes, panel)
    return []


def _style(place: int) -> tuple[str, Any]:
    """Colour and dashes of line number `place`."""
    return CYCLE[place % len(CYCLE)], STYLES[place // len(CYCLE) % len(STYLES)]


def _curves(axes: Any, panel: Curves) -> list[Any]:
    style_axes(axes, panel.title, 10)
    if panel.ylim is not None and not panel.log:
        title = {"fontsize": 10, "color": INK, "weight": "bold", "parse_math": False}
        axes.set_title(panel.title, loc="left", pad=20, **title)  # labels of lines that leave the panel go below it
    texts = []
    top: list[tuple[float, str, str]] = []  # lines that leave through the top: x, label, colour
    for place, line in enumerate(panel.lines):
        color, dashes = _style(place)
        x, y = np.asarray(line.x, float), np.asarray(line.y, float)
        mean = y.mean(axis=0)
        if panel.bars:
            axes.bar(x, mean, width=0.7, color=color, alpha=0.75)
            if len(y) >= BAND:
                low, high = t_interval(y)
                ends = np.maximum([mean - np.maximum(low, np.minimum(0.0, y.min(axis=0))), high - mean], 0.0)
                axes.errorbar(x, mean, yerr=ends, fmt="none", ecolor=INK, elinewidth=1.2, capsize=3)
            axes.set_xticks(x, panel.names or None)
            continue
        if not np.isfinite(mean).any():  # no game was finished
            continue
        if len(y) >= BAND:
            low, high = t_interval(y)
            if panel.log:  # outliers would take the band below 0
                low = np.maximum(low, y.min(axis=0))
            inside = np.full(len(x), True) if panel.ylim is None or panel.log else mean <= panel.ylim[1]
            axes.fill_between(x, low, high, where=inside, color=color, alpha=0.15, lw=0)
        width = 1.8 if len(x) < FEW / 4 else 1.1
        axes.plot(x, mean, color=color, lw=width, ls=dashes, marker="o" if len(x) < 30 else "", ms=3, zorder=3)
        at = {"xytext": (6, 0), "textcoords": "offset points", "va": "center", "annotation_clip": False}
        out = _leaves(panel, x, mean)
        if out is not None:  # its label goes to the top
            top.append((out, line.label, color))
            continue
        last = int(np.flatnonzero(np.isfinite(mean))[-1])
        text = axes.annotate(
            wrapped(line.label), (x[last], _end(panel, mean[: last + 1])), color=color, fontsize=8, **at
        )
        text.set_parse_math(False)
        texts.append(text)
    if panel.ylim is not None and top:
        left, right = (pick(float(line.x[i]) for line in panel.lines) for pick, i in ((min, 0), (max, -1)))
        places = spread([out for out, _, _ in top], 0.07 * (right - left), left, right)
        for place_x, (_, label, color) in zip(places, top, strict=True):
            at = {"xytext": (0, 3), "textcoords": "offset points", "va": "bottom", "ha": "center"}
            axes.annotate(label, (place_x, panel.ylim[1]), color=color, fontsize=8, annotation_clip=False, **at)
    for mark in panel.marks:
        color, _ = _style(mark.place)
        dash = ([mark.x0, mark.x1], [mark.y, mark.y])
        dot = mark.x0 == mark.x1
        axes.plot(*dash, color=INK, lw=3.0, marker="D" if dot else "", ms=7, zorder=4, solid_capstyle="butt")
        axes.plot(*dash, color=color, lw=1.6, marker="D" if dot else "", ms=5, zorder=5, solid_capstyle="butt")
    if panel.marks:
        axes.plot([], [], color=GREY, lw=2.5, marker="D" if panel.marks[0].x0 == panel.marks[0].x1 else "", ms=5)
        axes.legend(axes.lines[-1:], [panel.marked], fontsize=7.5, loc="upper right", frameon=False, labelcolor=INK)
    if panel.log:
        _log_axis(axes)
    if panel.ylim is not None:
        axes.set_ylim(*panel.ylim)
    axes.set_xlabel(panel.xlabel, fontsize=8.5, color=INK)
    axes.set_ylabel(panel.ylabel, fontsize=8.5, color=INK)
    if panel.bars:
        axes.margins(y=0.25)
        return texts
    ends = [float(line.x[i]) for line in panel.lines for i in (0, -1)] + [m.x1 for m in panel.marks]
    if min(ends) < max(ends):
        axes.set_xlim(min(ends), max(ends))
    if max(ends) > max(
        float(line.x[-1]) for line in panel.lines
    ):  # labels go to the right of the marks in the margin
        for text in texts:
            text.xy = (max(ends), text.xy[1])
    return texts


def _log_axis(axes: Any) -> None:
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    few = high < 1e4 * low  # over more decades, ticks at 2 and 5 would leave none with a number
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=None if few else 8))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: number(v) if v >= 1 else f"{v:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _leaves(panel: Curves, x: np.ndarray, mean: np.ndarray) -> float | None:
    """The x at which a line leaves through the top in its last segment; None where it does not."""
    if panel.ylim is None or panel.log or len(x) < 2 or not mean[-1] > panel.ylim[1] >= mean[-2]:
        return None
    return float(x[-2] + (x[-1] - x[-2]) * (panel.ylim[1] - mean[-2]) / (mean[-1] - mean[-2]))


def _end(panel: Curves, mean: np.ndarray) -> float:
    """The y of a line's label: the mean of its last tenth, since single episodes vary."""
    value = float(np.nanmean(mean[-max(1, len(mean) // 10) :]))
    return value if panel.ylim is None else min(max(value, panel.ylim[0]), panel.ylim[1])


def _spread_labels(axes: Any, texts: list[Any]) -> None:
    """Move the labels at the ends of lines up and down until none covers another."""
    height = axes.get_window_extent().height * 72 / axes.figure.dpi  # points
    ends = []
    for text in texts:
        _, y = axes.transData.transform(text.xy)
        ends.append((y - axes.get_window_extent().y0) * 72 / axes.figure.dpi)
    gap = 10.5 * max((text.get_text().count("\n") + 1 for text in texts), default=1)
    for text, end, place in zip(texts, ends, spread(ends, gap, 4, height - 4), strict=True):
        text.xyann = (6, place - end)


def _surface(axes: Any, panel: Surface) -> None:
    x, y = np.meshgrid(panel.x, panel.y)
    axes.set_title(panel.title, loc="left", fontsize=10, color=INK, weight="bold", parse_math=False)
    # At most some 40 by 40 patches of four corners: of those with more matplotlib projects memory that it never set.
    rows, columns = (np.unique(np.append(np.arange(0, n, math.ceil(n / 40)), n - 1)) for n in panel.z.shape)
    grid = np.ix_(rows, columns)
    axes.plot_surface(
        x[grid], y[grid], panel.z[grid], cmap="viridis", rstride=1, cstride=1, lw=0.2, edgecolor="#00000030"
    )
    axes.view_init(elev=32, azim=-60)
    for name, label in zip("xyz", panel.labels, strict=True):
        getattr(axes, f"set_{name}label")(label, fontsize=8, color=INK)
    axes.tick_params(labelsize=7)
    axes.locator_params(axis="x", nbins=4)  # the numbers of this edge lie one behind the other


def _areas(axes: Any, panel: Areas) -> None:
    style_axes(axes, panel.title, 10)
    axes.grid(False)
    count = len(panel.names)
    colors = [_style(i)[0] for i in range(count)] if panel.text is None else list(PALE[:count])
    if panel.none >= 0:
        colors[panel.none] = PALE[0]
    norm = BoundaryNorm(np.arange(count + 1) - 0.5, count)
    axes.pcolormesh(panel.x, panel.y, panel.chosen, cmap=ListedColormap(colors), norm=norm, shading="nearest")
    if panel.signs is not None:
        axes.set_xticks(panel.x)
        axes.set_yticks(panel.y)
        for (row, column), sign in np.ndenumerate(panel.signs):
            axes.text(panel.x[column], panel.y[row], str(sign), ha="center", va="center", fontsize=11, color=INK)
    if panel.text is not None:
        axes.invert_yaxis()
        for (row, column), number in np.ndenumerate(panel.text):
            if number >= 0:
                axes.text(panel.x[column], panel.y[row], str(number), ha="center", va="center", fontsize=9, color=INK)
    axes.set_xlabel(panel.labels[0], fontsize=8.5, color=INK)
    axes.set_ylabel(panel.labels[1], fontsize=8.5, color=INK)
    patches = [Patch(color=color, label=name) for color, name in zip(colors, panel.names, strict=True)]
    axes.legend(
        handles=patches, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=count, frameon=False
    )


def _grid(axes: Any, panel: Grid) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10, color=INK, weight="bold", parse_math=False)
    known = panel.values[np.isfinite(panel.values)]
    top = float(known.max()) if known.size and known.max() > 0 else 1.0
    axes.imshow(panel.values, cmap="Blues", vmin=0, vmax=1.6 * top, aspect="auto")  # pale: numbers stay readable
    for (row, column), value in np.ndenumerate(panel.values):
        text = f"{value:.3g}" if math.isfinite(value) else "-"
        axes.text(column, row, text, ha="center", va="center", fontsize=12, color=INK)
    axes.set_xticks(range(len(panel.columns)), panel.columns)
    axes.set_yticks(range(len(panel.rows)), panel.rows)
    axes.tick_params(length=0, labelsize=9)
    axes.set_ylabel(panel.labels[0], fontsize=8.5, color=INK)
    axes.set_xlabel(panel.labels[1], fontsize=8.5, color=INK)
    for side in axes.spines.values():
        side.set_visible(False)


def _picture(axes: Any, panel: Picture) -> None:
    axes.set_title(panel.title, loc="left", fontsize=10, color=INK, weight="bold", parse_math=False)
    axes.imshow(panel.pixels, interpolation="none")
    axes.axis("off")
