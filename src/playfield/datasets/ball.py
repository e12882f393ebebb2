"""Whether a reconstruction shows the ball, which the mean squared error hardly measures.

The ball of Breakout or Pong is two to six pixels of 7,056. In a true frame it is found as the only small, isolated
object that differs from the background and was not there one frame earlier. A reconstruction shows it if it has at
least half of its contrast within a few pixels of its position.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

STRONG = 30  # of 255: larger differences from the background are objects
LARGEST = 8  # pixels of a ball
WIDEST = 4  # its width and height
ALONE = 4  # pixels around it without another object
RADIUS = 2  # pixels by which a reconstruction may misplace it


def background(frames: np.ndarray, most: int = 2000) -> np.ndarray:
    """Median of each pixel over about `most` evenly spaced frames: uint8 [N, H, W] to uint8 [H, W]."""
    step = max(1, len(frames) // most)
    return np.asarray(np.median(frames[::step], axis=0).astype(np.uint8))


def difference(frames: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Frames minus background: int16 [..., H, W]."""
    return frames.astype(np.int16) - back.astype(np.int16)


@dataclass(frozen=True)
class Balls:
    """Balls that were found unambiguously.

    Attributes:
        rows: int64 [n], index of the frame.
        places: int64 [n, 2], row and column of the pixel with the largest contrast.
        contrast: int16 [n], that pixel minus background.
    """

    rows: np.ndarray
    places: np.ndarray
    contrast: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def find(frames: np.ndarray, before: np.ndarray, back: np.ndarray) -> Balls:
    """Find the balls in `frames`, uint8 [N, H, W].

    Frames without a candidate or with several are skipped, and so are balls next to another object.

    Args:
        frames: where to look.
        before: the frames one step earlier, uint8 [N, H, W].
        back: the background, uint8 [H, W].
    """
    rows, places, contrast = [], [], []
    for k, (frame, last) in enumerate(zip(frames, before, strict=True)):
        apart = difference(frame, back)
        objects = (np.abs(apart) > STRONG).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(objects, connectivity=8)
        small = (stats[:, 4] <= LARGEST) & (stats[:, 2] <= WIDEST) & (stats[:, 3] <= WIDEST)
        found = []
        for label in np.flatnonzero(small):
            x, y, width, height, area = stats[label].tolist()
            around = np.s_[max(0, y - ALONE) : y + height + ALONE, max(0, x - ALONE) : x + width + ALONE]
            if objects[around].sum() > area:
                continue
            mine = labels == label
            moved = np.abs(frame[mine].astype(int) - last[mine]) > STRONG
            if 2 * moved.sum() >= area:
                found.append(np.where(mine, np.abs(apart), -1))
        if len(found) == 1:
            place = np.unravel_index(found[0].argmax(), frame.shape)
            rows.append(k)
            places.append(place)
            contrast.append(apart[place])
    return Balls(np.array(rows, np.int64), np.array(places, np.int64).reshape(-1, 2), np.array(contrast, np.int16))


def _peak(apart: np.ndarray, place: np.ndarray, sign: int, radius: int) -> int:
    """Largest difference of one sign within `radius` of a position."""
    y, x = place.tolist()
    window = apart[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
    return int((window * sign).max())


def shown(pictures: np.ndarray, balls: Balls, back: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """Whether reconstructions, uint8 [n, H, W], show these n balls: bool [n]."""
    apart = difference(pictures, back)
    return np.array(
        [
            2 * _peak(apart[k], place, 1 if c > 0 else -1, radius) >= abs(int(c))
            for k, (place, c) in enumerate(zip(balls.places, balls.contrast, strict=True))
        ],
        bool,
    )


def invented(
    pictures: np.ndarray, frames: np.ndarray, balls: Balls, back: np.ndarray, radius: int = RADIUS
) -> np.ndarray:
    """Whether reconstructions of `frames` show balls at the positions of other frames' balls: bool [at most n].

    The control for `shown`, which a noisy reconstruction would pass too. Reconstruction k is tested for the ball of
    the frame half the list away, unless `frames[k]` has an object there.
    """
    other = np.roll(np.arange(len(balls)), -(len(balls) // 2))
    moved = Balls(balls.rows, balls.places[other], balls.contrast[other])
    free = np.array(
        [
            _peak(np.abs(difference(f, back)), p, 1, radius + 1) <= STRONG
            for f, p in zip(frames, moved.places, strict=True)
        ],
        bool,
    )
    return np.asarray(shown(pictures, moved, back, radius)[free])
