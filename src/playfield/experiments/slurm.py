"""An experiment as a job array of SLURM: a script, and a file with a training in each line.

Tasks read that file when they begin, perhaps days later, so its name has a hash of what it says and it is never
changed: the command that is typed again writes another one. What a task does is in `slurm_task`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from playfield.errors import DataError, EnvError, UsageError
from playfield.experiments.cluster_state import Pins
from playfield.experiments.job import Job
from playfield.runs.console import Say
from playfield.runs.storage import as_storage_error, atomic_write, lines_of, read_bytes

SCRIPT, JOBS, LOGS = "slurm.sh", "slurm-{}.jsonl", ".logs"
NAME = "playfield-{}"  # of an array, with the hash of its file of trainings
WAITS = re.compile(r"^(\d+) (\d+) playfield-([0-9a-f]{12})$", re.M)
"""A task that squeue lists: the array's number, the task's, and that hash."""
BESIDE = 1_000_000_000  # bytes that a training takes beside what is known of it: Python, torch and their caches
SAVING = 120  # seconds before the end of its time at which a training is asked to save
ANSWER = 120.0  # seconds that sbatch or squeue may take: they ask a controller that is busy or away several times
TOO_MUCH = re.compile(r"satisf|not available|exceed|invalid.*(cpu|memory|gres)", re.I)
"""What sbatch says where no node has what a task asks for."""


class Array(NamedTuple):
    """A script that was written, what each of its tasks asks for, as words, and how many there are."""

    script: Path
    asks: str
    tasks: int = 1


def write(root: Path, jobs: Sequence[Job], pins: Callable[[Job], Pins], at_once: int | None) -> Array:
    """Write script and trainings into the directory of an experiment, which all nodes see.

    Args:
        root: the directory.
        jobs: what is to be trained, or to go on; at least one.
        pins: what decides the bits of a job that has not begun, and its memory.
        at_once: trainings at once; None: SLURM decides.

    Raises:
        UsageError: SLURM cannot take such a path.
        DataError: a run that has begun does not say what it was computed with.
    """
    root = Path(os.path.abspath(root))
    output = _quoted(root / LOGS / "slurm-")
    needs = [pins(job).of_run(job.directory) for job in jobs]
    with as_storage_error(f"create {root / LOGS}"):
        (root / LOGS).mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{_line(job, one)}\n" for job, one in zip(jobs, needs, strict=True))
    digest = hashlib.sha256(lines.encode()).hexdigest()[:12]
    listed = root / JOBS.format(digest)
    if not _says(listed, lines):
        atomic_write(listed, lines)
    megabytes = -(-int(max(one.memory for one in needs) + BESIDE) // 2**20)
    cores, gpu = max(one.workers for one in needs), any(one.device == "cuda" for one in needs)
    wanted = [
        f"--job-name={NAME.format(digest)}",
        f"--array=1-{len(jobs)}{f'%{at_once}' if at_once else ''}",
        f"--cpus-per-task={cores}",
        f"--mem={megabytes}M",
        *(["--gres=gpu:1"] if gpu else []),
        f'--output="{output}%A-%a.txt"',
        "--open-mode=append",
        "--requeue",
        f"--signal=B:TERM@{SAVING}",
    ]
    script = root / SCRIPT
    text = [
        "#!/bin/bash",
        f"# {len(jobs)} training{'s' * (len(jobs) > 1)}; the same command of playfield writes it anew for the rest.",
        *(f"#SBATCH {option}" for option in wanted),
        f"cd {shlex.quote(os.getcwd())} || exit 6",
        f"exec {shlex.quote(sys.executable)} -P -m playfield.cli._slurm {shlex.quote(str(listed))} "
        '"$SLURM_ARRAY_TASK_ID" "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"',
    ]
    atomic_write(script, "\n".join(text) + "\n")
    asks = f"{cores} core{'s' * (cores > 1)}, {megabytes:,} MB of memory{' and a GPU' if gpu else ''}"
    return Array(script, asks, len(jobs))


def submit(array: Array) -> str:
    """Submit a script; returns what sbatch says. Raises UsageError without sbatch, EnvError where it refuses."""
    script = array.script
    if shutil.which("sbatch") is None:
        raise UsageError(f"there is no sbatch here: where there is one, run sbatch {shlex.quote(str(script))}")
    variables = {name: value for name, value in os.environ.items() if name != "SBATCH_WAIT"}  # wait for the end
    try:
        done = _asked(["sbatch", str(script)], variables)
    except subprocess.TimeoutExpired:
        raise EnvError(
            f"sbatch did not end in {ANSWER:.0f} s and was stopped: whether it has submitted {script} is not known, "
            "squeue --me tells"
        ) from None
    except OSError as error:
        raise EnvError(f"sbatch cannot be run: {error.strerror or error}") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit status {done.returncode}"]
        hint = ""
        if any(map(TOO_MUCH.search, said)):
            hint = f"; a task asks for {array.asks}: ask for less, as in -- --workers 2 (in a file: workers = 2)"
        elif any("array" in line for line in said):
            hint = (
                f"; it is an array of {array.tasks:,} tasks, and MaxArraySize may be lower (scontrol show config): "
                "name fewer environments, --algo or --seeds at a time"
            )
        raise EnvError(f"sbatch refuses {script}: {said[-1]}{hint}")
    return done.stdout.strip()


def waiting(root: Path, jobs: Sequence[Job], say: Say) -> dict[Path, int]:
    """Those jobs that wait in an array which was submitted before, as they would be submitted now, and its number.

    None where an array was submitted under another name (`SBATCH_JOB_NAME`), or SLURM cannot be asked, which is said.
    """
    if not any(root.glob(JOBS.format("*"))):
        return {}
    command = ["squeue", "--me", "--noheader", "--array", "--states=PENDING", "--format=%F %K %j"]
    try:
        done = _asked(command)
        why = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1] if done.returncode else ""
    except FileNotFoundError:
        why = "there is no squeue here"
    except subprocess.TimeoutExpired:
        why = f"no answer in {ANSWER:.0f} s"
    except OSError as error:
        why = str(error.strerror or error)
    if why:
        say(f"note: squeue cannot be asked what waits in earlier arrays, so it may be in both: {why}")
        return {}
    found: dict[Path, int] = {}
    wanted = {_key(_told(job)): job.directory for job in jobs}
    listed: dict[str, list[str]] = {}
    for array, task, digest in WAITS.findall(done.stdout):
        if digest not in listed:
            listed[digest] = _keys(Path(os.path.abspath(root)) / JOBS.format(digest))
        for key in listed[digest][int(task) - 1 : int(task)]:
            if key in wanted:
                found[wanted[key]] = int(array)
    return found


def _asked(command: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM to its end, for `ANSWER` seconds at most."""
    given: dict[str, Any] = {"stdin": subprocess.DEVNULL, "capture_output": True, "timeout": ANSWER, "env": env}
    return subprocess.run(command, encoding="utf-8", errors="replace", check=False, **given)


def _keys(path: Path) -> list[str]:
    """What each line of a file of trainings says but for its pins; nothing where it cannot be read."""
    try:
        lines = [json.loads(line) for line in lines_of(path.parent, path.name)]
        return [_key({name: value for name, value in line.items() if name != "pins"}) for line in lines]
    except (DataError, ValueError, AttributeError):
        return []


def _key(told: dict[str, Any]) -> str:
    return json.dumps(told, sort_keys=True)


def _says(path: Path, text: str) -> bool:
    """Whether a file says this already: a task may be about to read it."""
    with contextlib.suppress(DataError):
        return read_bytes(path, len(text.encode())) == text.encode()
    return False


def _quoted(path: Path) -> str:
    """A path inside double quotes of a line for sbatch, in which % begins a pattern; UsageError where none helps."""
    text = str(path)
    if "\\" in text or not text.isprintable():
        raise UsageError(f"SLURM cannot write to {text!r}: choose a --dir without backslash and control characters")
    return text.replace("%", "%%").replace('"', '\\"')


def _told(job: Job) -> dict[str, Any]:
    told: dict[str, Any] = {"env": job.env, "label": job.label, "words": job.words, "seed": job.seed}
    return told | {"steps": job.steps, "games": job.games, "directory": os.path.abspath(job.directory)}


def _line(job: Job, pins: Pins) -> str:
    return json.dumps({**_told(job), "pins": pins.words()})
