"""An agent under another protocol than that of its training: sticky actions, another start, another cap of frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from playfield.envs import make_envs
from playfield.envs.base import EnvSpec
from playfield.envs.family import family_of_protocol
from playfield.errors import UsageError

SEEN = ("obs", "view", "stack", "size", "colour", "full_actions")  # parts that decide what a network sees and does
WHICH = ("mode", "difficulty")  # parts that decide which of its games a cartridge plays
UNTOLD = ("env", "name", "ale_py")  # entries of a stored protocol that are no rules
SHAPES = ("obs_shape", "obs_dtype", "num_actions")


def under(spec: EnvSpec, protocol: str | None, parts: Mapping[str, Any]) -> EnvSpec:
    """The spec of the same environment under `protocol` (None: that of `spec`) with some of its `parts` changed.

    What the agent sees, its actions, and the game's mode and difficulty stay as in its training where `parts` do not
    change them.

    Raises UsageError for an unknown protocol or part, or one under which the agent cannot play.
    """
    if protocol is None and not parts:
        return spec
    options = spec.family.make_options(spec.protocol)
    if protocol is not None:
        options = {k: v for k, v in options.items() if k in SEEN + WHICH} | {"protocol": protocol}
    env = make_envs(spec.id, 1, **{**options, **parts})
    other: EnvSpec = env.spec
    env.close()
    for name in SHAPES:
        there, here = getattr(spec, name), getattr(other, name)
        if there != here:
            what = name.replace("_", " ").replace("obs", "observation")
            raise UsageError(
                f"the agent cannot play under this protocol: its {what} was {there} in training and is {here} here"
            )
    # What a shape does not show: another picture of the same size, or three greys in place of three colours.
    for name in ("view", "colour") if spec.pixels else ():
        if (there := spec.protocol.get(name)) != (here := other.protocol.get(name)):
            raise UsageError(
                f"the agent cannot play under this protocol: its {name} was {there} in training and is {here} here"
            )
    return other


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> set[str]:
    """The parts in which two stored protocols differ. What they are called, and versions, are no parts."""
    return {k for k in one.keys() | other.keys() if k not in UNTOLD and one.get(k) != other.get(k)}


def cell(trained: Mapping[str, Any] | None, played: Mapping[str, Any]) -> str:
    """What a table says of a protocol, such as `v5 (training: classic)`."""
    here = family_of_protocol(played).protocol_words(played)
    if trained is None or not differing(trained, played):
        return here
    return f"{here} (training: {family_of_protocol(trained).protocol_words(trained)})"


def suffix(
    trained: Mapping[str, Any], played: Mapping[str, Any], protocol: str | None, parts: Mapping[str, Any]
) -> str:
    """What a file name says of a protocol other than that of the training, such as `-v5-sticky0.1`.

    Empty where the rules are those of the training, also if they were named.

    Args:
        trained, played: stored protocols.
        protocol, parts: what was asked for, see `under`.
    """
    changed = differing(trained, played)
    if not changed:
        return ""
    told = {k: v for k, v in parts.items() if k in changed or k not in played}
    named = protocol is not None and not changed <= told.keys()  # it changes more than `parts` say
    words = [f"{k.replace('_', '')}{str(v).lower()}" for k, v in sorted((parts if named else told).items())]
    return "".join(f"-{word}" for word in ([protocol] if named else []) + words)
