"""Experiment E: tile coding through a hash table, and without one, on MountainCar.

A hash table keeps tile coding small: a cell gets a number when it is first seen, and cells must share only when the
table is full, which is counted here. The lesson's class of that name took cell numbers modulo 1024 instead. With 8
tilings of 8x8 there are fewer cells than that, so nothing was ever shared: it was plain tile coding. `--faithful`
does as the lesson did.

The lesson's second half ends higher than the first, on the same features. The car is not to blame: its class starts
all episodes at one place and gives the first state the features of two. `--faithful` does that too.

The second half ran on Gymnasium's car, the first on the lesson's own. The third picture is ours: 32 tilings have
more cells than the table has numbers, and now it matters who shares with whom. Episodes there are cut after 3,000
steps.
"""

from __future__ import annotations

from collections.abc import Mapping

from playfield.lessons._linear import Setting, game, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Ask, Budget, Outcome

BUDGET = Budget(runs=10, episodes=500, faithful=True, film=True)
HASHED = {0.1: (140, 72), 0.2: (130, 60), 0.5: (115, 50)}  # alpha * 8: steps of the last episodes, seconds
TILED = {0.1: (160, 102), 0.2: (145, 85), 0.5: (140, 77)}
LIMIT = 3_000
FULL = {"own number each": "tilings", "iht": "iht", "modulo": "modulo", "hash": "hashed"}  # label: coder


def run(ask: Ask) -> Outcome:
    """10 runs of 500 episodes for each step size, with a table and without."""
    table = "modulo" if ask.faithful else "iht"
    first = _half(table, "mountain-car", f"{table}:tilings=8,tiles=8,size=1024", HASHED)
    second = _half("no table", "mountain-car-gym", "tilings:tilings=8,tiles=8", TILED, ask.faithful)
    options = {"alpha": 0.3 / 32, "epsilon": 0.0, "gamma": 1.0, "n_step": 1}
    third = [
        Setting(
            label, "sarsa", "mountain-car", f"{name}:tilings=32,tiles=8" + ",size=1024" * (name != "tilings"), options
        )
        for label, name in FULL.items()
    ]
    every = [*first, *second, *third]
    outs = run_all(ask, every, limits=[0] * 6 + [LIMIT] * len(third))
    ends, ylim = (0, 3, 6, len(every)), (90, 1000)
    titles = (f"The lesson's car, {table}, size 1024", "Gymnasium's car, no table", "32 tilings, 1024 numbers")
    panels = [
        steps_curves(ask, title, every[a:b], outs[a:b], ylim)
        for title, a, b in zip(titles, ends[:-1], ends[1:], strict=True)
    ]
    shared, numbered = (int(x.sum()) for x in (outs[7].collisions, outs[7].numbered))
    notes = [
        f"32 tilings, 1024 numbers: in {ask.runs} runs iht numbered {numbered:,} cells and then had to share "
        f"{shared:,} times."
    ]
    if not ask.faithful:
        notes.append(f"8 tilings, 1024 numbers: shared {sum(int(out.collisions.sum()) for out in outs[:3]):,} times.")
    return Outcome(
        "mountain-car-hashing",
        "Experiment E: tile coding with and without a hash table",
        last_rows(ask, every, outs),
        panels,
        notes,
        film=game(first[2].problem, outs[2]),
    )


def _half(
    kind: str, problem: str, features: str, published: Mapping[float, tuple[float, float]], course: bool = False
) -> list[Setting]:
    return [
        Setting(
            f"{kind}, alpha {alpha:g}/8",
            "sarsa",
            problem,
            features,
            {"alpha": alpha / 8, "epsilon": 0.0, "gamma": 1.0, "n_step": 1},
            steps,
            seconds,
            course,
        )
        for alpha, (steps, seconds) in published.items()
    ]
