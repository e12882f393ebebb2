"""DQN on Pong as in lesson 18: its network, layer by layer, and a short training with its sizes.

The lesson's network sees one picture of 84x84 and has three actions; its summary counts 1,679,523 weights. One
picture does not say where the ball is going, so the training sees four, as in the paper.

The lesson trained for 20,000 steps, of which the first 10,000 only fill the memory: far too few for Pong, whose
score stays near -21 (a random player's is -20.7). Computed from the 80 ms that one update printed there, its 10,000
updates took over 26 minutes. `playfield train pong --algo dqn` learns the game.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Curves, Line
from playfield.lessons._rows import Row

BUDGET = Budget(steps=20_000)
GAME = "pong"
SHAPE, ACTIONS = (84, 84, 1), 3
LAYERS = (2_080, 32_832, 36_928, 1_606_144, 1_539)
TOTAL = 1_679_523
UPDATE = 0.16  # seconds there: two predictions and a fit, at the 80 ms printed for one
FILL = 10_000  # steps before the first update
FLOOR = -21.0  # the lowest score there is


def run(ask: Ask) -> Outcome:
    """Count the network's weights, then train it for a while."""
    from playfield import train
    from playfield.nets import summary
    from playfield.runs.logger import read_monitor

    found = [layer for layer in summary.layers("nature", summary.Input(SHAPE, ACTIONS)) if layer.parameters]
    rows = [
        Row(f"{layer.name}: {layer.kind}", "parameters", published, layer.parameters, rule="same")
        for layer, published in zip(found, LAYERS, strict=True)
    ]
    rows.append(Row("network", "parameters", TOTAL, sum(layer.parameters for layer in found), rule="same"))
    ask.progress.parts(1)
    ask.progress.part("training")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        options: dict[str, Any] = {
            "preset": "lesson18",
            "games": 0,
            "film": False,
            "console": False,
            "tensorboard": False,
        }
        result = train(GAME, "dqn", steps=ask.steps, run=where, seed=1, **options)
        file = where / "monitor.csv"  # there from the first game on
        games = read_monitor(file) if file.exists() else []
    seconds = time.perf_counter() - start
    there = max(ask.steps - FILL, 0) * UPDATE
    played = np.array([score for _, score, _, _ in games]) if games else np.full(1, FLOOR)
    steps = np.array([step for step, *_ in games]) if games else np.array([result.steps])
    rows.append(
        Row(
            f"{result.steps:,} steps",
            "mean score",
            None,
            float(played.mean()),
            seconds_there=there or None,
            seconds_here=seconds,
        )
    )
    return Outcome(
        "dqn",
        "DQN on Pong with a course's sizes",
        rows,
        [
            Curves(
                "Every game of the training", "steps", "score", [Line("game", steps, played[None])], ylim=(-21.5, 21)
            )
        ],
        notes=["The training sees four pictures (1,686,180 weights with 6 actions); the lesson's saw one."],
    )
