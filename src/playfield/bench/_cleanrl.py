"""CleanRL's PPO script as a peer: run unchanged by an interpreter that the user names, and timed from outside.

The script is not a package, and needs older libraries than playfield does. It prints "SPS: ..." after every rollout
and its updates; what is measured is the time from the first of these lines to the last.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.bench._settings import PPO_EPOCHS, PPO_MINIBATCH
from playfield.bench._sides import child_process
from playfield.errors import PlayfieldError, UsageError

HOW = (
    "--vs cleanrl runs CleanRL's own script: give its path with --script ppo_atari_envpool.py, "
    "and with --python an interpreter that has its requirements"
)
NEEDS = ("torch", "envpool", "gym", "tyro", "tensorboard")


@dataclass(frozen=True)
class Script:
    """CleanRL's script and the interpreter to run it with."""

    path: Path
    python: str

    @staticmethod
    def find(script: str | None, python: str | None) -> Script:
        """The script and an interpreter that has its packages. Raises UsageError where one of them is missing."""
        if script is None:
            raise UsageError(HOW)
        path = Path(script).resolve()
        if not path.is_file():
            raise UsageError(f"--script {script}: no such file")
        found = shutil.which(python or sys.executable)
        if found is None:
            raise UsageError(f"--python {python}: no such program")
        found = os.path.abspath(found)  # the script runs in another directory
        look = f"import importlib.util as u; print(*[n for n in {NEEDS} if u.find_spec(n) is None])"
        missing = subprocess.run([found, "-c", look], capture_output=True, encoding="utf-8", timeout=60)
        if missing.returncode or missing.stdout.strip():
            names = missing.stdout.strip() or "a working Python"
            raise UsageError(f"{found} lacks {names}, which the script needs: name another interpreter with --python")
        return Script(path, found)

    def measure(
        self, rollouts: int, envs: int, rollout: int, progress: Callable[[float], None] = lambda fraction: None
    ) -> dict[str, Any]:
        """Train for one rollout of warm-up and `rollouts` more; returns steps and seconds of the latter.

        Raises PlayfieldError when the script fails, or does not print "SPS:" as often as expected.
        """
        batch = envs * rollout
        options = {
            "num-envs": envs,
            "num-steps": rollout,
            "update-epochs": PPO_EPOCHS,
            "num-minibatches": max(batch // PPO_MINIBATCH, 1),
            "total-timesteps": (rollouts + 1) * batch,
        }
        command = [self.python, "-u", str(self.path)]
        command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
        times: list[float] = []
        with (
            tempfile.TemporaryDirectory() as folder,  # where it writes its logs
            tempfile.TemporaryFile("w+") as errors,
            child_process(command, errors, folder) as child,
        ):
            assert child.stdout is not None
            for line in child.stdout:
                if line.startswith("SPS:"):
                    times.append(time.perf_counter())
                    progress(len(times) / (rollouts + 1))
            code = child.wait()
            errors.seek(0)
            lines = errors.read().strip().splitlines()
        if code or len(times) != rollouts + 1:
            why = lines[-1] if code and lines else f"exit status {code}, {len(times)} rollouts of {rollouts + 1}"
            raise PlayfieldError(f"the measurement of {self.path.name} failed: {why}")
        seconds = times[-1] - times[0]
        return {
            "steps": rollouts * batch,
            "seconds": seconds,
            "phases": {"all": seconds},
            "updates": (rollouts + 1) * PPO_EPOCHS * int(options["num-minibatches"]),
            "protocol": f"{self.path.name}, its defaults",
            "config": options,
        }
