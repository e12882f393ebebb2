"""The command line: words to calls. No logic lives here, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence
from types import FrameType

from playfield import __version__
from playfield.cli.verbs import VERBS as VERBS
from playfield.errors import PlayfieldError, StorageError, UsageError, cut, nearest, shown
from playfield.runs import output
from playfield.runs.output import complain


def _usage() -> str:
    width = max(map(len, VERBS)) + 2
    lines = [
        f"playfield {__version__}: train, evaluate, watch and explain agents that learn to play",
        "",
        "usage: playfield COMMAND ...   (playfield COMMAND --help has its options)",
        "",
        *(f"  {verb:<{width}}{command.about}" for verb, command in VERBS.items()),
        "",
        "examples:",
        "  playfield train breakout      learns Breakout from the screen in about ten minutes",
        "  playfield eval breakout       plays full games with the agent that ships with playfield",
        "  playfield watch breakout      the same agent, live in the browser",
        "  playfield games               every game there is",
        "",
        "--debug with any command, or PLAYFIELD_DEBUG=1, shows the traceback of an error",
    ]
    return "\n".join(lines)


class _Notices(logging.Handler):
    """Log records of the package as plain lines on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage())


@contextlib.contextmanager
def _logging(level: int) -> Iterator[None]:
    """Print log records of the package from `level` on; afterwards its logger is as it was."""
    logger, notices = logging.getLogger("playfield"), _Notices()
    before, propagate = logger.level, logger.propagate
    logger.addHandler(notices)
    logger.setLevel(level)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(notices)
        logger.setLevel(before)
        logger.propagate = propagate


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Inside, SIGINT raises KeyboardInterrupt; while a module is imported it ends the process instead.

    Compiled modules turn an exception that interrupts their import into errors of other kinds.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return

    def interrupt(signum: int, frame: FrameType | None) -> None:
        while frame is not None:
            if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
                complain("playfield: stopped")
                os._exit(128 + signum)
            frame = frame.f_back
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (see `playfield.errors`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words or os.environ.get("PLAYFIELD_DEBUG", "0") not in ("", "0")
    if words[:1] == ["--debug"]:
        words = words[1:]
    output.prepare()
    try:
        with _interruptible():
            try:
                code, left = _run(words), None
            except SystemExit as after_help:
                code, left = 0, after_help
                output.want()
        saved = bool(words) and words[0] in VERBS and VERBS[words[0]].lasting and not output.wanted()
        if error := output.broken():
            if not saved:
                raise error
            output.lose(error)
        if output.lost() and not saved:
            raise StorageError(f"cannot write to standard output: {output.lost()}")
        if left is not None:
            raise left
        return code
    except PlayfieldError as error:
        if debug:
            traceback.print_exception(error)
        complain(f"playfield: {cut(str(error))}")
        return error.exit_code
    except KeyboardInterrupt:
        complain("playfield: stopped")
        return 130
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            complain(f"playfield: a name is longer than 255 bytes: {str(error.filename)[:40]}...")
            return UsageError.exit_code
        why = output.broken()
        if why is None:
            raise error
        output.mute()
        if isinstance(why, BrokenPipeError):  # `| head`: whoever reads has seen enough
            return 0
        complain(f"playfield: cannot write to standard output: {output.reason(why)}")
        return StorageError.exit_code


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_usage())
        return 0
    if words[0] in ("-V", "--version", "version"):
        print(__version__)
        return 0
    if words[0] not in VERBS:
        close = nearest(words[0], VERBS)
        hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(VERBS)}"
        raise UsageError(f"unknown command {shown(words[0])}: {hint}")
    with _logging(logging.WARNING if "--quiet" in words else logging.INFO):
        return VERBS[words[0]](words[1:])
