"""Makes one Gymnasium env."""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import gymnasium

from playfield.envs import hang
from playfield.envs.traces import told
from playfield.envs.user_code import RAISED, import_module, running
from playfield.errors import EnvError, PlayfieldError, UsageError, unknown

logger = logging.getLogger(__name__)


def find(id: str) -> None:
    """Import the module of `module:Id`, and check that the id is registered.

    Raises:
        UsageError: there is no such module, or nothing of that name is registered.
        EnvError: the module raised.
    """
    module, colon, name = id.rpartition(":")
    if colon:
        import_module(module, id)
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
        with hang.Call(f"making {id}"):
            # the checks in gym_env name the env and the step; Gymnasium's checker does not
            return gymnasium.make(id.rpartition(":")[2], **{"disable_env_checker": True, **kwargs})
    except PlayfieldError:
        raise
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{id} cannot be made: {told(error)}") from error
    except RAISED as error:
        if isinstance(error, TypeError) and "unexpected keyword argument" in str(error):
            raise UsageError(f"{id} cannot be made: {error}") from error
        raise EnvError(f"{id} cannot be made: {told(error)}") from error


def make_first(id: str, kwargs: dict[str, Any]) -> tuple[gymnasium.Env, dict[str, Any]]:
    """One env, in render mode `rgb_array` if it has that, and the arguments that make more of them.

    An env in this mode renders only when asked, so it costs nothing until `render` is called.
    """
    env = make(id, kwargs)
    if "render_mode" in kwargs or "rgb_array" not in (env.metadata.get("render_modes") or ()):
        return env, kwargs
    close(env)
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame renders without a display and without warnings
    rendering = {**kwargs, "render_mode": "rgb_array"}
    try:
        return make(id, rendering), rendering
    except PlayfieldError:  # its metadata names a mode that it does not take
        return make(id, kwargs), kwargs


def check_spaces(id: str, env: gymnasium.Env) -> None:
    """Raise EnvError unless the env has an action space and an observation space."""
    for name in ("action_space", "observation_space"):
        with running(f"{id} failed in its {name}"):
            space = getattr(env, name, None)
        if not isinstance(space, gymnasium.Space):
            raise EnvError(f"{id} has no {name}: it must be a space of Gymnasium, such as Discrete(4) or a Box")


def close(env: gymnasium.Env) -> None:
    """Close an env. What it raises is told, and is no reason to end: what was done with it is done."""
    try:
        with hang.Call("closing an environment"):
            env.close()
    except hang.Hang:
        raise
    except RAISED as error:
        logger.warning(f"an environment could not be closed: {told(error)}")


def json_value(value: Any) -> Any:
    """`value` if JSON can hold it, else its `repr`."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)
