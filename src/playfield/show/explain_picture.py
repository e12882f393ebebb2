"""The picture of one step in the report of `playfield explain`."""

from __future__ import annotations

import cv2
import numpy as np

from playfield.envs.base import EnvSpec
from playfield.play.player import Moment
from playfield.show import panels, saliency
from playfield.show.saliency import Effects

BLUE, ORANGE = np.array(panels.BLUE), np.array(panels.ORANGE)


def paint(
    frame: np.ndarray, maps: dict[str, np.ndarray], box: tuple[float, float, float, float] | None
) -> np.ndarray:
    """A frame with its saliency maps on top, uint8 [H, W, 3].

    Args:
        frame: uint8 [H, W, 3].
        maps: `value`, shown in orange, and `policy`, shown in blue; each [h, w].
        box: (top, left, bottom, right) of a white frame, each from 0 to 1, or None.
    """
    height, width = frame.shape[:2]
    out: np.ndarray = frame.astype(np.float32) * 0.55
    for name, color in (("value", ORANGE), ("policy", BLUE)):
        wide = cv2.resize(saliency.relative(maps[name]).astype(np.float32), (width, height))
        weight = np.clip(wide, 0, 1)[..., None] * 0.75
        out = out + weight * color
    picture: np.ndarray = np.clip(out, 0, 255).astype(np.uint8)
    if box:
        top, left, bottom, right = (round(v * n) for v, n in zip(box, (height, width) * 2, strict=True))
        top, left = max(top, 0), max(left, 0)
        bottom, right = min(bottom, height) - 1, min(right, width) - 1
        for thick in range(max(1, height // 200)):
            picture[[top + thick, bottom - thick], left : right + 1] = 255
            picture[top : bottom + 1, [left + thick, right - thick]] = 255
    return picture


def feature_bars(effects: Effects, obs: np.ndarray, spec: EnvSpec, size: tuple[int, int]) -> np.ndarray:
    """Relative importance of each number of a vector observation [K] as bars; the first 24."""
    known = spec.family.input_names(spec.id, len(obs))
    names = [f"{name} ({x:.2f})" for name, x in zip(known, obs, strict=True)][:24]
    return panels.probability_bars(saliency.relative(effects.strength)[:24], names, size)


def picture(moment: Moment, spec: EnvSpec, maps: dict[str, np.ndarray], effects: Effects, title: str) -> np.ndarray:
    """One step with saliency maps, observation and action probabilities side by side: uint8 [H, W, 3]."""
    frame = panels.tv(moment.frame, 2) if spec.family.tv_frames else panels.fit(moment.frame, 420)
    rows: list[np.ndarray] = []
    probs, value = moment.outputs.get("probs"), saliency.values_of(moment.outputs)
    shown = None if value is None else float(np.ravel(value)[0])
    if spec.pixels:
        at = int(effects.strength.argmax())
        (y, x), (height, width) = effects.where[at] + 0.5, effects.shape
        r = 1.5 * saliency.RADIUS
        box = ((y - r) / height, (x - r) / width, (y + r) / height, (x + r) / width)
        boxed = box if effects.strength.any() else None
        seen = spec.visible(moment.obs)
        newest = np.repeat(seen[..., -1:], 3, 2)
        aligned = spec.family.obs_covers_frame(spec.protocol)  # the pixels of a cropped view are not the screen's
        frame = paint(frame, maps, boxed) if aligned else frame
        first = panels.caption(paint(panels.fit(newest, 168), maps, boxed), "newest frame")
        strip = panels.stack_strip(seen, 168) if seen.shape[2] <= 4 else panels.fit(newest, 168)
        rows.append(panels.beside(first, panels.caption(strip, "observation, oldest frame first")))
    else:
        rows.append(panels.caption(feature_bars(effects, np.ravel(moment.obs), spec, (190, 520)), "input importance"))
    size = frame.shape[0] - rows[0].shape[0], rows[0].shape[1]
    heading = "action probabilities"
    if "q" in moment.outputs:
        bars = panels.q_bars(moment.outputs["q"], spec.action_names, size, moment.action)
        heading = "action values"
    elif probs is not None:
        bars = panels.probability_bars(probs, spec.action_names, size, moment.action, shown)
    else:
        bars = np.full((*size, 3), panels.BACKGROUND, np.uint8)
    rows.append(panels.caption(bars, heading))
    score = moment.score - moment.reward  # before the action, as on the screen
    return panels.beside(panels.caption(frame, title, f"score {score:g}"), np.concatenate(rows))
