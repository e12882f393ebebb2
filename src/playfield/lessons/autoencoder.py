"""An auto-encoder of Breakout's screens: 7,056 pixels in 64 numbers, for linear methods to learn from.

Lesson 18 ends with this plan: 40,000 frames of play, split 70/30 with seed 42, an auto-encoder, and its latents as
the features of linear methods. It stops after the split. Here screens are collected from the agent that ships,
whole games are held out, and the error is weighted: the ball is 4 of 7,056 pixels, which a plain mean squared error
does not miss.

`--faithful` splits single frames, as the lesson does. Then nearly every held-out frame has a neighbour among those
that were learnt from, so that its error says little.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Picture
from playfield.lessons._rows import Row

BUDGET = Budget(steps=40_000, faithful=True)
GAME = "breakout"
EPOCHS = 8
FRAMES = (28_000, 12_000)  # of 40,000: to learn from, and held out
SHOWN = 0.9  # share of held-out balls that the reconstruction must show


def run(ask: Ask) -> Outcome:
    """Collect, split, train, and look at screens that were held out."""
    from PIL import Image

    from playfield.datasets.collect import collect
    from playfield.datasets.train_autoencoder import PICTURE, train
    from playfield.nets.autoencoder import Config

    ask.progress.parts(2)
    ask.progress.part("collecting")
    with tempfile.TemporaryDirectory() as folder:
        data = collect(GAME, steps=ask.steps, out=Path(folder) / "data")
        ask.progress.part("training")
        config = Config(epochs=EPOCHS, split="frames" if ask.faithful else "episodes")
        told = train(data, config, out=Path(folder) / "net")
        with Image.open(Path(folder) / "net" / PICTURE) as image:
            pixels = np.asarray(image.convert("RGB"))
    before, after, frames = told["before"], told["after"], told["frames"]
    seconds = float(told["seconds"])
    share, judged = f"{config.split}, seed {config.split_seed}", ask.as_published
    rows = [
        Row(share, "frames to learn from", FRAMES[0], frames["train"], judged=judged),
        Row(share, "frames held out", FRAMES[1], frames["test"], judged=judged),
        Row("held out, before", "weighted squared error", None, before["weighted"]),
        Row(
            "held out, after",
            "weighted squared error",
            None,
            after["weighted"],
            claim="less than before",
            holds=after["weighted"] < before["weighted"],
            seconds_here=seconds,
            judged=judged,
        ),
    ]
    if "ball_shown" in after:
        shown = float(after["ball_shown"])
        more: dict[str, Any] = {"claim": f"at least {SHOWN:.0%}", "holds": shown >= SHOWN, "judged": judged}
        rows.append(Row("held out, after", "share of balls shown", None, shown, **more))
    return Outcome(
        "autoencoder",
        "Breakout in 64 numbers",
        rows,
        [Picture("", pixels)],
        notes=["Above: what was held out; below: what an untrained and the trained auto-encoder make of it."],
        data={"report": {k: told[k] for k in ("config", "updates", "frames", "before", "after")}},
    )
