"""Job arrays that are submitted again while tasks of an earlier one run or wait."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from playfield.cli import _slurm, main
from playfield.errors import DataError, DivergedError
from playfield.experiments import heartbeat, slurm_task
from playfield.experiments.job import Job, claim_of
from playfield.runs import fence, lock
from playfield.runs.lock import RunLock

C = "CartPole-v1"
WORDS = ["compare", C, "--algo", "random", "--steps", "40000", "--seeds", "2"]
SAVES = ["--", "--save-seconds", "0"]
SBATCH = """#!{python}
import os, shutil, sys
spool = {spool!r}
number = 70 + len(os.listdir(spool))
shutil.copy(sys.argv[1], os.path.join(spool, f"{{number}}.sh"))
print("Submitted batch job", number)
"""


class Queue:
    """What was submitted: as SLURM does, it keeps the script as it was then, and runs a task when it is asked."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spool, self.running = tmp_path / "spool", []
        for folder in (self.spool, tmp_path / "bin"):
            folder.mkdir()
        path = tmp_path / "bin" / "sbatch"
        path.write_text(SBATCH.format(python=sys.executable, spool=str(self.spool)))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")

    def options(self, array: int) -> dict[str, str]:
        """Those of the script, quoted as sbatch reads them."""
        lines = re.findall(r"^#SBATCH (.*)$", (self.spool / f"{array}.sh").read_text(), re.M)
        words = [word for line in lines for word in shlex.split(line, comments=True)]
        return dict(word.removeprefix("--").partition("=")[::2] for word in words)

    def log(self, array: int, task: int) -> Path:
        pattern = self.options(array)["output"].replace("%A", str(array)).replace("%a", str(task))
        return Path(pattern.replace("%%", "%"))

    def begin(self, array: int, task: int) -> subprocess.Popen[bytes]:
        env = {**os.environ, "SLURM_ARRAY_JOB_ID": str(array), "SLURM_ARRAY_TASK_ID": str(task)}
        with open(self.log(array, task), "ab") as file:
            script = str(self.spool / f"{array}.sh")
            process = subprocess.Popen(["bash", script], cwd="/", env=env, stdout=file, stderr=file)
        self.running.append(process)
        return process

    def run(self, array: int, task: int) -> tuple[int, str]:
        """Run a task to its end; returns the exit code and what it wrote."""
        code = self.begin(array, task).wait(timeout=120)
        return code, self.log(array, task).read_text()


@pytest.fixture
def queue(tmp_path, monkeypatch):
    made = Queue(tmp_path, monkeypatch)
    yield made
    for process in made.running:
        process.kill()
        process.wait()


def held_still(process: subprocess.Popen[bytes], run: Path, checkpoints: int = 1) -> None:
    """Wait until a training has saved, and stop its process where it is: it lives, and holds its locks."""
    deadline = time.monotonic() + 60
    while len(list(run.glob("checkpoints/ckpt-*"))) < checkpoints:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)


def result(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["result"]["hash"])


def seeds(path: Path) -> list[int]:
    return [json.loads(line)["seed"] for line in path.read_text().splitlines()]


def test_a_second_array_ends_nothing_trains_nothing_twice_and_shuffles_nothing(tmp_path, queue, capsys):
    here, there = tmp_path / "here", tmp_path / "there"
    assert main([*WORDS, "--dir", str(here), "--jobs", "1", *SAVES]) == 0
    words = [*WORDS, "--dir", str(there), "--on", "slurm", "--submit", *SAVES]
    assert main(words) == 0
    first, second = (there / C / "random" / seed for seed in "12")
    running = queue.begin(70, 1)
    held_still(running, first)
    capsys.readouterr()

    assert main(words) == 0
    told = capsys.readouterr().err
    assert f"left out: random on {C}, seed 1 is in use by process {running.pid} on " in told
    assert "slurm.sh: 1 training\nSubmitted batch job 71\n" in told
    assert sorted(seeds(path) for path in there.glob("slurm-*.jsonl")) == [[1, 2], [2]]

    # The first script once more: its first task is for what runs.
    (queue.spool / "72.sh").write_text((queue.spool / "70.sh").read_text())
    code, wrote = queue.run(72, 1)
    assert code == 3
    assert f"{first} is in use by process {running.pid} on " in wrote
    assert fence.read(first) == 1, "nobody has ended the running one"

    assert queue.run(71, 1)[0] == 0
    assert fence.read(second) == 1
    rows = (second / "metrics.csv").read_bytes()
    assert queue.run(70, 2)[0] == 0, "of the first array, still waiting then: it is done"
    assert (second / "metrics.csv").read_bytes() == rows
    assert fence.read(second) == 1

    running.send_signal(signal.SIGCONT)
    assert running.wait(timeout=120) == 0, queue.log(70, 1).read_text()
    assert [result(run) for run in (first, second)] == [result(here / C / "random" / seed) for seed in "12"]
    assert not list(there.rglob(heartbeat.FILE))
    assert main(words) == 0
    assert "95 % interval" in capsys.readouterr().out
