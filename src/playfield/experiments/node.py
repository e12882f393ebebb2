"""What runs on a node of a cluster: functions that take and return text, so that nothing is pickled but text.

`run` trains in a process of its own, with the same words and the same thread settings as on the machine of the
experiment. `python -m playfield.experiments.node` prints what decides bits there, for `probe`.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.runs.info import VERSION
from playfield.runs.storage import free_disk

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables that decide how sums are split: on every node as on the machine of the experiment."""
POLL = 0.1  # seconds between two looks at a child
LAST = 4096  # bytes of a failed probe's standard error that are looked at


def facts(mark: Path) -> dict[str, Any]:
    """What decides bits on this machine, and what is free; `sees`: whether the file `mark` can be read."""
    memory, sees = compute.free_memory(), mark.is_file()
    return {
        "versions": {"playfield": VERSION, **compute.versions()},
        "processor": compute.processor(),
        "bf16": compute.bf16_is_faster(),
        "memory": memory,
        "disk": free_disk(mark.parent) if sees else None,
        "sees": sees,
    }


def probe(text: str) -> str:
    """`facts` of this node as JSON, from a process that has torch only for that moment; `text`: see `run`."""
    told = json.loads(text)
    command = [sys.executable, "-P", "-m", "playfield.experiments.node", told["mark"]]
    done = subprocess.run(command, env=_environment(told), capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr[-LAST:].decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit status {done.returncode}")
    return json.dumps({"host": socket.gethostname(), **json.loads(done.stdout)})


def run(text: str) -> str:
    """Run `playfield` on this node until it ends; returns its exit code as JSON.

    A KeyboardInterrupt asks it to save and end, a second one ends it. It saves and ends when this process is gone.

    Args:
        text: JSON with `words` of the command, the directory `cwd`, the file `log` for its standard error,
            `variables` of the environment, and `threads`, the values of `THREADS` where they are set.
    """
    told = json.loads(text)
    command = [sys.executable, "-P", "-m", "playfield.cli._child", str(os.getpid()), *told["words"]]
    child, asked = None, False
    try:
        with open(told["log"], "wb") as log:
            child = subprocess.Popen(
                command,
                cwd=told["cwd"],
                env=_environment(told),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )
        while True:
            try:
                while child.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(POLL)
                return json.dumps({"code": child.returncode})
            except KeyboardInterrupt:
                child.kill() if asked else child.terminate()
                asked = True
    finally:
        if child is not None and child.poll() is None:
            child.terminate()


def _environment(told: dict[str, Any]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in THREADS}
    return {**kept, **told.get("threads", {}), **told.get("variables", {})}


def threads() -> dict[str, str]:
    """The values of `THREADS` in this process, where they are set."""
    return {name: os.environ[name] for name in THREADS if name in os.environ}


if __name__ == "__main__":
    print(json.dumps(facts(Path(sys.argv[1]))))
