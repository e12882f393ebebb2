"""When a training has diverged although all its numbers are finite.

The rule: the weights of a network, as the norm of all of them, have grown more than `MOST`-fold since they were
initialised; where games score more than that, more than that score (a value of 5,000 needs larger weights than one
of 5). Until a game has ended, whose scores are not known, the limit is `UNKNOWN`. Trainings that learn stay below
5-fold on what playfield ships presets for, and those with a learning rate of 10 or more pass 200-fold at once.

Weights of linear methods may start at zero: their largest one counts as its multiple of `LARGE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from playfield.errors import DivergedError
from playfield.options import shown_number

MOST = 100.0
UNKNOWN = 10_000.0
LARGE = 10_000.0


def limit(scores: Iterable[float]) -> float:
    """How many times larger than at the start weights may be, given the scores of the last games."""
    sizes = [abs(score) for score in scores]
    return max(MOST, *sizes) if sizes else UNKNOWN


def check(growth: float, scores: Iterable[float], config: dict[str, Any]) -> None:
    """Raise DivergedError where weights are `growth` times as large as at the start, and that is too much."""
    if growth <= limit(scores):
        return
    name = "lr" if "lr" in config else "alpha"
    now = f", now {shown_number(config[name])}" if isinstance(config.get(name), int | float | str) else ""
    raise DivergedError(
        f"training has diverged: the weights are {growth:.2g} times as large as at its start: "
        f"lower the learning rate (--{name}{now})"
    )
