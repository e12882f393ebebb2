"""Environments given as Python objects: a class, a function that makes one, or an environment with a spec.

Several copies are stepped at once and a run makes them again when it goes on, so an object gets a name: `module:Name`
for what can be imported from there, and `__main__:Name` for what only this process knows.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from playfield.errors import UsageError, shown

HERE = "__main__"  # the module of names that no other process knows
AGAIN = "run its code and give it to playfield.make_envs, in the same process, before this run is opened"
WHAT = "an id such as CartPole-v1, a class, or a function that makes one environment"
makers: dict[str, Callable[..., Any]] = {}
"""By name: what makes one environment."""


def named(env: Any, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, arguments) by which environments like `env` are made; a name stays as it is.

    Raises UsageError for an object of which no copies can be made.
    """
    if isinstance(env, str):
        return env, dict(arguments)
    gymnasium = sys.modules.get("gymnasium")  # what is one of its objects has imported it
    if gymnasium is not None and isinstance(env, gymnasium.Env):
        return _instance(gymnasium, env, arguments)
    if gymnasium is not None and isinstance(env, gymnasium.vector.VectorEnv):
        raise UsageError(f"several environments are made by playfield: give {WHAT}, not a vector of them")
    if not callable(env):
        raise UsageError(f"an environment is {WHAT}, not {shown(env)}")
    return _maker(env), dict(arguments)


def _instance(gymnasium: Any, env: Any, arguments: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """An environment of which its spec says how it was made."""
    spec = env.spec
    if spec is None or spec.entry_point is None:
        raise UsageError(
            f"this environment object ({type(env.unwrapped).__name__}) has no spec, and several copies of it are "
            "needed: give its class, or a function that makes one"
        )
    known = gymnasium.registry.get(spec.id)
    if known is None or known.entry_point != spec.entry_point or spec.additional_wrappers:
        spec = copy.deepcopy(spec)
        spec.kwargs.pop("render_mode", None)
        wrappers = "-".join(w.name for w in spec.additional_wrappers)
        maker = functools.partial(gymnasium.make, spec, disable_env_checker=True)
        return _register(f"{HERE}:{_clean(f'{spec.id}-{wrappers}')}", maker), dict(arguments)
    own = {k: v for k, v in spec.kwargs.items() if k != "render_mode" and known.kwargs.get(k, ...) is not v}
    own = {k: v for k, v in own.items() if repr(known.kwargs.get(k, ...)) != repr(v)}
    if spec.max_episode_steps != known.max_episode_steps:
        own["max_episode_steps"] = -1 if spec.max_episode_steps is None else spec.max_episode_steps
    return spec.id, {**own, **arguments}


def _maker(function: Callable[..., Any]) -> str:
    """The name of a class or function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module and name and module != HERE and function is importable(module, name):
        makers[f"{module}:{name}"] = function
        return f"{module}:{name}"
    inner = function.func if isinstance(function, functools.partial) else function
    return _register(f"{HERE}:{_clean(getattr(inner, '__qualname__', type(inner).__name__))}", function)


def importable(module: str, name: str) -> Any:
    """The object of that name in a module that was imported; None where there is none."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _clean(name: str) -> str:
    """Part of a name for the command line and for directories."""
    return re.sub(r"[^A-Za-z0-9._]+", "-", name.rpartition("<locals>.")[2]).strip("-") or "env"


def _register(name: str, maker: Callable[..., Any]) -> str:
    """Keep `maker` under this name; another object of that name gets a number, so no run changes its game."""
    found, number = name, 1
    while found in makers and not _same(makers[found], maker):
        number += 1
        found = f"{name}-{number}"
    makers[found] = maker
    return found


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, functools.partial) and isinstance(b, functools.partial):
        return bool(a.func is b.func and a.args == b.args and a.keywords == b.keywords)
    return a is b


def is_environment(thing: Any) -> bool:
    """Is it a class of environments?"""
    gymnasium = sys.modules.get("gymnasium")
    return gymnasium is not None and inspect.isclass(thing) and issubclass(thing, gymnasium.Env)
