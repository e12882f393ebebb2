"""Environments: one vector contract (`base.py`) over Atari, classic control and any Gymnasium id.

Here live the environments, the names they go by (`names.py`), the protocols that scores depend on and what differs
between families of environments (`family.py`). Nothing here knows of agents, networks, runs or torch; importing this
package loads no emulator either.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from playfield import arguments as takes
from playfield.envs.base import EnvSpec, Episode, Step, VectorEnv
from playfield.envs.family import family_of_protocol
from playfield.envs.make import make
from playfield.envs.names import resolve
from playfield.envs.objects import named
from playfield.envs.trust import admit
from playfield.errors import DataError, UsageError

SHAPE = ("obs_shape", "obs_dtype", "num_actions", "first_action")  # of a spec: what an agent was made for

__all__ = ["EnvSpec", "Episode", "Step", "VectorEnv", "make_envs", "make_from", "protocol_line"]


@takes.checked(
    num_envs=takes.whole(1, 1e5),
    protocol=takes.text(),
    view=takes.text(),
    threads=takes.whole(1, 1024),
    raw=takes.switch,
    env_kwargs=takes.table,
)
def make_envs(
    name: str | Any,
    num_envs: int = 8,
    *,
    protocol: str | None = None,
    view: str | None = None,
    threads: int = 1,
    raw: bool = False,
    env_kwargs: Mapping[str, Any] | None = None,
    **parts: Any,
) -> VectorEnv:
    """`num_envs` environments called `name`, stepped together; see `playfield.envs.base` for the contract.

    Args:
        name: `breakout`, `ALE/Breakout-v5`, `CartPole-v1`, `CartPole-v1-pixels`, any Gymnasium id, `module:Name`; or
            a class, a function that makes one environment, or an environment whose `spec` says how it was made.
        protocol: Atari only: `classic`, `v4` or `v5`; by default the one that the name implies, else `classic`.
        view: Atari only: an observation view such as `mono,trim,aimbot` (see `playfield.envs.views`).
        threads: Atari only: emulator threads.
        raw: Atari only: 210x160 RGB frames instead of the protocol's observations.
        env_kwargs: not Atari: arguments of the environment, such as `{"is_slippery": False}`.
        parts: Atari only: protocol parts to change, such as `sticky=0.25`. CartPole takes `obs`: `state` or `pixels`.
            Other environments: as `env_kwargs`.

    Raises:
        UsageError: no such environment, protocol or part; with the nearest right names.
        EnvError: the environment cannot be made.
    """
    name, arguments = named(name, {} if env_kwargs is None else env_kwargs)
    found = resolve(name)
    options = {"protocol": found.protocol, **found.overrides}
    for option, value in {"protocol": protocol, "view": view, **parts}.items():
        if value is not None:
            options[option] = value
    given = {option: value for option, value in options.items() if value is not None}
    admit(found.id, named_by_user=True)
    family, given = found.family.sort(found.id, given, arguments)
    return make(family, found.id, num_envs, given, threads=threads, raw=raw)


def make_from(
    spec: EnvSpec, num_envs: int, *, raw: bool = False, threads: int = 1, max_steps: int | None = None
) -> VectorEnv:
    """Environments of the same family and protocol as `spec` (as stored with a run or a score).

    Args:
        spec: of the environments wanted.
        num_envs, raw, threads: as in `make_envs`.
        max_steps: games are truncated after these steps; None: where the environment ends them.

    Raises:
        UsageError: `max_steps` where the protocol already ends every game.
        DataError: the game is not installed here, its protocol has an unknown part, it has other observations or
            actions than `spec`, or the id names a module that the user neither imported nor named (`trust.admit`).
        EnvError: the environment cannot be made.
    """
    admit(spec.id, named_by_user=False)
    if max_steps is not None and not spec.family.cuts:
        raise UsageError(
            f"{spec.id} ends every game after a number of steps of its own: leave out --max-steps (max_steps)"
        )
    try:
        options = spec.family.make_options(spec.protocol) | ({"max_steps": max_steps} if max_steps else {})
        env = make(spec.family, spec.id, num_envs, options, threads=threads, raw=raw)
    except UsageError as error:
        raise DataError(f"{spec.id} cannot be made as it was: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(f"{spec.id} cannot be made under its stored protocol {spec.protocol}: {error!r}") from error
    pairs = {name: (getattr(env.spec, name), getattr(spec, name)) for name in (() if raw else SHAPE)}
    if differ := [f"{name} {here}, stored {there}" for name, (here, there) in pairs.items() if here != there]:
        env.close()
        raise DataError(f"{spec.id} is not the environment that was stored: {'; '.join(differ)[:300]}")
    if not raw:
        # Observations are read as they were when the spec was stored, perhaps by an earlier version.
        reading = {name: getattr(spec, name) for name in ("obs_bounds", "states", "states_shape")}
        env.spec = dataclasses.replace(env.spec, **reading)
    return env


def protocol_line(protocol: Mapping[str, Any]) -> str:
    """A stored protocol (`EnvSpec.protocol`) in one line, for reports."""
    return family_of_protocol(protocol).protocol_line(protocol)
