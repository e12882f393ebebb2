"""Building blocks of films and reports: pure functions from arrays to pictures, and writing a picture as PNG.

Every picture is a uint8 array [height, width, 3], RGB. Text and bars use few shades, so that a GIF of them is
exact. The colours are those of Okabe and Ito (2008), which are distinct under every kind of colour blindness.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from playfield.errors import UsageError
from playfield.runs.storage import atomic_write
from playfield.show.formats import check_picture

Color = tuple[int, int, int]

BACKGROUND: Color = (16, 16, 20)
STRIP: Color = (30, 30, 37)  # captions, and the background of bars
INK: Color = (236, 236, 240)
FAINT: Color = (150, 150, 160)
BLUE: Color = (86, 180, 233)
ORANGE: Color = (230, 159, 0)


def upscale(frame: np.ndarray, factor: int | tuple[int, int]) -> np.ndarray:
    """Repeat each pixel `factor` times, or (down, across) times. [H, W, ...] -> [H*down, W*across, ...]."""
    down, across = factor if isinstance(factor, tuple) else (factor, factor)
    if down < 1 or across < 1:
        raise UsageError(f"a scale factor must be at least 1, not {down} x {across}")
    return np.ascontiguousarray(np.repeat(np.repeat(frame, down, axis=0), across, axis=1))


def fit(frame: np.ndarray, height: int) -> np.ndarray:
    """Scale [H, W, 3] or [H, W] to `height`, keeping the aspect ratio.

    Enlarging takes the nearest pixel, shrinking the mean over the area.
    """
    h, w = frame.shape[:2]
    width = max(1, round(w * height / h))
    if height < 1:
        raise UsageError(f"a picture must be at least 1 pixel high, not {height}")
    if height < h:
        return np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BOX))
    rows, columns = np.arange(height) * h // height, np.arange(width) * w // width
    return np.ascontiguousarray(frame[rows[:, None], columns])


def tv(frame: np.ndarray, scale: int = 2) -> np.ndarray:
    """An Atari frame with the aspect ratio of a television: its pixels are 12/7 as wide as they are high.

    Integer factors keep all pixels equally large. (down, across) is (1, 2), (2, 3), (3, 5), (4, 7) for scale 1 to
    4: a frame [210, 160, 3] becomes 210 x 320, 420 x 480, 630 x 800 or 840 x 1120 (height x width), the last one
    4:3 exactly.
    """
    return upscale(frame, (scale, round(scale * 12 / 7)))


def dim(frame: np.ndarray) -> np.ndarray:
    """A frame at 3/8 of its brightness, for a game that is over. The number of colours does not grow."""
    return (frame.astype(np.uint16) * 3 // 8).astype(np.uint8)


def stack_overlay(stack: np.ndarray, height: int = 420, trail: Color = ORANGE) -> np.ndarray:
    """A frame stack in one picture: the newest frame in grey, older ones as a fading coloured trail.

    The frame before the newest has the full hue of `trail` (at half of it a ball two pixels wide is hardly
    visible), each older one half the brightness of the next, and the brightest wins: what does not move stays grey.
    The brightest channel is the maximum of stack[..., -1] and, over k >= 1, stack[..., -1-k] // 2**(k-1).

    Args:
        stack: uint8 [H, W, K], oldest first.
        height: of the picture, in pixels.

    Returns:
        uint8 [height, height * W / H, 3].
    """
    _check_stack(stack)
    newest = stack[..., -1].astype(np.float32)
    frames = stack.shape[2]
    older = np.max([stack[..., frames - 1 - k] >> min(max(k - 1, 0), 8) for k in range(frames)], axis=0)
    hue = np.array(trail, np.float32) / max(*trail, 1)
    picture = newest[..., None] + (older - newest)[..., None] * hue
    return fit(np.round(picture).astype(np.uint8), height)


def stack_strip(stack: np.ndarray, height: int = 168, gap: int = 4) -> np.ndarray:
    """The K frames of a uint8 stack [H, W, K] side by side, oldest at the left, each `height` high."""
    _check_stack(stack)
    frames = [np.repeat(fit(stack[..., k], height)[..., None], 3, axis=2) for k in range(stack.shape[2])]
    return beside(*frames, gap=gap)


def _check_stack(stack: np.ndarray) -> None:
    if stack.dtype != np.uint8 or stack.ndim != 3 or not stack.size:
        raise UsageError(f"a frame stack must be uint8 [H, W, K], not {stack.dtype} {stack.shape}")


def beside(*panels: np.ndarray, gap: int = 8, background: Color = BACKGROUND) -> np.ndarray:
    """Panels [h, w, 3] in a row, `gap` pixels apart, centred vertically. Raises UsageError without panels."""
    if not panels:
        raise UsageError("beside() needs at least one panel")
    height = max(p.shape[0] for p in panels)
    out = np.full((height, sum(p.shape[1] for p in panels) + gap * (len(panels) - 1), 3), background, np.uint8)
    x = 0
    for panel in panels:
        y = (height - panel.shape[0]) // 2
        out[y : y + panel.shape[0], x : x + panel.shape[1]] = panel
        x += panel.shape[1] + gap
    return out


def mosaic(
    frames: Sequence[np.ndarray],
    columns: int | None = None,
    *,
    gap: int = 6,
    background: Color = BACKGROUND,
) -> np.ndarray:
    """Frames [h, w, 3] of one shape in a grid, row by row; `columns` defaults to about the number of rows."""
    if not frames:
        raise UsageError("mosaic() needs at least one frame")
    if len({f.shape for f in frames}) > 1:
        raise UsageError(f"the frames of a mosaic must have one shape, not {sorted({f.shape for f in frames})}")
    columns = math.ceil(math.sqrt(len(frames))) if columns is None else columns
    if columns < 1:
        raise UsageError(f"a mosaic needs at least 1 column, not {columns}")
    rows = math.ceil(len(frames) / columns)
    h, w = frames[0].shape[:2]
    out = np.full((rows * (h + gap) - gap, columns * (w + gap) - gap, 3), background, np.uint8)
    for i, frame in enumerate(frames):
        y, x = i // columns * (h + gap), i % columns * (w + gap)
        out[y : y + h, x : x + w] = frame
    return out


# Panels with text


@lru_cache(maxsize=2048)
def _glyphs(text: str, size: int) -> Image.Image:
    """`text` as an alpha mask, mode L. Eight levels look smooth and keep the number of colours in a GIF low."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    image = Image.new("L", (max(1, math.ceil(font.getlength(text))), ascent + descent))
    ImageDraw.Draw(image).text((0, 0), text, fill=255, font=font)
    return image.point([round(v / 255 * 7) * 255 // 7 for v in range(256)])


@lru_cache(maxsize=64)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels come with FreeType
    return font


def _write(image: Image.Image, xy: tuple[float, float], text: str, size: int, fill: Color, anchor: float) -> None:
    """Draw `text` centred on the y of `xy`; `anchor` 0 has x at its left end, 1 at its right end."""
    glyphs = _glyphs(text, size)
    at = round(xy[0] - anchor * glyphs.width), round(xy[1] - glyphs.height / 2)
    image.paste(fill, (*at, at[0] + glyphs.width, at[1] + glyphs.height), glyphs)


def _shorten(text: str, size: int, width: float) -> str:
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…" if text else ""


def caption(panel: np.ndarray, text: str, right: str = "", *, size: int = 16) -> np.ndarray:
    """A panel [h, w, 3] with a caption above it: `text` at the left, `right` at the right; long texts are cut.

    Returns uint8 [h + round(1.75 * size), w, 3]. The built-in font has the Latin letters only.
    """
    height, width = round(1.75 * size), panel.shape[1]
    strip = Image.new("RGB", (width, height), STRIP)
    margin, middle = size // 2, height / 2
    right = _shorten(" ".join(right.split()), size, width - 2 * margin)
    taken = _font(size).getlength(right) + size if right else 0
    text = _shorten(" ".join(text.split()), size, width - 2 * margin - taken)
    if text:
        _write(strip, (margin, middle), text, size, INK, 0)
    if right:
        _write(strip, (width - margin, middle), right, size, FAINT, 1)
    return np.concatenate([np.asarray(strip), panel])


def probability_bars(
    probs: np.ndarray | Sequence[float],
    names: Sequence[str],
    size: tuple[int, int] = (420, 260),
    chosen: int | None = None,
    value: float | None = None,
) -> np.ndarray:
    """Action probabilities: one bar per action, full width = 1, with its name and percentage.

    Args:
        probs: [A], each in [0, 1].
        names: the A action names.
        size: (height, width) in pixels; up to 18 actions are readable from about 220 x 200.
        chosen: index of the action taken, drawn in orange with a bright name; the others are blue.
        value: state value, written below.

    Returns:
        uint8 [height, width, 3].
    """
    probs = np.asarray(probs, np.float64)
    texts = [f"{100 * p:.0f}%" for p in probs.flat]
    footer = None if value is None else ("value", f"{value:.2f}")
    return _bars(probs, texts, "100%", names, size, chosen, footer)


def q_bars(
    q: np.ndarray | Sequence[float],
    names: Sequence[str],
    size: tuple[int, int] = (420, 260),
    chosen: int | None = None,
) -> np.ndarray:
    """As `probability_bars`, for action values [A]: from the lowest (a tenth of the width) to the highest."""
    q = np.asarray(q, np.float64)
    spread = float(q.max() - q.min()) if q.size else 0.0
    lengths = 0.1 + 0.9 * (q - q.min()) / spread if spread > 0 else np.ones(q.shape)
    return _bars(lengths, [f"{round(float(v), 2) + 0.0:.2f}" for v in q.flat], "-0.00", names, size, chosen, None)


def _bars(
    lengths: np.ndarray,
    texts: list[str],
    widest: str,
    names: Sequence[str],
    size: tuple[int, int],
    chosen: int | None,
    footer: tuple[str, str] | None,
) -> np.ndarray:
    """Rows of name, bar (`lengths` in [0, 1]) and number; `widest` is a text to reserve room for."""
    if lengths.ndim != 1 or not len(names) or len(lengths) != len(names):
        raise UsageError(f"{len(names)} action names, but values of shape {lengths.shape}")
    height, width = size
    image = Image.new("RGB", (width, height), BACKGROUND)
    rows = len(names) + (1.5 if footer else 0)
    margin = max(4, width // 30)
    pitch = min((height - 2 * margin) / rows, 40.0)
    top = (height - pitch * rows) / 2
    text_size = max(8, min(18, int(pitch * 0.62), width // 14))
    while text_size > 8 and _names_width(tuple(names), text_size) > 0.45 * width:
        text_size -= 1
    label = min(_names_width(tuple(names), text_size), 0.5 * width)
    left = round(margin + label + text_size * 0.6)
    number = max(_font(text_size).getlength(t) for t in (widest, *texts))
    right = max(left + 1, round(width - margin - number - text_size * 0.5))
    thick = max(2, round(pitch * 0.56))
    for i, name in enumerate(names):
        middle = top + pitch * (i + 0.5)
        y = round(middle - thick / 2)
        taken = i == chosen
        image.paste(STRIP, (left, y, right, y + thick))
        full = lengths[i] if math.isfinite(lengths[i]) else 0.0
        end = left + round(min(max(float(full), 0.0), 1.0) * (right - left))
        if end > left:
            image.paste(ORANGE if taken else BLUE, (left, y, end, y + thick))
        ink = INK if taken else FAINT
        _write(image, (left - text_size * 0.6, middle), _shorten(name, text_size, label), text_size, ink, 1)
        _write(image, (width - margin, middle), texts[i], text_size, ink, 1)
    if footer:
        middle = top + pitch * (len(names) + 1)
        _write(image, (left - text_size * 0.6, middle), footer[0], text_size, FAINT, 1)
        _write(image, (left, middle), footer[1], text_size, INK, 0)
    return np.asarray(image)


@lru_cache(maxsize=64)
def _names_width(names: tuple[str, ...], size: int) -> float:
    return max(_font(size).getlength(name) for name in names)


def pictures(obs: np.ndarray, stack: int) -> list[np.ndarray]:
    """The frames of a stacked observation uint8 [H, W, C], oldest first, each [H, W, 3]; colours stay together."""
    channels = obs.shape[-1] // stack if obs.shape[-1] % stack == 0 else 1
    if channels != 3:
        return [np.repeat(obs[..., k : k + 1], 3, axis=2) for k in range(obs.shape[-1])]
    return [np.ascontiguousarray(obs[..., k : k + 3]) for k in range(0, obs.shape[-1], 3)]


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a picture, uint8 [H, W, 3]. Raises UsageError (see `check_picture`) or StorageError."""
    check_picture(path)
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "PNG")
    atomic_write(path, data.getvalue())
