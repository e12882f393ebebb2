"""From what an environment shows to what a coder takes: its numbers, a coarse picture, or an encoder's latents.

`--features` names a coder (see `features`), or for pictures `pixels:size=14`: the newest picture as size x size
means, and beside them what changed since the picture before; or `autoencoder:PATH`, the latents of an encoder that
`playfield autoencoder` trained, and what they changed by.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import UsageError, unknown
from playfield.linear import coders, features
from playfield.linear.problems import PROBLEMS
from playfield.options import number
from playfield.runs.encoder import locate

TABLE = ("cells", "numbers", "told")  # of a coder: what it changes


class Sight:
    """What a linear learner sees of an environment: a function of observations [N, ...] to float64 [N, D].

    Attributes:
        coder: takes a row of that.
    """

    def __init__(self, text: str, spec: EnvSpec) -> None:
        name, _, rest = text.partition(":")
        self._prepare: Callable[[np.ndarray], np.ndarray] = _flat
        if name == "pixels":
            self._prepare, size = _coarse(text, rest, spec)
            self.coder = _plain(size)
        elif name == "autoencoder":
            self._prepare, size = _latents(rest, spec)
            self.coder = _plain(size)
        else:
            if name not in coders.coders():
                raise unknown("features", name, [*coders.coders(), "pixels", "autoencoder"])
            if spec.pixels:
                raise UsageError(
                    f"--features {name} takes vectors, but observations are pictures: "
                    "use pixels:size=14, autoencoder:PATH, or --obs ram"
                )
            size = int(np.prod(spec.obs_shape))
            if name in ("bits", "identity"):
                self.coder = coders.coder_for(text, np.zeros(size), np.ones(size))
            else:
                self.coder = coders.coder_for(text, *bounds(spec))
            if name == "bits" and spec.obs_dtype != "uint8":
                raise UsageError("--features bits takes bytes (--obs ram of an Atari game): use tilings")
        self.coder = features.fresh(self.coder)

    def __call__(self, obs: np.ndarray) -> np.ndarray:
        return self._prepare(obs)

    def state(self) -> dict[str, Any]:
        """What the coder has learnt of its own: the numbers of cells."""
        if self.coder.kind != features.FIRST_COME:
            return {}
        return {name: getattr(self.coder, name).copy() for name in TABLE}

    def restore(self, state: dict[str, Any]) -> None:
        if self.coder.kind == features.FIRST_COME:
            for name in TABLE:
                getattr(self.coder, name)[...] = np.asarray(state[name])


def bounds(spec: EnvSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(low, high, tiled) of an environment's observations. Raises UsageError where they have none."""
    for known in PROBLEMS.values():
        if known.env and known.env.split("-v")[0] == spec.id.split("-v")[0]:
            return np.array(known.low), np.array(known.high), np.array(known.tiled)
    if spec.obs_dtype == "uint8":
        size = int(np.prod(spec.obs_shape))
        return np.zeros(size), np.full(size, 255.0), np.full(size, 256.0)
    import gymnasium

    made = gymnasium.make(spec.id)
    space = made.observation_space
    made.close()
    if not isinstance(space, gymnasium.spaces.Box):
        raise UsageError(f"observations of {spec.id} are names of states, not numbers: use --features identity")
    low, high = (np.ravel(side).astype(float) for side in (space.low, space.high))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (high - low < 1e6).all()):
        raise UsageError(f"observations of {spec.id} have no bounds to cut into tiles: use --features identity")
    return low, high, high - low


def _flat(obs: np.ndarray) -> np.ndarray:
    return np.asarray(obs, np.float64).reshape(len(obs), -1)


def _plain(size: int) -> features.Coder:
    return coders.coder_for("identity", np.zeros(size), np.ones(size))


def _coarse(text: str, rest: str, spec: EnvSpec) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    if not spec.pixels:
        raise UsageError(f"--features {text} takes pictures; observations of {spec.id} are vectors: use tilings")
    option, sign, value = rest.partition("=")
    if rest and (option != "size" or not sign):
        raise UsageError(f"--features {text}: its one option is size, as in pixels:size=14")
    side = number("size of --features pixels", value, whole=True, low=2, high=84) if rest else 14
    channels = spec.obs_shape[2]

    def prepare(obs: np.ndarray) -> np.ndarray:
        import cv2

        out = np.empty((len(obs), 2, side, side))
        for n, picture in enumerate(obs):
            new = cv2.resize(picture[..., channels - 1], (side, side), interpolation=cv2.INTER_AREA)
            old = cv2.resize(picture[..., max(channels - 2, 0)], (side, side), interpolation=cv2.INTER_AREA)
            out[n] = new / 255.0, (new.astype(np.float64) - old) / 255.0
        return out.reshape(len(obs), -1)

    return prepare, 2 * side * side


def _latents(path: str, spec: EnvSpec) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    if not path:
        raise UsageError("--features autoencoder: needs the path of an encoder, as in autoencoder:runs/encoder")
    if not spec.pixels or spec.obs_shape[:2] != (84, 84):
        raise UsageError("--features autoencoder:PATH takes pictures of 84x84 (not --obs ram)")
    locate(path)  # a mistake is told before torch is loaded
    from playfield.nets.autoencoder import Encoder

    encoder = Encoder.load(Path(path))

    def prepare(obs: np.ndarray) -> np.ndarray:
        return np.asarray(encoder.encode(obs, velocity=obs.shape[3] > 1), np.float64)

    return prepare, prepare(np.zeros((1, *spec.obs_shape), np.uint8)).shape[1]
