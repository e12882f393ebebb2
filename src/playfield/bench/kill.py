"""Kills trainings with SIGKILL at random times and resumes them: is the result the same as without a kill?"""

from __future__ import annotations

import csv
import json as jsonlib
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from playfield.envs.names import resolve
from playfield.errors import EnvError, UsageError
from playfield.runs.info import is_run


def run(
    *, env: str = "CartPole-v1", algo: str = "ppo", kills: int = 20, steps: int = 0, seed: int = 1, json: bool = False
) -> dict[str, Any]:
    """Kill trainings `kills` times in total, and compare every finished run with one that was not interrupted.

    The final hash (weights, optimizer, random numbers, environments, games) and every row of metrics.csv without its
    time columns are compared. Prints one line (with `json`, a JSON object).

    Args:
        env, algo: what to train.
        kills: SIGKILLs in total.
        steps: of each training (0: 60,000; 12,288 on Atari).
        seed: of the trainings and of the times of the kills.

    Raises:
        UsageError: unknown environment, or no kills.
        EnvError: a training failed.
    """
    if kills < 1:
        raise UsageError(f"--kills must be at least 1, not {kills}")
    found = resolve(env)
    steps = steps or found.family.short_training_steps
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        reference = Path(folder) / "reference"
        command = ["train", env, "--algo", algo, "--steps", str(steps), "--seed", str(seed)]
        _train([*command, "--run", str(reference)])
        training = float(_info(reference)["result"]["seconds"])
        _note(f"reference run: {training:.1f} s of training, hash {_hash(reference)[:16]}")
        trials: list[dict[str, Any]] = []
        done = 0
        while done < kills:
            directory = Path(folder) / f"trial-{len(trials)}"
            killed: list[int] = []
            while done < kills and not _finished(directory):
                child = _start(_words(command, directory))
                _wait_for_training(directory, child.process)
                try:
                    child.process.wait(rng.uniform(0, 0.8 * training))
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
                    done += 1
                    killed.append(_saved_step(directory))
                else:
                    child.check()
            if not _finished(directory):
                _train(_words(command, directory))
            same = _hash(directory) == _hash(reference)
            rows = _rows(directory) == _rows(reference)
            trials.append({"kills_after_saved_steps": killed, "same_hash": same, "same_metrics": rows})
            _note(
                f"run {len(trials)}: killed {len(killed)} times, hash {'equal' if same else 'DIFFERENT'}, "
                f"metrics {'equal' if rows else 'DIFFERENT'}"
            )
        result = {
            "env": found.id,
            "algo": algo,
            "steps": steps,
            "kills": done,
            "runs": len(trials),
            "equal": sum(t["same_hash"] and t["same_metrics"] for t in trials),
            "hash": _hash(reference),
            "seconds": round(time.monotonic() - start, 1),
            "trials": trials,
        }
    if json:
        print(jsonlib.dumps(result))
    else:
        print(
            f"{found.id}, {algo}: {done} kills (SIGKILL) in {len(trials)} runs of {steps:,} steps; "
            f"{result['equal']} of {len(trials)} ended with the same hash and metrics as the reference run"
        )
    return result


def _wait_for_training(directory: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until this process has logged or saved something, or ended: a kill before that would test nothing."""
    before = time.time()
    files = (directory / "metrics.csv", directory / "checkpoints" / "last")
    while process.poll() is None:
        if any(f.exists() and f.stat().st_mtime >= before for f in files):
            return
        time.sleep(0.02)


def _words(command: list[str], directory: Path) -> list[str]:
    """The command line that starts the run in `directory`, or resumes it."""
    if is_run(directory):
        return ["train", "--resume", str(directory)]
    return [*command, "--run", str(directory)]


@dataclass(frozen=True)
class _Child:
    """A training in its own process, and the file that its standard error goes to."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def check(self) -> None:
        """Wait for the end. Raises EnvError with the end of standard error when the training failed."""
        self.process.wait()
        self.errors.seek(0)
        text = self.errors.read().decode().strip()
        if self.process.returncode:
            raise EnvError(f"a training ended with exit code {self.process.returncode}: {text[-400:]}")


def _start(words: list[str]) -> _Child:
    extra = ["--games", "0", "--quiet", "--no-tensorboard", "--save-seconds", "0.2"]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads could fill up
    process = subprocess.Popen(
        # It does not outlive this process, however that ends.
        [sys.executable, "-P", "-m", "playfield.cli._child", str(os.getpid()), *words, *extra],
        stdout=subprocess.DEVNULL,
        stderr=errors,
    )
    return _Child(process, errors)


def _train(words: list[str]) -> None:
    _start(words).check()


def _info(directory: Path) -> dict[str, Any]:
    path = directory / "run.json"
    info: dict[str, Any] = jsonlib.loads(path.read_text("utf-8")) if path.exists() else {}
    return info


def _finished(directory: Path) -> bool:
    return "result" in _info(directory)


def _hash(directory: Path) -> str:
    return str(_info(directory)["result"]["hash"])


def _saved_step(directory: Path) -> int:
    last = directory / "checkpoints" / "last"
    return int(last.read_text("utf-8").strip()[5:]) if last.exists() else 0


def _rows(directory: Path) -> list[dict[str, str]]:
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
