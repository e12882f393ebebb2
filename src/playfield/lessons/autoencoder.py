"""An auto-encoder of Breakout's screens: 7,056 pixels in 64 latents, as features for linear methods.

Lesson 18 ends with this plan: 40,000 frames, split 70/30 with seed 42, an auto-encoder, and its latents as the
features of linear methods. It stops after the split. Here the frames come from the agent that ships with playfield,
whole games are held out, and the loss is weighted: the ball is 4 of 7,056 pixels, too few for a plain mean squared
error to learn it.

`--faithful` splits single frames, as the lesson does. Then nearly every held-out frame has an almost equal neighbour
in the training set, so the held-out error says little.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from playfield.datasets.collect import collect
from playfield.datasets.train_autoencoder import PICTURE, train
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import read_picture
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row
from playfield.nets.autoencoder import Config

BUDGET = Budget(steps=40_000, faithful=True, pixels=True)
GAME = "breakout"
EPOCHS = 8
FRAMES = (28_000, 12_000)  # of 40,000: training set and held-out set
SHOWN = 0.9  # fraction of held-out balls that the reconstruction must show


def run(request: Request) -> Outcome:
    """Collect, split, train, and reconstruct held-out screens."""
    request.progress.parts(2)
    request.progress.part("collecting")
    with tempfile.TemporaryDirectory() as folder:
        data = collect(GAME, steps=request.steps, out=Path(folder) / "data")
        request.progress.part("training")
        config = Config(epochs=EPOCHS, split="frames" if request.faithful else "episodes")
        report = train(data, config, out=Path(folder) / "net")
        picture = read_picture(Path(folder) / "net" / PICTURE)
    before, after, frames = report["before"], report["after"], report["frames"]
    seconds = float(report["seconds"])
    split, compared = f"{config.split}, seed {config.split_seed}", request.as_published
    rows = [
        Row(split, "frames in the training set", FRAMES[0], frames["train"], compared=compared),
        Row(split, "frames held out", FRAMES[1], frames["test"], compared=compared),
        Row("held out, before", "weighted squared error", None, before["weighted"]),
        Row(
            "held out, after",
            "weighted squared error",
            None,
            after["weighted"],
            claim="less than before",
            holds=after["weighted"] < before["weighted"],
            seconds_here=seconds,
            compared=compared,
        ),
    ]
    if "ball_shown" in after:
        shown = float(after["ball_shown"])
        more: dict[str, Any] = {"claim": f"at least {SHOWN:.0%}", "holds": shown >= SHOWN, "compared": compared}
        rows.append(Row("held out, after", "fraction of balls shown", None, shown, **more))
    return Outcome(
        "autoencoder",
        "Breakout in 64 latents",
        rows,
        [picture],
        notes=["Top: held-out screens; below: reconstructions by an untrained and by the trained auto-encoder."],
        data={"report": {k: report[k] for k in ("config", "updates", "frames", "before", "after")}},
    )
