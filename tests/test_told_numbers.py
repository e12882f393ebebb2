"""Scores and intervals as they are told: enough digits, inside what is possible, and none where there are too few."""

from __future__ import annotations

import json
import math
from typing import Any

import gymnasium
import numpy as np
import pytest

import playfield
from playfield.cli import main
from playfield.cli.train import understand
from playfield.envs import make_envs
from playfield.envs.family import family
from playfield.envs.names import default_algo, registry
from playfield.errors import UsageError
from playfield.experiments import compare
from playfield.play.evaluate import FEW, Evaluation, Game, report
from playfield.play.statistics import t_interval
from playfield.runs.console import format_scores
from playfield.show.compare_plot import Line, _shown
from playfield.show.explain import pick_moments


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ((333.44, 320.4, 345.6), ["333.4", "320.4", "345.6"]),
        ((0.742, 0.7, 0.78), ["0.742", "0.700", "0.780"]),
        ((0.0042, 0.001), ["0.00420", "0.00100"]),
        ((-0.05, 0.999), ["-0.050", "0.999"]),
        ((7.92,), ["7.92"]),
        ((9.999, -3.0), ["10.00", "-3.00"]),
        ((1.0, 0.5), ["1.000", "0.500"]),
        ((10.0, 0.5), ["10.00", "0.50"]),
        ((0.0, 0.0), ["0.0", "0.0"]),
        ((12.0, 0.001), ["12.0", "0.0"]),
        ((math.nan,), ["nan"]),
        ((1e-30,), ["0.000000000"]),
    ],
)
def test_scores_have_three_digits_together(scores: tuple[float, ...], words: list[str]) -> None:
    assert format_scores(*scores) == words


def played(scores: list[float]) -> Evaluation:
    games = [Game(s, 10, 0, i, np.zeros(10, np.int64)) for i, s in enumerate(scores)]
    return Evaluation("FrozenLake-v1", "toy", {"time_limit": 100}, games, 0, 1.0, None)


def test_scores_between_0_and_1_are_told_apart() -> None:
    text = report(played([1.0] * 7 + [0.0] * 3))
    assert "mean score 0.700 over 10 full games (95 % interval 0.400 to 1.000; median 1.000" in text


def test_too_few_games_have_no_interval_in_words_as_in_json() -> None:
    few, enough = played([0.0] * (FEW - 1)), played([0.0] * FEW)
    assert few.summary()["ci95"] is None
    assert "too few games for an interval" in report(few)
    assert enough.summary()["ci95"] == [0.0, 0.0]
    json.dumps(few.summary(), allow_nan=False)


def test_a_training_with_few_games_draws_its_curve(tmp_path) -> None:
    result = playfield.train("CartPole-v1", steps=1024, games=2, film=False, run=tmp_path / "r", console=False)
    assert result.evaluation["ci95"] is None
    assert result.files["curve"].exists()


def test_no_interval_leaves_what_is_possible() -> None:
    """Three runs of Acrobot, one of which has learnt nothing: Student's interval alone would reach -725."""
    limits = family("classic").score_limits("Acrobot-v1")
    scores = np.array([-500.0, -140.0, -110.0])
    assert t_interval(scores)[0] < -700
    assert t_interval(scores)[1] > 200
    assert [float(x) for x in t_interval(scores, limits=limits)] == [-500.0, 0.0]
    assert family("atari").score_limits("breakout") == (-math.inf, math.inf)
    line = Line("toy", 0, np.array([1.0, 2.0]), np.tile(scores[:, None], (2, 2))[:4])
    shown = _shown(line, 0.95, limits)
    assert (shown.min(), shown.max()) >= (-500.0, -110.0)
    assert shown.max() <= 0


def test_the_table_of_a_comparison_is_within_the_limits(tmp_path) -> None:
    for seed, score in enumerate((500, 20, 20)):
        playfield.train(
            "CartPole-v1",
            "random",
            steps=1024,
            seed=seed,
            run=tmp_path / "CartPole-v1" / "random" / str(seed),
            games=0,
            film=False,
            console=False,
            tensorboard=False,
        )
        monitor = tmp_path / "CartPole-v1" / "random" / str(seed) / "monitor.csv"
        lines = monitor.read_text().splitlines()
        head = [line for line in lines if line.startswith("#") or line[0].isalpha()]
        rows = [line.split(",") for line in lines[len(head) :]]
        monitor.write_text("\n".join([*head, *(",".join([str(score), *row[1:]]) for row in rows)]) + "\n")
    [row] = compare.rows(compare.read(tmp_path).curves)
    assert (row["low"], row["high"]) == (0.0, 500.0)


def test_inputs_have_names() -> None:
    spec = make_envs("CartPole-v1", 1).spec
    assert spec.family.input_names(spec.id, 4)[2] == "pole angle"
    assert spec.family.input_names("Acrobot-v1", 6)[1] == "sin angle 1"
    assert family("gymnasium").input_names("Toy-v0", 2) == ("input 1", "input 2")
    assert family("atari").input_names("breakout", 128)[99] == "byte 99"


@pytest.mark.parametrize(
    ("lives", "why"), [(True, "just before a life is lost"), (False, "just before the game ends")]
)
def test_lives_are_spoken_of_where_there_are_any(lives: bool, why: str) -> None:
    picks = pick_moments(None, None, [1.0] * 100, [99], 1, lives=lives)
    assert [pick.why for pick in picks] == [why]


# The algorithm of an environment -------------------------------------------------------------------------


def test_mountain_car_gets_an_algorithm_that_learns_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_algo("MountainCar-v0") == default_algo("mountain_car") == "sarsa"
    assert {default_algo(n) for n in ("CartPole-v1", "breakout", "no such", "module:Id-v0", "MountainCar-v9")} == {
        "ppo"
    }
    assert understand(["MountainCar-v0", "--epsilon", "0.1", "--quiet"])[0]["algo"] == "sarsa"
    assert understand(["--quiet", "MountainCar-v0", "--algo", "ppo"])[0]["algo"] == "ppo"
    assert understand(["CartPole-v1", "--lr", "1e-3"])[0]["algo"] == "ppo"
    assert understand(["CartPole-v1", "--run", str(tmp_path / "x"), "--view", "mountaincar"])[0]["algo"] == "ppo"
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    result = playfield.train("MountainCar-v0", steps=30_000, say=told.append, film=False, console=False, games=10)
    assert result.directory.parts[-2] == "sarsa"
    assert "sarsa is the default here" in "\n".join(told)
    assert result.evaluation["mean"] > -199
    told.clear()
    playfield.train("MountainCar-v0", "ppo", steps=1024, say=told.append, film=False, console=False, games=0)
    assert "PPO learns nothing there: use --algo sarsa" in "\n".join(told)


def test_named_states_get_a_table(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {i for i, spec in registry().items() if str(spec.entry_point).startswith("gymnasium.envs.toy_text")}
    assert {default_algo(name) for name in [*names, "Taxi", "FrozenLake", "CliffWalking"]} == {"qlearning"}
    assert default_algo("blackjack") == default_algo("Blackjack") == "ppo"  # the Atari game
    assert understand(["Taxi-v4", "--epsilon", "0.1"])[0]["algo"] == "qlearning"
    assert understand(["FrozenLake-v1", "--algo", "ppo", "--lr", "1e-3"])[0]["algo"] == "ppo"
    monkeypatch.chdir(tmp_path)
    short: dict[str, Any] = {"film": False, "console": False, "games": 0, "tensorboard": False}
    told: list[str] = []
    result = playfield.train("CliffWalking", steps=15_000, say=told.append, **short)
    assert result.directory.parts[-2] == "qlearning"
    assert result.score > -100
    assert "qlearning is the default here" in "\n".join(told)
    with pytest.raises(UsageError, match=r"no option --clip: it is one of ppo, not of qlearning \(--algo NAME\)"):
        understand(["Taxi-v4", "--clip", "0.1"])
    assert understand(["Taxi-v4", "--lr", "0.2"])[0]["config"] == {"alpha": 0.2}
    assert understand(["CartPole-v1", "--algo", "dqn", "--learning-rate", "0.2"])[0]["config"] == {"lr": 0.2}
    assert understand(["CartPole-v1", "--run", "Taxi", "--lr", "0.1"])[0]["algo"] == "ppo"
    told.clear()
    playfield.train("CliffWalking-v1", "ppo", steps=1024, say=told.append, **short)
    assert "a table of values: use --algo qlearning" in "\n".join(told)
    told.clear()
    gymnasium.register("Own-v0", entry_point="gymnasium.envs.toy_text:CliffWalkingEnv", max_episode_steps=50)
    playfield.train("Own-v0", steps=1024, say=told.append, **short)
    assert "--algo qlearning learns a table" in "\n".join(told)


def test_the_page_of_an_explanation_names_inputs(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    playfield.train("CartPole-v1", steps=512, run="r", games=0, film=False, console=False, tensorboard=False)
    assert main(["explain", "r", "--moments", "2"]) == 0
    page = (tmp_path / "r" / "explain" / "explain.html").read_text()
    assert "life" not in page
    assert "With input" not in page
    assert any(f"With {name} at its mean" in page for name in family("classic").input_names("CartPole-v1", 4))
