"""What the child processes of the benchmarks share: messages to the parent, and a stopwatch.

A child writes one JSON object per line on standard output: `{"done": fraction}` while it runs, then
`{"result": ...}`. It exits when its parent is gone.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from typing import Any


def send(message: dict[str, Any]) -> None:
    """Write one message to the parent."""
    print(json.dumps(message), flush=True)


def parser() -> argparse.ArgumentParser:
    """A parser with the option that every child takes."""
    made = argparse.ArgumentParser()
    made.add_argument("--parent", type=int, required=True, help="process that this one must not outlive")
    return made


class Stopwatch:
    """Seconds per phase of a training: started at the end of the warm-up, read at the end of every interval.

    Args:
        intervals: intervals to measure after the warm-up.
        parent: process id of the parent; this process exits when it has another parent.
    """

    def __init__(self, intervals: int, parent: int) -> None:
        self.intervals, self.parent, self.ended = intervals, parent, -1
        self.start: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def tick(self, clocks: dict[str, float]) -> None:
        """End of an interval: `clocks` has the seconds that each phase has taken since the process began."""
        if os.getppid() != self.parent:
            os._exit(1)
        now = {"total": time.perf_counter(), **clocks}
        self.ended += 1
        if not self.ended:
            self.start = now
        else:
            self.seconds = {key: value - self.start.get(key, 0.0) for key, value in now.items()}
        send({"done": (self.ended + 1) / (self.intervals + 1)})
