"""Training that has diverged with finite numbers is stopped, and healthy training is not."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import playfield
from playfield.errors import DivergedError
from playfield.runs import divergence
from playfield.runs.run import Run
from playfield.training.directory import last_step

NETWORKS = ("a2c", "c51", "dqn", "hlgauss", "ppo", "pqn", "qrdqn", "rainbow")


def train(algo, directory, steps, **config):
    how = {"games": 0, "film": False, "console": False, "tensorboard": False}
    return playfield.train("CartPole-v1", algo, steps=steps, run=directory, config=config, **how)


@pytest.mark.parametrize("algo", NETWORKS)
def test_a_learning_rate_of_a_million_is_seen(algo, tmp_path):
    with pytest.raises(DivergedError) as caught:
        train(algo, tmp_path / "run", 12_000, lr=1e6)
    assert "times as large as at its start: lower the learning rate (--lr, now 1e+06)" in str(caught.value)
    step = last_step(tmp_path / "run")
    assert step is None or 0 < step < 6_000
    assert ("nothing had been saved" if step is None else f"of step {step:,}, is in") in str(caught.value)


@pytest.mark.parametrize("algo", ["sarsa", "linear_ac", "qlearning"])
def test_a_step_size_of_a_million_is_seen(algo, tmp_path):
    with pytest.raises(DivergedError, match=r"lower the (step size|learning rate) \(--alpha, now 1e\+06\)"):
        train(algo, tmp_path / "run", 12_000, alpha=1e6)


def test_the_last_sane_checkpoint_is_kept_and_named(tmp_path, monkeypatch):
    from playfield.nets.learner import Learner

    grown = iter([1.0] * 12)
    monkeypatch.setattr(Learner, "growth", lambda self: next(grown, 1e6))
    with pytest.raises(DivergedError, match=r"the last good checkpoint, of step [0-9,]+, is in "):
        train("ppo", tmp_path / "run", 50_000)
    assert 0 < last_step(tmp_path / "run") < 50_000


@pytest.mark.parametrize(
    ("growth", "scores", "diverged"),
    [
        (99.0, [1.0], False),
        (101.0, [1.0], True),
        (101.0, [-500.0, 3.0], False),
        (501.0, [-500.0, 3.0], True),
        (9_999.0, [], False),
        (10_001.0, [], True),
        (math.inf, [1e6], True),
        (33.5, [9.0], False),  # DQN learns CartPole with a learning rate of 0.1, and gets there
    ],
)
def test_the_limit_follows_the_scores(growth, scores, diverged):
    if not diverged:
        return divergence.check(growth, scores, {})
    with pytest.raises(DivergedError):
        divergence.check(growth, scores, {"lr": 1.0})


@pytest.mark.parametrize("algo", ["ppo", "dqn", "a2c", "pqn", "sarsa"])
def test_healthy_training_is_far_from_the_limit(algo, tmp_path, monkeypatch):
    seen = []
    check = divergence.check
    monkeypatch.setattr(divergence, "check", lambda growth, *rest: (seen.append(growth), check(growth, *rest)))
    train(algo, tmp_path / "run", 3_000)
    assert len(seen) > 5
    assert 0 < max(seen) < 10


def test_a_resumed_run_compares_with_its_first_weights(tmp_path, monkeypatch):
    train("ppo", tmp_path / "run", 2_048)
    seen = []
    log = Run.log

    def spy(run, metrics, updates):
        log(run, metrics, updates)
        seen.append((run.step, run._growth[0]()))

    monkeypatch.setattr(Run, "log", spy)
    train("ppo", tmp_path / "whole", 4_096)
    whole = dict(seen)
    seen.clear()
    how = {"games": 0, "film": False, "console": False, "tensorboard": False}
    playfield.train(resume=Path(tmp_path / "run"), steps=2_048 + 1_024, **how)
    assert seen[0][1] > 1.005
    assert abs(seen[0][1] - whole[seen[0][0]]) < 0.3
