"""Kill -9 at random times, resume, until done: is the end the same as without a kill?"""

from __future__ import annotations

import csv
import json as json_module
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playfield.errors import EnvError, UsageError


def run(
    *, env: str = "CartPole-v1", algo: str = "ppo", kills: int = 20, steps: int = 0, seed: int = 1, json: bool = False
) -> dict[str, Any]:
    """Kill trainings `kills` times in all and compare every finished run with one that was left alone.

    Compared are the final hash (weights, optimizer, random numbers, environments, games) and every row of
    metrics.csv without its time columns.

    Args:
        steps: of each training (0: 60,000; 12,288 on Atari).
        seed: of the trainings and of the moments of the kills.
    """
    from playfield.envs.names import resolve

    if kills < 1:
        raise UsageError(f"--kills must be at least 1, not {kills}")
    found = resolve(env)
    steps = steps or found.family.short_training_steps
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        start = time.monotonic()
        alone = Path(folder) / "alone"
        command = ["train", env, "--algo", algo, "--steps", str(steps), "--seed", str(seed)]
        _child([*command, "--run", str(alone)])
        training = float(_info(alone)["result"]["seconds"])
        _note(f"left alone: {training:.1f} s of training, hash {_hash(alone)[:16]}")
        trials: list[dict[str, Any]] = []
        done = 0
        while done < kills:
            directory = Path(folder) / f"trial-{len(trials)}"
            killed: list[int] = []
            while done < kills and not _finished(directory):
                if not (directory / "run.json").exists():
                    words = [*command, "--run", str(directory)]
                else:
                    words = ["train", "--resume", str(directory)]
                process = _start(words)
                _wait_for_training(directory, process)
                try:
                    process.wait(chance.uniform(0, 0.8 * training))
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
                    done += 1
                    killed.append(_saved_step(directory))
                else:
                    _check(process)
            if not _finished(directory):
                _child(
                    ["train", "--resume", str(directory)]
                    if (directory / "run.json").exists()
                    else [*command, "--run", str(directory)]
                )
            same = _hash(directory) == _hash(alone)
            rows = _rows(directory) == _rows(alone)
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
            "hash": _hash(alone),
            "seconds": round(time.monotonic() - start, 1),
            "trials": trials,
        }
    if json:
        print(json_module.dumps(result))
    else:
        print(
            f"{found.id}, {algo}: {done} kills -9 in {len(trials)} runs of {steps:,} steps; "
            f"{result['equal']} of {len(trials)} ended exactly like the run that was left alone"
        )
    return result


def _wait_for_training(directory: Path, process: subprocess.Popen[bytes]) -> None:
    """Until this process has logged or saved something, or ended: a kill before that would test nothing."""
    before = time.time()
    files = (directory / "metrics.csv", directory / "checkpoints" / "last")
    while process.poll() is None:
        if any(f.exists() and f.stat().st_mtime >= before for f in files):
            return
        time.sleep(0.02)


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    extra = ["--games", "0", "--quiet", "--no-tensorboard", "--save-seconds", "0.2"]
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe nobody reads could fill up
    process = subprocess.Popen(
        [sys.executable, "-m", "playfield", *words, *extra], stdout=subprocess.DEVNULL, stderr=errors
    )
    process.stderr = errors
    return process


def _child(words: list[str]) -> None:
    process = _start(words)
    _check(process)


def _check(process: subprocess.Popen[bytes]) -> None:
    process.wait()
    assert process.stderr is not None
    process.stderr.seek(0)
    errors = process.stderr.read().decode().strip()
    if process.returncode:
        raise EnvError(f"a training ended with exit code {process.returncode}: {errors[-400:]}")


def _info(directory: Path) -> dict[str, Any]:
    path = directory / "run.json"
    return json_module.loads(path.read_text("utf-8")) if path.exists() else {}


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
