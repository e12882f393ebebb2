"""DQN on Pong as in lesson 18: its network layer by layer, and a short training with its hyper-parameters.

The lesson's network takes one frame of 84x84 and has three actions; its summary counts 1,679,523 parameters. One
frame does not show in which direction the ball moves, so the training stacks four, as in the paper.

The lesson trained for 20,000 steps, of which the first 10,000 only fill the replay buffer: far too few for Pong,
whose score stays near -21 (random play: -20.7). At the 80 ms that the lesson printed for one update, its 10,000
updates took over 26 minutes. `playfield train pong --algo dqn` learns the game.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row
from playfield.lessons._training import train_only
from playfield.nets import summary
from playfield.runs.logger import read_monitor

BUDGET = Budget(steps=20_000, methods=("dqn",))
GAME = "pong"
SHAPE, ACTIONS = (84, 84, 1), 3
LAYERS = (2_080, 32_832, 36_928, 1_606_144, 1_539)
TOTAL = 1_679_523
UPDATE = 0.16  # seconds in the course: two forward passes and a fit, at the 80 ms printed for one of them
LEARNING_STARTS = 10_000  # steps before the first update
LOWEST = -21.0  # the lowest possible score


def run(request: Request) -> Outcome:
    """Count the network's parameters, then train for a while."""
    found = [layer for layer in summary.layers("nature", summary.Input(SHAPE, ACTIONS)) if layer.parameters]
    rows = [
        Row(f"{layer.name}: {layer.kind}", "parameters", published, layer.parameters, rule="same")
        for layer, published in zip(found, LAYERS, strict=True)
    ]
    rows.append(Row("network", "parameters", TOTAL, sum(layer.parameters for layer in found), rule="same"))
    request.progress.parts(1)
    request.progress.part("training")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder) / "run"
        result = train_only(
            GAME, "dqn", run=where, steps=request.steps, seed=1, preset="lesson18", config=dict(request.options)
        )
        file = where / "monitor.csv"  # written when the first game ends
        games = read_monitor(file) if file.exists() else []
    seconds = time.perf_counter() - start
    course_seconds = max(request.steps - LEARNING_STARTS, 0) * UPDATE
    played = np.array([score for _, score, _, _ in games]) if games else np.full(1, LOWEST)
    steps = np.array([step for step, *_ in games]) if games else np.array([result.steps])
    rows.append(
        Row(
            f"{result.steps:,} steps",
            "mean score",
            None,
            float(played.mean()),
            seconds_there=course_seconds or None,
            seconds_here=seconds,
        )
    )
    return Outcome(
        "dqn",
        "DQN on Pong with the course's hyper-parameters",
        rows,
        [Curves("Training games", "steps", "score", [Line("game", steps, played[None])], ylim=(-21.5, 21))],
        notes=["The training stacks four frames (1,686,180 parameters with 6 actions); the lesson used one."],
    )
