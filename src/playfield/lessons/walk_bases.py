"""Figure 9.5: polynomials and Fourier bases on the 1,000-state random walk.

Gradient Monte Carlo learns the values of 1,000 states with few weights: those of powers of the state's place, or of
cosines. Cosines of higher frequencies are all as large; of powers only the end of the walk sees much, and they are
alike. So the Fourier basis learns sooner, though its step size is half as large. The error is that of the values,
weighted by how often the walk is in a state.
"""

from __future__ import annotations

import dataclasses

from playfield.lessons import _big_walk as walk
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row

BUDGET = Budget(runs=30, episodes=5_000)
ORDERS = (5, 10, 20)
BASES = {"polynomial": (walk.polynomial, 1e-4), "Fourier": (walk.fourier, 5e-5)}


def run(request: Request) -> Outcome:
    """30 runs of 5000 episodes for either basis and each order."""
    request.progress.parts(len(BASES) * len(ORDERS))
    truth, share = walk.exact()
    lines, rows, last = [], list[Row](), dict[tuple[str, int], float]()
    for name, (basis, alpha) in BASES.items():
        for order in ORDERS:
            label = f"{name}, order {order}"
            line, seconds = walk.learnt(request, label, alpha, *walk.dense(basis(order)), truth, share)
            lines.append(line)
            errors = line.y[:, -1]
            last[name, order] = float(errors.mean())
            claim, holds = "", None
            if name == "Fourier":
                claim = f"below the polynomial of order {order}"
                holds = last[name, order] < last["polynomial", order]
            measure = f"error after {line.x[-1]:,} episodes"
            rows.append(mean_row(label, measure, None, errors, claim=claim, holds=holds, seconds_here=seconds))
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
