"""A process that does not outlive the one that started it, whatever ends that, and that Ctrl-C does not end.

Nothing heavy is imported here: a worker is tied before anything else.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

_PR_SET_PDEATHSIG = 1


def tie(life: int, parent: int) -> None:
    """End this process once `parent` has ended.

    Args:
        life: a file descriptor of a pipe whose other end only the parent holds: it closes with the parent.
        parent: its process id.
    """
    os.set_inheritable(life, False)
    if sys.platform.startswith("linux"):  # also where C code keeps the interpreter's lock
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_wait, args=(life,), name="playfield-tied", daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _wait(life: int) -> None:
    while True:
        try:
            if not os.read(life, 1):
                break
        except OSError:
            break
    os._exit(1)
