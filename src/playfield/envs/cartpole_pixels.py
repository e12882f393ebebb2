"""CartPole seen from pixels: what a camera that follows the cart shows, drawn by NumPy for all envs at once.

The game is `ClassicVectorEnv`'s, step for step; only the observation is another. It follows the PyTorch tutorial on
DQN (A. Paszke), which cuts the screen around the cart and shrinks it. There the input is the difference of two such
patches; here it is the patches themselves, so that where things are can be seen as well as how they move.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from playfield.envs.base import EnvSpec, Step
from playfield.envs.classic import ClassicVectorEnv
from playfield.errors import DataError, UsageError

HEIGHT, WIDTH = 40, 96
ACROSS, UP = 20.0, 30.0  # pixels to a metre: as wide as the track is, so that one of its ends is always in sight
STACK = 2  # patches in an observation: in one alone nothing moves
GAMES = ("CartPole-v0", "CartPole-v1")

# Lengths in pixels.
_END = 2.4 * ACROSS  # of the track, from its middle
_TICKS = 0.5 * ACROSS  # from one tick to the next
_GROUND, _PIVOT, _CART_TOP, _POST_TOP = 5.0, 9.0, 11.0, 15.0  # above the lower edge
_TICK_RADIUS, _POST_RADIUS, _POLE_RADIUS, _CART_RADIUS = 0.7, 1.2, 1.2, 5.0
_LOW = 16  # rows that the track and its posts are in

# Where the centres of the pixels are, from the middle of the cart and from the lower edge.
_X = (np.arange(WIDTH) - (WIDTH - 1) / 2).astype(np.float32)
_Y = (HEIGHT - 0.5 - np.arange(HEIGHT)).astype(np.float32)[:, None]


def _cover(inside: np.ndarray) -> np.ndarray:
    """Share of a pixel that a shape covers, whose edge is `inside` pixels beyond the pixel's centre."""
    return np.clip(0.5 + inside, 0.0, 1.0)


_CART = 140 * _cover(_CART_RADIUS - np.abs(_X)) * _cover(np.minimum(_Y - _GROUND, _CART_TOP - _Y))
_GROUND_ROWS = _cover(_GROUND - _Y[-_LOW:])
_POST_ROWS = _cover(_POST_TOP - _Y[-_LOW:])


def patches(states: np.ndarray) -> np.ndarray:
    """Pictures around the cart, uint8 [N, 40, 96], of states [N, 4]: position [m], speed, angle [rad], spin.

    The cart stays in the middle; its track passes below it, with a tick every half metre and a post at each end. All
    edges are smooth, so that motion by less than a pixel shows.
    """
    states = np.asarray(states, np.float32)
    picture = np.repeat(_CART[None], len(states), axis=0)
    where = ACROSS * states[:, :1] + _X  # on the track, [N, W]
    track = 80 * _cover(_END - np.abs(where))
    ticks = _cover(_TICK_RADIUS - np.abs(where - _TICKS * np.round(where / _TICKS)))
    ground = (track * (1 + 1.5 * ticks))[:, None] * _GROUND_ROWS
    posts = 200 * _cover(_POST_RADIUS - np.abs(np.abs(where) - _END))[:, None] * _POST_ROWS
    low = picture[:, -_LOW:]
    np.maximum(low, np.maximum(ground, posts), out=low)

    angle = states[:, 2][:, None, None]
    right, up = ACROSS * np.sin(angle), UP * np.cos(angle)  # from the pivot to the tip of the pole, which is 1 m long
    reach = _POLE_RADIUS + 0.5  # only where the pole can be is it drawn
    columns = _span(np.abs(_X) <= np.abs(right).max(initial=0.0) + reach)
    rows = _span((up.min(initial=0.0) - reach <= _Y - _PIVOT)[:, 0])
    x, y = _X[columns], _Y[rows] - _PIVOT
    along = np.clip((x * right + y * up) / (right**2 + up**2), 0, 1)
    aside = np.sqrt((x - along * right) ** 2 + (y - along * up) ** 2)
    region = picture[:, rows, columns]
    np.maximum(region, 255 * _cover(_POLE_RADIUS - aside), out=region)
    return np.round(picture).astype(np.uint8)


def _span(inside: np.ndarray) -> slice:
    """From the first True to the last."""
    found = np.flatnonzero(inside)
    return slice(int(found[0]), int(found[-1]) + 1)


class CartPolePixels:
    """`num_envs` games of CartPole whose observations are uint8 [N, 40, 96, 2], the newest patch last.

    At the start of a game both patches are its first one. See `playfield.envs.base` for the contract.

    Args:
        id: `CartPole-v1` or `CartPole-v0`.
        max_steps: time limit in steps; None takes the game's own.

    Raises:
        UsageError: another game, or a count that is not positive.
    """

    spec: EnvSpec
    num_envs: int

    def __init__(self, id: str, num_envs: int, max_steps: int | None = None) -> None:
        if id not in GAMES:
            raise UsageError(f"only CartPole can be seen from pixels, not {id}: leave out --obs")
        self._game = ClassicVectorEnv(id, num_envs, max_steps)
        self.num_envs = num_envs
        self.spec = dataclasses.replace(
            self._game.spec,
            obs_shape=(HEIGHT, WIDTH, STACK),
            obs_dtype="uint8",
            protocol={**self._game.spec.protocol, "obs": "pixels", "stack": STACK},
        )
        self._stack = np.zeros((num_envs, HEIGHT, WIDTH, STACK), np.uint8)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start all games anew, env i from `seeds[i]`; returns obs uint8 [N, 40, 96, 2]."""
        self._stack = _filled(self._game.reset(seeds))
        return self._stack.copy()

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N]. Raises EnvError before the first `reset` and for actions out of range."""
        record = self._game.step(actions)
        newest = patches(record.next_obs)[..., None]
        next_obs = obs = np.concatenate([self._stack[..., 1:], newest], axis=-1)
        if record.episodes:
            ended = [episode.env for episode in record.episodes]
            obs = next_obs.copy()
            obs[ended] = _filled(record.obs[ended])
        self._stack = obs.copy()  # a learner may change what it gets in place
        return dataclasses.replace(record, obs=obs, next_obs=next_obs)

    def state(self) -> dict[str, Any]:
        """The games' snapshot and the patches seen."""
        return {"game": self._game.state(), "stack": self._stack.copy()}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Go on from `state`; returns the obs to act on next.

        Raises:
            DataError: the snapshot is of another problem, another observation or another number of envs.
        """
        if "stack" not in state or state["stack"].shape != self._stack.shape:
            raise DataError(f"the snapshot does not hold {self.num_envs} envs of {self.spec.id} seen from pixels")
        self._game.restore(state["game"])
        self._stack = np.array(state["stack"], np.uint8)
        return self._stack.copy()

    def render(self, env_index: int) -> np.ndarray:
        """The whole game of one env now, uint8 RGB [400, 600, 3]."""
        return self._game.render(env_index)

    def close(self) -> None:
        self._game.close()


def _filled(states: np.ndarray) -> np.ndarray:
    """First observations of games that start in `states`: one patch, again and again."""
    return np.repeat(patches(states)[..., None], STACK, axis=-1)
