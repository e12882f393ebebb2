"""Where jobs run, and several processes that share them: nothing is run twice, and nothing is left undone."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from playfield.cli import main
from playfield.experiments import heartbeat, local, places
from playfield.experiments.job import Job, claim_of, reached
from playfield.experiments.places import Local, Look, Outcome
from playfield.runs import fence, lock
from playfield.runs.lock import RunLock, in_use

C = "CartPole-v1"
WORDS = ("--workers", "1", "--algo", "random")


def job(root, seed, steps=400, *more):
    return Job(C, "random", (C, *WORDS, *more), seed, steps, root / "grid" / str(seed))


def test_this_machine_starts_looks_stops_and_collects(tmp_path):
    place = Local()
    started = place.start(job(tmp_path, 1))
    while place.look(started).running:
        time.sleep(0.05)
    outcome = place.collect(started)
    assert outcome.code == 0
    assert outcome.result["steps"] >= 400
    assert place.look(started) == Look(0, *reached(tmp_path / "grid" / "1"))

    long = Job(C, "random", (C, *WORDS), 1, 100_000_000, tmp_path / "long")
    started = place.start(long)
    while not place.look(started).steps:
        assert place.look(started).running
        time.sleep(0.05)
    place.stop(started)
    place.stop(started)
    while place.look(started).running:
        time.sleep(0.05)
    outcome = place.collect(started)
    assert outcome.code == 143
    assert outcome.result is None
    assert "stopped at step" in outcome.line
    assert place.look(started).steps > 0


class Pretended:
    """A place whose jobs end after some looks; what it was told is in `told`."""

    def __init__(self, codes):
        self.codes, self.told = dict(codes), []

    def start(self, job):
        self.told.append(("start", job.seed))
        return job

    def look(self, started):
        return Look(self.codes[started.seed], 0, 0.0)

    def stop(self, started, kill=False):
        self.told.append(("kill" if kill else "stop", started.seed))

    def collect(self, started):
        self.told.append(("collect", started.seed))
        return Outcome(self.codes[started.seed], f"line {started.seed}", None)


def test_the_scheduler_needs_a_place_and_no_processes(tmp_path, capsys):
    jobs = [job(tmp_path, seed) for seed in (1, 2, 3)]
    place = Pretended({1: 0, 2: 4, 3: 6})
    failed = local.run_jobs(jobs, 2, place)
    assert [(f.job.seed, f.why, f.code, f.diverged) for f in failed] == [
        (2, "line 2", 4, True),
        (3, "line 3", 6, False),
    ]
    assert "seed 3: ended with exit status 6: line 3; 1 of 3 runs\n" in capsys.readouterr().err
    assert [t for t in place.told if t[0] == "start"] == [("start", 1), ("start", 2), ("start", 3)]
    assert sorted(t for t in place.told if t[0] == "collect") == [("collect", 1), ("collect", 2), ("collect", 3)]


def test_what_still_runs_when_something_fails_is_stopped_and_collected(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "SAVE_TIMEOUT", 0.1)
    place = Pretended({1: None, 2: 0})

    def start(job):
        if job.seed == 2:
            raise ValueError("no room")
        place.told.append(("start", job.seed))
        return job

    place.start = start
    with pytest.raises(ValueError, match="no room"):
        local.run_jobs([job(tmp_path, 1), job(tmp_path, 2)], 2, place)
    assert place.told == [("start", 1), ("stop", 1), ("kill", 1), ("collect", 1)]
    for seed in "12":
        assert in_use(tmp_path / "grid" / ".claims" / seed) is None


@pytest.mark.parametrize("count", [2, 3])
def test_what_cannot_be_killed_is_not_waited_for_for_ever(count, tmp_path, monkeypatch, capsys):
    """A process that waits for a disk does not end at SIGKILL: it counts as ended, or a third signal leaves it."""
    monkeypatch.setattr(places, "ENDING", 0.2 if count == 2 else 600.0)
    monkeypatch.setattr(local, "SAME", 0.0)
    place, started = Local(), []

    class Stuck(subprocess.Popen):
        def kill(self):
            pass

        terminate = kill

    def start(job):
        child = Stuck([sys.executable, "-c", "import time; time.sleep(600)"], stderr=subprocess.DEVNULL)
        started.append(places.Child(job, child, io.BytesIO()))
        return started[0]

    def look(child):
        if len(told) < count:
            told.append(os.kill(os.getpid(), signal.SIGINT))
        return Look(child.code(), 0, 0.0)

    told = []
    monkeypatch.setattr(place, "start", start)
    monkeypatch.setattr(place, "look", look)
    try:
        with pytest.raises(local.Interrupted) as ended:
            local.run_jobs([job(tmp_path, 1)], 1, place)
        assert ended.value.exit_code == 130
        said = capsys.readouterr().err
        assert said.count("asking the trainings to save and stop; press Ctrl-C again to quit now\n") == 1
        assert said.count("quit: training since the last checkpoint is lost\n") == 1
        assert started[0].process.poll() is None
        assert in_use(tmp_path / "grid" / ".claims" / "1") is None
    finally:
        os.kill(started[0].process.pid, signal.SIGKILL)
        started[0].process.wait()


def test_signals_that_come_together_are_one(monkeypatch):
    with local.signals() as received:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGINT]
        monkeypatch.setattr(local, "SAME", 0.0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGINT, signal.SIGTERM]


GRID = (
    "import sys; from pathlib import Path; from playfield.experiments import local; "
    "from playfield.experiments.job import Job; root = Path(sys.argv[1]); "
    f"jobs = [Job('{C}', 'random', ('{C}', *{WORDS!r}), n, 400, root / 'grid' / str(n)) for n in range(1, 5)];"
    "print(local.run_jobs(jobs, 1))"
)


def test_two_processes_share_a_grid_and_run_nothing_twice(tmp_path):
    both = [
        subprocess.Popen(
            [sys.executable, "-c", GRID, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = [process.communicate(timeout=120) for process in both]
    assert [out for out, _ in told] == ["[]\n", "[]\n"]
    trained = [line for _, err in told for line in err.splitlines() if line.startswith(("training", "resuming"))]
    assert sorted(trained) == [f"training random on {C}, seed {seed}" for seed in range(1, 5)]
    for _, err in told:
        assert "4 of 4 runs" in err
    for seed in range(1, 5):
        assert json.loads((tmp_path / "grid" / str(seed) / "run.json").read_text())["result"]["steps"] >= 400


HOLD = (
    "import sys, time; from playfield.runs.lock import RunLock; "
    "RunLock(sys.argv[1]).acquire(); print(); time.sleep(99)"
)


def test_what_runs_elsewhere_is_waited_for_and_taken_over_when_its_process_dies(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(local, "LOOK_ELSEWHERE", 0.05)
    one, two = job(tmp_path, 1), job(tmp_path, 2)
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(one.directory)], stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert f"process {holder.pid} " in in_use(one.directory)
    looked = []

    class Dies(Local):
        def start(self, started):
            looked.append(started.seed)
            if started.seed == 2:
                os.kill(holder.pid, signal.SIGKILL)
                holder.wait()
            return super().start(started)

    assert local.run_jobs([one, two], 1, Dies()) == []
    assert looked == [2, 1]
    assert "seed 1: running elsewhere" in capsys.readouterr().err
    assert one.done()
    assert two.done()
    holder.stdout.close()


def test_a_lock_is_looked_at_without_taking_it(tmp_path):
    assert in_use(tmp_path) is None
    assert list(tmp_path.iterdir()) == []
    with RunLock(tmp_path):
        assert f"process {os.getpid()} " in in_use(tmp_path)
    assert in_use(tmp_path) is None
    dead = {"pid": 2**22 + 5, "host": __import__("socket").gethostname(), "started": "then"}
    (tmp_path / "lock").write_text(json.dumps(dead))
    assert in_use(tmp_path) is None, "its process has died"
    (tmp_path / "lock").write_text(json.dumps({**dead, "pid": 1}))
    assert in_use(tmp_path) is None, "another process has its id now"
    (tmp_path / "lock").unlink()
    os.mkfifo(tmp_path / "lock")
    assert in_use(tmp_path) is None


def test_going_on_after_a_divergence_forgets_it(tmp_path, capsys):
    words = ["train", C, "--algo", "sarsa", "--alpha", "1e30", "--steps", "2000", "--quiet", "--games", "0"]
    run = tmp_path / "run"
    assert main([*words, "--run", str(run)]) == 4
    stored = json.loads((run / "run.json").read_text())
    assert stored["diverged"]["step"] <= 2000
    assert stored["diverged"]["why"] in capsys.readouterr().err
    stored["config"]["alpha"] = 0.01
    (run / "run.json").write_text(json.dumps(stored))
    main(["train", "--resume", str(run), "--quiet"])
    assert "diverged" not in json.loads((run / "run.json").read_text())


def left_there(directory):
    """As a process of another machine leaves its locks there: it has died, or its locks do not reach here."""
    text = {"pid": 5, "host": "another-machine", "started": "2031-01-01 00:00:00"}
    for folder in (directory, claim_of(directory)):
        folder.mkdir(parents=True)
        (folder / "lock").write_text(json.dumps(text))


@pytest.mark.parametrize("locks", [True, False])
def test_what_a_machine_that_died_has_left_goes_on_here(locks, tmp_path, monkeypatch, capsys):
    """Without locks its text held the claim for ever, and a line about it came every second."""
    if not locks:

        def none(fd):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(lock, "_lock_file", none)
        monkeypatch.setattr(lock, "_look_at_lock", none)
    monkeypatch.setattr(local, "LOOK_ELSEWHERE", 0.05)
    monkeypatch.setattr(heartbeat, "WATCH", 0.4)
    one = job(tmp_path, 1)
    left_there(one.directory)
    begin = time.monotonic()
    assert local.run_jobs([one], 1) == []
    assert time.monotonic() - begin > 0.4
    assert one.done()
    assert fence.read(one.directory) == 1, "should that machine come back, it writes nothing more"
    told = capsys.readouterr().err
    assert (
        told.count("not released by process 5 on another-machine, started 2031-01-01 00:00:00: looking for 0 s") == 1
    )
    assert "running elsewhere" not in told
    assert not list(tmp_path.rglob(heartbeat.FILE))


def test_what_another_machine_runs_is_left_to_it_though_locks_do_not_reach(tmp_path, monkeypatch):
    monkeypatch.setattr(local, "LOOK_ELSEWHERE", 0.02)
    monkeypatch.setattr(heartbeat, "WATCH", 0.5)
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    one, place = job(tmp_path, 1), Pretended({1: 0})
    left_there(one.directory)
    there = heartbeat.Beats()
    there.begin(one.directory)
    threading.Timer(1.0, there.close).start()
    begin = time.monotonic()
    assert local.run_jobs([one], 1, place) == []
    assert time.monotonic() - begin > 1.0
    assert [what for what, _ in place.told] == ["start", "collect"]


def test_who_trains_for_an_experiment_shows_that_it_lives(tmp_path):
    place, files = Pretended({1: None, 2: 0}), []

    def look(started):
        files.append(sorted(path.parent.name for path in tmp_path.rglob(heartbeat.FILE)))
        place.codes[1] = 0 if len(files) > 2 else None
        return Look(place.codes[started.seed], 0, 0.0)

    place.look = look
    assert local.run_jobs([job(tmp_path, 1), job(tmp_path, 2)], 2, place) == []
    assert files[:3] == [["1", "2"], ["1", "2"], ["1"]]
    assert not list(tmp_path.rglob(heartbeat.FILE))
