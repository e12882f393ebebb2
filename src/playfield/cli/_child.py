"""`python -m playfield.cli._child PARENT VERB ...`: the command line as a child that does not outlive its parent.

When the process PARENT is gone, the child gets SIGTERM, at which a training saves and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from playfield.cli import main

PERIOD = 0.25  # seconds between two looks


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PERIOD)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_watch, args=(int(sys.argv[1]),), daemon=True).start()
    raise SystemExit(main(sys.argv[2:]))
