"""A training leaves no thread behind: a process may train many runs one after another."""

from __future__ import annotations

import threading

import pytest

import playfield

SMALL = {"steps": 768, "film": False, "tensorboard": False, "quiet": True, "games": 0, "num_envs": 4}


@pytest.mark.parametrize(
    ("algo", "more"),
    [
        ("dqn", {"workers": 2, "batch_size": 32}),
        ("dqn", {"workers": 1, "concurrent": True}),
        ("ppo", {"workers": 2, "rollout_steps": 32}),
    ],
)
def test_no_thread_is_left(algo, more, tmp_path):
    options = {**SMALL, **more}
    if algo == "dqn":
        options |= {"learning_starts": 256, "rollout_steps": 4}
    before = set(threading.enumerate())
    playfield.train("CartPole-v1", algo, run=tmp_path / "r", **options)
    left = [t for t in threading.enumerate() if t not in before and t.is_alive()]
    assert not left
