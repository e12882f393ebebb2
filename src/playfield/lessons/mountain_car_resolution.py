"""Experiment B: Sarsa on MountainCar without exploration, with 8, 16 and 32 tiles.

Weights of 0 are optimistic where every step costs 1, so the agent explores without random actions. Finer tiles know
more in the end, and take longer to get there: each is seen less often.

The lesson showed one run of each; its numbers must lie among ours. With `--faithful` it also runs
as there: see `mountain-car-onehot`.
"""

from __future__ import annotations

from playfield.lessons._linear import Setting, game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._rows import mean_row

BUDGET = Budget(runs=20, episodes=500, faithful=True, film=True)
ALPHA = 0.3 / 8
LAST = 100
# tiles: steps of the lesson's first episode, and of its last hundred.
PUBLISHED = {8: (2_500, 200), 16: (5_900, 180), 32: (10_000, 150)}


def run(ask: Ask) -> Outcome:
    """20 runs of 500 episodes for each number of tiles."""
    options = {"alpha": ALPHA, "epsilon": 0.0, "gamma": 1.0, "n_step": 1}
    settings, firsts = [], []
    for end, label in (("", ""), (",faithful=true", ", as there"))[: 1 + ask.faithful]:
        for tiles, (first, last) in PUBLISHED.items():
            features = f"onehot:tiles={tiles}{end}"
            settings.append(
                Setting(
                    f"{tiles} tiles{label}", "sarsa", "mountain-car-gym", features, options, last, course=bool(end)
                )
            )
            firsts.append(first)
    outs = run_all(ask, settings, first_seed=1)
    rows = []
    for setting, out, first in zip(settings, outs, firsts, strict=True):
        judged = {"rule": "among runs", "judged": ask.as_published}
        rows.append(mean_row(setting.label, "steps, first episode", first, out.steps[:, 0], **judged))
    rows += last_rows(ask, settings, outs, LAST, rule="among runs")
    title = "MountainCar, one-hot features, alpha 0.3/8, epsilon 0"
    return Outcome(
        "mountain-car-resolution",
        "Experiment B: finer tiles, no exploration",
        rows,
        [steps_curves(ask, title, settings, outs, first=firsts[:3])],
        film=game(settings[1].problem, outs[1]),
    )
