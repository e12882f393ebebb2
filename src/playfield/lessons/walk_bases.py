"""Figure 9.5: polynomials and Fourier bases on the 1,000-state random walk.

Gradient Monte Carlo learns the values of 1,000 states with few weights: those of powers of the state's place, or of
cosines. Cosines of higher frequencies are all as large; of powers only the end of the walk sees much, and they are
alike. So the Fourier basis learns sooner, though its step size is half as large. The error is that of the values,
weighted by how often the walk is in a state.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from playfield.lessons import _big_walk as walk
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._tabular import play_all
from playfield.linear.jit import Bools, Floats

BUDGET = Budget(runs=30, episodes=5_000)
ORDERS = (5, 10, 20)
BASES = {"polynomial": (walk.polynomial, 1e-4), "Fourier": (walk.fourier, 5e-5)}
POINTS = 100  # of a curve


def run(request: Request) -> Outcome:
    """30 runs of 5000 episodes for either basis and each order."""
    request.progress.parts(len(BASES) * len(ORDERS))
    truth, share = walk.exact()
    every = max(1, request.episodes // POINTS)
    points = request.episodes // every
    lines, rows, last = [], list[Row](), dict[tuple[str, int], float]()
    for name, (basis, alpha) in BASES.items():
        for order in ORDERS:
            index, factor = walk.dense(basis(order))

            def play(
                rng: np.random.Generator,
                stop: Bools,
                index: walk.Ints = index,
                factor: Floats = factor,
                alpha: float = alpha,
            ) -> Floats:
                errors, w = np.zeros(points), np.zeros(index.shape[1])
                walk.monte_carlo(alpha, every, rng, stop, index, factor, w, truth, share, errors)
                return errors

            label = f"{name}, order {order}"
            found, seconds = play_all(request, label, play)
            errors = np.stack(found)
            last[name, order] = float(errors[:, -1].mean())
            lines.append(Line(label, every * np.arange(1, points + 1), errors))
            claim, holds = "", None
            if name == "Fourier":
                claim = f"below the polynomial of order {order}"
                holds = last[name, order] < last["polynomial", order]
            measure = f"error after {every * points:,} episodes"
            rows.append(mean_row(label, measure, None, errors[:, -1], claim=claim, holds=holds, seconds_here=seconds))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    notes = ["Step sizes 0.0001 (polynomial) and 0.00005 (Fourier)."]
    notes += [
        f"The lowest error that weights can have, order {order}: "
        + ", ".join(
            f"{name} {walk.best_error(*walk.dense(basis(order)), truth, share):.4f}"
            for name, (basis, _) in BASES.items()
        )
        for order in ORDERS
    ]
    panel = Curves("Error of the values", f"episode ({request.runs_text()})", "root of the mean square error", lines)
    return Outcome("walk-bases", "Figure 9.5: bases, 1,000-state random walk", rows, [panel], notes=notes)
