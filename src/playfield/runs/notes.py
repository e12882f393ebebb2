"""What a worker process tells the one that leads: an answer or an error, with the warnings and lines of its log."""

from __future__ import annotations

import builtins
import contextlib
import logging
import sys
import traceback
import warnings
from typing import Any

from playfield import errors
from playfield.envs import hang
from playfield.errors import PlayfieldError
from playfield.runs.line import Line

Note = tuple[Any, ...]
"""A warning or a line of the log that a worker wants said."""


def answer(line: Line, value: Any, error: BaseException | None, notes: list[Note]) -> None:
    """Send a worker's answer; nothing where the leader is gone, which ends this process in any case."""
    message = ("done", value, tuple(notes)) if error is None else ("failed", packed(error), tuple(notes))
    notes.clear()
    with contextlib.suppress(OSError):
        try:
            line.send(message)
        except (TypeError, ValueError) as problem:  # too large, or no plain value: the leader waits for an answer
            with contextlib.suppress(ValueError):
                line.send(("failed", packed(problem), ()))


def packed(error: BaseException) -> tuple[str, str, int, str]:
    """An error for another process: its class, its words, its exit code, and its traceback."""
    known = [c for c in type(error).__mro__ if c.__module__ in (errors.__name__, "builtins")]
    trace = "" if isinstance(error, PlayfieldError) else "".join(traceback.format_exception(error))
    same = known[0] is type(error) or isinstance(error, PlayfieldError)
    text = str(error) if same else f"{type(error).__name__}: {error}"
    return known[0].__name__, text, getattr(error, "exit_code", 1), trace


def unpacked(value: tuple[str, str, int, str]) -> Exception:
    """The error again."""
    name, text, code, trace = value
    made: Any = getattr(errors, name, None) or getattr(builtins, name, RuntimeError)
    if not issubclass(made, Exception) or issubclass(made, UnicodeError):
        made, text = RuntimeError, f"{name}: {text}"
    error: Exception = made(text)
    if isinstance(error, PlayfieldError):
        error.exit_code = code
    if trace:
        error.add_note(f"in a worker process:\n{trace}")
    return error


def collect_notes(notes: list[Note]) -> None:
    """From now on, this process says no warning and no line of playfield's log itself: they become notes."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(("log", record.name, record.levelno, record.getMessage()))

    def warned(
        message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        notes.append(("warning", str(message), category.__name__, filename, lineno))

    log = logging.getLogger("playfield")
    log.addHandler(Handler())
    log.propagate = False
    warnings.showwarning = warned


def say_again(note: Note) -> None:
    """Say in this process what a worker wanted said; once, where several say the same."""
    if note[0] == "log":
        _, name, level, text = note
        if text not in hang.told:
            hang.told.add(text)
            logging.getLogger(name).log(level, text)
        return
    _, text, name, filename, line = note
    category = getattr(builtins, name, UserWarning)
    made_in = [m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == filename]
    registry = vars(made_in[0]).setdefault("__warningregistry__", {}) if made_in else {}
    warnings.warn_explicit(text, category, filename, line, registry=registry)
