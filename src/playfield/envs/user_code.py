"""Code of users: their modules are imported here, and what it raises becomes an error of one line."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType

from playfield.envs import hang
from playfield.envs.traces import told
from playfield.errors import EnvError, PlayfieldError, UsageError, nearest

RAISED = BaseException  # what code of users may raise: one that calls sys.exit ends nothing but itself
PASSED = (hang.Hang, KeyboardInterrupt)  # this comes from outside while it runs


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
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):  # one that it imports
            raise UsageError(f"the module of {wanted_by!r} cannot be imported: {told(error)}") from error
        close = nearest(name, [path.stem for path in Path().glob("*.py")])
        hint = f": did you mean {', '.join(close)}?" if close else ""
        where = "in this folder or where Python finds modules"
        raise UsageError(
            f"the module of {wanted_by!r} cannot be imported: there is no {error.name} {where}{hint}"
        ) from error
    except ImportError as error:
        raise UsageError(f"the module of {wanted_by!r} cannot be imported: {told(error)}") from error
    except PASSED:
        raise
    except RAISED as error:
        raise EnvError(f"the module of {wanted_by!r} cannot be imported: {told(error)}") from error
    finally:
        if not searched and here in sys.path:
            sys.path.remove(here)
            sys.path.append(here)


def running(what: str) -> AbstractContextManager[None]:
    """Code of users runs inside; whatever it raises becomes an EnvError that begins with `what`."""
    return _Running(what)


class _Running:
    """No generator: what code of users raises may be GeneratorExit."""

    def __init__(self, what: str) -> None:
        self._what, self._call = what, hang.Call(what)

    def __enter__(self) -> None:
        self._call.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._call.__exit__(kind, error, trace)
        if error is not None and not isinstance(error, (PlayfieldError, *PASSED)):
            raise EnvError(f"{self._what}: {told(error)}") from error
