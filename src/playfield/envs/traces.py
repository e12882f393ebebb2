"""Where in a user's code something happened: exceptions and stacks in one line."""

from __future__ import annotations

import inspect
import os
import site
import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import Any

LONGEST = 300  # characters of a message that is told
_OURS = str(Path(__file__).parent.parent) + os.sep
_LIBRARIES = tuple(
    str(path) + os.sep
    for path in (*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages())
)


def told(error: BaseException) -> str:
    """An exception in one line: `ValueError: no fuel (mine.py line 12, in step)`."""
    if isinstance(error, SystemExit):
        text = f"it called sys.exit({'' if error.code is None else repr(error.code)})"
    elif isinstance(error, SyntaxError):
        place = f" ({_short(error.filename)} line {error.lineno})" if error.filename else ""
        return f"{type(error).__name__}: {error.msg}{place}"
    elif isinstance(error, ImportError):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}" if _words(error) else type(error).__name__
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))  # no codes for a terminal
    text = text if len(text) <= LONGEST else text[:LONGEST] + "..."
    place = location(error)
    return f"{text} ({place})" if place else text


def _words(error: BaseException) -> str:
    try:
        return str(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        return ""


def location(error: BaseException) -> str:
    """Where the user's code was when an exception was raised, as `mine.py line 12, in step`; empty if nowhere.

    The innermost line of the user's own files; without one, that of the innermost library.
    """
    found = [(f, line) for f, line in traceback.walk_tb(error.__traceback__) if _foreign(f.f_code.co_filename)]
    own = [(f, line) for f, line in found if not f.f_code.co_filename.startswith(_LIBRARIES)]
    if not found:
        return ""
    frame, line = (own or found)[-1]
    return _place(frame.f_code.co_filename, line, frame.f_code.co_name)


def defined(env: Any, method: str) -> str:
    """Where a method of an environment is written, as `mine.py line 12, in step`; empty where that is unknown."""
    function = inspect.unwrap(getattr(type(env.unwrapped), method, None) or defined)
    code = getattr(function, "__code__", None)
    return "" if code is None or function is defined else _place(code.co_filename, code.co_firstlineno, method)


def stack(frame: FrameType) -> list[str]:
    """The user's own lines of a stack, innermost first; without one, those of libraries inside playfield's call."""
    entries: list[tuple[FrameType, int]] = []
    for f, line in traceback.walk_stack(frame):
        if not _foreign(f.f_code.co_filename) and entries:
            break
        entries.append((f, line))
    own = [(f, line) for f, line in entries if not f.f_code.co_filename.startswith(_LIBRARIES)]
    return [_place(f.f_code.co_filename, line, f.f_code.co_name) for f, line in own or entries]


def _foreign(filename: str) -> bool:
    return not filename.startswith((_OURS, "<frozen"))


def _place(filename: str, line: int, name: str) -> str:
    return f"{_short(filename)} line {line}, in {name}"


def _short(filename: str) -> str:
    """A file's path from the current folder, where it is in there."""
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename
