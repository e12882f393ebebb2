"""Turn what an environment returns into the numbers that a coder takes.

`--features` names a coder (see `features`), or for pictures `pixels:size=14`: the newest picture downscaled to
size x size means, and beside them their difference from the picture before; or `autoencoder:PATH`, the latents of an
encoder that `playfield autoencoder` trained, and the differences of the latents.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from playfield.envs.base import EnvSpec
from playfield.envs.checks import like
from playfield.errors import DataError, UsageError
from playfield.linear import coders, features
from playfield.linear.features import Coder
from playfield.linear.jit import Floats
from playfield.linear.restored import check
from playfield.nets.autoencoder import Encoder

Prepare = Callable[[np.ndarray], Floats]
# What `iht` changes in its coder while it learns: {name in checkpoints: field of `Coder`}.
TABLES = {"cells": "cells", "numbers": "numbers", "told": "counts"}


class Observer:
    """Observations [N, ...] of an environment as the rows float64 [N, D] that its coder takes.

    Args:
        text: `--features`.
        spec: of the environment.

    Attributes:
        coder: for one row; with tables of its own.

    Raises:
        UsageError: `text` is not `--features`, or not for such observations.
    """

    def __init__(self, text: str, spec: EnvSpec) -> None:
        coder = coders.env_coder(text, spec)
        self._prepare: Prepare = _flatten
        if coder is not None and coder.kind == features.IDENTITY and spec.obs_bounds is not None:
            self._prepare = _scale(*spec.obs_bounds)
        if coder is None:
            self._prepare = _latents(Path(text.partition(":")[2]))
            coder = coders.identity(self._prepare(np.zeros((1, *spec.obs_shape), np.uint8)).shape[1])
        elif text.partition(":")[0] == "pixels":
            self._prepare = _downscale(coders.pixels_size(text), spec)
        self.coder: Coder = features.fresh(coder)

    def __call__(self, obs: np.ndarray) -> Floats:
        """The rows [N, D] of observations [N, ...]. Raises UsageError where they are of another shape.

        Compiled code checks no index: this is where a row's length is.
        """
        rows = self._prepare(obs)
        if rows.shape[1] != len(self.coder.low):
            raise UsageError(f"an observation has {rows.shape[1]} numbers here, not {len(self.coder.low)}")
        return rows

    def state(self) -> dict[str, Any]:
        """The tables of `iht`, for a checkpoint; empty for other coders, which do not change."""
        if self.coder.kind != features.FIRST_COME:
            return {}
        return {name: getattr(self.coder, field).copy() for name, field in TABLES.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over the tables of a checkpoint."""
        if self.coder.kind == features.FIRST_COME:
            most = {"numbers": self.coder.size - 1}
            for name, field in TABLES.items():
                # Free places of `cells` have -1.
                table, saved = getattr(self.coder, field), np.asarray(state[name])
                table[...] = like(name, saved, table) if name == "cells" else check(name, saved, table, most)
            if self.coder.counts[0] > self.coder.size:
                raise DataError("the checkpoint's hash table says that more cells are taken than it has")


def _flatten(obs: np.ndarray) -> Floats:
    return np.asarray(obs, np.float64).reshape(len(obs), -1)


def _scale(low: tuple[float, ...], high: tuple[float, ...]) -> Prepare:
    """Numbers between these bounds (one, or one for each index of the last axis) to 0..1."""
    least = np.array(low)
    width = np.where(np.array(high) > least, np.array(high) - least, 1.0)
    return lambda obs: _flatten((obs - least) / width)


def _downscale(side: int, spec: EnvSpec) -> Prepare:
    """Pictures [N, H, W, C] to their last channel, downscaled, and its difference from the channel before."""
    low, high = spec.obs_bounds or ((0.0,), (255.0,))
    ends = [np.broadcast_to(np.array(b), spec.obs_shape[2:]) for b in (low, high)]
    least, most = (float(end[-1]) for end in ends)
    width = most - least or 1.0

    def prepare(obs: np.ndarray) -> Floats:
        channels = obs.shape[3]
        out = np.empty((len(obs), 2, side, side))
        for n, picture in enumerate(obs):
            new = cv2.resize(picture[..., channels - 1], (side, side), interpolation=cv2.INTER_AREA)
            old = cv2.resize(picture[..., max(channels - 2, 0)], (side, side), interpolation=cv2.INTER_AREA)
            out[n] = (new - least) / width, (new.astype(np.float64) - old) / width
        return out.reshape(len(obs), -1)

    return prepare


def _latents(path: Path) -> Prepare:
    """Pictures [N, 84, 84, C] to an encoder's latents; with more than one channel also their differences."""
    encoder = Encoder.load(path)

    def prepare(obs: np.ndarray) -> Floats:
        return np.asarray(encoder.encode(obs, velocity=obs.shape[3] > 1), np.float64)

    return prepare
