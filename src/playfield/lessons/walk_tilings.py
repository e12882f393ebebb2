"""Figure 9.10: one tiling and fifty on the 1,000-state random walk.

One tiling of five tiles gives the same value to 200 states: it learns fast what it can, and then its error stays.
Fifty tilings, each shifted by four states, share what they learn just as widely, and tell states apart that are four
apart. The step size is divided by the number of tilings, so that both learn as fast.
"""

from __future__ import annotations

import dataclasses

from playfield.lessons import _big_walk as walk
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row

BUDGET = Budget(runs=30, episodes=5_000)
COUNTS = (1, 50)
ALPHA = 1e-4  # of all tilings together


def run(request: Request) -> Outcome:
    """30 runs of 5000 episodes for one tiling and for fifty."""
    request.progress.parts(len(COUNTS))
    truth, share = walk.exact()
    lines, rows, last = [], list[Row](), list[float]()
    for count in COUNTS:
        index, factor = walk.tilings(count)
        limit = walk.best_error(index, factor, truth, share)
        label = f"{count} tiling{'s' * (count > 1)}"
        line, seconds = walk.learnt(request, label, ALPHA / count, index, factor, truth, share)
        lines.append(line)
        errors = line.y[:, -1]
        last.append(float(errors.mean()))
        measure = f"error after {line.x[-1]:,} episodes"
        lower = {"claim": "at most 0.8 of one tiling", "holds": last[-1] <= 0.8 * last[0]} if count > 1 else {}
        rows.append(mean_row(label, measure, None, errors, seconds_here=seconds, **lower))
        rows.append(Row(label, "lowest error of any weights", None, limit))
    claim = "one tiling is within 10% of its limit, and 50 are below it"
    holds = last[0] < 1.1 * rows[1].ours and last[1] < rows[1].ours
    rows.append(
        Row("1 and 50 tilings", "last errors / limit of 1", None, last[1] / rows[1].ours, claim=claim, holds=holds)
    )
    rows = [dataclasses.replace(row, compared=request.as_published) for row in rows]
    panel = Curves("Error of the values", f"episode ({request.runs_text()})", "root of the mean square error", lines)
    notes = [f"Step size {ALPHA:g} / number of tilings; tiles of 200 states, each tiling 4 states further."]
    return Outcome("walk-tilings", "Figure 9.10: tilings, 1,000-state random walk", rows, [panel], notes=notes)
