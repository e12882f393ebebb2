"""Sweeps over step sizes: many short experiments, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.errors import DivergedError
from playfield.lessons._linear import warm
from playfield.lessons._outcome import Ask
from playfield.lessons._panels import Curves, Line, Mark


@dataclass(frozen=True)
class Branch:
    """One line of a sweep: a method with `options`, and its step sizes as drawn (`scale` of them make an alpha)."""

    label: str
    method: str
    options: dict[str, Any]
    sizes: Sequence[float]
    scale: float = 1.0


@dataclass(frozen=True)
class Found:
    """What a branch gave: values [runs] at each step size, NaN where it diverged; seconds of all."""

    branch: Branch
    values: np.ndarray  # [sizes, runs]
    seconds: float

    def best(self) -> tuple[float, np.ndarray]:
        """The step size with the lowest mean, and its values [runs]; the first, and NaN, where all diverged."""
        means = self.values.mean(axis=1)
        at = int(np.nanargmin(means)) if np.isfinite(means).any() else 0
        return float(self.branch.sizes[at]), self.values[at]


def sweep(
    ask: Ask,
    branches: Sequence[Branch],
    problem: str,
    features: str,
    measure: Callable[[Any], np.ndarray],
    max_steps: int = 0,
    within: bool = True,
) -> list[Found]:
    """`measure` of each experiment, [runs], for every branch and step size. `within`: says how many parts."""
    from playfield.linear.many import experiment

    if within:
        ask.progress.parts(sum(len(b.sizes) for b in branches))
    found = []
    warm(branches[0].method, problem, features)
    for branch in branches:
        values, seconds = np.full((len(branch.sizes), ask.runs), np.nan), 0.0
        for i, size in enumerate(branch.sizes):
            done = ask.progress.part(f"{branch.label}, alpha {size:g}")
            try:
                out = experiment(
                    branch.method,
                    problem,
                    features,
                    seeds=range(ask.runs),
                    episodes=ask.episodes,
                    max_steps=max_steps,
                    progress=done,
                    alpha=size * branch.scale,
                    **branch.options,
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
    """The sweep as curves over the step size. What lies above the panel is cut off, unless all of it does."""
    if not any((f.values.mean(axis=1) <= ylim[1]).any() for f in found):
        lines = [Line(f.branch.label, np.asarray(f.branch.sizes, float), f.values.T) for f in found]
        return Curves(title, xlabel, ylabel, lines)
    lines = []
    for f in found:
        mean = f.values.mean(axis=1)
        # The first point beyond the panel stays, so that a line runs out of it.
        inside = np.flatnonzero(mean <= ylim[1])
        if not len(inside):
            continue
        keep = slice(max(inside[0] - 1, 0), inside[-1] + 2)
        lines.append(Line(f.branch.label, np.asarray(f.branch.sizes, float)[keep], f.values[keep].T))
    return Curves(title, xlabel, ylabel, lines, marks, ylim=ylim)
