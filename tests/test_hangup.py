"""A closed terminal (SIGHUP) saves and stops as SIGTERM does; Ctrl-C is one line from the first moment on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from playfield.runs.signals import stopping

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on Windows")


def until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def start(words, cwd, **how):
    words = [sys.executable, "-m", "playfield", *words]
    return subprocess.Popen(words, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **how)


def test_a_closed_terminal_saves_and_stops(tmp_path):
    child = start(["train", "CartPole-v1", "--steps", "5M", "--run", "a"], tmp_path)
    until(lambda: (tmp_path / "a" / "metrics.csv").exists() and (tmp_path / "a" / "metrics.csv").stat().st_size > 500)
    child.send_signal(signal.SIGHUP)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 129, said
    assert "saved; go on with: playfield train --resume a" in said
    assert (tmp_path / "a" / "checkpoints" / "last").exists()


def test_nohup_goes_on(tmp_path):
    ignored = lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)  # noqa: E731
    words = ["train", "CartPole-v1", "--steps", "10k", "--run", "a", "--games", "0", "--no-film"]
    child = start(words, tmp_path, preexec_fn=ignored)
    until(lambda: (tmp_path / "a" / "run.json").exists() or child.poll() is not None)
    child.send_signal(signal.SIGHUP)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 0, said


def test_which_signals_stop(monkeypatch):
    assert signal.SIGHUP in stopping()
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert stopping() == [signal.SIGINT, signal.SIGTERM]
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("wait", [0.2, 0.3, 0.6, 1.0, 1.6])
def test_an_early_ctrl_c_is_one_line(wait, tmp_path):
    code = (
        "import sys, time, threading, os, signal\n"
        "import playfield.__main__ as m\n"
        "def press():\n"
        f"    time.sleep({wait} - 0.15)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "threading.Thread(target=press, daemon=True).start()\n"
        "sys.argv = ['playfield', 'train', 'CartPole-v1', '--steps', '5M', '--run', 'a']\n"
        "raise SystemExit(m.main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 130
    assert len(done.stderr.strip().splitlines()) <= 3


def test_little_is_imported_before_ctrl_c_is_caught():
    """Reading versions takes email and zipfile with it: 30 ms in which Ctrl-C was a traceback."""
    code = "import sys; before = set(sys.modules); import playfield.__main__; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    early = set(done.stdout.split())
    assert "playfield.__main__" in early
    assert not early & {"importlib.metadata", "email", "zipfile", "numpy", "playfield.cli"}


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="children are found in /proc")
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_bench_kill_leaves_no_training_behind(signum, tmp_path):
    child = start(["bench", "kill", "--env", "CartPole-v1", "--steps", "5M", "--kills", "1"], tmp_path)

    def children() -> list[int]:
        with open(f"/proc/{child.pid}/task/{child.pid}/children", encoding="utf-8") as file:
            return [int(pid) for pid in file.read().split()]

    until(lambda: children() or child.poll() is not None)
    (training,) = children()
    time.sleep(1.0)
    child.send_signal(signum)
    child.wait(30)
    child.stderr.close()
    until(lambda: not alive(training), 60)
