"""Experiment E: tile coding with and without an index hash table, on MountainCar.

An index hash table bounds the number of features: a tile gets an index when it is first visited, and tiles share
indices (collide) only when the table is full, which is counted here. The lesson's class of that name took tile
numbers modulo 1024 instead. 8 tilings of 8x8 have fewer tiles than that, so there were no collisions: it was plain
tile coding. `--faithful` does the same as the lesson.

The second half of the lesson takes more steps in the end than the first, with the same features. The environment is
not the reason: the lesson's code starts all episodes in one state, and gives the first state the features of two
states. `--faithful` does that too.

The second half ran on Gymnasium's MountainCar, the first on the course's own. The third panel is ours: 32 tilings
have more tiles than the table has indices, so it matters which tiles collide. Its episodes are truncated after 3,000
steps.
"""

from __future__ import annotations

from collections.abc import Mapping

from playfield.lessons._linear import TILINGS, Setting, game, greedy, last_rows, run_all, steps_curves
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request

BUDGET = Budget(runs=10, episodes=500, faithful=True, film=True, methods=("sarsa",), own=("alpha", "n_step"))
HASHED = {0.1: (140, 72), 0.2: (130, 60), 0.5: (115, 50)}  # alpha * 8: steps of the last episodes, seconds
TILED = {0.1: (160, 102), 0.2: (145, 85), 0.5: (140, 77)}
LIMIT = 3_000
FULL = {"no collisions": "tilings", "iht": "iht", "modulo": "modulo", "hash": "hashed"}  # label: coder


def run(request: Request) -> Outcome:
    """10 runs of 500 episodes for each step size, with and without a table."""
    table = "modulo" if request.faithful else "iht"
    first = _half(table, "mountain-car", f"{table}:tilings=8,tiles=8,size=1024", HASHED)
    second = _half("no table", "mountain-car-gym", TILINGS, TILED, request.faithful)
    options = greedy(0.3 / 32, n_step=1)
    third = [
        Setting(
            label, "sarsa", "mountain-car", f"{name}:tilings=32,tiles=8" + ",size=1024" * (name != "tilings"), options
        )
        for label, name in FULL.items()
    ]
    every = [*first, *second, *third]
    outs = run_all(request, every, limits=[0] * 6 + [LIMIT] * len(third))
    ends, ylim = (0, 3, 6, len(every)), (90, 1000)
    titles = (
        f"The course's MountainCar, {table}, size 1024",
        "Gymnasium's MountainCar, no table",
        "32 tilings, size 1024",
    )
    panels = [
        steps_curves(request, title, every[a:b], outs[a:b], ylim)
        for title, a, b in zip(titles, ends[:-1], ends[1:], strict=True)
    ]
    shared, numbered = (int(x.sum()) for x in (outs[7].collisions, outs[7].numbered))
    notes = [
        f"32 tilings, size 1024: in {request.runs} runs iht gave {numbered:,} tiles an index and then had "
        f"{shared:,} collisions."
    ]
    if not request.faithful:
        notes.append(f"8 tilings, size 1024: {sum(int(out.collisions.sum()) for out in outs[:3]):,} collisions.")
    return Outcome(
        "mountain-car-hashing",
        "Experiment E: tile coding with and without a hash table",
        last_rows(request, every, outs),
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
            greedy(alpha / 8, n_step=1),
            steps,
            seconds,
            course,
        )
        for alpha, (steps, seconds) in published.items()
    ]
