"""Environments that hang are ended, with their stack; so is a training that is to stop while one hangs."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import hanging
from playfield.envs import hang
from playfield.envs.gym_env import GymVectorEnv

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(hang, "PERIOD", 0.02)
    monkeypatch.setattr(hang, "WAKE", 0.1)
    with hang.limited(0.3):
        yield


@pytest.mark.parametrize("how", ["sleep", "loop"])
def test_a_step_that_hangs_is_ended_with_its_line(how):
    env = GymVectorEnv("Sleep-v0", 2, how=how, at=3)
    env.reset(np.arange(2))
    for _ in range(2):
        env.step(np.zeros(2, int))
    begun = time.monotonic()
    with pytest.raises(hang.Hang) as raised:
        env.step(np.zeros(2, int))
    assert time.monotonic() - begun < 3
    assert raised.value.exit_code == 6
    line = 1 + hanging.Hanging.sleep.__code__.co_firstlineno
    assert re.search(
        r"Sleep-v0 has not returned for \d s, longer than --env-timeout 0.3: it hangs in", str(raised.value)
    )
    if how == "sleep":
        assert f"hanging.py line {line}, in sleep, called from " in str(raised.value)


@pytest.mark.parametrize("part", ["make", "reset"])
def test_other_calls_that_hang_are_ended_too(part, monkeypatch):
    monkeypatch.setattr(hanging.Hanging, "__init__" if part == "make" else "reset", lambda self, **_: time.sleep(99))
    with pytest.raises(hang.Hang, match="Sleep-v0 has not returned"):
        GymVectorEnv("Sleep-v0", 1).reset(np.arange(1))


def test_a_slow_call_within_the_limit_is_left_alone_and_zero_is_no_limit(monkeypatch):
    env = GymVectorEnv("Sleep-v0", 1, at=2)
    env.reset(np.arange(1))
    monkeypatch.setattr(hanging.Hanging, "sleep", lambda _: _busy(0.15))
    env.step(np.zeros(1, int))
    env.step(np.zeros(1, int))
    with hang.limited(0):
        env = GymVectorEnv("Sleep-v0", 1, at=1)
        env.reset(np.arange(1))
        monkeypatch.setattr(hanging.Hanging, "sleep", lambda _: _busy(0.5))
        env.step(np.zeros(1, int))


@pytest.mark.parametrize(("goes_on", "ago", "raises"), [(True, 60, True), (False, 0, True), (False, 60, False)])
def test_a_call_that_was_ended_long_ago_is_no_reason_for_the_next_signal(goes_on, ago, raises, monkeypatch):
    """Python's own handler of Ctrl-C does not ask; that of a training that begins later does."""
    call = hang.Call("Sleep-v0")
    call.begin()
    monkeypatch.setattr(hang._state, "pending", (call, call.began, time.monotonic() - ago))
    if not goes_on:
        call.end()
    with pytest.raises(hang.Hang) if raises else contextlib.nullcontext():
        hang.raise_if_ended()
    hang.raise_if_ended()  # it raises once
    call.end()


def _busy(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def training(tmp_path: Path, how: str, *words: str) -> subprocess.Popen[str]:
    """A training whose environment hangs now."""
    command = [sys.executable, "-m", "playfield", "train", f"hanging:{how}-v0", "--run", str(tmp_path / "run")]
    command += ["--steps", "20000", "--games", "0", "--no-film", "--quiet", "--workers", "1", *words]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    assert "hangs now" in process.stdout.readline()
    return process


@pytest.mark.parametrize("how", ["Swallow", "Mutex"])
def test_what_cannot_be_interrupted_ends_with_the_process(tmp_path, how):
    process = training(tmp_path, how, "--env-timeout", "1")
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 6
    assert "Traceback" not in errors
    assert f"hanging:{how}-v0 has not returned for" in errors


@pytest.mark.parametrize(("how", "signum"), [("Mutex", signal.SIGINT), ("Sleep", signal.SIGTERM)])
def test_one_signal_ends_a_training_whose_environment_hangs(tmp_path, how, signum):
    process = training(tmp_path, how)
    sent = time.monotonic()
    process.send_signal(signum)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + signum
    assert time.monotonic() - sent < 10  # about 4 s where nothing else runs
    assert "Traceback" not in errors
    assert "it hangs in" in errors


AFTER = """
import cProfile, sys, threading
from playfield.envs import hang
hangs = threading.Thread(target=threading.Event().wait, daemon=True)
hangs.start()
hang.raise_in(hangs.ident, hang.Hang)
hang.raise_in(threading.get_ident(), None)
sys.settrace(lambda *event: None)
cProfile.Profile().runcall(lambda: threading.Thread(target=print, args=("over",)).start())
"""


def test_others_can_be_traced_and_profiled_while_one_hangs():
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", AFTER], capture_output=True, text=True, timeout=20, env=env)
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


def test_a_thread_that_runs_is_left_at_once():
    left = threading.Event()

    def work():
        try:
            while True:
                time.sleep(0.01)
        except hang.Hang:
            left.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    hang.raise_in(thread.ident, hang.Hang)
    assert left.wait(5)
