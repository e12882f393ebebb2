"""Makes one Gymnasium env."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from typing import Any

import gymnasium

from playfield.envs import hang, objects
from playfield.envs.base import EnvSpec
from playfield.envs.closing import close
from playfield.envs.names import newest_version
from playfield.envs.traces import told
from playfield.envs.trust import admit
from playfield.envs.user_code import PASSED, RAISED, import_module, running
from playfield.errors import EnvError, PlayfieldError, UsageError, unknown

logger = logging.getLogger(__name__)


def find(id: str) -> str:
    """Import the module of `module:Id`, and check that the id is registered, or names a class or function there.

    Returns the id, with the newest version where it has none.

    Raises:
        UsageError: there is no such module, or nothing of that name is registered.
        EnvError: the module raised.
    """
    module, colon, name = id.rpartition(":")
    if id in objects.makers:
        return id
    if colon and module != objects.HERE:
        import_module(module, id)
    if name in gymnasium.registry:
        return id
    if newest := newest_version(name):
        if id not in _told:
            _told.add(id)
            logger.info(f"{id} means {newest}, the newest version that is registered.")
        return f"{module}{colon}{newest}"
    maker = objects.importable(module, name) if colon and module != objects.HERE else None
    if callable(maker):
        objects.makers[id] = maker
        return id
    inside = f"{module}."
    own = [i for i, spec in gymnasium.registry.items() if f"{_home(spec)}.".startswith(inside)] if colon else []
    if own:
        raise unknown(f"environment of {module}", name, own)
    hint = f"({module} registers none, and has no such class or function)" if colon else REGISTER
    raise unknown("Gymnasium environment", name, gymnasium.registry, hint)


def _home(spec: Any) -> str:
    """The module of the class or function that makes a registered environment."""
    made_by = spec.entry_point
    return made_by.partition(":")[0] if isinstance(made_by, str) else str(getattr(made_by, "__module__", ""))


REGISTER = "(an environment of another package needs its module: package:Name-v0)"
_told: set[str] = set()


def make(id: str, kwargs: dict[str, Any]) -> gymnasium.Env:
    """One env of an `id` that was found, with `kwargs` passed to `gymnasium.make`.

    Raises:
        UsageError: a package is missing, or the env does not take an argument.
        EnvError: the env raised.
    """
    maker = objects.makers.get(id)
    env: Any
    try:
        with hang.Call(f"making {id}"):
            if maker is not None:
                env = maker(**{k: v for k, v in kwargs.items() if k != "max_episode_steps"})
            else:
                # the checks in gym_env name the env and the step; Gymnasium's checker does not
                env = gymnasium.make(id.rpartition(":")[2], **{"disable_env_checker": True, **kwargs})
    except PlayfieldError:
        raise
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{id} cannot be made: {told(error)}") from error
    except PASSED:
        raise
    except RAISED as error:
        if isinstance(error, TypeError) and _ARGUMENTS.search(str(error)):
            raise UsageError(f"{id} cannot be made: {error} (--env-kwargs NAME=VALUE gives arguments)") from error
        raise EnvError(f"{id} cannot be made: {told(error)}") from error
    if not isinstance(env, gymnasium.Env):
        raise EnvError(f"{id} made a {type(env).__name__}, not an environment of Gymnasium (gymnasium.Env)")
    if maker is not None and kwargs.get("max_episode_steps", -1) > 0:
        env = gymnasium.wrappers.TimeLimit(env, kwargs["max_episode_steps"])
    made: gymnasium.Env = env
    return made


_ARGUMENTS = re.compile("unexpected keyword argument|missing [0-9]+ required")


def time_limit(env: gymnasium.Env) -> int | None:
    """Steps after which an env truncates its episodes; None where nothing says so."""
    if env.spec is not None:
        return env.spec.max_episode_steps
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, gymnasium.wrappers.TimeLimit):
            limits.append(int(env._max_episode_steps))
        env = env.env
    return min(limits, default=None)


def make_first(id: str, kwargs: dict[str, Any]) -> tuple[gymnasium.Env, dict[str, Any]]:
    """One env, in render mode `rgb_array` if it has that, and the arguments that make more of them.

    An env in this mode renders only when asked, so it costs nothing until `render` is called.
    """
    env = make(id, kwargs)
    modes = env.metadata.get("render_modes") if isinstance(env.metadata, dict) else None
    with running(f"{id} failed in its render_mode"):
        mode = env.render_mode
    if "render_mode" in kwargs or mode == "rgb_array" or "rgb_array" not in (modes or ()):
        return env, kwargs
    close(env, id)
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame renders without a display and without warnings
    rendering = {**kwargs, "render_mode": "rgb_array"}
    try:
        return make(id, rendering), rendering
    except PlayfieldError:  # its metadata names a mode that it does not take
        return make(id, kwargs), kwargs


def space_of(spec: EnvSpec) -> gymnasium.Space[Any]:
    """The observation space that an environment of a spec declares, made as the spec says: arguments may change it.

    Raises DataError as `make_from` does where only a file names its module, and what `find` and `make` raise.
    """
    admit(spec.id, named_by_user=False)
    env = make(find(spec.id), spec.family.make_options(spec.protocol).get("env_kwargs", {}))
    try:
        check_spaces(spec.id, env)
        return env.observation_space
    finally:
        close(env, spec.id)


def check_spaces(id: str, env: gymnasium.Env) -> None:
    """Raise EnvError unless the env has an action space and an observation space."""
    for name in ("action_space", "observation_space"):
        with running(f"{id} failed in its {name}"):
            space = getattr(env, name, None)
        if not isinstance(space, gymnasium.Space):
            raise EnvError(f"{id} has no {name}: it must be a space of Gymnasium, such as Discrete(4) or a Box")


def json_value(value: Any) -> Any:
    """`value` if JSON can hold it, else its `repr`."""
    try:
        return json.loads(json.dumps(value))
    except (TypeError, ValueError):
        return repr(value)
