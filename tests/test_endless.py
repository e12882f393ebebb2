"""Games that never end: what waits for their end cuts them off, and says so."""

from __future__ import annotations

import json
import logging
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import playfield
from playfield.cli import main
from playfield.envs import family, make_envs, make_from
from playfield.errors import UsageError
from playfield.play import evaluate as evaluation
from playfield.play.player import Player
from playfield.play.policy import RandomPolicy


class Endless(gymnasium.Env):
    """Reward 1 in every step; the observation is the number of steps since the reset."""

    metadata: ClassVar = {"render_modes": ["rgb_array"]}
    observation_space = spaces.Box(0, np.inf, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        return np.full(1, self.t, np.float32), 1.0, False, False, {}

    def render(self):
        return np.zeros((16, 16, 3), np.uint8)


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.setattr(family, "MOST_STEPS", 40)
    monkeypatch.chdir(tmp_path)
    before = dict(gymnasium.registry)
    gymnasium.register("Endless-v0", entry_point=Endless)
    gymnasium.register("Limited-v0", entry_point=Endless, max_episode_steps=60)
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


def policy(id: str) -> RandomPolicy:
    return RandomPolicy(make_envs(id, 1).spec)


@pytest.mark.parametrize(
    ("id", "given", "length", "cut"),
    [("Endless-v0", None, 40, 5), ("Endless-v0", 7, 7, 5), ("Limited-v0", None, 60, 0), ("Limited-v0", 7, 7, 5)],
)
def test_an_evaluation_cuts_games_off_and_counts_them(id, given, length, cut):
    result = playfield.evaluate(policy(id), 5, num_envs=2, max_steps=given)
    assert [g.length for g in result.games] == [length] * 5
    assert (result.summary()["cut"], result.summary()["mean"]) == (cut, length)
    told = f"cut off   5 of 5 games, after {length} steps (--max-steps)"
    assert (told in evaluation.report(result)) == bool(cut)


def test_a_time_limit_of_years_is_none(monkeypatch):
    """The evaluation after a training of such an environment never ended."""
    for limit, length in ((50, 50), (51, 40), (10**9, 40)):
        monkeypatch.setattr(family, "LONGEST", 50)
        gymnasium.register("Years-v0", entry_point=Endless, max_episode_steps=limit)
        result = playfield.evaluate(policy("Years-v0"), 2)
        assert [g.length for g in result.games] == [length] * 2
        assert result.cut == (0 if length == limit else 2)
        del gymnasium.registry["Years-v0"]


def test_a_cut_is_a_truncation_of_that_environment_alone():
    env = make_from(policy("Endless-v0").spec, 2, max_steps=3)
    env.reset(np.arange(2))
    for t in range(1, 8):
        record = env.step(np.zeros(2, int))
        assert record.truncated.tolist() == [t % 3 == 0] * 2
        assert not record.terminated.any()
        assert record.next_obs[:, 0].tolist() == [(t - 1) % 3 + 1] * 2
        assert record.obs[:, 0].tolist() == [t % 3] * 2
    with pytest.raises(UsageError, match="ends every game after a number of steps of its own"):
        make_from(make_envs("CartPole-v1", 1).spec, 1, max_steps=5)


def test_training_cuts_nothing():
    env = make_envs("Endless-v0", 1)
    env.reset(np.arange(1))
    assert not any(env.step(np.zeros(1, int)).episodes for _ in range(100))


def test_films_and_explanations_come_to_an_end(caplog):
    player = Player(policy("Endless-v0"), 0)
    with caplog.at_level(logging.WARNING, "playfield"):
        moments = list(player.moments(0, 1))
    assert [m.over for m in moments] == ([False] * 39 + [True]) * 2
    assert "game 2 of Endless-v0 was cut off after 40 steps" in caplog.text


def test_progress_is_told_while_the_first_game_goes_on(monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "FIRST_LINE", 0.0)
    monkeypatch.setattr(evaluation, "NEXT_LINE", 0.0)
    assert main(["eval", "Endless-v0", "--agent", "random", "--games", "2", "--max-steps", "30"]) == 0
    out = capsys.readouterr().out
    assert "evaluation: 0 of 2 games, 2 steps so far" in out
    assert "cut off   2 of 2 games, after 30 steps (--max-steps)" in out
    assert main(["eval", "Endless-v0", "--agent", "random", "--games", "2", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["cut"], summary["max_steps"], summary["scores"]) == (2, 40, [40.0, 40.0])


def test_a_training_of_an_endless_game_ends_with_evaluation_and_film(capsys):
    words = ["train", "Endless-v0", "--steps", "256", "--games", "2", "--num-envs", "2", "--rollout-steps", "32"]
    assert main([*words, "--run", "run"]) == 0
    out = capsys.readouterr().out
    assert "cut off   2 of 2 games, after 40 steps" in out
    assert "film of the best game" in out
