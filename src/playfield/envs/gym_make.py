"""Makes one Gymnasium env, and converts its observations and actions to those of the contract."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from playfield.errors import EnvError, PlayfieldError, UsageError, unknown


def find(id: str) -> None:
    """Import the module of `module:Id`, and check that the id is registered.

    Raises:
        UsageError: the module cannot be imported, or nothing of that name is registered.
    """
    module, colon, name = id.rpartition(":")
    if colon:
        try:
            importlib.import_module(module)
        except (ImportError, ValueError) as error:
            raise UsageError(f"the module of {id!r} cannot be imported: {error}") from error
    if name not in gymnasium.registry:
        hint = "" if colon else "(an environment of another package needs its module: package:Name-v0)"
        raise unknown("Gymnasium environment", name, gymnasium.registry, hint)


def make(id: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    """One env of a registered `id`, with `kwargs` passed to `gymnasium.make`.

    Raises:
        UsageError: a package is missing, or the env does not take an argument.
        EnvError: the env raised.
    """
    try:
        # the checks in gym_env name the env and the step; Gymnasium's checker does not
        return gymnasium.make(id.rpartition(":")[2], **{"disable_env_checker": True, **kwargs})
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{id} cannot be made: {error}") from error
    except Exception as error:
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise UsageError(f"{id} cannot be made: {error}") from error
        raise EnvError(f"{id} cannot be made: {type(error).__name__}: {error}") from error


def make_first(id: str, kwargs: dict[str, Any]) -> tuple[gymnasium.Env, dict[str, Any]]:
    """One env, in render mode `rgb_array` if it has that, and the arguments that make more of them.

    An env in this mode renders only when asked, so it costs nothing until `render` is called.
    """
    env = make(id, kwargs)
    if "render_mode" in kwargs or "rgb_array" not in (env.metadata.get("render_modes") or ()):
        return env, kwargs
    env.close()
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame renders without a display and without warnings
    rendering = {**kwargs, "render_mode": "rgb_array"}
    try:
        return make(id, rendering), rendering
    except PlayfieldError:  # its metadata names a mode that it does not take
        return make(id, kwargs), kwargs


def json_value(value: Any) -> Any:
    """`value` if JSON can hold it, else its `repr`."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)


class Codec:
    """Converts an env's own observations and actions to those of the contract.

    Attributes:
        num_actions: size of the action set.
        first_action: the env's own number of action 0.
        one_hot: a Discrete observation, which becomes a one-hot vector.
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
        if not isinstance(obs, (spaces.Box, spaces.Discrete)):
            raise UsageError(
                f"{id} has observations {obs}: only Box and Discrete are supported "
                "(gymnasium.wrappers.FlattenObservation turns most others into a Box)"
            )
        self.num_actions, self.first_action = int(actions.n), int(actions.start)
        self.one_hot = isinstance(obs, spaces.Discrete)
        self.start = int(obs.start) if isinstance(obs, spaces.Discrete) else 0
        self.shape = (int(obs.n),) if isinstance(obs, spaces.Discrete) else tuple(obs.shape)
        self.dtype = np.dtype(np.uint8 if obs.dtype == np.uint8 else np.float32)

    def encode(self, raw: Any) -> np.ndarray:
        """One observation under the contract; it may be the env's own array, so copy it.

        Raises:
            EnvError: it is not in the env's observation space.
        """
        if self.one_hot:
            place = int(raw) - self.start
            if not 0 <= place < self.shape[0]:
                raise EnvError(f"observation {raw} is not in the declared Discrete space")
            hot = np.zeros(self.shape, np.float32)
            hot[place] = 1.0
            return hot
        obs = np.asarray(raw)
        if obs.dtype == self.dtype and obs.shape == self.shape:
            return obs
        if obs.shape != self.shape:
            raise EnvError(f"an observation has shape {obs.shape}, but {self.shape} was declared")
        if self.dtype == np.uint8 or obs.dtype.kind not in "biuf":
            raise EnvError(f"an observation is {obs.dtype}, but {self.dtype} was declared")
        with np.errstate(over="ignore"):  # check_finite finds it
            return obs.astype(self.dtype)
