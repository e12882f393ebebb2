"""How worker processes begin and end: what they search, how long they may take, what others are told of the end."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest

from playfield import compute
from playfield.envs import hang
from playfield.errors import EnvError, StorageError, UsageError
from playfield.runs import output
from playfield.runs.group import Leader
from playfield.runs.run import Stopped
from playfield.training import processes
from playfield.training.prepare import prepare, reopen
from playfield.training.processes import Pool, started
from playfield.training.request import Request
from test_worker_processes import CPU, SMALL, small_run, spec_of, trained

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is shared as Linux has it"),
]


class Machine(SimpleNamespace):
    """Another machine that has no workers; `told`: what it hears of the end."""

    def __init__(self):
        super().__init__(links=[], note="", on_stop=None, told=[])

    def end(self, code, why):
        self.told.append((code, why))

    def close(self, seconds):
        pass


def test_workers_search_modules_where_this_process_does_and_not_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise SystemExit(7)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*(entry for entry in sys.path if entry), Path("/nowhere")])
    pool = Pool(2)
    try:
        pool.ready("ppo", spec_of("worker_envs:Warns-v0"))
    finally:
        pool.close()


def test_an_environment_may_take_as_long_to_be_made_as_the_user_says():
    pool = Pool(2)
    spec = dataclasses.replace(spec_of("worker_envs:Warns-v0"), id="worker_envs:Slow-v0")
    try:
        with hang.limited(0.2), pytest.raises(EnvError, match=r"longer than --env-timeout 0\.2"):
            pool.ready("ppo", spec)
    finally:
        pool.close()


def test_a_worker_that_was_killed_is_found_though_its_environment_has_forked(tmp_path, monkeypatch):
    monkeypatch.setenv("FORKED", str(tmp_path))
    pool, rounds = Pool(2), []

    def end(run):
        rounds.append(run.step)
        if (tmp_path / "pid").exists():
            os.kill(pool.pids[0], signal.SIGKILL)

    cfg = dataclasses.replace(SMALL, num_envs=2)
    try:
        with pytest.raises(EnvError, match="the process of worker 1 was ended by SIGKILL"):
            trained("ppo", "worker_envs:Forks-v0", cfg, rounds=100, pool=pool, workers=2, on_rollout=end)
    finally:
        pool.close()
    assert len(rounds) == 3  # of 16 steps: it forks at the 40th
    assert not (tmp_path / "over").exists()  # the other process is still there
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


def test_processes_that_cannot_be_started_are_one_line_and_other_machines_hear_it(monkeypatch):
    def popen(*_, **__):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(subprocess, "Popen", popen)
    machine = Machine()
    with pytest.raises(EnvError, match=r"^worker processes cannot be started: Too many open files$") as raised:
        Pool(2, [machine])
    assert machine.told == [(6, str(raised.value))]
    monkeypatch.setattr(os, "memfd_create", popen)
    with pytest.raises(EnvError, match="cannot be started"):
        Pool(2, [machine])
    assert len(machine.told) == 2


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, (0, "")),
        (StorageError("the disk is full"), (5, "the disk is full")),
        (Stopped(signal.SIGTERM), (143, "stopped by SIGTERM")),
        (KeyboardInterrupt(), (130, "stopped by SIGINT")),
    ],
)
def test_other_machines_are_told_how_the_training_has_ended(error, told):
    machine = Machine()

    def train():
        with started("processes", "ppo", spec_of("CartPole-v1"), SMALL, CPU, print, lambda: [machine]):
            if error is not None:
                raise error

    try:
        raise ValueError("what a script handles is not how the training ends")
    except ValueError:
        if error is None:
            train()
        else:
            with pytest.raises(type(error)):
                train()
    assert machine.told == [told]


def test_a_stop_asked_for_between_two_trainings_is_not_lost():
    machine = Machine()
    pool = Pool(1, [machine])
    try:
        with pytest.raises(Stopped):
            trained("ppo", "CartPole-v1", SMALL, pool=pool, workers=1, on_rollout=lambda _: machine.on_stop(2))
        assert not machine.on_stop(2)  # as of the speed that is measured before a training
        trained("ppo", "CartPole-v1", SMALL, pool=pool, workers=1).close()
        assert not machine.on_stop(2)
    finally:
        pool.close()


def test_who_has_too_little_memory_for_processes_is_told_what_can_be_done(tmp_path, monkeypatch):
    path = small_run(tmp_path, monkeypatch, "ppo --workers 2")
    info = json.loads(path.read_text())
    monkeypatch.setenv("PLAYFIELD_TOKEN", "correct horse battery staple")
    monkeypatch.setattr(compute, "free_memory", lambda: int(200e6))
    asked = Request(env="CartPole-v1", workers=4)
    new = dataclasses.replace(asked, workers_as="processes")
    several = dataclasses.replace(asked, nodes=2, rendezvous=":29500")
    for begin, told in (
        (lambda: prepare(new), "lower --workers, or leave out --workers-as"),
        (lambda: prepare(several), "lower --workers"),
        (lambda: reopen(path.parent, info, asked="processes"), "use --workers-as threads"),
    ):
        with pytest.raises(UsageError, match=f"worker processes more needs .* are free: {told}$"):
            begin()


def test_memory_that_workers_cannot_share_is_one_line_that_says_what_can_be_done(monkeypatch):
    def allocate(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    elsewhere = SimpleNamespace(receive=lambda: None)
    for links, told in (([], "use --workers-as threads"), ([elsewhere], "use fewer workers")):
        with tempfile.TemporaryFile() as file, pytest.raises(StorageError, match=f"No space left on device; {told}$"):
            Leader(links, file.fileno(), range(1)).memory(1000)


def test_a_worker_says_the_versions_that_it_is_asked_for():
    spec = spec_of("CartPole-v1")
    for asked, told in (([], {}), (["numpy", "no-such-package"], {"numpy": numpy.__version__})):
        assert processes._ready("ppo", dataclasses.asdict(spec), None, 60.0, asked) == told


def test_a_signal_amid_a_line_on_standard_error_is_said_all_the_same(monkeypatch, capfd):
    class Busy:
        def write(self, _):
            raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stderr>'>")

    monkeypatch.setattr(sys, "stderr", Busy())
    output.complain("finishing this update")
    assert capfd.readouterr().err == "finishing this update\n"
