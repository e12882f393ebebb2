"""CartPole with pixel observations: images centred on the cart, rendered by NumPy for all envs together.

The dynamics are `ClassicVectorEnv`'s; only the observation differs. It follows the PyTorch tutorial on DQN
(A. Paszke), which crops the screen around the cart and shrinks it. There the input is the difference of two such
patches; here it is the two patches, so that it holds positions as well as velocities.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from playfield.envs.base import EnvSpec, Step
from playfield.envs.classic import ClassicVectorEnv
from playfield.errors import DataError, UsageError

HEIGHT, WIDTH = 40, 96
ACROSS, UP = 20.0, 30.0  # pixels per metre: the image is as wide as the track, so one of its ends is always visible
STACK = 2  # patches in an observation: one alone has no velocities
GAMES = ("CartPole-v0", "CartPole-v1")

# Lengths in pixels.
_END = 2.4 * ACROSS  # of the track, from its middle
_TICKS = 0.5 * ACROSS  # from one tick to the next
_GROUND, _PIVOT, _CART_TOP, _POST_TOP = 5.0, 9.0, 11.0, 15.0  # above the lower edge
_TICK_RADIUS, _POST_RADIUS, _POLE_RADIUS, _CART_RADIUS = 0.7, 1.2, 1.2, 5.0
_LOW = 16  # rows of the track and its posts

# The centres of the pixels, from the middle of the cart and from the lower edge.
_X = (np.arange(WIDTH) - (WIDTH - 1) / 2).astype(np.float32)
_Y = (HEIGHT - 0.5 - np.arange(HEIGHT)).astype(np.float32)[:, None]


def _cover(inside: np.ndarray) -> np.ndarray:
    """Fraction of a pixel that a shape covers whose edge is `inside` pixels beyond the pixel's centre."""
    return np.clip(0.5 + inside, 0.0, 1.0)


_CART = 140 * _cover(_CART_RADIUS - np.abs(_X)) * _cover(np.minimum(_Y - _GROUND, _CART_TOP - _Y))
_GROUND_ROWS = _cover(_GROUND - _Y[-_LOW:])
_POST_ROWS = _cover(_POST_TOP - _Y[-_LOW:])


def patches(states: np.ndarray) -> np.ndarray:
    """Images around the cart, uint8 [N, 40, 96].

    The cart is in the middle; below it is its track, with a tick every half metre and a post at each end. All edges
    are anti-aliased, so motion by less than a pixel is visible.

    Args:
        states: [N, 4]: position [m], velocity [m/s], pole angle [rad], angular velocity [rad/s].
    """
    states = np.asarray(states, np.float32)
    picture = np.repeat(_CART[None], len(states), axis=0)
    where = ACROSS * states[:, :1] + _X  # position on the track of each column, [N, W]
    track = 80 * _cover(_END - np.abs(where))
    ticks = _cover(_TICK_RADIUS - np.abs(where - _TICKS * np.round(where / _TICKS)))
    ground = (track * (1 + 1.5 * ticks))[:, None] * _GROUND_ROWS
    posts = 200 * _cover(_POST_RADIUS - np.abs(np.abs(where) - _END))[:, None] * _POST_ROWS
    low = picture[:, -_LOW:]
    np.maximum(low, np.maximum(ground, posts), out=low)

    angle = states[:, 2][:, None, None]
    right, up = ACROSS * np.sin(angle), UP * np.cos(angle)  # from the pivot to the tip of the pole, which is 1 m long
    reach = _POLE_RADIUS + 0.5  # the pole is rendered only where it can be
    columns = _span(np.abs(_X) <= np.abs(right).max(initial=0.0) + reach)
    rows = _span((up.min(initial=0.0) - reach <= _Y - _PIVOT)[:, 0])
    x, y = _X[columns], _Y[rows] - _PIVOT
    along = np.clip((x * right + y * up) / (right**2 + up**2), 0, 1)
    aside = np.sqrt((x - along * right) ** 2 + (y - along * up) ** 2)
    region = picture[:, rows, columns]
    np.maximum(region, 255 * _cover(_POLE_RADIUS - aside), out=region)
    return np.round(picture).astype(np.uint8)


def _span(inside: np.ndarray) -> slice:
    """The slice from the first True to the last."""
    found = np.flatnonzero(inside)
    return slice(int(found[0]), int(found[-1]) + 1)


class CartPolePixels:
    """`num_envs` CartPole environments whose observations are uint8 [N, 40, 96, 2], the newest patch last.

    At the start of an episode both patches are its first one. See `playfield.envs.base` for the contract.

    Args:
        id: `CartPole-v1` or `CartPole-v0`.
        num_envs: number of environments.
        max_steps: time limit in steps; None means the environment's own.

    Raises:
        UsageError: another environment, or a number that is not positive.
    """

    spec: EnvSpec
    num_envs: int

    def __init__(self, id: str, num_envs: int, max_steps: int | None = None) -> None:
        if id not in GAMES:
            raise UsageError(f"only CartPole has pixel observations, not {id}: leave out --obs")
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
        """Start a new episode in every env, env i seeded with `seeds[i]`; returns obs uint8 [N, 40, 96, 2].

        Raises UsageError for seeds of another shape or below 0.
        """
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
        self._stack = obs.copy()  # a learner may change the returned array in place
        return dataclasses.replace(record, obs=obs, next_obs=next_obs)

    def state(self) -> dict[str, Any]:
        """That of `ClassicVectorEnv`, and the stacked patches. Raises EnvError before the first `reset`."""
        return {"game": self._game.state(), "stack": self._stack.copy()}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Continue from `state`; returns the obs to act on next, uint8 [N, 40, 96, 2].

        Raises:
            DataError: the snapshot is of another problem, another observation or another number of envs.
        """
        if "stack" not in state or state["stack"].shape != self._stack.shape:
            raise DataError(
                f"the snapshot does not hold {self.num_envs} envs of {self.spec.id} with pixel observations"
            )
        self._game.restore(state["game"])
        self._stack = np.array(state["stack"], np.uint8)
        return self._stack.copy()

    def render(self, env_index: int) -> np.ndarray:
        """The current frame of one env with the whole track, uint8 RGB [400, 600, 3]."""
        return self._game.render(env_index)

    def close(self) -> None:
        """Nothing to release."""
        self._game.close()


def _filled(states: np.ndarray) -> np.ndarray:
    """First observations of episodes that start in `states`: copies of one patch."""
    return np.repeat(patches(states)[..., None], STACK, axis=-1)
