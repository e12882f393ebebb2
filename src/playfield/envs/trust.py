"""Whose code may run: an id `module:Name` is made by importing `module`, and no file may choose what is imported."""

from __future__ import annotations

import sys

from playfield.envs.objects import AGAIN, HERE, importable, is_environment, makers
from playfield.errors import DataError

_named: set[str] = set()  # ids whose module the user named in this process, or trusts


def admit(id: str, *, named_by_user: bool) -> None:
    """Say who named an environment, before it is made. Ids without a module need no leave.

    Args:
        id: canonical id, perhaps `module:Name`.
        named_by_user: on the command line, in a call, or with `--trust`; False: by a file, such as `run.json`.

    Raises:
        DataError: only a file names it, and the user has neither imported the module nor named the id.
    """
    module, colon, name = id.rpartition(":")
    if not colon or id in _named or id in makers:
        return
    if module == HERE:
        raise DataError(f"{id} was given as a Python object: {AGAIN}")
    if named_by_user:
        _named.add(id)
    elif not (module in sys.modules and (_registered(name) or is_environment(importable(module, name)))):
        raise DataError(
            f"environment {id!r} is made by importing {module}, which runs its code, and only a file names it: "
            f"import {module} first (in Python), or add --trust (trust=True) if you trust the code and the file"
        )


def _registered(name: str) -> bool:
    """Whether a module that was imported has registered this id. Gymnasium is not imported for it."""
    gymnasium = sys.modules.get("gymnasium")
    return gymnasium is not None and name in gymnasium.registry
