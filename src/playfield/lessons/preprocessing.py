"""From the screen to what a network sees: luminance, the maximum of two frames, a smaller picture, a stack of four.

A screen of Breakout is 210x160 pixels in three colours, too much to learn from quickly; a single one does not say
where the ball is going. The picture shows each step, done by hand, beside what the environment gives. `playfield
preprocess` makes it for any game and rules.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Picture
from playfield.lessons._rows import Row

BUDGET = Budget(steps=100)
GAME = "breakout"
SMALLER = 15  # times, "close to": a tutorial's words for one grey picture of 84x84


def run(ask: Ask) -> Outcome:
    """Random play, then every step from the last frames to the stack."""
    from PIL import Image

    from playfield.show.preprocess import preprocess

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "steps.png"
        found = preprocess(GAME, steps=ask.steps, out=path)
        pixels = np.asarray(Image.open(path).convert("RGB"))
    height, width, stack = found["obs_shape"]
    difference = found["largest_difference_by_hand"]
    same = difference == 0
    smaller = found["screen_bytes"] * stack / found["obs_bytes"]  # by what was given, not by its shape
    rows = [
        Row("screen", "bytes", None, found["screen_bytes"]),  # the console's: nothing to judge
        Row(f"one grey picture, {height}x{width}", "times smaller", SMALLER, smaller),
        Row(f"stack of {stack}", "bytes", None, found["obs_bytes"]),
        Row("by hand", "largest difference", None, difference, claim="the environment's", holds=same),
    ]
    title = "What a network sees of Breakout"
    return Outcome("preprocessing", title, rows, [Picture("", pixels)])
