"""Converts observations and actions of a Gymnasium env to those of the contract in `playfield.envs.base`."""

from __future__ import annotations

import logging
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from playfield.envs.base import MOST_ACTIONS, MOST_INPUTS
from playfield.errors import EnvError, UsageError

logger = logging.getLogger(__name__)
ROUNDING = 1e-5  # of bounds, relative
LOOKS = 1000  # observations of an env that are compared with the declared bounds


class Codec:
    """Converts an env's own observations and actions to those of the contract.

    Attributes:
        num_actions: size of the action set.
        first_action: the env's own number of action 0.
        states: (number, first) of each Discrete space of which observations are one-hot vectors, see `EnvSpec`.
        states_shape: their shape, where it has several axes, see `EnvSpec`.
        bounds: declared bounds by which observations are scaled, see `EnvSpec.obs_bounds`.
        shape, dtype: of one observation under the contract.

    Raises:
        UsageError: the actions or observations are of an unsupported space.
    """

    def __init__(self, id: str, env: gymnasium.Env) -> None:
        actions, obs = env.action_space, env.observation_space
        if not isinstance(actions, spaces.Discrete):
            raise UsageError(
                f"{id} has actions {actions}: only Discrete actions are supported "
                "(a continuous space must first be discretised by a wrapper)"
            )
        self.states, self.bounds = named_states(obs), None
        self._id, self._looks = id, 0
        self.states_shape: tuple[int, ...] = ()
        if self.states and isinstance(obs, spaces.MultiDiscrete | spaces.MultiBinary) and len(obs.shape) > 1:
            self.states_shape = tuple(obs.shape)
        if not isinstance(obs, spaces.Box) and not self.states:
            raise UsageError(
                f"{id} has observations {obs}: only Box, Discrete, MultiDiscrete, MultiBinary and a Tuple of "
                "Discrete are supported (gymnasium.wrappers.FlattenObservation turns most others into a Box)"
            )
        self.num_actions, self.first_action = int(actions.n), int(actions.start)
        if self.num_actions > MOST_ACTIONS:
            raise UsageError(f"{id} has {self.num_actions:,} actions: at most {MOST_ACTIONS:,} are supported")
        if isinstance(obs, spaces.Box) and not self.states:
            self.dtype = np.dtype(np.uint8 if obs.dtype == np.uint8 else np.float32)
            self.shape = tuple(obs.shape) or (1,)  # a single number is a vector of one
            self._own_shape = tuple(obs.shape)
            if 0 in self.shape:
                raise UsageError(
                    f"{id} has observations without any number (shape {self.shape}): nothing to learn from"
                )
            self.bounds = declared_bounds(obs, self.dtype)
            self._scaled = self.bounds not in (None, ((0.0,), (1.0,))) or self.dtype == np.uint8
            self._looks = LOOKS
            self._low, self._high = (side.astype(self.dtype).reshape(self.shape) for side in (obs.low, obs.high))
            with np.errstate(over="ignore"):  # of the largest numbers: what rounding makes of a bound is no mistake
                low, high = (0 if self._scaled else ROUNDING * (1 + abs(side)) for side in (self._low, self._high))
                self._least, self._most = self._low - low, self._high + high
        else:
            self.dtype, self.shape = np.dtype(np.float32), (sum(n for n, _ in self.states),)
            if self.shape[0] > MOST_INPUTS:
                raise UsageError(f"{id} has {self.shape[0]:,} named states: at most {MOST_INPUTS:,} are supported")
            # One-hot vectors lie one after another: where state 0 of each is, for a number that counts from `first`.
            sizes = np.array([n for n, _ in self.states])
            self._sizes, self._firsts = sizes, np.array([first for _, first in self.states])
            self._starts = np.cumsum(sizes) - sizes

    def encode(self, raw: Any) -> np.ndarray:
        """One observation under the contract; it may be the env's own array, so copy it.

        Raises:
            EnvError: it is not in the env's observation space.
        """
        if self.states:
            return self._one_hot(raw)
        obs = self._converted(np.asarray(raw))
        if self._looks:
            self._looks -= 1
            self._look(obs)
        return obs

    def _look(self, obs: np.ndarray) -> None:
        """Tell once of an observation outside of its declared bounds."""
        if (bad := (obs < self._least) | (obs > self._most)).any():
            self._looks = 0
            value, low, high = (float(side[bad][0]) for side in (obs, self._low, self._high))
            logger.warning(
                f"{self._id} gives observations outside of its declared space ({value:g} where {low:g} to {high:g} "
                f"is declared){', by which they are scaled' * self._scaled}: correct its observation_space"
            )

    def _converted(self, obs: np.ndarray) -> np.ndarray:
        if obs.dtype == self.dtype and obs.shape == self.shape:
            return obs
        if obs.shape != self._own_shape:
            raise EnvError(f"an observation has shape {obs.shape}, but {self._own_shape} was declared")
        obs = obs.reshape(self.shape)
        if obs.dtype == self.dtype:
            return obs
        if self.dtype == np.uint8 or obs.dtype.kind not in "biuf":
            raise EnvError(f"an observation is {obs.dtype}, but {self.dtype} was declared")
        with np.errstate(over="ignore"):  # check_finite finds it
            return obs.astype(self.dtype)

    def _one_hot(self, raw: Any) -> np.ndarray:
        try:
            given = np.array(raw).reshape(-1)
            whole = given.astype(np.int64)
        except (TypeError, ValueError):
            raise EnvError(f"observation {raw!r} is not in the declared space: it must hold whole numbers") from None
        places = whole - self._firsts if whole.shape == self._firsts.shape else None
        if places is None or (whole != given).any() or (places < 0).any() or (places >= self._sizes).any():
            kind = "Discrete space" if len(self.states) == 1 else "spaces"
            raise EnvError(f"observation {raw} is not in the declared {kind}")
        hot = np.zeros(self.shape, np.float32)
        hot[self._starts + places] = 1.0
        return hot


def named_states(space: gymnasium.Space[Any]) -> tuple[tuple[int, int], ...]:
    """(number, first) of each Discrete space that `space` is made of; empty where it is made of anything else."""
    if isinstance(space, spaces.Discrete):
        return ((int(space.n), int(space.start)),)
    if isinstance(space, spaces.MultiDiscrete):
        return tuple(zip(np.ravel(space.nvec).tolist(), np.ravel(space.start).tolist(), strict=True))
    if isinstance(space, spaces.MultiBinary):
        return ((2, 0),) * int(np.prod(space.shape))
    if isinstance(space, spaces.Tuple) and all(isinstance(part, spaces.Discrete) for part in space.spaces):
        return tuple(named_states(part)[0] for part in space.spaces)
    return ()


def declared_bounds(space: spaces.Box, dtype: np.dtype[Any]) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """The bounds by which observations of a Box are scaled to 0..1; None: as bytes 0..255, or not at all.

    Bytes are, and pictures, which every network for pictures expects in 0..1: those of unknown bounds are not scaled,
    which is to have the bounds 0 and 1.
    """
    pictures = len(space.shape) == 3
    if dtype != np.uint8 and not pictures:
        return None
    axes = tuple(range(max(len(space.shape) - 1, 0)))  # one number for each index of the last axis
    low = np.atleast_1d(space.low.astype(np.float64).min(axis=axes))
    high = np.atleast_1d(space.high.astype(np.float64).max(axis=axes))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        return ((0.0,), (1.0,))
    if (low == low[0]).all() and (high == high[0]).all():
        low, high = low[:1], high[:1]
    if dtype == np.uint8 and len(low) == 1 and (low[0], high[0]) == (0, 255):
        return None
    return tuple(low.tolist()), tuple(high.tolist())
