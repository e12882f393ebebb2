"""An environment that cannot be closed: its work is saved, the line is told once, and the exit code is 0."""

from __future__ import annotations

import json
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import hanging
import playfield
from playfield.cli import main
from playfield.envs import closing, hang
from playfield.envs.gym_env import GymVectorEnv

SHORT = ["--num-envs", "2", "--num-steps", "64", "--steps", "256", "--games", "2", "--quiet", "--no-tensorboard"]
HOW = ["sleep", "loop", "swallow", "mutex"]
NAMES = {how: f"hanging:{how.title()}Close-v0" for how in HOW}


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    monkeypatch.setattr(closing, "LOOK", 0.01)
    monkeypatch.setattr(closing, "AGAIN", 0.02)
    monkeypatch.setattr(hang, "LIMIT", 0.2)
    monkeypatch.setattr(hang._state, "limit", 0.2)
    monkeypatch.chdir(tmp_path)
    hanging.released.clear()
    yield
    hanging.released.set()


def lines(capsys) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line]


@pytest.mark.parametrize("how", HOW)
def test_an_environment_that_hangs_is_left(how, caplog):
    with hang.limited(0.2):
        env = GymVectorEnv(NAMES[how], 2)
        env.reset(np.arange(2))
        env.close()
    said = [record.message for record in caplog.records]
    assert len(said) == 1
    assert f"{NAMES[how]} could not be closed: its close has not returned for " in said[0]
    assert "hanging.py line " in said[0]


@pytest.mark.parametrize("how", ["sleep", "mutex"])
def test_a_training_that_is_done_is_saved_evaluated_and_filmed(how, capsys):
    assert main(["train", NAMES[how], "--run", "r", *SHORT]) == 0
    said = lines(capsys)
    assert len(said) == 1
    assert f"{NAMES[how]} could not be closed: its close has not returned for 0 s" in said[0]
    assert "hanging.py line " in said[0]
    info = json.loads(Path("r/run.json").read_text())
    assert info["result"]["steps"] == 256
    assert info["result"]["seconds"] < 60
    assert json.loads(next(Path("r/eval").glob("*.json")).read_text())["games"] == 2
    assert {path.suffix for path in Path("r/films").iterdir()} == {".gif", ".mp4"}


def test_what_raises_is_told_once_and_other_threads_do_not_matter(capsys, monkeypatch):
    here = []

    def close(self):
        here.append(threading.current_thread() is threading.main_thread())
        if how == "raise" or not here[-1]:
            raise RuntimeError("made in another thread")

    monkeypatch.setattr(hanging.HangingClose, "close", close)
    how = "raise"
    assert main(["train", NAMES["sleep"], "--run", "r", *SHORT, "--no-film"]) == 0
    said = lines(capsys)
    assert len(said) == 1
    assert "an environment could not be closed: RuntimeError: made in another thread" in said[0]
    how = "only here"
    env = GymVectorEnv(NAMES["sleep"], 1)
    here.clear()
    env.close()
    assert here[-1]
    assert not lines(capsys)


@pytest.mark.parametrize(
    "words",
    [["eval", "--games", "2", "--json"], ["record", "--steps", "3", "--out", "f.gif"], ["explain", "--out", "why"]],
)
def test_other_verbs_do_their_work(words, capsys):
    words = [words[0], NAMES["mutex"], "--agent", "random", *words[1:]]
    assert main(words) == 0
    out, error = capsys.readouterr()
    assert error.count("\n") == 1
    assert "could not be closed" in error
    if words[0] == "eval":
        assert json.loads(out)["games"] == 2
    else:
        assert Path("f.gif" if words[0] == "record" else "why/explain.html").stat().st_size


def test_ctrl_c_while_one_hangs_comes_after_what_is_saved(monkeypatch, capsys):
    """No limit: the user ends the waiting."""
    close = hanging.HangingClose.close

    def interrupted(self):
        if Path("r/run.json").exists() and "result" in json.loads(Path("r/run.json").read_text()):
            hang.limit(0)
            threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
            close(self)

    monkeypatch.setattr(hanging.HangingClose, "close", interrupted)
    assert main(["train", NAMES["sleep"], "--run", "r", *SHORT]) == 130
    assert lines(capsys) == ["playfield: stopped"]
    assert json.loads(Path("r/run.json").read_text())["result"]["steps"] == 256


def test_only_the_first_of_an_id_is_waited_for(monkeypatch):
    monkeypatch.setattr(closing, "AGAIN", 0.0)
    with hang.limited(0.5):
        begun = time.monotonic()
        env = GymVectorEnv(NAMES["sleep"], 5)  # one more is made and closed to see how it renders
        env.close()
    assert 0.4 < time.monotonic() - begun < 1.5


def test_each_training_in_python_tells_it(caplog):
    short = {"steps": 128, "num_envs": 2, "num_steps": 64, "games": 0, "quiet": True, "tensorboard": False}
    for _ in range(2):
        playfield.train(NAMES["sleep"], env_timeout=0.2, film=False, **short)
    assert sum("could not be closed" in record.message for record in caplog.records) == 2
