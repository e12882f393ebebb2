"""Experiment B: Sarsa on MountainCar without exploration, with 8, 16 and 32 tiles.

Initial values of 0 are optimistic where every step costs 1, so the agent explores without random actions. Smaller
tiles are more accurate in the end, and slower to learn: each is visited less often.

The lesson showed one run of each; its numbers must be within the range of our runs. `--faithful` adds runs that
reproduce the lesson's code: see `mountain-car-onehot`.
"""

from __future__ import annotations

from typing import Any

from playfield.lessons._linear import Setting, game, greedy, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import mean_row

BUDGET = Budget(runs=20, episodes=500, faithful=True, film=True, methods=("sarsa",))
ALPHA = 0.3 / 8
LAST = 100
# tiles: steps of the lesson's first episode, and of its last hundred.
PUBLISHED = {8: (2_500, 200), 16: (5_900, 180), 32: (10_000, 150)}


def run(request: Request) -> Outcome:
    """20 runs of 500 episodes for each number of tiles."""
    options = greedy(ALPHA, n_step=1)
    settings, firsts = [], []
    for end, label in (("", ""), (",faithful=true", ", as in the course"))[: 1 + request.faithful]:
        for tiles, (first, last) in PUBLISHED.items():
            features = f"onehot:tiles={tiles}{end}"
            settings.append(
                Setting(
                    f"{tiles} tiles{label}", "sarsa", "mountain-car-gym", features, options, last, course=bool(end)
                )
            )
            firsts.append(first)
    outs = run_all(request, settings, first_seed=1)
    rows = []
    for setting, out, first in zip(settings, outs, firsts, strict=True):
        more: dict[str, Any] = {"rule": "among runs", "compared": request.as_published}
        rows.append(mean_row(setting.label, "steps, first episode", first, out.steps[:, 0], **more))
    rows += last_rows(request, settings, outs, LAST, rule="among runs")
    title = "MountainCar, one-hot features, alpha 0.3/8, epsilon 0"
    return Outcome(
        "mountain-car-resolution",
        "Experiment B: finer tiles, no exploration",
        rows,
        [steps_curves(request, title, settings, outs, first=firsts[:3])],
        film=game(settings[1].problem, outs[1]),
    )
