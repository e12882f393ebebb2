"""Which trainings another process is about, also where file locks do not reach from its machine to this one.

A file lock says so at once, where it reaches. Over some network disks it does not, and then a holder on another
machine looks as if it had died. So a task of a job array touches a file every few seconds (`beating`). Whoever wants
to begin its training looks for a while whether that file, or a table of the run, changes. Changes are compared, never
clocks: those of two machines may differ.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from playfield.experiments.job import claim_of
from playfield.runs.lock import in_use, left_elsewhere
from playfield.runs.storage import atomic_write

FILE = "heartbeat"
BEAT = 5.0  # seconds between two touches
WATCH = 20.0  # seconds without a change after which a training on another machine has ended


@contextlib.contextmanager
def beating(directory: Path) -> Iterator[None]:
    """Inside, the file beside the claim of a run, which this process has, is touched."""
    path, over = claim_of(directory) / FILE, threading.Event()
    atomic_write(path, "")

    def beat() -> None:
        while not over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(path)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        over.set()
        with contextlib.suppress(OSError):
            path.unlink()


def locked(directory: Path) -> str | None:
    """Who holds the lock of a run, or its claim, as words; None: nobody, as far as locks reach."""
    return in_use(directory) or in_use(claim_of(directory))


def left(directory: Path) -> str | None:
    """Who, on another machine, did not release a run, as words. It has died, or its lock does not reach here."""
    return left_elsewhere(directory) or left_elsewhere(claim_of(directory))


def users(directories: Sequence[Path], waits: Callable[[int], None] = lambda count: None) -> dict[Path, str]:
    """Those runs that another process is about, and who.

    `waits` is called with the number of those for which it takes some seconds to find out.
    """
    found = {one: who for one in directories if (who := locked(one))}
    unsure = {one: who for one in directories if one not in found and (who := left(one))}
    if not unsure:
        return found
    waits(len(unsure))
    before, deadline = {one: _marks(one) for one in unsure}, time.monotonic() + WATCH
    while before and time.monotonic() < deadline:
        time.sleep(min(1.0, WATCH / 4))
        for one in [one for one, marks in before.items() if _marks(one) != marks]:
            del before[one]
            found[one] = unsure[one]
    return found


def _marks(directory: Path) -> list[tuple[int, int] | None]:
    """What changes while a run is trained: time and size of some files."""
    return [
        _mark(path) for path in (claim_of(directory) / FILE, directory / "metrics.csv", directory / "monitor.csv")
    ]


def _mark(path: Path) -> tuple[int, int] | None:
    """Of one file; None where it is not there. It is opened: network disks only then ask the server how it is."""
    try:
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        told = os.fstat(fd)
    finally:
        os.close(fd)
    return told.st_mtime_ns, told.st_size
