"""An attempt number for each run that may go on on another machine: a process with an older one writes no more.

File locks do not reach across all machines that share a directory, and a machine that was given up may come back.
Before a run goes on elsewhere, whoever starts it there writes the next number into the file `attempt` of the run
directory (`advance`). A process knows its own number, and compares it before it publishes a checkpoint. Runs that
never left their machine have no such file, and nothing is compared.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from playfield.errors import DataError
from playfield.runs.storage import as_storage_error, atomic_write, read_bytes

FILE = "attempt"
VARIABLE = "PLAYFIELD_ATTEMPT"
"""The environment variable with which a process is told its number: `NUMBER:RUN DIRECTORY`."""
PERIOD = 1.0  # seconds between two looks that need not be exact
ELSEWHERE = " went on elsewhere "
"""Part of the message of `FencedError`."""


class FencedError(DataError):
    """The run went on elsewhere, so this process may not write to it any more."""


def read(directory: Path) -> int:
    """The number of the last attempt at a run; 0 where it never left its machine. Raises DataError for no number."""
    path = directory / FILE
    if not os.path.lexists(path):
        return 0
    data = read_bytes(path, 32)
    try:
        number = int(data)
    except ValueError:
        number = 0
    if number < 1:
        raise DataError(f"{path} is damaged: it holds no number of an attempt")
    return number


def advance(directory: Path) -> int:
    """Write the next number, which the caller's attempt has from now on, and return it. The directory is made."""
    with as_storage_error(f"create {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
    number = read(directory) + 1
    atomic_write(directory / FILE, f"{number}\n")
    return number


def told(number: int, directory: Path) -> dict[str, str]:
    """The environment variable that tells a process its number."""
    return {VARIABLE: f"{number}:{directory}"}


def own(directory: Path) -> int:
    """The number that this process was told for its attempt at a run; 0 where it was told none."""
    number, _, path = os.environ.get(VARIABLE, "").partition(":")
    here = number.isdecimal() and path and os.path.realpath(path) == os.path.realpath(directory)
    return int(number) if here else 0


class Fence:
    """What keeps a process from writing to a run that went on elsewhere.

    Args:
        directory: of the run.
        own: the number of this attempt; 0: the run never left its machine, and nothing is compared.
    """

    def __init__(self, directory: Path, own: int) -> None:
        self.directory, self.own = directory, own
        self._looked = time.monotonic()

    def check(self) -> None:
        """Raise FencedError (exit code 3) where a later attempt has begun."""
        if not self.own:
            return
        self._looked = time.monotonic()
        if (now := read(self.directory)) > self.own:
            raise FencedError(
                f"{self.directory}{ELSEWHERE}as attempt {now}, and this is attempt {self.own}: "
                "nothing more is written"
            )

    def look(self) -> None:
        """`check`, where the last look is a second ago: for what happens often."""
        if self.own and time.monotonic() - self._looked >= PERIOD:
            self.check()


def enter(directory: Path) -> Fence:
    """The fence of a process that begins to train a run, and holds its lock.

    Its number is the one that it was told, see `VARIABLE`; a process that was told none takes the next one where the
    run has left its machine before. Raises FencedError where it is too late already.
    """
    if number := own(directory):
        fence = Fence(directory, number)
        fence.check()
        return fence
    return Fence(directory, advance(directory) if read(directory) else 0)
