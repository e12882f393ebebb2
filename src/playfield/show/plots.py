"""The learning curve of a run, and helpers that other plots share.

matplotlib is used through its object interface: no `pyplot`, no window. The same input gives the same bytes.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator

from playfield.envs import protocol_line as describe_protocol
from playfield.envs.family import family
from playfield.errors import UsageError
from playfield.play.statistics import moving_mean
from playfield.runs.console import format_scores
from playfield.runs.logger import EVALUATIONS, WINDOW, read_evaluations, read_monitor
from playfield.runs.storage import atomic_write, folder_for
from playfield.show.formats import plot_format

# Okabe and Ito (2008): distinct under every kind of colour blindness.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, GREY, INK = "#56B4E9", "#CC79A7", "#8C8C94", "#24242B"
CYCLE = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
DPI = 150
WIDE = 30  # characters of a name in one line
MANY = 2000  # dots that a vector format still holds one by one; more are pixels there
# What matplotlib would add: the date, and its version.
_UNDATED: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

Game = tuple[float, float]  # (step at which the game ended, raw score)


def learning_curve(
    out: str | Path,
    games: Sequence[Game],
    *,
    title: str,
    protocol_line: str,
    evals: Sequence[tuple[float, float, float, float]] | None = None,
    human: float | None = None,
    random: float | None = None,
    window: int = WINDOW,
    seconds: float | Sequence[float] | None = None,
    size: tuple[int, int] = (1200, 750),
) -> None:
    """Plot the raw score of every game as a dot and the mean over the last `window` games as a line.

    Args:
        out: the file, .png, .svg or .pdf; an existing one is replaced.
        games: (step, score) of each finished game, in any order.
        title: title of the plot.
        protocol_line: evaluation protocol, in small print below the plot.
        evals: (step, mean, low, high) of each evaluation, drawn as a dot with its confidence interval.
        human: human reference score, a labelled line.
        random: score of random play, a labelled line.
        window: games in the moving mean.
        seconds: wall-clock seconds since training began, for an axis at the top: one per game, or only that of the
            last game (the speed is then assumed constant).
        size: (width, height) of the picture in pixels.

    Raises:
        UsageError: no games, a number that is not finite, `seconds` of another length than `games`, another ending.
        StorageError: the file cannot be written.
    """
    pairs = _games(games, "games")
    order = np.argsort(pairs[:, 0], kind="stable")
    steps, scores = pairs[order].T
    clock = _clock(steps, order, seconds)
    figure = blank_figure(size, protocol_line)
    axes = figure.add_subplot()
    style_axes(axes, title)
    # More games, fainter dots: otherwise those of a long run merge into one area.
    alpha = float(np.clip(20 / math.sqrt(len(steps)), 0.12, 0.7))
    axes.plot(steps, scores, ".", color=SKY, ms=4, mew=0, alpha=alpha, rasterized=len(steps) > MANY)
    axes.plot([], [], ".", color=SKY, ms=7, mew=0, label="one game")
    mean = moving_mean(scores, window)
    shown = min(window, len(steps))
    label = f"mean of the last {shown} games" if shown > 1 else "score"
    axes.plot(steps, mean, "-" if len(steps) > 1 else "o", color=BLUE, lw=2.2, label=label)
    _end_label(axes, steps[-1], mean[-1], BLUE)
    if evals:
        at = _table(evals, 4, "evaluations (step, mean, low, high)")
        bars = np.abs(np.stack([at[:, 1] - at[:, 2], at[:, 3] - at[:, 1]]))
        style: dict[str, Any] = {"color": VERMILION, "ms": 5, "capsize": 3, "elinewidth": 1.2}
        axes.errorbar(at[:, 0], at[:, 1], yerr=bars, fmt="o", label="evaluation, with confidence interval", **style)
    last = max(steps[-1], max(e[0] for e in evals) if evals else 0.0)
    _finish_axes(axes, last, "score of a full game", human, random)
    if clock is not None:
        _time_axis(axes, steps, clock)
    _legend(axes, np.concatenate([steps, steps]), np.concatenate([scores, mean]))
    save_figure(figure, out)


def on_common_steps(
    lines: Sequence[tuple[np.ndarray, np.ndarray]], points: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """Resample lines (increasing steps [n], values [n]) at `points` steps that all of them cover.

    A line keeps its value until its next step. Returns steps [P] and values [lines, P]; P is 0 where no step is
    covered by all.
    """
    first, last = max(s[0] for s, _ in lines), min(s[-1] for s, _ in lines)
    if first > last:
        return np.empty(0), np.empty((len(lines), 0))
    grid = np.linspace(first, last, points) if last > first else np.array([first])
    return grid, np.stack([v[np.searchsorted(s, grid, side="right") - 1] for s, v in lines])


def _games(games: Sequence[Game], what: str) -> np.ndarray:
    if not len(games):
        raise UsageError(f"no {what} to plot: no game has finished yet")
    return _table([(g[0], g[1]) for g in games], 2, what)


def _table(rows: Sequence[Sequence[float]], columns: int, what: str) -> np.ndarray:
    table = np.asarray(rows, np.float64)
    if table.ndim != 2 or table.shape[1] != columns or not np.isfinite(table).all():
        raise UsageError(f"{what}: expected rows of {columns} finite numbers")
    return table


def _clock(steps: np.ndarray, order: np.ndarray, seconds: float | Sequence[float] | None) -> np.ndarray | None:
    """Wall-clock seconds at each of `steps`, non-decreasing."""
    if seconds is None:
        return None
    given = np.asarray(seconds, np.float64)
    if not (np.isfinite(given).all() and (given >= 0).all()):
        raise UsageError("wall times must be finite and not negative")
    if given.ndim == 0:
        return np.asarray(float(given) * steps / max(steps[-1], 1.0))
    if given.shape != steps.shape:
        raise UsageError(f"{len(steps)} games need {len(steps)} times, not {len(given)}")
    return np.maximum.accumulate(given[order])


def blank_figure(size: tuple[int, int], foot: str) -> Figure:
    """An empty figure of `size` (width, height) pixels with small print, `foot`, at the bottom."""
    width, height = size
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)  # becomes `figure.canvas`
    # parse_math=False: a "$" in a run's name is a dollar sign.
    text = figure.supxlabel(foot, x=0.01, ha="left", fontsize=6.5, color=GREY, wrap=True)
    text.set_parse_math(False)
    return figure


def style_axes(axes: Axes, title: str, fontsize: float = 12) -> None:
    """Give axes the title and the style that all plots of the package share."""
    axes.set_title(title, loc="left", fontsize=fontsize, color=INK, pad=10, weight="bold", parse_math=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.grid(axis="y", color="#E8E8EC", lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=8, length=3, color=GREY)


def _finish_axes(axes: Axes, last: float, ylabel: str, human: float | None, random: float | None) -> None:
    axes.set_xlabel("steps (agent decisions)", fontsize=9, color=INK)
    axes.set_ylabel(ylabel, fontsize=9, color=INK)
    axes.set_xlim(0, last * 1.07 if last > 0 else 1)  # room for the number at the end of the line
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: short_count(v)))
    for name, score, style in (("human", human, (0, (6, 3))), ("random play", random, (0, (1, 2)))):
        if score is not None:
            axes.axhline(score, color=INK, lw=1.0, ls=style, zorder=1.5, label=f"{name} {score:g}")
    axes.margins(y=0.06)


def _end_label(axes: Axes, x: float, y: float, color: str) -> None:
    text = format_scores(y)[0] if abs(y) < 1000 else f"{y:,.0f}"
    place: dict[str, Any] = {"textcoords": "offset points", "va": "center", "weight": "bold"}
    halo = [withStroke(linewidth=3, foreground="white")]
    axes.annotate(text, (x, y), xytext=(5, 0), color=color, fontsize=9, path_effects=halo, **place)


def _legend(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Put the legend where fewer points are: upper left or lower right."""
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    x, y = (x - left) / (right - left), (y - low) / (high - low)
    crowd = {"upper left": (x < 0.4) & (y > 0.6), "lower right": (x > 0.6) & (y < 0.4)}
    style: dict[str, Any] = {"loc": min(crowd, key=lambda name: int(crowd[name].sum()))}
    style |= {"fontsize": 8, "frameon": True, "framealpha": 0.85, "edgecolor": "none", "labelcolor": INK}
    legend = axes.legend(**style)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _time_axis(axes: Axes, steps: np.ndarray, clock: np.ndarray) -> None:
    """An axis of wall-clock time at the top: ticks at round times, placed at the steps reached by then."""
    unit, name = next((u, n) for u, n in ((3600, "h"), (60, "min"), (1, "s")) if clock[-1] >= 2 * u or u == 1)
    times = np.array([t for t in MaxNLocator(6).tick_values(0, clock[-1] / unit) if 0 <= t * unit <= clock[-1]])
    where = np.interp(times * unit, np.concatenate([[0.0], clock]), np.concatenate([[0.0], steps]))
    top = axes.secondary_xaxis("top")
    top.set_xticks(where, [f"{t:g}" for t in times])
    top.tick_params(labelsize=7, colors=GREY, length=3)
    top.spines["top"].set_color(GREY)
    top.set_xlabel(f"wall time ({name})", fontsize=8, color=GREY, loc="right")


def wrapped(name: str, wide: int = WIDE) -> str:
    """A name in lines of at most `wide` characters; broken at hyphens only where a word is longer than that."""
    longer = any(len(word) > wide for word in name.split())
    return "\n".join(textwrap.wrap(name, wide, break_on_hyphens=longer)) or name


def short_count(value: float) -> str:
    """1500000 -> '1.5M', 20000 -> '20k'."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{letter}"
    return f"{value:g}"


def render(figure: Figure) -> np.ndarray:
    """A figure of `blank_figure` as pixels, uint8 [H, W, 3]."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def save_figure(figure: Figure, out: str | Path) -> None:
    """Write a figure as PNG, SVG or PDF by the file's ending, atomically. Raises UsageError, StorageError."""
    path = Path(out)
    data = figure_bytes(figure, plot_format(path))
    with folder_for(path.parent):
        atomic_write(path, data)


def figure_bytes(figure: Figure, kind: str) -> bytes:
    """The file of a figure, `kind` one of `formats.PLOTS`; the same figure gives the same bytes.

    Text stays text: in a PDF with its TrueType font embedded, as journals ask; an SVG names its font.
    """
    data = io.BytesIO()
    # These can be given in no other way. Without a salt, the ids in an SVG are random.
    with matplotlib.rc_context({"svg.hashsalt": "playfield", "svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(data, format=kind, dpi=DPI if kind == "png" else 2 * DPI, metadata=_UNDATED[kind])
    return data.getvalue()


def save_curve(directory: Path, info: dict[str, Any], evaluation: dict[str, Any] | None) -> Path | None:
    """Plot the learning curve of a run as `curve.png` in its directory; None before the first finished game.

    Args:
        directory: of the run.
        info: contents of its `run.json`.
        evaluation: `Evaluation.summary()`, or None.
    """
    path = directory / "monitor.csv"
    games = read_monitor(path) if path.exists() else []
    if not games:
        return None
    low, high = family(info["spec"]["kind"]).reference_scores(info["env"], info["protocol"])
    evals: list[Any] = list(read_evaluations(directory / EVALUATIONS))
    if evaluation is not None:
        mean = evaluation["mean"]
        evals.append((info["result"]["steps"], mean, *(evaluation["ci95"] or (mean, mean))))
    picture = directory / "curve.png"
    learning_curve(
        picture,
        [(step, score) for step, score, _, _ in games],
        title=f"{info['algo']} on {info['env']}, seed {info['seed']}",
        protocol_line=describe_protocol(info["protocol"]),
        evals=evals,
        human=high,
        random=low,
        seconds=[seconds for _, _, _, seconds in games],
    )
    return picture
