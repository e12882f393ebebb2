"""Whole runs: what they leave behind, stopping, resuming, locks, and that watching changes nothing."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import playfield
from playfield.cli import main
from playfield.errors import DataError, UsageError
from playfield.runs import signals
from playfield.training.plan import snap
from playfield.training.train import Result

SMALL = {"num_envs": 4, "rollout_steps": 32, "epochs": 2, "minibatches": 2}


def info(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def rows(run: Path) -> list[dict]:
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in r.items() if not k.startswith("time/")} for r in csv.DictReader(file)]


def small(run: Path, steps: int = 2048, **wishes) -> Result:
    quiet = {"games": 0, "film": False, "tensorboard": False, "console": False}
    return playfield.train("CartPole-v1", run=run, steps=steps, config=SMALL, **{**quiet, **wishes})


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    small(run)
    return run


def test_a_run_leaves_everything_it_promises(tmp_path):
    run = tmp_path / "run"
    result = small(run, games=3, film=True, tensorboard=True)
    names = {p.name for p in run.iterdir()}
    assert {
        "run.json",
        "config.json",
        "command.txt",
        "metrics.csv",
        "monitor.csv",
        "curve.png",
        "films",
        "eval",
    } <= names
    assert any(n.startswith("events.out.tfevents") for n in names)
    assert (run / "films" / "best-game.mp4").stat().st_size > 1000
    assert (run / "films" / "best-game.gif").stat().st_size > 1000
    assert result.evaluation is not None
    assert result.evaluation["games"] == 3
    assert result.evaluation["protocol"]["env"] == "CartPole-v1"
    assert info(run)["result"]["hash"] == result.hash
    command = (run / "command.txt").read_text().split()
    assert command[:3] == ["playfield", "train", "CartPole-v1"]
    assert command[command.index("--num-envs") + 1] == "4"


def test_the_command_in_command_txt_repeats_the_run(tmp_path, whole, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = (whole / "command.txt").read_text().split()[1:]
    assert main([*words, "--run", "again", "--quiet", "--games", "0", "--no-tensorboard"]) == 0
    assert info(Path("again"))["result"]["hash"] == info(whole)["result"]["hash"]
    assert rows(Path("again")) == rows(whole)


def test_watching_changes_nothing(tmp_path, whole):
    small(tmp_path / "seen", games=2, film=True, tensorboard=True, save_seconds=0.0)
    assert info(tmp_path / "seen")["result"]["hash"] == info(whole)["result"]["hash"]
    assert rows(tmp_path / "seen") == rows(whole)


def test_another_seed_is_another_run(tmp_path, whole):
    small(tmp_path / "other", seed=2)
    assert info(tmp_path / "other")["result"]["hash"] != info(whole)["result"]["hash"]


def child(run: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "playfield", "train", *words, "--quiet", "--games", "0", "--no-tensorboard"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def options() -> list[str]:
    return [w for k, v in SMALL.items() for w in (f"--{k.replace('_', '-')}", str(v))]


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    for _ in range(1200):
        if (run / "checkpoints" / "last").exists() or process.poll() is not None:
            return
        time.sleep(0.05)
    pytest.fail("no checkpoint in 60 s")


def test_killed_at_any_moment_and_resumed_is_the_same(tmp_path):
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    steps = 16_384
    small(alone, steps)
    process = child(
        killed, "CartPole-v1", "--steps", str(steps), "--run", str(killed), "--save-seconds", "0", *options()
    )
    wait_for_checkpoint(killed, process)
    process.kill()
    process.communicate()
    assert "result" not in info(killed), "the run ended before it could be killed"
    playfield.train(resume=killed, games=0, tensorboard=False, console=False)
    assert info(killed)["result"]["hash"] == info(alone)["result"]["hash"]
    assert rows(killed) == rows(alone)


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_says_how_to_go_on(tmp_path, signum, code):
    run = tmp_path / "run"
    process = child(run, "CartPole-v1", "--steps", "10M", "--run", str(run), "--save-seconds", "0.1", *options())
    wait_for_checkpoint(run, process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert f"playfield train --resume {run}" in err
    assert "Traceback" not in err


def test_signals_that_come_together_are_one(tmp_path):
    """`timeout` sends one to the process and one to its group."""
    run = tmp_path / "run"
    process = child(run, "CartPole-v1", "--steps", "10M", "--run", str(run), *options())  # no save for a minute
    deadline = time.monotonic() + 60
    while not ((run / "metrics.csv").exists() and len((run / "metrics.csv").read_text().splitlines()) > 1):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"playfield train --resume {run}" in err
    assert (run / "checkpoints" / "last").exists()


def test_a_signal_that_comes_later_leaves_at_once(capsys, monkeypatch):
    left = []
    monkeypatch.setattr(signals.os, "_exit", left.append)
    monkeypatch.setattr(signals, "SAME", 0.05)
    came: list[int] = []
    with signals.caught(came.append, "stopping"):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert (came, left) == ([signal.SIGINT], [])
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)
    assert (came, left) == ([signal.SIGINT], [128 + signal.SIGTERM])
    assert "training since the last checkpoint is lost" in capsys.readouterr().err


def test_a_directory_of_runs_is_not_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small(tmp_path / "runs" / "cart" / "ppo" / "1")
    for name in ("runs/cart", "runs/cart/ppo/2", "runs/crat/ppo/1"):
        with pytest.raises(UsageError, match="did you mean runs/cart/ppo/1"):
            playfield.train(resume=name)


def test_a_finished_run_can_go_on_longer(tmp_path, whole):
    run = tmp_path / "run"
    small(run)
    lines: list[str] = []
    playfield.train(resume=run, steps=4096, say=lines.append, games=0, tensorboard=False, console=False)
    half = info(run)["config"]["lr"] / 2  # annealed to 0 over the total
    changed = {"values": {"learning rate": [0.0, half]}}
    assert info(run)["extensions"] == [{"at": 2048, "from": 2048, "to": 4096, **changed}]
    assert info(run)["result"]["steps"] == 4096
    told = f"schedules follow the new total: at step 2,048 learning rate 0 becomes {half:.3g}"
    assert any(told in line for line in lines)
    assert rows(run)[: len(rows(whole)) - 1] == rows(whole)[:-1]


def test_a_run_goes_on_from_its_last_good_checkpoint_to_the_same_end(tmp_path, whole):
    run = tmp_path / "run"
    small(run, save_seconds=0)
    newest = sorted((run / "checkpoints").glob("ckpt-*"))[-2:]
    for path in newest:
        data = bytearray((path / "tensors.safetensors").read_bytes())
        data[-1] ^= 1
        (path / "tensors.safetensors").write_bytes(data)
    result = playfield.train(resume=run, games=0, tensorboard=False, console=False)
    notes = [line for line in result.warnings if line.startswith("skipped a damaged checkpoint")]
    assert len([line for line in notes if f"moved to {newest[0].name}.damaged" in line]) == 1
    assert len([line for line in notes if f"moved to {newest[1].name}.damaged" in line]) == 1
    assert info(run)["result"]["hash"] == info(whole)["result"]["hash"]
    assert rows(run) == rows(whole)
    assert all((run / "checkpoints" / f"{path.name}.damaged").is_dir() for path in newest)


def test_killed_inside_the_first_save_is_no_damage(tmp_path, whole):
    run = tmp_path / "run"
    small(run)
    for path in (run / "checkpoints").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    (run / "checkpoints" / "ckpt-000000000128.tmp-999999999").mkdir()
    playfield.train(resume=run, games=0, tensorboard=False, console=False)
    assert info(run)["result"]["hash"] == info(whole)["result"]["hash"]


def test_resuming_removes_what_killed_writers_left(tmp_path):
    run = tmp_path / "run"
    small(run)
    (run / "films").mkdir()
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    parent = os.getppid()
    gone = [run / "films" / f".a.mp4.tmp-{dead.pid}-0", run / f".run.json.tmp-{dead.pid}-3"]
    kept = [run / "films" / f".b.mp4.tmp-{parent}-0", run / "films" / "mine.part", run / "notes.tmp"]
    for path in (*gone, *kept):
        path.write_bytes(b"half")
    playfield.train(resume=run, steps=2304, games=0, tensorboard=False, console=False)
    assert [p.exists() for p in gone] == [False, False]
    assert [p.exists() for p in kept] == [True, True, True]


def test_going_on_with_fewer_steps_or_other_options_is_refused(whole):
    with pytest.raises(UsageError, match="has done 2,048 steps already"):
        playfield.train(resume=whole, steps=1000)
    with pytest.raises(UsageError, match="cannot change with --resume"):
        playfield.train(resume=whole, seed=3)


def test_a_run_directory_is_never_overwritten(whole):
    with pytest.raises(UsageError, match="--resume"):
        small(whole)


def test_two_writers_are_one_too_many(tmp_path):
    from playfield.runs.lock import RunLock

    run = tmp_path / "run"
    small(run)
    with RunLock(run), pytest.raises(DataError, match="in use by process"):
        playfield.train(resume=run, steps=4096, games=0, console=False)


def test_directories_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = playfield.train("CartPole-v1", "random", steps=1024, games=0, console=False, tensorboard=False)
    second = playfield.train("CartPole-v1", "random", steps=1024, games=0, console=False, tensorboard=False)
    assert [str(r.directory) for r in (first, second)] == ["runs/CartPole-v1/random/1", "runs/CartPole-v1/random/2"]


def test_divergence_stops_with_code_4_and_keeps_the_last_good_checkpoint(tmp_path, capsys):
    run = tmp_path / "run"
    words = ["train", "CartPole-v1", "--steps", "1M", "--run", str(run), "--quiet", "--games", "0", "--lr", "1e12"]
    assert main([*words, "--save-seconds", "0", "--algo", "a2c", "--net", "relu128", "--no-tensorboard"]) == 4
    assert "lower the learning rate" in capsys.readouterr().err
    if (run / "checkpoints").exists() and any((run / "checkpoints").glob("ckpt-*")):
        import numpy as np

        from playfield.play.agent import find_agent

        assert all(np.isfinite(w.numpy()).all() for w in find_agent(str(run)).weights.values())


def test_budgets_snap_to_round_numbers():
    assert [snap(x) for x in (999, 1000, 1199, 1234, 1_130_000, 959_999, 47)] == [
        990,
        1000,
        1100,
        1200,
        1_100_000,
        950_000,
        47,
    ]


def test_python_names_are_complete_and_exported():
    assert sorted(playfield.__all__) == playfield.__all__
    for name in playfield.__all__:
        assert getattr(playfield, name) is not None
    assert callable(playfield.evaluate)
    assert callable(playfield.train)


def test_the_profile_names_functions_of_all_threads(tmp_path, capsys):
    words = ["train", "breakout", "--steps", "256", "--run", str(tmp_path / "run"), "--games", "0", "--profile"]
    words += ["--num-envs", "4", "--rollout-steps", "32", "--workers", "2", "--no-tensorboard", "--quiet"]
    assert main(words) == 0
    table = capsys.readouterr().out
    assert "top 20 by own time, all threads" in table
    assert "conv2d" in table  # called by the workers only
