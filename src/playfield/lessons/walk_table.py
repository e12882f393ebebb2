"""A table, groups and tilings on the 1,000-state random walk: TD(0) with as many weights as states, ten, and 300.

A table has a weight for each state: it can hold every value, but learns each from visits to that state alone. Ten
groups of 100 states (state aggregation, figure 9.2) are visited a hundred times as often as single states, so they
learn sooner; but TD(0) comes to rest where its own targets do, far from the best that ten values could be. A table
has no such limit, only the noise of a constant step size. 50 tilings share what is learnt among 200 states and still
tell them apart by fours: they are ahead of both at first.
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

BUDGET = Budget(runs=10, episodes=5_000)
EARLY = 100  # episodes
TABLE, GROUPS, TILINGS = "a table", "10 groups", "50 tilings"
ALPHA = {TABLE: 0.2, GROUPS: 0.01, TILINGS: 0.01 / 50}


def run(request: Request) -> Outcome:
    """10 runs of 5,000 episodes with each."""
    request.progress.parts(len(ALPHA))
    truth, share = walk.exact()
    features = {
        TABLE: (np.arange(walk.STATES)[:, None], np.ones((walk.STATES, 1))),
        GROUPS: walk.tilings(1, width=walk.STATES // 10),
        TILINGS: walk.tilings(50),
    }
    early, rows, lines, late = min(EARLY, request.episodes), list[Row](), [], dict[str, tuple[float, float]]()
    for label, (index, factor) in features.items():

        def play(rng: np.random.Generator, stop: Bools, label: str = label) -> Floats:
            index, factor = features[label]
            errors, w = np.zeros(request.episodes), np.zeros(int(index.max()) + 1)
            walk.td_lambda(ALPHA[label], 0.0, rng, stop, index, factor, w, truth, share, errors)
            return errors

        found, seconds = play_all(request, label, play)
        errors = np.stack(found)
        at = np.unique(np.geomspace(1, request.episodes, walk.POINTS).astype(int))
        lines.append(Line(label, at, errors[:, at - 1]))
        measure = f"error after {early} episodes"
        rows.append(mean_row(label, measure, None, errors[:, early - 1], seconds_here=seconds))
        rows.append(mean_row(label, f"error after {request.episodes:,} episodes", None, errors[:, -1]))
        rows.append(Row(label, "lowest error of any weights", None, walk.best_error(index, factor, truth, share)))
        late[label] = float(errors[:, early - 1].mean()), float(errors[:, -1].mean())
    first, last = ({label: pair[i] for label, pair in late.items()} for i in (0, 1))
    claim, holds = "after the groups, and these after the tilings", first[TABLE] > first[GROUPS] > first[TILINGS]
    rows.append(Row("the table", f"error after {early} episodes", None, first[TABLE], claim=claim, holds=holds))
    claim, holds = "below that of the groups", last[TABLE] < last[GROUPS]
    measure = f"error after {request.episodes:,} episodes"
    rows.append(Row("the table", measure, None, last[TABLE], claim=claim, holds=holds))
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    xlabel = f"episode ({request.runs_text()})"
    panel = Curves("Error of all states, weighted by their visits", xlabel, "root mean square error", lines)
    sizes = ", ".join(f"{label} {alpha:g}" for label, alpha in ALPHA.items())
    notes = [
        f"Step sizes: {sizes}. The method is TD(0); figures 9.5 and 9.10 (walk-bases, walk-tilings) are Monte Carlo."
    ]
    title = "TD(0) with a table, groups and tilings, 1,000-state random walk"
    return Outcome("walk-table", title, rows, [panel], notes=notes)
