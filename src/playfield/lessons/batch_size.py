"""PPO on Breakout with other batch sizes, steps per rollout and epochs.

The Breakout how-to (mreitschuster 2022, part 4) ran a grid over batches of 128 to 4096, 64 to 1024 steps per rollout
and 1 to 16 epochs, from a base of 512, 128 and 4, with 8 environments. It went on with batches of 3072, 128 steps and
6 epochs. A batch cannot be larger than the rollout of 8 x 128 steps, so that is one batch of 1024. It published no
scores of the grid, only this choice.

Here one of the three changes at a time, to the ends of the how-to's grid, and its choice is trained beside them, with
the small network `nips`. The choice passes where it is better than the base (95 % interval over seeds), and where it
is the best of all. More epochs take longer: the second picture compares after equal time.
"""

from __future__ import annotations

import numpy as np

from playfield.lessons import _ablation
from playfield.lessons._deep import Setting, Trained, difference_row, judged, notes, train_all
from playfield.lessons._outcome import Outcome
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row

BUDGET = Budget(
    runs=3, steps=100_000, methods=("ppo",), own=("num_envs", "rollout_steps", "minibatches", "epochs", "clip_value")
)
ENVS = 8
SHARED = {
    "protocol": "v4",
    "preset": "cleanrl",
    "net": "nips",
    "clip_value": False,
    "lr": "const:2.5e-4",
    "clip": "const:0.1",
    "num_envs": ENVS,
}
BASE = (512, 128, 4)  # batch, steps per rollout, epochs
CHOSEN = (3072, 128, 6)
GRID = ((128, 1024), (64, 1024), (1, 16))  # the ends; batches above the rollout are the rollout


def setting(batch: int, steps: int, epochs: int) -> Setting:
    """These values as options of PPO."""
    rollout = ENVS * steps
    options = {"rollout_steps": steps, "minibatches": max(rollout // batch, 1), "epochs": epochs}
    return Setting(f"batch {min(batch, rollout)}, {steps} steps, {epochs} epoch{'s' * (epochs > 1)}", options)


def settings() -> list[Setting]:
    """The base, the how-to's choice, then the ends of each of the three."""
    others = [tuple(value if i == at else BASE[i] for i in range(3)) for at in range(3) for value in GRID[at]]
    return [setting(*BASE), setting(*CHOSEN), *(setting(*other) for other in others)]


def run(request: Request) -> Outcome:
    """Eight settings, three seeds each."""
    found = train_all(request, "batch-size", settings(), SHARED)
    compared = judged(request, BUDGET.steps)
    base, chosen = (one.scores_at(request.steps) for one in found[:2])
    rows = _ablation.rows_of_steps(found, request.steps)
    rows += _ablation.rows_of_time(found, _ablation.equal_time(found))
    rows.append(difference_row("the how-to's choice less the base", "score", chosen, base, compared=compared))
    rows.append(best_row(found, request, compared))
    panels = [
        _ablation.curves(request, found),
        _ablation.curves_over_time(request, found),
        *(
            _ablation.bars(title, shown, names, request.steps)
            for title, shown, names in (
                ("Batch", [found[2], found[0], found[3]], ("128", "512", "1024")),
                ("Steps per rollout", [found[4], found[0], found[5]], ("64", "128", "1024")),
                ("Epochs", [found[6], found[0], found[1], found[7]], ("1", "4", "6, batch 1024", "16")),
            )
        ),
    ]
    return Outcome(
        "batch-size",
        "Batch size, steps per rollout and epochs (PPO, Breakout)",
        rows,
        panels,
        notes=[
            f"{ENVS} environments, so a rollout is {ENVS} x steps.",
            *notes(found, "batch-size", request.steps),
        ],
        columns=2,
    )


def best_row(found: list[Trained], request: Request, compared: bool) -> Row:
    """Whether the how-to's choice, the second of `found`, is the best of all; not judged where one has no score."""
    means = np.array([one.scores_at(request.steps).mean() for one in found])
    best = int(np.nanargmax(means)) if np.isfinite(means).any() else -1
    label = found[best].setting.label if best >= 0 else "no game has ended"
    return Row(
        "the best of all",
        label,
        None,
        float(means[best]) if best >= 0 else float("nan"),
        claim="it is the how-to's choice",
        holds=best == 1,
        compared=compared and bool(np.isfinite(means).all()),
        few=request.runs < 2,
    )
