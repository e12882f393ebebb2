"""Made-up screens for tests: a wall, a paddle, and a ball of one or two pixels whose place is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from playfield.datasets import dataset


def screens(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """`n` frames uint8 [n, 84, 84] and the places of their balls [n, 2]; a ball moves on a line and bounces."""
    rng = np.random.default_rng(seed)
    frames = np.full((n, 84, 84), 40, np.uint8)
    frames[:, :, :3] = frames[:, :, -3:] = 142
    place, speed, places = rng.uniform(15, 60, 2), np.array([2.3, 3.1]), []
    for frame in frames:
        place += speed
        for d, (low, high) in enumerate(((10, 65), (8, 75))):
            if not low <= place[d] <= high:
                speed[d] *= -1
                place[d] = np.clip(place[d], low, high)
        y, x = place.astype(int)
        frame[y : y + 2, x] = 200
        paddle = int(np.clip(x - 4, 4, 68))
        frame[79:81, paddle : paddle + 9] = 200
        places.append((y, x))
    return frames, np.array(places)


def columns(games: int = 5, length: int = 60, seed: int = 0) -> dict[str, np.ndarray]:
    """The columns of a dataset of `games` such games."""
    rows = games * length
    frames = np.concatenate([screens(length, seed * 1000 + g)[0] for g in range(games)])
    ends = np.arange(rows) % length == length - 1
    rng = np.random.default_rng(seed)
    return {
        "frames": frames,
        "ram": rng.integers(256, size=(rows, 128), dtype=np.uint8),
        "actions": np.where(ends, -1, rng.integers(4, size=rows)).astype(np.int16),
        "rewards": rng.integers(3, size=rows).astype(np.float32),
        "terminated": np.roll(ends, -1),
        "truncated": np.zeros(rows, bool),
        "starts": np.roll(ends, 1),
    }


def made(path: Path, games: int = 5, length: int = 60, seed: int = 0) -> Path:
    """A dataset of such games at `path`."""
    dataset.save(path, columns(games, length, seed), {"env": "breakout"})
    return path
