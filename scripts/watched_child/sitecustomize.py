"""On the path of the nodes of `scripts/scheduling`: notes when a training's process begins and ends.

With WATCHED_PRETEND, a number of seconds, the process only waits for so long instead of training.
"""

import atexit
import os
import sys
import time

FOLDER = os.environ.get("WATCHED_CHILDREN")
if FOLDER and "playfield.cli._child" in sys.orig_argv and "train" in sys.orig_argv:
    began = time.time()

    def note() -> None:
        with open(os.path.join(FOLDER or "", str(os.getpid())), "a", encoding="utf-8") as file:
            file.write(f"{began} {time.time()}\n")

    if pretend := os.environ.get("WATCHED_PRETEND"):
        time.sleep(float(pretend))
        note()
        os._exit(0)
    atexit.register(note)
