"""Which trainings another process is about, also where file locks do not reach from its machine to this one.

A file lock says so at once, where it reaches. Over some network disks it does not, and then a holder on another
machine looks as if it had died. So whoever trains for an experiment touches a file every few seconds (`Beats`).
Whoever wants to begin its training looks for a while whether that file, or a table of the run, changes. Changes are
compared, never clocks: those of two machines may differ.
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


class Beats:
    """Touches the files beside the claims of runs, which this process has, in a thread."""

    def __init__(self) -> None:
        self._files: dict[Path, Path] = {}  # never changed, but replaced: the thread goes through it
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self, directory: Path) -> None:
        """This process trains a run. Raises StorageError where the file cannot be written."""
        path = claim_of(directory) / FILE
        atomic_write(path, "")
        self._files = self._files | {directory: path}
        if self._thread is None:
            self._thread = threading.Thread(target=self._beat, daemon=True)
            self._thread.start()

    def end(self, directory: Path) -> None:
        """It does so no more."""
        path = self._files.get(directory)
        self._files = {one: file for one, file in self._files.items() if one != directory}
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        """Nor any other."""
        self._over.set()
        for directory in self._files:
            self.end(directory)

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            for path in self._files.values():
                with contextlib.suppress(OSError):
                    os.utime(path)


@contextlib.contextmanager
def beating(directory: Path) -> Iterator[None]:
    """Inside, the file beside the claim of a run, which this process has, is touched."""
    beats = Beats()
    beats.begin(directory)
    try:
        yield
    finally:
        beats.close()


class Silence:
    """Looks whether trainings have ended that another machine did not release: nothing changes for `WATCH` s."""

    def __init__(self) -> None:
        self._seen: dict[Path, tuple[list[tuple[int, int] | None], float]] = {}

    def ended(self, directory: Path) -> bool:
        """Whether no other machine is about a run, as far as one can see; where not, it is to be asked again."""
        if left(directory) is None:
            self._seen.pop(directory, None)
            return True
        marks = _marks(directory)
        before, since = self._seen.get(directory, (None, 0.0))
        if before != marks:
            self._seen[directory] = marks, time.monotonic()
            return False
        return time.monotonic() - since >= WATCH


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
