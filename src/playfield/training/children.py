"""Worker processes of one machine: how they begin, and that none outlives the process that started it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from playfield.errors import EnvError
from playfield.runs.group import PATIENCE
from playfield.runs.signals import stopping

_BEGIN = (
    "import json, sys; life, link, file, far, parent = map(int, sys.argv[1:6]); "
    "sys.path[:] = json.loads(sys.argv[6]); from playfield.runs import tied; tied.tie(life, parent); "
    "from playfield.training import processes; processes.serve(link, file, bool(far))"
)


class Children:
    """Worker processes of this machine and the memory that they share with this one. None outlives it.

    It raises EnvError where there can be none.

    Attributes:
        file: a file in memory.
        ended: is called, from a thread, with the return code of each whose line is not ended yet.
    """

    def __init__(self) -> None:
        self.ended: Callable[[int], None] = lambda code: None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._watching: list[threading.Thread] = []
        with possible():
            self.file = _shared_file()
            self._read, self._life = os.pipe()

    def start(self, link: int, far: bool = False) -> subprocess.Popen[bytes]:
        """Start a process that serves a line. Raises EnvError where that cannot be.

        Args:
            link: file descriptor of a pipe's end, or of a TCP connection where it is a line to another machine.
        """
        handles = (self._read, link, self.file)
        searched = [entry for entry in sys.path if isinstance(entry, str)]  # Python skips all others
        numbers = [*map(str, (*handles, int(far), os.getpid())), json.dumps(searched)]
        held = signal.pthread_sigmask(signal.SIG_BLOCK, stopping())  # until a worker can handle them
        try:
            with possible():
                # -P: no file of the current folder stands in for a module before `sys.path` is set.
                process = subprocess.Popen([sys.executable, "-P", "-c", _BEGIN, *numbers], pass_fds=handles)
                self._processes.append(process)
                line = socket.socket(fileno=os.dup(link))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
        self._watching.append(threading.Thread(target=self._watch, args=(process, line), daemon=True))
        self._watching[-1].start()
        return process

    def _watch(self, process: subprocess.Popen[bytes], line: socket.socket) -> None:
        """End a worker's line once its process has ended: what an environment has started by fork holds it too."""
        self.ended(process.wait())
        with line, contextlib.suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)

    def signal(self, signum: int) -> None:
        """Let them know of a signal."""
        for process in self._processes:
            with contextlib.suppress(OSError):
                if process.poll() is None:
                    os.kill(process.pid, signum)

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [process.pid for process in self._processes]

    def close(self, seconds: float = PATIENCE) -> None:
        """Wait for their end, and end those that take longer than so many seconds."""
        end = time.monotonic() + seconds
        for process in self._processes:
            try:
                process.wait(timeout=max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for thread in self._watching:
            thread.join()
        self._processes.clear()
        self._watching.clear()
        for handle in (self.file, self._life, self._read):
            os.close(handle)


@contextlib.contextmanager
def possible() -> Iterator[None]:
    """Inside, what the system refuses is one line."""
    try:
        yield
    except OSError as error:
        raise EnvError(f"worker processes cannot be started: {error.strerror or error}") from None


def _shared_file() -> int:
    """A file without a name, in memory where the system has such: nothing is left of it, whatever ends us."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("playfield", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
