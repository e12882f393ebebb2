"""What a user asks of one training. Nothing here imports torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Request:
    """A new training as it was asked for; None means: choose.

    Attributes:
        parts: settings of the environment's protocol, by name.
        config: options of the algorithm, by name.
        games: full games of the evaluation at the end; 0: none.
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
