"""A table on MountainCar: position and velocity cut into cells, a value for each cell and action.

`--features grid:cells=20` makes a table of a continuous state: 20 x 20 cells, each learnt by itself. A coarse table
learns quickly, but states that need different actions share a cell. A fine one can tell them apart, but each of its
cells must be visited often, and some never are (grey in the maps). A trace helps: an error reaches all cells that
the car came through. Tile coding has both, coarse tiles and a fine resolution, and needs no more episodes.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np

from playfield.lessons._linear import TILINGS, Setting, game, greedy, last_rows, last_steps, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Areas
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row
from playfield.linear.problems import problem

BUDGET = Budget(
    runs=20, episodes=500, film=True, methods=("sarsa", "sarsa_lambda"), own=("alpha", "n_step", "lam", "trace")
)
CELLS = (8, 20, 40)
TRACED = 20  # cells, of the table that is also learnt with traces
ONE_TILING = 165  # steps, of one run with one tiling of 8x8: experiment D of the course
EIGHT_TILINGS = 118  # steps, with 8 tilings: experiment F


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes of each."""

    def setting(label: str, method: str, features: str, alpha: float, known: float | None, **more: Any) -> Setting:
        return Setting(label, method, "mountain-car", features, greedy(alpha, **more), known)

    settings = [
        setting(f"{n}x{n} cells", "sarsa", f"grid:cells={n}", 0.5, ONE_TILING if n == 8 else None) for n in CELLS
    ]
    label = f"{TRACED}x{TRACED} cells, Sarsa(0.9)"
    settings.append(setting(label, "sarsa_lambda", f"grid:cells={TRACED}", 0.1, None, lam=0.9, trace="dutch"))
    settings.append(setting("8 tilings of 8x8", "sarsa", TILINGS, 0.5 / 8, EIGHT_TILINGS))
    outs = run_all(request, settings)
    rows = last_rows(request, settings, outs)
    # What was published for one tiling is of a single run.
    (among,) = last_rows(request, settings[:1], outs[:1], rule="among runs")
    rows[0] = among
    ends = [last_steps(out).mean() for out in outs]
    tables, (traced, tiled) = ends[: len(CELLS)], ends[len(CELLS) :]
    measure = "steps, last 50 episodes"
    finer = all(a < b for a, b in itertools.pairwise(tables))
    rows.append(Row("the finest table", measure, None, tables[-1], claim="the finer, the more steps", holds=finer))
    plain = tables[CELLS.index(TRACED)]
    claim = "at most three quarters"
    rows.append(
        Row("with a trace / without", measure, None, traced / plain, claim=claim, holds=traced <= 0.75 * plain)
    )
    lowest, claim = min(*tables, traced), "fewer than each table"
    rows.append(Row("8 tilings / best table", measure, None, tiled / lowest, claim=claim, holds=tiled < lowest))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    curves = steps_curves(request, "MountainCar (the lesson's)", settings, outs, ylim=(90, 3000))
    maps = [_map(s.label, out) for s, out in zip(settings[1:4], outs[1:4], strict=True)]
    return Outcome(
        "mountain-car-table",
        "A table of values on MountainCar",
        rows,
        [curves, *maps],
        columns=2,
        film=game("mountain-car", outs[-2]),
    )


def _map(label: str, out: Any) -> Areas:
    """The greedy action in every cell of the first run's table; cells whose values are all 0 were never learnt."""
    known, cells = problem("mountain-car"), math.isqrt(out.weights.shape[-1])
    position, velocity = (
        low + (np.arange(cells) + 0.5) * (high - low) / cells for low, high in zip(known.low, known.high, strict=True)
    )
    table = out.weights[0].reshape(-1, cells, cells).transpose(2, 1, 0)  # [velocity, position, action]
    chosen = np.where((table == 0).all(axis=2), 3, table.argmax(axis=2))
    names, labels = ("left", "no push", "right", "never learnt"), ("position", "velocity")
    return Areas(f"Greedy action, {label}", position, velocity, chosen, names, labels, none=3)
