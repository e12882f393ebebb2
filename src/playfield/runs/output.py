"""Standard output and standard error that may be closed, full, gone, or of an encoding that lacks a letter.

What is printed is never worth the work that it tells of: `print_line` and `lasting` fall silent where nothing can be
written any more. A command that only prints raises OSError, which `broken` recognises.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any, TextIO

from playfield.errors import visible

Say = Callable[[str], None]

_lost = ""  # why lines for standard output were dropped
_failed: OSError | None = None  # what a write to standard output raised last
_wanted = False  # what is printed is what was asked for


class _Raw(io.FileIO):
    """Standard output, which remembers that a write to it failed: Python drops what it could not write."""

    def write(self, data: Any, /) -> Any:
        global _failed
        try:
            return super().write(data)
        except OSError as error:
            _failed = error
            raise


def prepare() -> None:
    """Make the standard streams of a command fit to be written to.

    Letters that a stream's encoding lacks are written as `\\xe9`. Where a stream is closed (`>&-`), its number is
    given to the null device: otherwise the next file that is opened, a checkpoint, would be standard output.
    """
    global _lost, _failed, _wanted
    _lost, _failed, _wanted = "", None, False
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
    if sys.stdout is None:
        sys.stdout, _lost = _nowhere(), "it is closed"
    if sys.stderr is None:
        sys.stderr = _nowhere()
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        with contextlib.suppress(OSError, ValueError):
            old = sys.stdout
            old.flush()
            raw = io.BufferedWriter(_Raw(old.fileno(), "wb", closefd=False))
            sys.stdout = io.TextIOWrapper(raw, old.encoding, old.errors, line_buffering=old.line_buffering)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def print_line(line: str) -> None:
    """Print a line on standard output; where that cannot be, say so once on standard error and fall silent."""
    try:
        print(visible(line), flush=True)
    except UnicodeEncodeError:
        print(line.encode("ascii", "backslashreplace").decode(), flush=True)
    except (OSError, ValueError) as error:
        lose(error)


def lasting(say: Say) -> Say:
    """`say` for a line that may be lost: what it raises because its output is gone does not end the work."""
    silent = False

    def safe(line: str) -> None:
        nonlocal silent
        if silent:
            return
        try:
            try:
                say(line)
            except UnicodeEncodeError:
                say(line.encode("ascii", "backslashreplace").decode())
        except OSError:
            silent = True
        except ValueError as error:
            if "closed file" not in str(error):
                raise
            silent = True

    return safe


def complain(line: str) -> None:
    """Print a line on standard error, if anybody can read it."""
    try:
        print(visible(line), file=sys.stderr, flush=True)
    except RuntimeError:  # a handler of signals says it in the middle of another line
        with contextlib.suppress(OSError):
            os.write(2, f"{visible(line)}\n".encode(errors="backslashreplace"))
    except (OSError, ValueError):
        pass


def lose(error: Exception) -> None:
    """Standard output failed with `error`: from now on it goes nowhere."""
    global _lost
    if not _lost and not isinstance(error, BrokenPipeError):  # `| head`: whoever reads has seen enough
        _lost = reason(error)
        complain(f"playfield: cannot write to standard output ({_lost}): what is printed is lost, the work goes on")
    mute()


def want() -> None:
    """From now on standard output is what the command is for, whatever else it writes: a list, a table, JSON."""
    global _wanted
    _wanted = True


def wanted() -> bool:
    """Whether it is, see `want`."""
    return _wanted


def lost() -> str:
    """Why lines for standard output were dropped; empty if none were, or if their reader left."""
    return _lost


def broken() -> OSError | None:
    """What standard output failed with, None where it works. BrokenPipeError: its reader is gone."""
    if _failed is None and sys.stdout is not None:
        try:
            sys.stdout.flush()
        except ValueError:  # closed
            return None
        except OSError as error:
            return error
    return _failed


def reason(error: Exception) -> str:
    """The system's words for an error."""
    return getattr(error, "strerror", None) or str(error)


def mute() -> None:
    """Let what is still buffered, and Python's own flush at exit, go nowhere instead of failing again."""
    global _failed
    discard(sys.stdout)
    _failed = None
    if sys.stdout is not None and sys.stdout.closed:
        sys.stdout = _nowhere()


def discard(stream: TextIO) -> None:
    """If `stream` is standard output, let all that is written to it go nowhere."""
    try:
        number = stream.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
    except (AttributeError, OSError, ValueError):
        return
    if number == 1:
        os.dup2(nowhere, number)
    os.close(nowhere)
