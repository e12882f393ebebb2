"""What a user asks of one training. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """A new training as it was asked for; None: chosen by playfield.

    Attributes:
        env: `breakout`, `CartPole-v1`, any Gymnasium id.
        algo: name of the algorithm.
        preset: name of a set of hyper-parameters of the algorithm.
        steps: total steps, summed over the environments; None: as many as fit into `minutes`.
        minutes: time budget at the measured speed; None: depends on the environment. Not together with `steps`.
        target_score: stop early when the mean score of the last `target_games` games reaches this.
        target_games: games in that mean; None: 100.
        seed: of everything random, 0 to 2**53 - 1.
        run: run directory; None: the next free number under `runs/ENV/ALGO/`.
        device: `auto`, `cpu` or `cuda`.
        precision: of network bodies: `auto`, `bf16` or `fp32`.
        workers: worker threads; 0: chosen by the number of cores.
        protocol: Atari only: `classic` or `v5`; None: the one that the name of the environment implies.
        view: Atari only: an observation view such as `mono,trim`.
        parts: protocol settings to change, such as `{"sticky": 0.25}`.
        config: hyper-parameters to change, fields of the algorithm's `Config`.
        save_seconds: maximum seconds between two checkpoints.
        keep: checkpoints to keep.
        tensorboard: write TensorBoard events.
        console: print progress.
        games: games of the evaluation at the end; 0: none.
        film: film the best of these games.
    """

    env: str
    algo: str = "ppo"
    preset: str = "default"
    steps: int | None = None
    minutes: float | None = None
    target_score: float | None = None
    target_games: int | None = None
    seed: int = 1
    run: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    protocol: str | None = None
    view: str | None = None
    parts: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    save_seconds: float = 60.0
    keep: int = 3
    tensorboard: bool = True
    console: bool = True
    games: int = 30
    film: bool = True
