"""Linear methods in several environments: step sizes by default with which they learn."""

from __future__ import annotations

from typing import Any

import pytest

import playfield
from playfield.errors import DivergedError
from playfield.training.prepare import configure
from playfield.training.request import Request


@pytest.mark.parametrize(
    ("algo", "own", "alpha"),
    [
        ("sarsa_lambda", {}, 0.5 / 16 / 8),
        ("sarsa_lambda", {"lam": 0.0}, 0.5 / 16),
        ("sarsa_lambda", {"trace": "replacing"}, 0.5 / 16),
        ("sarsa_lambda", {"alpha": 0.25}, 0.25),
        ("td_lambda", {}, 0.5 / 16 / 8),
        ("qlearning", {}, 0.5 / 16),
        ("qlearning", {"lam": 0.5}, 0.5 / 16 / 8),
        ("sarsa", {}, 0.5 / 16),
        ("linear_ac", {}, 0.3 / 16),
    ],
)
def test_dutch_traces_of_several_environments_have_a_smaller_step_size(
    algo: str, own: dict[str, Any], alpha: float
) -> None:
    found = configure(Request("CartPole-v1", algo, config={"num_envs": 8, **own}))[1]
    assert found.alpha == pytest.approx(alpha, rel=1e-12)
    alone = configure(Request("CartPole-v1", algo, config=own))[1]
    assert alone.alpha == pytest.approx(own.get("alpha", 0.3 / 16 if algo == "linear_ac" else 0.5 / 16), rel=1e-12)


def test_sarsa_lambda_does_not_diverge_in_several_environments(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the step size of one environment its weights are 10,000 times as large within these steps."""
    monkeypatch.chdir(tmp_path)
    short = {"games": 0, "film": False, "console": False, "tensorboard": False, "num_envs": 16, "rollout_steps": 20}
    playfield.train("CartPole-v1", "sarsa_lambda", steps=10_000, run="a", **short)
    with pytest.raises(DivergedError):
        playfield.train("CartPole-v1", "sarsa_lambda", steps=10_000, run="b", alpha=0.5 / 16, **short)
