"""What a training returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """Outcome of a finished training.

    Attributes:
        directory: the run directory.
        steps: total steps done, summed over the environments.
        seconds: training time over all sessions of the run.
        score: mean raw score of the last 100 training games; NaN if none ended.
        hash: SHA-256 over weights, optimizer, random numbers, environments and scores; equal for equal runs.
        evaluation: `Evaluation.summary()` of the games at the end; None without games.
        files: paths by what they show, such as `curve` or the films.
        stop: why training ended: `steps`, or `target` if the target score was reached.
        warnings: what was wrong with the run that was resumed: damaged checkpoints, a `run.json` changed by hand;
            and which extras there are not, and why: film, learning curve.
    """

    directory: Path
    steps: int
    seconds: float
    score: float
    hash: str
    evaluation: dict[str, Any] | None
    files: dict[str, Path]
    stop: str
    warnings: tuple[str, ...] = ()
