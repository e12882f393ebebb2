"""CleanRL's PPO script as a peer: run as it is, by an interpreter of the user's, and timed from outside.

The script is not a package, and needs older libraries than playfield does. It says "SPS: ..." at the end of
every rollout and its updates; the seconds between the first of these lines and the last are what is measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.bench._child_ppo import EPOCHS, MINIBATCH
from playfield.errors import PlayfieldError, UsageError

HOW = (
    "--vs cleanrl runs CleanRL's own script: give its path with --script ppo_atari_envpool.py, "
    "and with --python an interpreter that has what it needs"
)
NEEDS = ("torch", "envpool", "gym", "tyro", "tensorboard")


@contextmanager
def child_process(command: list[str], errors: Any, cwd: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """`command` with its output on a pipe; killed at the end of the block."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
    # A session of its own: Ctrl-C reaches only this process, which then kills the child.
    child = subprocess.Popen(command, text=True, start_new_session=True, cwd=cwd, **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@dataclass(frozen=True)
class Script:
    """CleanRL's script and the interpreter to run it with."""

    path: Path
    python: str

    @staticmethod
    def find(script: str | None, python: str | None) -> Script:
        """Check that both are there and that the interpreter has the script's packages; else UsageError."""
        if script is None:
            raise UsageError(HOW)
        path = Path(script).resolve()
        if not path.is_file():
            raise UsageError(f"--script {script}: there is no such file")
        found = shutil.which(python or sys.executable)
        if found is None:
            raise UsageError(f"--python {python}: there is no such program")
        found = os.path.abspath(found)  # the script runs in another directory
        look = f"import importlib.util as u; print(*[n for n in {NEEDS} if u.find_spec(n) is None])"
        missing = subprocess.run([found, "-c", look], capture_output=True, text=True, timeout=60)
        if missing.returncode or missing.stdout.strip():
            names = missing.stdout.strip() or "a Python that works"
            raise UsageError(f"{found} lacks {names}, which the script needs: choose another with --python")
        return Script(path, found)

    def measure(
        self, rounds: int, envs: int, rollout: int, progress: Callable[[float], None] = lambda share: None
    ) -> dict[str, Any]:
        """Train for one rollout of warm-up and `rounds` more; returns steps and seconds of the latter.

        Raises PlayfieldError when the script fails, or does not say "SPS:" as often as expected.
        """
        batch = envs * rollout
        options = {
            "num-envs": envs,
            "num-steps": rollout,
            "update-epochs": EPOCHS,
            "num-minibatches": max(batch // MINIBATCH, 1),
            "total-timesteps": (rounds + 1) * batch,
        }
        command = [self.python, "-u", str(self.path)]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        seen: list[float] = []
        with (
            tempfile.TemporaryDirectory() as folder,  # where it writes its logs
            tempfile.TemporaryFile("w+") as errors,
            child_process(command, errors, folder) as child,
        ):
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("SPS:"):
                    seen.append(time.perf_counter())
                    progress(len(seen) / (rounds + 1))
            code = child.wait()
            errors.seek(0)
            told = errors.read().strip().splitlines()
        if code or len(seen) != rounds + 1:
            why = told[-1] if code and told else f"exit status {code}, {len(seen)} rollouts of {rounds + 1}"
            raise PlayfieldError(f"the measurement of {self.path.name} failed: {why}")
        seconds = seen[-1] - seen[0]
        return {
            "steps": rounds * batch,
            "seconds": seconds,
            "phases": {"all": seconds},
            "updates": (rounds + 1) * EPOCHS * int(options["num-minibatches"]),
            "protocol": f"{self.path.name}, its defaults",
            "config": options,
        }
