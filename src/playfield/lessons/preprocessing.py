"""From the screen to the observation: greyscale, maximum of two frames, downscaling, frame stack.

A screen of Breakout is 210x160 pixels in RGB, too much to learn from quickly; a single one does not show in which
direction the ball moves. The picture shows each step of the preprocessing, computed separately, beside the
environment's observation. `playfield preprocess` makes it for any game and protocol.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from pathlib import Path

from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import read_picture
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row
from playfield.show.preprocess import preprocess

BUDGET = Budget(steps=100, pixels=True)
GAME = "breakout"
SMALLER = 15  # a tutorial: one grey frame of 84x84 is "close to" 15 times smaller


def run(request: Request) -> Outcome:
    """Random play, then every step from the last frames to the stack."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "steps.png"
        found = preprocess(GAME, steps=request.steps, out=path)
        picture = read_picture(path)
    height, width, stack = found["obs_shape"]
    difference = found["largest_difference_by_hand"]
    same = difference == 0
    smaller = (
        found["screen_bytes"] * stack / found["obs_bytes"]
    )  # of the observation itself, not computed from its shape
    rows = [
        Row("screen", "bytes", None, found["screen_bytes"]),  # given by the console
        Row(f"one grey frame, {height}x{width}", "times smaller", SMALLER, smaller),
        Row(f"stack of {stack}", "bytes", None, found["obs_bytes"]),
        Row("computed separately", "largest difference", None, difference, claim="0", holds=same),
    ]
    title = "From the screen of Breakout to the observation"
    return Outcome("preprocessing", title, rows, [picture])
