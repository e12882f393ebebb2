"""Pictures that environments draw of themselves, as uint8 RGB arrays."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_picture(drawn: Any) -> np.ndarray:
    """What an env's `render` returned, as uint8 [H, W, 3].

    Grey pictures [H, W] and [H, W, 1] get three equal channels, a fourth channel (alpha) is dropped, of a list of
    pictures (render modes such as `rgb_array_list`) the last one is taken. Numbers of another type count from 0 to 1
    if they are floats, none of them above 1, or bools; from 0 to 255 otherwise.

    Raises:
        ValueError: it is no picture; the message says what it is.
    """
    if drawn is None:
        raise ValueError("nothing (None)")
    if isinstance(drawn, str):
        raise ValueError("text")
    if isinstance(drawn, list | tuple) and drawn and np.ndim(drawn[-1]) >= 2:
        drawn = drawn[-1]
    raw = np.asarray(drawn)
    if raw.ndim == 2:
        raw = raw[..., None]
    if raw.ndim != 3 or raw.shape[2] not in (1, 3, 4) or not raw.size or raw.dtype.kind not in "buif":
        raise ValueError(f"{raw.dtype} {raw.shape}")
    raw = raw[..., :3]
    if raw.dtype != np.uint8:
        low, high = raw.min(), raw.max()
        if not (low >= 0 and high <= 255):  # also NaN
            raise ValueError(f"{raw.dtype} values from {low} to {high}")
        unit = raw.dtype.kind == "b" or (raw.dtype.kind == "f" and high <= 1)
        raw = np.rint(raw * 255.0 if unit else raw).astype(np.uint8)
    return raw if raw.shape[2] == 3 else np.repeat(raw, 3, axis=2)


def of_shape(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A picture [h, w, 3] on a black one of `shape` [H, W, 3], centred; one that is larger is first made to fit."""
    shrink = max(1.0, picture.shape[0] / shape[0], picture.shape[1] / shape[1])
    if shrink > 1:
        rows = (np.arange(max(1, int(picture.shape[0] / shrink))) * shrink).astype(int)
        columns = (np.arange(max(1, int(picture.shape[1] / shrink))) * shrink).astype(int)
        picture = picture[rows[:, None], columns]
    height, width = picture.shape[:2]
    out = np.zeros(shape, np.uint8)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    out[top : top + height, left : left + width] = picture
    return out
