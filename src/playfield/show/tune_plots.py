"""Pictures of a tuning: how it got better, which options mattered, and the values of each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, NullFormatter

from playfield.show.plots import BLUE, GREY, INK, ORANGE, VERMILION, blank_figure, save_figure, style_axes

COLUMNS = 4


@dataclass(frozen=True)
class Slice:
    """The trials along one option.

    Attributes:
        name: of the option.
        pairs: (value of the option, value of the trial) of each trial.
        choices: the values that it may have; empty: a number from `low` to `high`, on a logarithmic axis with `log`.
    """

    name: str
    pairs: Sequence[tuple[Any, float]]
    low: float = 0.0
    high: float = 1.0
    log: bool = False
    choices: Sequence[Any] = ()


def history(
    out: str | Path, points: Sequence[tuple[int, float]], others: Sequence[int], higher: bool, label: str, foot: str
) -> None:
    """The value of every finished trial [(number, value)] and the best so far; ticks for those pruned or failed.

    Raises UsageError for an ending that no picture has, StorageError.
    """
    figure = blank_figure((1100, 650), foot)
    axes = figure.add_subplot()
    style_axes(axes, "The best so far")
    numbers, values = np.array([p[0] for p in points]), np.array([p[1] for p in points])
    axes.plot(numbers, values, "o", color=BLUE, ms=5, alpha=0.7, label="a finished trial")
    best = (np.maximum if higher else np.minimum).accumulate(values)
    last = max([*numbers, *others])
    axes.step([*numbers, last], [*best, best[-1]], where="post", color=VERMILION, lw=2, label="the best so far")
    if others:
        low = axes.get_ylim()[0]
        axes.plot(others, [low] * len(others), "|", color=GREY, ms=9, label="pruned or failed")
    axes.set_xlabel("trial", fontsize=9, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel(label, fontsize=9, color=INK)
    axes.legend(fontsize=8, frameon=False)
    save_figure(figure, out)


def importances(out: str | Path, found: Mapping[str, float], foot: str) -> None:
    """A bar for each option: how much it decides whether a trial is among the best. Raises as `history` does."""
    names = sorted(found, key=lambda n: (found[n], n))
    figure = blank_figure((1000, 200 + 45 * len(names)), f"{foot} Importances: PED-ANOVA (Watanabe et al. 2023).")
    axes = figure.add_subplot()
    style_axes(axes, "Which options matter")
    axes.grid(visible=False)
    axes.barh([n.replace("_", "-") for n in names], [found[n] for n in names], color=BLUE)
    for i, name in enumerate(names):
        axes.text(found[name], i, f" {found[name]:.0%}", va="center", fontsize=8, color=INK)
    axes.set_xlim(0, max(found.values(), default=1.0) * 1.12 or 1.0)
    axes.set_xlabel("importance; all together are 1", fontsize=9, color=INK)
    save_figure(figure, out)


def slices(out: str | Path, shown: Sequence[Slice], higher: bool, label: str, foot: str) -> None:
    """A panel for each option: the value of every finished trial over the value of the option. See `history`."""
    across = min(COLUMNS, len(shown))
    down = math.ceil(len(shown) / across)
    figure = blank_figure((350 * across + 60, 330 * down + 60), foot)
    panels = np.ravel(figure.subplots(down, across, sharey=True, squeeze=False))
    for axes, one in zip(panels, shown, strict=False):
        style_axes(axes, one.name, fontsize=9)
        values = [p[1] for p in one.pairs]
        if one.choices:
            known = sorted(map(_word, one.choices), key=_order)
            places: list[float] = [known.index(_word(p[0])) for p in one.pairs]
            axes.set_xticks(range(len(known)), known)
            axes.set_xlim(-0.5, len(known) - 0.5)
        else:
            places = [float(p[0]) for p in one.pairs]
            if one.log:
                axes.set_xscale("log")
                axes.xaxis.set_minor_formatter(NullFormatter())
            elif all(p == int(p) for p in (*places, one.low, one.high)):
                axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            edge = 0.0 if one.log else 0.03 * (one.high - one.low)
            axes.set_xlim(one.low - edge, one.high + edge)
        axes.plot(places, values, "o", color=BLUE, ms=4, alpha=0.65)
        if values:
            best = int((np.argmax if higher else np.argmin)(values))
            axes.plot([places[best]], [values[best]], "o", color=ORANGE, ms=7)
        axes.tick_params(labelsize=7)
    for axes in panels[len(shown) :]:
        axes.set_visible(False)
    figure.supylabel(label, fontsize=9, color=INK)
    save_figure(figure, out)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _order(text: str) -> tuple[float, str]:
    """Numbers by size, then words."""
    try:
        return float(text), ""
    except ValueError:
        return math.inf, text
