"""Frames of the classic control problems, rendered with Pillow: pure functions of one state.

No display is needed. Every function returns uint8 RGB [400, 600, 3]. Shapes are drawn at twice the size and
downsampled, for smooth edges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 600, 400
_SCALE = 2  # drawn at twice the size

_SKY = (246, 244, 238)
_GROUND = (222, 216, 202)
_LINE = (150, 143, 128)
_INK = (44, 52, 64)
_STEEL = (72, 101, 129)
_WOOD = (205, 133, 63)
_WOOD_DARK = (150, 92, 40)
_RED = (196, 64, 52)
_GREEN = (70, 140, 90)

Point = tuple[float, float]
Colour = tuple[int, int, int]


def _canvas() -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (WIDTH * _SCALE, HEIGHT * _SCALE), _SKY)
    return image, ImageDraw.Draw(image)


def _on(scene: Image.Image) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = scene.copy()
    return image, ImageDraw.Draw(image)


def _pixels(image: Image.Image) -> np.ndarray:
    return np.array(image.reduce(_SCALE))


def _line(draw: ImageDraw.ImageDraw, points: Iterable[Point], colour: Colour, width: float) -> None:
    scaled = [(x * _SCALE, y * _SCALE) for x, y in points]
    draw.line(scaled, fill=colour, width=round(width * _SCALE), joint="curve")


def _disc(draw: ImageDraw.ImageDraw, centre: Point, radius: float, colour: Colour) -> None:
    x, y, r = centre[0] * _SCALE, centre[1] * _SCALE, radius * _SCALE
    draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)


def _box(draw: ImageDraw.ImageDraw, corner1: Point, corner2: Point, colour: Colour, radius: float = 0) -> None:
    box = [c * _SCALE for c in (*corner1, *corner2)]
    draw.rounded_rectangle(box, radius=radius * _SCALE, fill=colour)


def _rod(draw: ImageDraw.ImageDraw, start: Point, end: Point, colour: Colour, width: float) -> None:
    """A line with round ends."""
    _line(draw, (start, end), colour, width)
    for point in (start, end):
        _disc(draw, point, width / 2, colour)


_TRACK_Y = 310
_METRE = WIDTH / 4.8


@lru_cache(maxsize=1)
def _cartpole_scene() -> Image.Image:
    image, draw = _canvas()
    _box(draw, (0, _TRACK_Y), (WIDTH, HEIGHT), _GROUND)
    _line(draw, ((0, _TRACK_Y), (WIDTH, _TRACK_Y)), _LINE, 3)
    for metre in (-2, -1, 0, 1, 2):
        x = WIDTH / 2 + metre * _METRE
        _line(draw, ((x, _TRACK_Y), (x, _TRACK_Y + (16 if metre == 0 else 9))), _LINE, 2)
    for x in (2, WIDTH - 3):  # the episode terminates beyond these
        _line(draw, ((x, _TRACK_Y - 26), (x, _TRACK_Y + 26)), _RED, 4)
    return image


def cartpole(state: np.ndarray) -> np.ndarray:
    """The cart and its pole.

    `state`: position [m], velocity [m/s], pole angle [rad, 0 upright, right > 0], angular velocity [rad/s].
    """
    image, draw = _on(_cartpole_scene())
    x, y = WIDTH / 2 + float(state[0]) * _METRE, _TRACK_Y - 26.0
    angle = float(state[2])
    for wheel in (-20, 20):
        _disc(draw, (x + wheel, _TRACK_Y - 8), 8, _INK)
        _disc(draw, (x + wheel, _TRACK_Y - 8), 3, _LINE)
    _box(draw, (x - 36, y - 16), (x + 36, y + 14), _STEEL, radius=6)
    pivot = (x, y - 8)
    length = _METRE  # the pole is 1 m long
    tip = (pivot[0] + length * math.sin(angle), pivot[1] - length * math.cos(angle))
    _rod(draw, pivot, tip, _WOOD, 11)
    _disc(draw, pivot, 5, _INK)
    return _pixels(image)


_PIVOT = (WIDTH / 2, 205.0)
_LINK = 88.0  # pixels of a link of length 1


@lru_cache(maxsize=1)
def _acrobot_scene() -> Image.Image:
    image, draw = _canvas()
    goal = _PIVOT[1] - _LINK
    for x in range(0, WIDTH, 20):
        _line(draw, ((x, goal), (x + 11, goal)), _GREEN, 2)
    return image


def acrobot(state: np.ndarray) -> np.ndarray:
    """The two links and the line to reach.

    `state`: angle of the first link [rad, 0 hangs down], of the second relative to it, their angular velocities.
    """
    image, draw = _on(_acrobot_scene())
    angle1, angle2 = float(state[0]), float(state[0] + state[1])
    elbow = (_PIVOT[0] + _LINK * math.sin(angle1), _PIVOT[1] + _LINK * math.cos(angle1))
    tip = (elbow[0] + _LINK * math.sin(angle2), elbow[1] + _LINK * math.cos(angle2))
    _rod(draw, _PIVOT, elbow, _STEEL, 14)
    _rod(draw, elbow, tip, _WOOD, 14)
    for joint in (_PIVOT, elbow):
        _disc(draw, joint, 8, _INK)
        _disc(draw, joint, 3, _GROUND)
    _disc(draw, tip, 5, _WOOD_DARK)
    return _pixels(image)


def _hill(position: float) -> Point:
    """Where `position` on the hill lies in the picture."""
    x = (position + 1.2) / 1.8 * WIDTH
    return x, HEIGHT - 40 - (math.sin(3 * position) * 0.45 + 0.45) * 300


@lru_cache(maxsize=1)
def _mountain_scene() -> Image.Image:
    image, draw = _canvas()
    curve = [_hill(p) for p in np.linspace(-1.22, 0.62, 200).tolist()]
    outline = [(x * _SCALE, y * _SCALE) for x, y in [*curve, (WIDTH + 8, HEIGHT), (-8, HEIGHT)]]
    draw.polygon(outline, fill=_GROUND)
    _line(draw, curve, _LINE, 3)
    x, y = _hill(0.5)
    _line(draw, ((x, y), (x, y - 46)), _INK, 3)
    flag = ((x + 1, y - 46), (x + 27, y - 37), (x + 1, y - 28))
    draw.polygon([(px * _SCALE, py * _SCALE) for px, py in flag], fill=_RED)
    return image


def mountain_car(state: np.ndarray) -> np.ndarray:
    """The car in its valley. `state`: position in [-1.2, 0.6], velocity."""
    image, draw = _on(_mountain_scene())
    position = float(state[0])
    x, y = _hill(position)
    slope = math.atan2(3 * math.cos(3 * position) * 0.45 * 300, WIDTH / 1.8)

    def at(along: float, up: float) -> Point:
        """The image point of a point of the car: pixels along the slope and perpendicular to it."""
        return (
            x + along * math.cos(slope) - up * math.sin(slope),
            y - along * math.sin(slope) - up * math.cos(slope),
        )

    body = (at(-24, 9), at(-24, 20), at(-15, 21), at(-9, 31), at(9, 31), at(16, 21), at(24, 19), at(24, 9))
    draw.polygon([(px * _SCALE, py * _SCALE) for px, py in body], fill=_STEEL)
    window = (at(-10, 22), at(-6, 28), at(7, 28), at(11, 22))
    draw.polygon([(px * _SCALE, py * _SCALE) for px, py in window], fill=_SKY)
    for along in (-14, 14):
        _disc(draw, at(along, 8), 8, _INK)
        _disc(draw, at(along, 8), 3, _LINE)
    return _pixels(image)
