"""Whether a reconstruction shows the ball: the one thing in the picture that matters and that an error hardly counts.

A ball of Breakout or Pong is two to six pixels of 7,056. It is found in a true frame as the only small, isolated
thing that is not background and was not there one frame earlier; it is shown by a reconstruction that has at least
half of its brightness within a few pixels of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

STRONG = 30  # of 255: what differs from the background by more is a thing
LARGEST = 8  # pixels of a ball
WIDEST = 4  # its width and height
ALONE = 4  # pixels around it without another thing
RADIUS = 2  # pixels by which a reconstruction may miss it


def background(frames: np.ndarray, most: int = 2000) -> np.ndarray:
    """The median of each pixel over at most `most` frames spread over `frames`: uint8 [H, W]."""
    step = max(1, len(frames) // most)
    return np.median(frames[::step], axis=0).astype(np.uint8)


def difference(frames: np.ndarray, back: np.ndarray) -> np.ndarray:
    """How far frames are from the background: int16 [..., H, W]."""
    return frames.astype(np.int16) - back.astype(np.int16)


@dataclass(frozen=True)
class Balls:
    """Balls that were found without doubt.

    Attributes:
        rows: int64 [n], the frames that they are in.
        places: int64 [n, 2], row and column of each one's strongest pixel.
        contrast: int16 [n], how far that pixel is from the background, with its sign.
    """

    rows: np.ndarray
    places: np.ndarray
    contrast: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)


def find(frames: np.ndarray, before: np.ndarray, back: np.ndarray) -> Balls:
    """The balls in `frames`, uint8 [N, H, W]; `before` are the frames one step earlier.

    Frames with no candidate or with several are left out, and so are balls next to something else.
    """
    rows, places, contrast = [], [], []
    for k, (frame, last) in enumerate(zip(frames, before, strict=True)):
        apart = difference(frame, back)
        things = (np.abs(apart) > STRONG).astype(np.uint8)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(things, connectivity=8)
        small = (stats[:, 4] <= LARGEST) & (stats[:, 2] <= WIDEST) & (stats[:, 3] <= WIDEST)
        found = []
        for label in np.flatnonzero(small):
            x, y, width, height, area = stats[label].tolist()
            around = np.s_[max(0, y - ALONE) : y + height + ALONE, max(0, x - ALONE) : x + width + ALONE]
            if things[around].sum() > area:
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
    """The strongest difference of one sign near a place."""
    y, x = place.tolist()
    window = apart[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
    return int((window * sign).max())


def shown(pictures: np.ndarray, balls: Balls, back: np.ndarray, radius: int = RADIUS) -> np.ndarray:
    """Whether pictures, uint8 [n, H, W], show these balls: bool [n]."""
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
    """Whether pictures of `frames` show balls where other frames have theirs: bool [at most n].

    The check on `shown`, which a picture full of haze would pass too. Picture k is asked for the ball of another,
    half of them away, unless `frames[k]` has something there.
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
    return shown(pictures, moved, back, radius)[free]
