"""Making one Gymnasium env, and turning what it says into what the contract says."""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from playfield.errors import EnvError, PlayfieldError, UsageError, unknown

if TYPE_CHECKING:
    import gymnasium


def find(id: str) -> None:
    """Import the module of `module:Id`, and make sure that the id is registered.

    Raises:
        UsageError: the module cannot be imported, or nothing of that name is registered.
    """
    import gymnasium

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
    """One env of a registered `id`, with `kwargs` handed to `gymnasium.make`.

    Raises:
        UsageError: a package is missing, or the env does not take an argument.
        EnvError: the env raised.
    """
    import gymnasium

    try:
        # our own checks name the env and the step, Gymnasium's checker does not
        return gymnasium.make(id.rpartition(":")[2], **{"disable_env_checker": True, **kwargs})
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{id} cannot be made: {error}") from error
    except Exception as error:
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise UsageError(f"{id} cannot be made: {error}") from error
        raise EnvError(f"{id} cannot be made: {type(error).__name__}: {error}") from error


def make_first(id: str, kwargs: dict[str, Any]) -> tuple[gymnasium.Env, dict[str, Any]]:
    """One env, able to draw itself into an array if it can at all, and the arguments that make more of them.

    An env in this mode draws only when asked, so it costs nothing until `render` is called.
    """
    env = make(id, kwargs)
    if "render_mode" in kwargs or "rgb_array" not in (env.metadata.get("render_modes") or ()):
        return env, kwargs
    env.close()
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws without a screen, and without complaining
    drawing = {**kwargs, "render_mode": "rgb_array"}
    try:
        return make(id, drawing), drawing
    except PlayfieldError:  # it promises a mode that it does not take
        return make(id, kwargs), kwargs


def plain(value: Any) -> Any:
    """`value` if JSON can hold it, else how it prints."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)


class Codec:
    """From the env's own observations and actions to the contract's.

    Attributes:
        num_actions: how many actions there are.
        first_action: the env's own number of action 0.
        shape, dtype: of one observation under the contract.

    Raises:
        UsageError: the actions or observations are of an unsupported kind.
    """

    def __init__(self, id: str, env: gymnasium.Env) -> None:
        from gymnasium import spaces

        actions, obs = env.action_space, env.observation_space
        if not isinstance(actions, spaces.Discrete):
            raise UsageError(
                f"{id} has actions {actions}: only Discrete actions are supported "
                "(a continuous space must first be cut into a few choices by a wrapper)"
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
        """One observation under the contract; it may be the env's own array, so copy it at once.

        Raises:
            EnvError: it is not what the env's observation space declares.
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
        with np.errstate(over="ignore"):  # found by check_finite
            return obs.astype(self.dtype)
