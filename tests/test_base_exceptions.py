"""Whatever an environment raises is one line with its place, exit 6, also what is no `Exception`; but not Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

import playfield
from playfield.cli import main
from playfield.envs import closing, gym_make, trust, user_code
from playfield.errors import EnvError, UsageError
from playfield.runs import algorithm, catalog
from playfield.show.watch.game import Session, Source

MODULE = """
import asyncio
import gymnasium as gym
import numpy as np


class Gone(BaseException):
    pass


class Mute(BaseException):
    def __str__(self):
        raise Gone


RAISES = {"custom": Gone("no fuel"), "generator": GeneratorExit(), "exit": SystemExit(0), "mute": Mute(),
          "cancelled": asyncio.CancelledError(), "stop": StopIteration(3)}
WHERE, WHAT = "nowhere", "custom"


def come(place):
    if place == WHERE:
        raise RAISES[WHAT]


class Line(gym.Env):
    observation_space = gym.spaces.Box(0.0, 1.0, (1,), np.float32)
    metadata = {"render_modes": ["rgb_array"]}

    def __init__(self, render_mode=None):
        come("init")
        self.render_mode = render_mode

    @property
    def action_space(self):
        come("space")
        return gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        come("reset")
        self.t = 0
        return np.array([0.0], np.float32), {}

    def step(self, action):
        self.t += 1
        if self.t == 3:
            come("step")
        return np.array([self.t / 5], np.float32), float(action), self.t == 5, False, {}

    def render(self):
        come("render")
        return np.zeros((8, 8, 3), np.uint8)

    def close(self):
        come("close")
"""
SHORT = ["--steps", "256", "--quiet", "--no-tensorboard", "--games", "1"]


@pytest.fixture
def line(tmp_path, monkeypatch):
    """The module, with `WHERE` and `WHAT` it raises."""
    (tmp_path / "a_faulty.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield user_code.import_module("a_faulty", "a_faulty:Line")
    sys.modules.pop("a_faulty", None)
    trust._named.clear()
    gym_make.objects.makers.pop("a_faulty:Line", None)


def train(*more: str) -> int:
    return main(["train", "a_faulty:Line", "--rollout-steps", "16", "--run", "r", *SHORT, *more])


KINDS = ["custom", "generator", "exit", "mute", "cancelled", "stop"]
SAID = {
    "custom": "Gone: no fuel",
    "generator": "GeneratorExit",
    "exit": "it called sys.exit(0)",
    "mute": "Mute",
    "cancelled": "CancelledError",
    "stop": "StopIteration: 3",
}


@pytest.mark.parametrize("where", ["init", "space", "reset", "step"])
@pytest.mark.parametrize("what", KINDS)
def test_a_training_ends_with_one_line(what, where, line, capsys):
    line.WHERE, line.WHAT = where, what
    assert train() == 6
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert SAID[what] in error
    assert "(a_faulty.py line 23, in come)" in error


@pytest.mark.parametrize(
    "more", [["--workers", "2"], ["--algo", "dqn"], ["--algo", "sarsa"], ["--algo", "linear_ac"]]
)
def test_every_loop_ends_with_one_line(more, line, capsys):
    line.WHERE = "step"
    rollout = ["--rollout-steps", "16"] if more[0] == "--workers" else []
    assert main(["train", "a_faulty:Line", "--run", "r", *rollout, *SHORT, *more]) == 6
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Gone: no fuel (a_faulty.py line 23, in come)" in error


def test_the_live_page_says_it(line):
    assert train("--no-film") == 0
    source = Source("r")
    session = Session(source, 1)
    session.advance()
    session.advance()
    line.WHERE = "step"
    with pytest.raises(EnvError, match="Gone: no fuel"):
        session.advance()


@pytest.mark.parametrize("what", KINDS)
def test_pictures_and_closing_decide_nothing(what, line, capsys):
    line.WHERE, line.WHAT = "close", what
    assert train("--no-film") == 0
    assert f"an environment could not be closed: {SAID[what]} (a_faulty.py line 23" in capsys.readouterr().err
    line.WHERE = "render"
    assert main(["record", "r", "--steps", "3", "--out", "f.gif"]) == 6
    error = capsys.readouterr().err
    assert f"failed in render at step 0: {SAID[what]} (a_faulty.py line 23, in come)" in error
    assert error.count("\n") == 1
    assert not Path("f.gif").exists()


@pytest.mark.parametrize("words", [["eval", "--games", "2"], ["record", "--out", "f.gif"], ["explain"]])
def test_other_verbs_end_with_one_line(words, line, capsys):
    assert train("--no-film") == 0
    capsys.readouterr()
    for where in ("init", "reset", "step"):
        line.WHERE = where
        assert main([words[0], "r", *words[1:]]) == 6
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "Gone: no fuel (a_faulty.py line 23, in come)" in error


def test_a_run_goes_on_after_it(line, capsys):
    """The place where it came is told when a log is replayed, too."""
    assert train("--no-film") == 0
    line.WHERE = "step"
    assert main(["train", "--resume", "r", "--steps", "512", *SHORT[2:], "--no-film"]) == 6
    assert "a_faulty.py line 23" in capsys.readouterr().err
    line.WHERE = "nowhere"
    assert main(["train", "--resume", "r", "--steps", "512", *SHORT[2:], "--no-film"]) == 0


def test_ctrl_c_in_an_environment_is_no_error_of_it(line, monkeypatch, capsys):
    """The user presses it while code of the environment runs."""
    monkeypatch.setattr(line, "come", lambda place: place == "step" and signal.raise_signal(signal.SIGINT))
    assert main(["eval", "a_faulty:Line", "--agent", "random", "--games", "1"]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "playfield: stopped"
    monkeypatch.setattr(line, "come", lambda place: (_ for _ in ()).throw(KeyboardInterrupt))
    for use in (lambda: gym_make.make("a_faulty:Line", {}), lambda: closing.close(line.Line.__new__(line.Line), "x")):
        with pytest.raises(KeyboardInterrupt):
            use()
    with pytest.raises(KeyboardInterrupt), user_code.running("x"):
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [GeneratorExit(), SystemExit(2), asyncio.CancelledError(), StopIteration()])
def test_code_of_users_that_runs_inside(error):
    with pytest.raises(EnvError, match=r"^it failed: "), user_code.running("it failed"):
        raise error


class _Point:
    value = "mine:thing"

    def load(self) -> None:
        raise SystemExit(0)


def test_a_plug_in_that_ends_the_process_is_named(monkeypatch):
    monkeypatch.setattr("importlib.metadata.entry_points", lambda **_: [_Point()])
    for load in (lambda: algorithm.load("mine"), lambda: catalog.body_function("mine")):
        with pytest.raises(UsageError, match=r"\(mine:thing\) cannot be imported: it called sys.exit\(0\)"):
            load()


def test_an_instance_in_python(line):
    line.WHERE = "step"
    envs = playfield.make_envs(line.Line, 2)
    envs.reset(np.arange(2))
    envs.step(np.zeros(2, int))
    envs.step(np.zeros(2, int))
    with pytest.raises(EnvError, match="env 0 failed in step 3, action 0: Gone: no fuel"):
        envs.step(np.zeros(2, int))
