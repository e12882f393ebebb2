"""Job arrays that are submitted again while tasks of an earlier one run or wait."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from playfield.cli import main
from playfield.errors import DataError, DivergedError
from playfield.experiments import grid, heartbeat, slurm, slurm_task
from playfield.experiments.cluster_state import Pins
from playfield.experiments.job import Job, claim_of
from playfield.runs import fence, lock
from playfield.runs.lock import RunLock

C = "CartPole-v1"
WORDS = ["compare", C, "--algo", "random", "--steps", "10000", "--seeds", "2"]
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


def wait_for(true: Callable[[], object], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def held_still(process: subprocess.Popen[bytes], run: Path) -> None:
    """Wait until a training has saved, and stop its process where it is: it lives, and holds its locks."""
    wait_for(lambda: list(run.glob(f"checkpoints/ckpt-{'[0-9]' * 12}")), process)
    process.send_signal(signal.SIGSTOP)


def result(run: Path) -> str:
    return str(json.loads((run / "run.json").read_text())["result"]["hash"])


def seeds(path: Path) -> list[int]:
    return [json.loads(line)["seed"] for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The hashes of both trainings where nothing interrupts them."""
    jobs = grid.plan(tmp_path_factory.mktemp("alone"), grid.from_words([C], ["random"], [], [1, 2], 10_000))
    assert [main(one.command()) for one in jobs] == [0, 0]
    return [result(one.directory) for one in jobs]


def test_a_second_array_ends_nothing_trains_nothing_twice_and_shuffles_nothing(tmp_path, queue, capsys, alone):
    there = tmp_path / "the \"Other\" 'one' 100% # 1"
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
    assert [result(run) for run in (first, second)] == alone
    assert not list(there.rglob(heartbeat.FILE))


@pytest.mark.parametrize("how", ["killed", pytest.param("saved", marks=pytest.mark.slow), "cut off"])
def test_a_task_that_is_queued_again_goes_on_from_its_checkpoint(how, tmp_path, queue, alone):
    there = tmp_path / "there"
    assert main([*WORDS[:-1], "1", "--dir", str(there), "--on", "slurm", "--submit", *SAVES]) == 0
    run = there / C / "random" / "1"
    before = queue.begin(70, 1)
    held_still(before, run)
    rows = (run / "metrics.csv").read_bytes().splitlines()[:2]
    if how == "cut off":  # its machine is given up, and comes back
        again = queue.begin(70, 1)
        wait_for(lambda: fence.read(run) == 2, again)
        before.send_signal(signal.SIGCONT)
        assert before.wait(timeout=60) == 3
        assert again.wait(timeout=120) == 0
        assert f"{run} went on elsewhere as attempt 2" in queue.log(70, 1).read_text()
    else:
        before.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
        before.send_signal(signal.SIGCONT)
        assert before.wait(timeout=60) == (-9 if how == "killed" else 143)
        assert queue.run(70, 1)[0] == 0
    after = (run / "metrics.csv").read_bytes().splitlines()
    assert after[:2] == rows, "with the times of then: these steps were not done again"
    steps = [int(row.partition(b",")[0]) for row in after[1:]]
    assert steps == sorted(set(steps))
    assert result(run) == alone[0]


def told(host: str) -> str:
    return json.dumps({"pid": 5, "host": host, "started": "2031-01-01 00:00:00", "command": "_slurm 8_1"})


@pytest.fixture(params=["locks that do not reach", "no locks"])
def line(request, tmp_path, monkeypatch):
    """The file of an array with one training, on which a process of another machine has left its locks."""
    if request.param == "no locks":

        def none(fd: int) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(lock, "_lock_file", none)
        monkeypatch.setattr(lock, "_look_at_lock", none)
    monkeypatch.setattr(heartbeat, "WATCH", 0.4)
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    monkeypatch.delenv(fence.VARIABLE, raising=False)
    run = tmp_path / "runs" / "1"
    for folder in (run, claim_of(run)):
        folder.mkdir(parents=True)
        (folder / "lock").write_text(told("another-machine"))
    text = {"env": C, "label": "random", "words": [C, "--algo", "random"], "seed": 1, "steps": 500, "games": 0}
    path = tmp_path / "slurm.jsonl"
    path.write_text(json.dumps({**text, "directory": str(run), "pins": []}) + "\n")
    return path, run


def test_a_training_on_another_machine_is_left_while_it_shows_that_it_lives(line):
    path, run = line
    with (
        heartbeat.beating(run),
        pytest.raises(DataError, match=r"in use by process 5 on another-machine.* this task leaves"),
        slurm_task.begun(path, 1),
    ):
        pytest.fail("it has begun")
    assert fence.read(run) == 0
    assert json.loads((run / "lock").read_text())["pid"] == 5


def test_a_training_that_grows_on_another_machine_is_left_out(line):
    _, run = line
    asked = []

    def waits(count: int) -> None:
        asked.append(count)
        threading.Timer(0.15, (run / "metrics.csv").write_text, ["step\n"]).start()

    free = run.with_name("2")
    assert heartbeat.users([run, free], waits).keys() == {run}
    assert asked == [1]


def test_a_training_whose_machine_has_died_goes_on(line):
    path, run = line
    (claim_of(run) / heartbeat.FILE).touch()
    with slurm_task.begun(path, 1) as words:
        assert words is not None
        assert words[:2] == ["train", C]
        assert fence.own(run) == fence.read(run) == 1
        assert json.loads((claim_of(run) / "lock").read_text())["pid"] == os.getpid()
    assert not (claim_of(run) / heartbeat.FILE).exists()


def test_a_training_of_its_own_is_not_ended_and_one_that_diverged_not_repeated(tmp_path, monkeypatch):
    monkeypatch.delenv(fence.VARIABLE, raising=False)
    job = Job(C, "random", (C, "--algo", "random"), 1, 500, tmp_path / "1")
    listed = tmp_path / "slurm.jsonl"
    listed.write_text(slurm._line(job, Pins("cpu", "fp32", 1)) + "\n")
    with RunLock(job.directory), pytest.raises(DataError, match="in use"), slurm_task.begun(listed, 1):
        pytest.fail("it has begun")
    assert fence.read(job.directory) == 0
    for other in (job.directory, claim_of(job.directory)):  # it came after the look
        with monkeypatch.context() as patch, RunLock(other):
            patch.setattr(heartbeat, "users", lambda directories: {})
            with pytest.raises(DataError, match="in use"), slurm_task.begun(listed, 1):
                pytest.fail("it has begun")
        assert fence.read(job.directory) == 0
        assert not heartbeat.locked(job.directory)
    assert main([*job.command()]) == 0
    path = job.directory / "run.json"
    info = json.loads(path.read_text())
    del info["result"]
    path.write_text(json.dumps({**info, "diverged": {"why": "the loss", "step": 7}}))
    before = fence.read(job.directory)
    with pytest.raises(DivergedError, match="the loss"), slurm_task.begun(listed, 1):
        pytest.fail("it has begun")
    assert fence.read(job.directory) == before
    assert not heartbeat.locked(job.directory)


def test_a_task_that_is_queued_again_leaves_a_training_that_somebody_resumed_by_hand(line):
    """What holds the claim is the task's own earlier start; the run has been somebody else's since."""
    path, run = line
    (run / "lock").write_text(told("third-machine").replace("5", "9").replace("_slurm 8_1", "train --resume"))
    with heartbeat.beating(run), pytest.raises(DataError, match="in use"), slurm_task.begun(path, 1, "8_1"):
        pytest.fail("it has begun")
    assert fence.read(run) == 0, "nobody was ended"


SQUEUE = """#!{python}
import os, sys
assert sys.argv[1:] == {asked!r}, sys.argv
print(open({told!r}).read(), end="")
"""


def squeue(queue, *waiting):
    """A `squeue` that lists tasks as (array, task); each array has the name that its script gives it."""
    lines = [f"{array} {task} {queue.options(array)['job-name']}\n" for array, task in waiting]
    (queue.spool.parent / "squeue.txt").write_text("5 1 playfield-no hash\n" + "".join(lines))
    path = queue.spool.parent / "bin" / "squeue"
    asked = ["--me", "--noheader", "--array", "--states=PENDING", "--format=%F %K %j"]
    path.write_text(SQUEUE.format(python=sys.executable, asked=asked, told=str(queue.spool.parent / "squeue.txt")))
    path.chmod(0o755)


def test_what_waits_in_an_earlier_array_is_left_out(tmp_path, queue, capsys, monkeypatch):
    words = ["compare", C, "--algo", "random", "--steps", "500", "--seeds", "3", "--dir", str(tmp_path / "x")]
    words += ["--on", "slurm", "--submit"]
    assert main(words) == 0
    squeue(queue, (70, 2), (70, 3))
    capsys.readouterr()
    assert main(words) == 0
    told = capsys.readouterr().err
    assert (
        f"left out: random on {C}, seed 2 waits in array 70, and 1 more (to submit them anew: "
        "scancel --state=PENDING 70)\n"
    ) in told
    listed = re.search(r"slurm-\w{12}.jsonl", (queue.spool / "71.sh").read_text())
    assert listed is not None
    assert seeds(tmp_path / "x" / listed[0]) == [1]
    squeue(queue, (70, 2), (70, 3), (71, 1), (70, 99))
    assert main(words) == 0
    told = capsys.readouterr().err
    assert "waits in array 70 71, and 2 more" in told
    assert "nothing is left to submit" in told
    longer = [*words, "--steps", "700"]
    assert main(longer) == 0
    assert "slurm.sh: 3 trainings" in capsys.readouterr().err, "what waits is not what is asked for now"
    (tmp_path / "x" / listed[0]).write_text("damaged\n")
    (queue.spool.parent / "bin" / "squeue").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    assert main(words) == 0
    told, note = (
        capsys.readouterr().err,
        "note: squeue cannot be asked what waits in earlier arrays, so it may be in both",
    )
    assert "slurm.sh: 3 trainings" in told
    assert f"{note}: no controller\n" in told
    (queue.spool.parent / "bin" / "squeue").unlink()
    monkeypatch.setenv("PATH", str(queue.spool.parent / "bin"))
    assert main(words[:-1]) == 0
    assert f"{note}: there is no squeue here\n" in capsys.readouterr().err
    assert main([*words[:-1], "--dir", str(tmp_path / "new")]) == 0
    assert "squeue" not in capsys.readouterr().err, "nothing was written before"


def test_an_array_that_is_too_long_is_said(tmp_path, queue, capsys):
    refuses = (
        "#!/bin/sh\necho 'sbatch: error: Batch job submission failed: Invalid job array specification' >&2\nexit 1\n"
    )
    (queue.spool.parent / "bin" / "sbatch").write_text(refuses)
    assert main([*WORDS, "--dir", str(tmp_path / "x"), "--on", "slurm", "--submit"]) == 6
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .endswith(
            "Invalid job array specification; it is an array of 2 tasks, and MaxArraySize may be lower (scontrol "
            "show config): name fewer environments, --algo or --seeds at a time"
        )
    )
