"""Ctrl-C, SIGTERM and SIGHUP (a closed terminal): the first asks a training to save and stop, a second one ends the
process."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

from playfield.envs import hang
from playfield.runs.output import complain

SAME = 0.5  # seconds in which signals are one: `timeout` and some terminals send theirs to a process and to its group
AGAIN = "press Ctrl-C again to quit now"
QUIT = "quit: training since the last checkpoint is lost"


def stopping() -> list[signal.Signals]:
    """The signals that stop work. SIGHUP is not among them where it is ignored, as `nohup` has it."""
    hangup = getattr(signal, "SIGHUP", None)
    closed = [hangup] if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN else []
    return [signal.SIGINT, signal.SIGTERM, *closed]


def ended_by(code: int) -> str:
    """How a process ended whose return code this is, as a clause."""
    if code >= 0:
        return f"has ended with exit code {code}"
    killed = " (the memory may have run out)" if -code == getattr(signal, "SIGKILL", 9) else ""
    return f"was ended by {signal.Signals(-code).name}{killed}"


@contextlib.contextmanager
def caught(came: Callable[[int], None], words: str) -> Iterator[None]:
    """Call `came` with the first signal's number and print `words`; the next one ends the process.

    After the first one an environment that hangs is ended at once, see `hang`.
    Outside the main thread nothing is caught: the host program handles signals.
    """
    first = 0.0

    def handler(signum: int, _frame: Any) -> None:
        nonlocal first
        hang.raise_if_ended()
        now = time.monotonic()
        if not first:
            first = now
            came(signum)
            complain(f"\n{words}; {AGAIN}")
        elif now - first > SAME:
            complain(f"\n{QUIT}")
            os._exit(128 + signum)

    try:
        old = {s: signal.signal(s, handler) for s in stopping()}
    except ValueError:
        old = {}
    try:
        with hang.stopped_by_signals():
            yield
    finally:
        for s, previous in old.items():
            signal.signal(s, previous)
