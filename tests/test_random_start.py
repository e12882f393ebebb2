"""Evaluation of games that begin with random actions: each game its own, and never taken for the run's score."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

import playfield
from game_replays import CARTPOLE, replay
from playfield.cli import main
from playfield.envs import make_envs
from playfield.play.evaluate import evaluate, report, table
from playfield.play.policy import RandomPolicy


class Right:
    """Always action 1: its games of CartPole last 8 to 10 steps."""

    spec, label = CARTPOLE, "right"

    def act(self, obs, uniform=None):
        return np.ones(len(obs), np.int64)

    def explain(self, obs):
        return {}


def own_actions(result):
    """The actions of each game without those of earlier games in its environment."""
    before: dict[int, int] = {}
    found = []
    for game in result.games:
        found.append(game.actions[before.get(game.seed, 0) :])
        before[game.seed] = len(game.actions)
    return found


@pytest.mark.parametrize("num_envs", [1, 3, 12])
def test_each_game_begins_with_its_own_random_actions_and_they_count(num_envs):
    result = evaluate(Right(), 12, num_envs=num_envs, random_steps=4)
    games = own_actions(result)
    assert all((actions[4:] == 1).all() for actions in games)
    assert len({tuple(actions[:4].tolist()) for actions in games}) > 5
    assert [len(actions) for actions in games] == [game.length for game in result.games]
    for game in result.games:
        assert game.score == game.length  # CartPole's reward is 1 in each step, random or not
        assert replay(CARTPOLE, game) == (game.score, game.length, 0)


def test_the_seed_decides_them():
    def found(seed):
        return [actions.tolist() for actions in own_actions(evaluate(Right(), 5, seed=seed, random_steps=4))]

    assert found(1) == found(1)
    assert [a[:4] for a in found(1)] != [a[:4] for a in found(2)]


def test_with_none_nothing_changes_and_with_many_the_games_are_random_ones():
    plain = evaluate(Right(), 7, num_envs=2)
    assert evaluate(Right(), 7, num_envs=2, random_steps=0).scores.tolist() == plain.scores.tolist()
    random = evaluate(RandomPolicy(CARTPOLE), 7, num_envs=2)
    assert evaluate(Right(), 7, num_envs=2, random_steps=10_000).scores.tolist() == random.scores.tolist()


def test_the_report_the_table_and_the_json_say_so():
    plain, begun = evaluate(Right(), 5), evaluate(Right(), 5, random_steps=3)
    assert (plain.summary()["random_steps"], begun.summary()["random_steps"]) == (0, 3)
    assert "3 random steps, then the agent plays" in report(begun)
    assert "random steps" not in report(plain)
    assert table([begun]).endswith("right, after 3 random steps")


def test_the_human_scale_is_for_games_without_such_steps():
    """A human's score, and that of random play, are of games that the player begins."""
    with contextlib.closing(make_envs("breakout", 1)) as env:
        player = RandomPolicy(env.spec)
    assert evaluate(player, 1, parts={"cap": 400}).human_normalized is not None
    assert evaluate(player, 1, parts={"cap": 400}, random_steps=2).human_normalized is None


def test_the_command_stores_such_scores_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    playfield.train("CartPole-v1", steps=256, run="r", games=6, film=False, quiet=True)
    before = playfield.list_runs("r")[0]
    assert main(["eval", "r", "--games", "7", "--random-steps", "5", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    stored = {path.name for path in Path("r/eval").glob("*.json")}
    assert stored == {"last-t1-seed0-6.json", "last-t1-seed0-7-randomsteps5.json"}
    assert (
        told["random_steps"]
        == json.loads(Path("r/eval/last-t1-seed0-7-randomsteps5.json").read_text())["random_steps"]
    )
    assert playfield.list_runs("r")[0] == before
    assert (before["scored"], before["games"]) == ("evaluation", 6)
    assert main(["eval", "r", "--random-steps", "-1"]) == 2
    assert "--random-steps" in capsys.readouterr().err
