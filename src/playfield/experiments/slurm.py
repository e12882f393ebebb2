"""An experiment as a job array of SLURM: a script, and a file with a training in each line."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from playfield.errors import DataError, EnvError, UsageError
from playfield.experiments.cluster_state import Pins
from playfield.experiments.job import Job
from playfield.runs import fence
from playfield.runs.info import is_run
from playfield.runs.storage import as_storage_error, atomic_write, lines_of

SCRIPT, JOBS, LOGS = "slurm.sh", "slurm.jsonl", ".logs"
BESIDE = 1_000_000_000  # bytes that a training takes beside what is known of it: Python, torch and their caches
SAVING = 120  # seconds before the end of its time at which a training is asked to save


def write(root: Path, jobs: Sequence[Job], pins: Callable[[Job], Pins], at_once: int | None) -> Path:
    """Write script and trainings into the directory of an experiment, which all nodes see; returns the script.

    Args:
        jobs: what is to be trained, or to go on.
        pins: what decides the bits of a job that has not begun, and its memory.
        at_once: trainings at once; None: SLURM decides.
    """
    root = Path(os.path.abspath(root))
    found = [pins(job) for job in jobs]
    with as_storage_error(f"create {root / LOGS}"):
        (root / LOGS).mkdir(parents=True, exist_ok=True)
    lines = [_line(job, one) for job, one in zip(jobs, found, strict=True)]
    atomic_write(root / JOBS, "".join(f"{line}\n" for line in lines))
    megabytes = -(-int(max(one.memory for one in found) + BESIDE) // 2**20)
    wanted = [
        "--job-name=playfield",
        f"--array=1-{len(jobs)}{f'%{at_once}' if at_once else ''}",
        f"--cpus-per-task={max(one.workers for one in found)}",
        f"--mem={megabytes}M",
        *(["--gres=gpu:1"] if any(one.device == "cuda" for one in found) else []),
        f"--output={root / LOGS}/slurm-%A-%a.txt",
        "--open-mode=append",
        "--requeue",
        f"--signal=B:TERM@{SAVING}",
    ]
    script = root / SCRIPT
    text = [
        "#!/bin/bash",
        f"# {len(jobs)} trainings; the same command of playfield writes it anew for those that are left.",
        *(f"#SBATCH {option}" for option in wanted),
        f"cd {shlex.quote(os.getcwd())} || exit 6",
        f"exec {shlex.quote(sys.executable)} -P -m playfield.cli._slurm {shlex.quote(str(root / JOBS))} "
        '"$SLURM_ARRAY_TASK_ID"',
    ]
    atomic_write(script, "\n".join(text) + "\n")
    return script


def submit(script: Path) -> str:
    """Submit a script; returns what sbatch says. Raises UsageError without sbatch, EnvError where it refuses."""
    if shutil.which("sbatch") is None:
        raise UsageError(f"there is no sbatch here: where there is one, run sbatch {shlex.quote(str(script))}")
    done = subprocess.run(
        ["sbatch", str(script)], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        raise EnvError(f"sbatch refuses {script}: {said[-1]}")
    return done.stdout.strip()


def _line(job: Job, pins: Pins) -> str:
    told: dict[str, Any] = {"env": job.env, "label": job.label, "words": job.words, "seed": job.seed}
    told |= {"steps": job.steps, "games": job.games, "directory": os.path.abspath(job.directory)}
    return json.dumps({**told, "pins": pins.words()})


def begin(path: Path, number: int) -> list[str] | None:
    """The words of `playfield` for a line of the file, None if that training is done. This is its next attempt.

    Raises DataError for a file that cannot be read, or has no such line.
    """
    line = next((line for n, line in enumerate(lines_of(path.parent, path.name), 1) if n == number), b"")
    try:
        told = json.loads(line)
        pins = told.pop("pins")
        job = Job(**{**told, "words": tuple(told["words"]), "directory": Path(told["directory"])})
    except (ValueError, KeyError, TypeError, AttributeError):
        raise DataError(f"{path} has no training in line {number}") from None
    if job.done():
        return None
    os.environ |= fence.told(fence.advance(job.directory), job.directory)
    return [*job.command(), *([] if is_run(job.directory) else pins)]
