"""Code of users: their modules are imported here, and what it raises becomes an error of one line."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from playfield.envs import hang
from playfield.envs.traces import told
from playfield.errors import EnvError, PlayfieldError, UsageError

RAISED = (Exception, SystemExit)  # what code of users may raise: an environment that calls sys.exit ends no training


def import_module(name: str, wanted_by: str) -> ModuleType:
    """A module of the user, who named it, from the current folder or from where Python finds modules.

    The command line does not search the current folder for anything else: a file there must not stand in for a
    module of the standard library. So the folder is first while the module is imported, and last afterwards.

    Args:
        name: dotted name.
        wanted_by: what needs it, for the message.

    Raises:
        UsageError: there is no such module, or one that it imports is missing.
        EnvError: the module raised, or is no valid Python.
    """
    if name in sys.modules:
        return sys.modules[name]
    here = os.getcwd()
    searched = here in sys.path or "" in sys.path
    if not searched:
        sys.path.insert(0, here)
        importlib.invalidate_caches()
    try:
        with hang.Call(f"importing {name}"):
            return importlib.import_module(name)
    except PlayfieldError:
        raise
    except ImportError as error:
        raise UsageError(f"the module of {wanted_by!r} cannot be imported: {told(error)}") from error
    except RAISED as error:
        raise EnvError(f"the module of {wanted_by!r} cannot be imported: {told(error)}") from error
    finally:
        if not searched and here in sys.path:
            sys.path.remove(here)
            sys.path.append(here)


@contextmanager
def running(what: str) -> Iterator[None]:
    """Code of users runs inside; whatever it raises becomes an EnvError that begins with `what`."""
    try:
        with hang.Call(what):
            yield
    except PlayfieldError:
        raise
    except RAISED as error:
        raise EnvError(f"{what}: {told(error)}") from error
