"""Spaces of environments that users hand over: their bounds, their sizes, and what their code raises and says."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import playfield
from playfield.envs.traces import told
from playfield.errors import EnvError, UsageError

SHORT: dict[str, Any] = {"steps": 64, "rollout_steps": 32, "film": False, "console": False, "tensorboard": False}


class Wide(gymnasium.Env):
    """Its argument decides its bounds."""

    action_space = spaces.Discrete(2)

    def __init__(self, reach: float = 1.0) -> None:
        self.observation_space = spaces.Box(-reach, reach, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.reach = float(self.observation_space.high[0])
        return np.full(2, self.reach, np.float32), {}

    def step(self, action):
        return np.full(2, -self.reach, np.float32), 1.0, bool(self.np_random.random() < 0.1), False, {}


gymnasium.register("Wide-v0", entry_point=Wide)


def tiles_of(run: Any) -> tuple[int, ...]:
    """The features that are active at both ends of the bounds."""
    q = playfield.load_policy(run).explain(np.array([[8, 8], [1, 1], [-8, -8]], np.float32))["q"]
    return tuple(map(int, (q[0] != q[1]).any(axis=-1, keepdims=True)))


@pytest.mark.parametrize("env", [Wide, lambda: Wide(8.0), "Wide-v0"])
def test_linear_methods_take_environments_that_are_handed_over(env: Any, tmp_path, monkeypatch) -> None:
    """Before: an environment that is no registered id had no bounds, and ended in a traceback."""
    monkeypatch.chdir(tmp_path)
    result = playfield.train(env, "sarsa", games=1, **SHORT)
    assert result.evaluation is not None
    assert playfield.train(resume=result.directory, steps=128, games=0, console=False).steps == 128


def test_bounds_are_those_of_the_environments_arguments(tmp_path, monkeypatch) -> None:
    """Before: tiles covered the bounds of the environment without its arguments: all beyond were one state."""
    monkeypatch.chdir(tmp_path)
    plain = playfield.train("Wide-v0", "sarsa", games=0, run="plain", **SHORT)
    wide = playfield.train("Wide-v0", "sarsa", env_kwargs={"reach": 8.0}, games=0, run="wide", **SHORT)
    assert tiles_of(plain.directory) == (0,)
    assert tiles_of(wide.directory) == (1,)


def test_what_no_run_can_store_is_refused_at_the_start(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    many = type("Many", (Wide,), {"action_space": spaces.Discrete(10**6)})
    with pytest.raises(UsageError, match="1,000,000 actions: at most 100,000"):
        playfield.train(many, **SHORT)
    states = type("States", (Wide,), {"observation_space": spaces.Discrete(2**40), "__init__": lambda self: None})
    with pytest.raises(UsageError, match="named states: at most"):
        playfield.train(states, **SHORT)
    assert not list(tmp_path.iterdir())


def test_a_render_mode_that_raises_is_an_error_of_the_environment() -> None:
    broken = type("Broken", (Wide,), {"render_mode": property(lambda self: 1 / 0)})
    with pytest.raises(EnvError, match=r"failed in its render_mode: ZeroDivisionError: .*line \d+"):
        playfield.make_envs(broken, 1)


def test_messages_of_users_code_hold_no_codes_for_a_terminal() -> None:
    assert told(ValueError("a\x1b[31mred\x07\nb\udcff ü")) == "ValueError: a?[31mred? b? ü"


@pytest.mark.parametrize(
    ("space", "value", "told"),
    [
        (spaces.Box(0, 1, (3,), np.uint8), 9, "9 where 0 to 1 is declared"),
        (spaces.Box(0, 2, (4, 4, 1), np.float32), -0.5, "-0.5 where 0 to 2 is declared"),
        (spaces.Box(0, 1, (3,), np.uint8), 1, ""),
        (spaces.Box(0, 255, (4, 4, 1), np.uint8), 255, ""),
        (spaces.Box(-1, 1, (3,), np.float32), 7, "7 where -1 to 1 is declared): correct"),  # not scaled
        (spaces.Box(-1, 1, (3,), np.float32), 1.000001, ""),  # rounding
        (spaces.Box(-3.4e38, 3.4e38, (3,), np.float32), 3.4e38, ""),
        (spaces.Box(-np.inf, np.inf, (3,), np.float32), 1e30, ""),
    ],
)
def test_observations_outside_of_their_bounds_are_told_once(space, value, told, caplog) -> None:
    given = np.full(space.shape, value, space.dtype)
    step = lambda self, action: (given, 0.0, False, False, {})  # noqa: E731
    members = {"__init__": lambda self: None, "observation_space": space, "reset": lambda self, **_: (given, {})}
    envs = playfield.make_envs(type("Odd", (Wide,), {**members, "step": step}), 2)
    envs.reset(np.array([1, 2]))
    for _ in range(3):
        envs.step(np.array([0, 0]))
    lines = [record.message for record in caplog.records if "declared space" in record.message]
    assert len(lines) == bool(told)
    assert told in "".join(lines)
