"""Several processes on one experiment, or on one tuning, together start as many trainings as there are cores."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import test_tune
from playfield.cli import main
from playfield.experiments import local, places, tune, tuning
from playfield.experiments.job import Job, claim_of
from playfield.experiments.places import Look, Outcome
from playfield.experiments.terminal import Terminal
from playfield.runs import lock

C = "CartPole-v1"
HERE = Path(__file__).parent
HOLD = (
    "import sys; from pathlib import Path; from playfield.runs.lock import RunLock; "
    "locks = [RunLock(path) for path in sys.argv[1:]]; [one.acquire() for one in locks]; print(); sys.stdin.read()"
)
# A training here is 0.3 s in which a line of a file says that it runs; `most` is then how many ran at once.
EVENTS = """
import sys, time
from pathlib import Path
from playfield.experiments import local, places
from playfield.experiments.job import Job
local.LOOK_ELSEWHERE = places.POLL = local.POLL = 0.02
root = Path(sys.argv[1])

def say(what, name):
    with open(root / "events", "a") as file:
        file.write(f"{what} {name}\\n")
"""
GRID = (
    EVENTS
    + """
from playfield.experiments.places import Look, Outcome
from compare_runs import write_run

class Sleeps:
    def start(self, job):
        say("start", job.seed)
        return job, time.monotonic() + 0.3
    def look(self, started):
        return Look(None if time.monotonic() < started[1] else 0, 0, 0.0)
    def stop(self, started, kill=False):
        pass
    def collect(self, started):
        say("end", started[0].seed)
        write_run(started[0].directory, "CartPole-v1", "random", started[0].seed, [(1, 1.0)], 400)
        return Outcome(0, "", None)

jobs = [Job("CartPole-v1", "random", (), n, 400, root / "grid" / str(n)) for n in range(1, 9)]
print(local.run_jobs(jobs, 2, Sleeps(), root / ".claims"))
"""
)
TUNE = (
    EVENTS
    + """
import test_tune
from playfield.experiments import tune, tuning
from tune_place import Instant
tune.LOOK_ELSEWHERE = tune.POLL = 0.02

class Told(Instant):
    def start(self, job):
        say("start", job.directory)
        return super().start(job)
    def collect(self, started):
        say("end", started["job"].directory)
        return super().collect(started)

chosen = tuning.save(root, test_tune.settings(trials=4, seeds=(1, 2), prune=False))
study = test_tune.open_study(root, chosen)
watcher = test_tune.Silent()
tune.run(chosen, study, 2, watcher, Told(root / "started", 0.3), share=True)
"""
)


def job(root: Path, seed: int) -> Job:
    return Job(C, "random", (), seed, 400, root / "grid" / str(seed))


def together(root: Path) -> tuple[int, list[str]]:
    """How many trainings ran at most at once, and which were started."""
    running, most, started = 0, 0, []
    for line in (root / "events").read_text().splitlines():
        what, name = line.split()
        running += 1 if what == "start" else -1
        most = max(most, running)
        if what == "start":
            started.append(name)
    return most, started


@pytest.mark.parametrize(("script", "count"), [(GRID, 3), (TUNE, 2)], ids=["experiment", "tuning"])
def test_processes_fill_the_cores_and_no_more(script, count, tmp_path):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])}
    all_of_them = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE, text=True, env=env)
        for _ in range(count)
    ]
    for process in all_of_them:
        assert process.wait(timeout=120) == 0, process.stderr.read()
        process.stderr.close()
    most, started = together(tmp_path)
    assert most == 2
    assert len(started) == len(set(started)) == 8


class Counts:
    """A place where a training takes three looks."""

    def __init__(self) -> None:
        self.running, self.most, self.started = 0, 0, 0

    def start(self, job):
        self.running, self.started = self.running + 1, self.started + 1
        self.most = max(self.most, self.running)
        return [3]

    def look(self, started):
        started[0] -= 1
        return Look(None if started[0] > 0 else 0, 0, 0.0)

    def stop(self, started, kill=False):
        pass

    def collect(self, started):
        self.running -= 1
        return Outcome(0, "", None)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(local, "LOOK_ELSEWHERE", 0.0)
    monkeypatch.setattr(local, "POLL", 0.001)
    monkeypatch.setattr(places, "POLL", 0.001)


def hold(*directories: Path) -> subprocess.Popen:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *map(str, directories)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    return process


def let_go(process: subprocess.Popen) -> None:
    process.communicate(timeout=60)


def test_only_what_is_free_is_started_and_it_is_said_who_has_the_rest(tmp_path, quick, capsys):
    jobs = [job(tmp_path, seed) for seed in range(1, 6)]
    other = hold(claim_of(jobs[0].directory))
    place = Counts()
    schedule = local.Schedule(jobs, 2, place, local.Progress(jobs), tmp_path / ".claims")
    while len(schedule.left) > 1:
        schedule.start()
        schedule.look(stopping=False)
    assert place.most == 1
    assert (
        capsys.readouterr().err.count(
            f"process {other.pid} runs 1 of these trainings: 1 of 2 cores are left here (--jobs overrules)\n"
        )
        == 1
    )
    let_go(other)
    while schedule.left or schedule.running:
        schedule.start()
        schedule.look(stopping=False)
    assert place.started == 5


def test_where_all_cores_are_taken_none_is_started_until_one_is_free(tmp_path, quick, capsys):
    jobs = [job(tmp_path, seed) for seed in range(1, 5)]
    other = hold(claim_of(jobs[0].directory), jobs[2].directory)  # the third one by hand
    place = Counts()
    schedule = local.Schedule(jobs, 2, place, local.Progress(jobs), tmp_path / ".claims")
    for _ in range(20):
        schedule.start()
    assert place.started == 0
    assert f"process {other.pid} runs 2 of these trainings: 0 of 2 cores are left here" in capsys.readouterr().err
    overruled = local.Schedule(jobs, 2, place, local.Progress(jobs), None)
    overruled.start()
    assert place.started == 2
    overruled.end()
    let_go(other)
    schedule.start()
    assert place.started == 4
    schedule.end()


def test_several_processes_are_named(capsys):
    terminal = Terminal(stays=False)
    for _ in range(2):
        terminal.taken(5, [7, 12], 4)
    assert capsys.readouterr().err == (
        "processes 7, 12 run 5 of these trainings: 0 of 4 cores are left here (--jobs overrules)\n"
    )


def test_the_cores_of_another_machine_are_not_these(tmp_path, quick, monkeypatch):
    jobs = [job(tmp_path, seed) for seed in range(1, 5)]
    other = hold(claim_of(jobs[0].directory), claim_of(jobs[1].directory))
    monkeypatch.setattr(lock.socket, "gethostname", lambda: "elsewhere")
    place = Counts()
    schedule = local.Schedule(jobs, 2, place, local.Progress(jobs), tmp_path / ".claims")
    schedule.start()
    assert place.started == 2
    schedule.end()
    let_go(other)


def test_own_trainings_are_counted_once(tmp_path, quick):
    jobs = [job(tmp_path, seed) for seed in range(1, 5)]
    place = Counts()
    schedule = local.Schedule(jobs, 3, place, local.Progress(jobs), tmp_path / ".claims")
    schedule.start()
    assert place.started == 3
    assert lock.local_holder(claim_of(jobs[0].directory)) == 0
    assert lock.holder(claim_of(jobs[0].directory))
    schedule.end()


@pytest.mark.parametrize("more", [[], ["--jobs", "3"]])
def test_the_default_shares_the_cores_and_jobs_overrules(more, tmp_path, monkeypatch):
    asked = []
    run_jobs = lambda jobs, parallel, place, share: asked.append((parallel, share)) or []  # noqa: E731
    monkeypatch.setattr(local, "run_jobs", run_jobs)
    words = ["compare", C, "--algo", "random", "--steps", "300", "--seeds", "2", "--dir", str(tmp_path), *more]
    assert main(words) == 2  # there is nothing to draw
    ((parallel, share),) = asked
    assert share == (None if more else tmp_path / ".claims")
    assert not more or parallel == 3
    assert json.loads((tmp_path / C / "random" / "compare.json").read_text())["label"] == "random"


def test_the_wait_is_no_busy_loop(tmp_path, monkeypatch):
    """Who waits looks at the locks of all jobs once a second."""
    jobs = [job(tmp_path, seed) for seed in range(1, 4)]
    other = hold(claim_of(jobs[0].directory))
    schedule = local.Schedule(jobs, 1, Counts(), local.Progress(jobs), tmp_path / ".claims")
    looks = []
    monkeypatch.setattr(local, "local_holder", lambda directory: looks.append(directory) or other.pid)
    begun = time.monotonic()
    while time.monotonic() - begun < 0.3:
        schedule.start()
    assert len(looks) == len(jobs)
    let_go(other)


def test_a_tuning_with_no_trial_left_does_not_take_the_lock_again_and_again(tmp_path, monkeypatch):
    """To take it is to write to the disk, five times a second for as long as the last training ran."""
    chosen = tuning.save(tmp_path, test_tune.settings(trials=1, seeds=(1,), prune=False))
    taken = []
    monkeypatch.setattr(tune, "held", lambda directory: taken.append(directory) or contextlib.nullcontext())
    monkeypatch.setattr(tune, "LOOK_ELSEWHERE", 1000.0)
    tuner = tune.Tuner(chosen, test_tune.open_study(tmp_path, chosen), 2, test_tune.Silent(), Counts(), share=True)
    for _ in range(20):
        tuner.fill()
    assert len(tuner.running) == 1
    assert taken == [tmp_path / ".room"] * 3  # for the trial, for its training, and to find that there is no other
    tuner.end()
