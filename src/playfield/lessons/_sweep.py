"""Sweeps over step sizes: many short experiments, and the best step size of each method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.errors import DivergedError
from playfield.lessons._linear import warm
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._request import Request
from playfield.linear import many


@dataclass(frozen=True)
class Branch:
    """One curve of a sweep: a method with `options` and its step sizes as plotted; alpha is a size times `scale`."""

    label: str
    method: str
    options: dict[str, Any]
    sizes: Sequence[float]
    scale: float = 1.0


@dataclass(frozen=True)
class Found:
    """The result of a branch: values [sizes, runs], NaN where it diverged, and the seconds of all its runs."""

    branch: Branch
    values: np.ndarray
    seconds: float

    def best(self) -> tuple[float, np.ndarray]:
        """The step size with the lowest mean, and its values [runs]; where all diverged, the first size and NaN."""
        means = self.values.mean(axis=1)
        at = int(np.nanargmin(means)) if np.isfinite(means).any() else 0
        return float(self.branch.sizes[at]), self.values[at]


def sweep(
    request: Request,
    branches: Sequence[Branch],
    problem: str,
    features: str,
    measure: Callable[[Any], np.ndarray],
    max_steps: int = 0,
    count_parts: bool = True,
) -> list[Found]:
    """Run every branch with every step size.

    Args:
        measure: the measure [runs] of an experiment's result.
        max_steps: steps after which an episode is truncated (0: never).
        count_parts: tell the progress how many parts there are; False where the caller did.
    """
    if count_parts:
        request.progress.parts(sum(len(b.sizes) for b in branches))
    found = []
    warm(branches[0].method, problem, features)
    for branch in branches:
        values, seconds = np.full((len(branch.sizes), request.runs), np.nan), 0.0
        for i, size in enumerate(branch.sizes):
            done = request.progress.part(f"{branch.label}, alpha {size:g}")
            try:
                out = many.experiment(
                    branch.method,
                    problem,
                    features,
                    seeds=range(request.runs),
                    episodes=request.episodes,
                    max_steps=max_steps,
                    progress=done,
                    alpha=size * branch.scale,
                    **{**branch.options, **request.options},
                )
            except DivergedError:
                continue
            values[i], seconds = measure(out), seconds + out.seconds
        found.append(Found(branch, values, seconds))
    return found


def curves(
    title: str,
    xlabel: str,
    ylabel: str,
    found: Sequence[Found],
    ylim: tuple[float, float],
    marks: Sequence[Mark] = (),
) -> Curves:
    """The sweep as curves over the step size. Points above `ylim` are left out, unless all of them are."""
    if not any((f.values.mean(axis=1) <= ylim[1]).any() for f in found):
        lines = [Line(f.branch.label, np.asarray(f.branch.sizes, float), f.values.T) for f in found]
        return Curves(title, xlabel, ylabel, lines)
    lines = []
    for f in found:
        mean = f.values.mean(axis=1)
        # One point beyond the panel stays on each side, so that the line leaves the panel.
        inside = np.flatnonzero(mean <= ylim[1])
        if not len(inside):
            continue
        keep = slice(max(inside[0] - 1, 0), inside[-1] + 2)
        lines.append(Line(f.branch.label, np.asarray(f.branch.sizes, float)[keep], f.values[keep].T))
    return Curves(title, xlabel, ylabel, lines, marks, ylim=ylim)
