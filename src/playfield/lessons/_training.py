"""Trainings inside a lesson: without evaluation, film and logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playfield.training.train import Result, train


def train_only(game: str, algo: str, *, run: Path, steps: int, seed: int, **options: Any) -> Result:
    """`playfield.train` into the directory `run`, and nothing after it. `options`: as of `playfield.train`."""
    return train(
        game,
        algo,
        run=run,
        steps=steps,
        seed=seed,
        games=0,
        film=False,
        console=False,
        tensorboard=False,
        **options,
    )
