"""One writer for each run directory.

The system's own file lock (flock; msvcrt on Windows) decides: it vanishes with its process, however that
dies. The text in the file only says who holds it. Where a file system has no locks, the process id in the
text decides.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from playfield.errors import DataError, StorageError
from playfield.runs import fence
from playfield.runs.storage import alive

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
IN_USE = " is in use by "
"""Part of the message of `RunLock` where another process has the lock."""
_BUSY = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK}


def _lock_file(fd: int) -> None:
    """Take the lock at once or raise OSError."""
    if sys.platform == "win32":
        os.lseek(fd, 1 << 30, os.SEEK_SET)  # beyond the text, which others must be able to read
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class RunLock:
    """Context manager: this process is the only one that writes to `run_dir` while inside.

    The file `<run_dir>/lock` holds JSON {pid, host, started, command} while it is held and is empty
    afterwards. `note` says what was found if the last holder never released it (killed, or the machine went
    down).

    Raises DataError (exit code 3) at once, naming the holder, if another process or another RunLock has it.
    Raises StorageError if the file cannot be written.

    Args:
        run_dir: the directory; it is made.
        gone: a holder on another machine is known to have ended; matters where the file system has no locks.
    """

    def __init__(self, run_dir: Path | str, gone: bool = False) -> None:
        self.run_dir, self.gone = Path(run_dir), gone
        self.path = self.run_dir / "lock"
        self.note = ""
        self._fd: int | None = None

    def acquire(self) -> None:
        """Take the lock. See the class."""
        if self._fd is not None:
            raise DataError(f"{self.run_dir} is locked by this very process already")
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
            fd = os.open(self.path, flags, 0o666)
        except OSError as error:
            raise StorageError(f"cannot lock {self.run_dir}: {error.strerror}") from error
        try:
            self._take(fd)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        _held.add(self)

    def _take(self, fd: int) -> None:
        by_pid = False
        try:
            _wait_for_lookers(fd)
        except OSError as error:
            if error.errno in _BUSY:
                raise DataError(self._busy(fd)) from None
            if error.errno not in _NO_LOCKS:
                raise StorageError(f"cannot lock {self.run_dir}: {error.strerror}") from error
            by_pid = True
        holder = _read_holder(fd)
        here = socket.gethostname()
        if holder:
            # Of another machine nothing can be asked; but who was told an attempt is the later one, see `fence`.
            gone = self.gone or fence.own(self.run_dir)
            if by_pid and (alive(holder["pid"]) if holder["host"] == here else not gone):
                raise DataError(self._busy(fd))
            self.note = f"took over the lock of {_who(holder)}, which ended without releasing it"
        mine = {"pid": os.getpid(), "host": here, "started": time.strftime("%Y-%m-%d %H:%M:%S")}
        data = json.dumps(mine | {"command": " ".join(sys.argv)[:1000]}).encode() + b"\n"
        try:
            os.ftruncate(fd, 0)
            os.lseek(fd, 0, os.SEEK_SET)
            os.write(fd, data)
            os.fsync(fd)
        except OSError as error:
            raise StorageError(f"cannot lock {self.run_dir}: {error.strerror}") from error

    def _busy(self, fd: int) -> str:
        for _ in range(20):  # the holder may be about to write who it is
            if holder := _read_holder(fd):
                break
            time.sleep(0.01)
        who = _who(holder) if holder else "another process"
        return f"{self.run_dir}{IN_USE}{who}: wait for it, stop it, or choose another directory"

    def release(self) -> None:
        """Give the lock back. Does nothing if it is not held."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        _held.discard(self)
        try:
            os.ftruncate(fd, 0)
        except OSError:
            pass  # the next one reads a stale note, no more
        finally:
            os.close(fd)

    def __enter__(self) -> RunLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextlib.contextmanager
def held(directory: Path, seconds: float = 60.0) -> Iterator[None]:
    """Inside, this process has the lock of a directory, which is made for it; others wait up to `seconds` for it.

    For work of milliseconds that several processes may do, one after another. Raises DataError where it stays busy.
    """
    lock, deadline = RunLock(directory), time.monotonic() + seconds
    while True:
        try:
            lock.acquire()
            break
        except DataError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    try:
        yield
    finally:
        lock.release()


def in_use(run_dir: Path) -> str | None:
    """Who has the lock of a run directory: a living process, as words; None where nobody has it. Changes nothing."""
    found = holder(run_dir)
    return None if found is None else _who(found) if found else "another process"


def unreleased(run_dir: Path) -> dict[str, Any] | None:
    """Who took the lock last and has not released it, as in `holder`, dead or alive; None: nobody."""
    try:
        fd = os.open(run_dir / "lock", os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return None
    try:
        return _read_holder(fd) or None
    finally:
        os.close(fd)


def left_elsewhere(run_dir: Path) -> str | None:
    """Who, on another machine, took the lock and did not release it, as words, though nothing here says it is held.

    It has died, or locks do not reach from that machine to this one. None where that is not so. Changes nothing.
    """
    found = unreleased(run_dir)
    if found is None or found["host"] == socket.gethostname() or holder(run_dir) is not None:
        return None
    return _who(found)


def _wait_for_lookers(fd: int) -> None:
    """Take the lock or raise OSError. Whoever looks at it, as `holder` does, has it for a moment."""
    for _ in range(20):
        try:
            return _lock_file(fd)
        except OSError as error:
            found = _read_holder(fd)
            if error.errno not in _BUSY or (
                found and not (found["host"] == socket.gethostname() and not alive(found["pid"]))
            ):
                raise
        time.sleep(0.01)
    _lock_file(fd)


def holder(run_dir: Path | str) -> dict[str, Any] | None:
    """Who holds the lock of a run: its `pid`, `host`, `started` and `command` as far as known; None: nobody.

    Nothing is changed. Where the file system has no locks, or the lock file cannot be opened, its text decides.
    """
    path = Path(run_dir) / "lock"
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0))
    except OSError:
        return None
    try:
        try:
            _look_at_lock(fd)
        except OSError as error:
            found = _read_holder(fd)
            if error.errno in _BUSY:
                return found
            return found if found and found["host"] == socket.gethostname() and alive(found["pid"]) else None
        return None
    finally:
        os.close(fd)


def local_holder(run_dir: Path) -> int:
    """The number of another process on this machine that holds the lock of a run; 0 where none does."""
    found = holder(run_dir)
    here = found and found["host"] == socket.gethostname() and found["pid"] != os.getpid()
    return int(found["pid"]) if found and here else 0


def _look_at_lock(fd: int) -> None:
    """Raise OSError while another holds the lock; it is taken, shared, for that moment."""
    if sys.platform == "win32":
        _lock_file(fd)
        os.lseek(fd, 1 << 30, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_UNLCK, 1)
    else:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(fd, fcntl.LOCK_UN)


def _read_holder(fd: int) -> dict[str, Any]:
    """Who the file says holds it; empty if it says nothing that makes sense."""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return {}  # a pipe would never end
        os.lseek(fd, 0, os.SEEK_SET)
        holder = json.loads(os.read(fd, 65536))
    except (OSError, ValueError, RecursionError):
        return {}
    match holder:
        case {"pid": int(), "host": str(), "started": str()}:
            return dict(holder)
    return {}


def _who(holder: dict[str, Any]) -> str:
    text = f"process {holder['pid']} on {holder['host']}, started {holder['started']}"
    command = holder.get("command")
    text += f" ({command})" if isinstance(command, str) and command else ""
    return "".join(c if c.isprintable() else "?" for c in text)


_held: set[RunLock] = set()


def _forget_in_child() -> None:
    """A forked child must not keep its parent's lock alive after the parent has died."""
    for lock in list(_held):
        if lock._fd is not None:
            os.close(lock._fd)
            lock._fd = None
    _held.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_in_child)
