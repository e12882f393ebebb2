"""`playfield runs --statistic`, the same on the live page, and what else a score depends on."""

from __future__ import annotations

import csv
import io
import json
import shutil

import numpy as np
import pytest

import playfield
from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import records
from playfield.experiments.live import Reader
from playfield.play.statistics import interval, named
from playfield.show.watch import rundata
from playfield.show.watch.board import Board

SMALL = {"steps": 512, "num_envs": 2, "rollout_steps": 32, "film": False, "tensorboard": False, "quiet": True}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """One run that was evaluated, one that was not and began from its weights."""
    root = tmp_path_factory.mktemp("made")
    playfield.train("CartPole-v1", "ppo", run=root / "1", games=24, **SMALL)
    playfield.train("CartPole-v1", "ppo", run=root / "2", games=0, seed=2, init_from=root / "1", **SMALL)
    return root


def training_scores(run) -> list[float]:
    return [float(line.split(",")[0]) for line in (run / "monitor.csv").read_text().splitlines()[2:]]


@pytest.mark.parametrize("name", ["median", "lower-quartile", "mean-1std"])
def test_the_score_is_that_statistic_of_the_games(name, made):
    one, two = playfield.list_runs(made, statistic=name)
    assert (one["statistic"], two["statistic"]) == (name, name)
    scores = json.loads(next((made / "1/eval").glob("last*.json")).read_text())["scores"]
    assert (one["scored"], one["games"], len(scores)) == ("evaluation", 24, 24)
    assert one["score"] == pytest.approx(float(named(name).of(scores)))
    assert (one["low"], one["high"]) == interval(scores, statistic=named(name))
    scores = training_scores(made / "2")[-100:]
    assert (two["scored"], two["games"]) == ("training", len(scores))
    assert two["score"] == pytest.approx(float(named(name).of(scores)))
    assert two["low"] is None if len(scores) < named(name).enough else two["low"] <= two["score"] <= two["high"]
    assert playfield.runs(made, statistic=name) == [one, two]


def test_a_mean_stays_what_it_was(made):
    plain, asked = playfield.list_runs(made), playfield.list_runs(made, statistic="mean")
    assert plain == asked
    assert [r["statistic"] for r in plain] == ["mean", "mean"]
    told = json.loads(next((made / "1/eval").glob("last*.json")).read_text())
    assert (plain[0]["score"], [plain[0]["low"], plain[0]["high"]]) == (told["mean"], told["ci95"])


def test_an_evaluation_without_its_scores_says_what_it_can(made, tmp_path):
    shutil.copytree(made / "1", tmp_path / "1")
    path = next((tmp_path / "1/eval").glob("last*.json"))
    told = json.loads(path.read_text())
    for scores in (None, "x", [1.0], [float("nan")] * 24, [True] * 24):
        path.write_text(json.dumps({**told, "scores": scores}).replace("NaN", "null"))
        (found,) = playfield.list_runs(tmp_path, statistic="median")
        assert (found["score"], found["low"], found["scored"]) == (told["median"], None, "evaluation")
    path.write_text(json.dumps({key: told[key] for key in told if key not in ("scores", "std")}))
    (found,) = playfield.list_runs(tmp_path, statistic="mean-2std")
    assert found["scored"] == "training", "an evaluation that does not say it is none"


def test_the_order_is_that_of_the_statistic(made):
    found = playfield.list_runs(made, statistic="lower-quartile", sort="score")
    assert [r["score"] for r in found] == sorted((r["score"] for r in found), reverse=True)


def test_the_command_names_it(made, capsys):
    assert main(["runs", str(made), "--statistic", "median"]) == 0
    assert "median score" in capsys.readouterr().out
    assert main(["runs", str(made), "--statistic", "median", "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["statistic"] for row in rows] == ["median", "median"]
    assert main(["runs", str(made), "--statistic", "median", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == playfield.list_runs(made, statistic="median")
    assert main(["runs", str(made), "--statistic", "medain"]) == 2
    assert "--statistic takes mean, median" in capsys.readouterr().err
    with pytest.raises(UsageError, match="statistic takes mean, median"):
        playfield.list_runs(made, statistic="x")
    assert main(["watch", str(made), "--statistic", "x"]) == 2
    assert "--statistic takes mean, median" in capsys.readouterr().err


def test_other_starts_of_games_and_weights_are_shown(made, tmp_path, capsys):
    one, two = playfield.list_runs(made)
    assert (one["init_from"], one["replay_failures"]) == (None, 0.0)
    assert two["init_from"] == str(made / "1")
    shutil.copytree(made, tmp_path / "runs")
    path = tmp_path / "runs/1/run.json"
    info = json.loads(path.read_text())
    info["config"]["replay_failures"] = 0.25
    path.write_text(json.dumps(info))
    one, two = playfield.list_runs(tmp_path / "runs")
    assert one["replay_failures"] == 0.25
    assert records.other_games(one) == ["replay-failures 0.25"]
    assert records.other_games(two) == [f"init-from {made / '1'}"]
    assert main(["runs", str(tmp_path / "runs")]) == 0
    text = "".join(capsys.readouterr().out.split())
    assert "replay-failures0.25" in text
    assert "init-from" in text
    assert main(["runs", str(tmp_path / "runs"), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["init_from"], row["replay_failures"]) for row in rows] == [("", "0.25"), (str(made / "1"), "0.0")]
    shown = [run.cells["options"] for run in Reader(tmp_path / "runs").look().runs]
    assert shown == ["replay-failures 0.25", f"init-from {made / '1'}"]


def test_an_algorithm_without_the_option_has_none(tmp_path):
    playfield.train("CartPole-v1", "random", run=tmp_path / "1", steps=64, games=0, film=False, quiet=True)
    (found,) = playfield.list_runs(tmp_path)
    assert (found["replay_failures"], found["init_from"]) == (None, None)


@pytest.mark.parametrize("name", ["mean", "median", "mean-1std"])
def test_the_live_page_shows_it(name, made):
    one = named(name)
    reader = Reader(made, one)
    row, record = reader.look().runs[0], playfield.list_runs(made, statistic=name)[0]
    assert row.cells["score"] == record["score"]
    expected = one.moving(training_scores(made / "1"), 100)
    assert row.means[: len(expected)] == pytest.approx(expected, abs=1e-9)
    told = rundata.Curve(made / "1", one).look()
    assert told["is"] == f"{name} score"
    assert [mean for _, mean in told["points"]] == pytest.approx(np.round(expected, 3), abs=2e-3)
    board = Board(str(made), reader.look, {}, one)
    assert board.source("0").curve.look() == told if board.state().rows else False


def test_metrics_of_means_are_not_shown_as_another_statistic(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,rollout/ep_rew_mean\n10,1.5\n20,2.5\n")
    assert rundata.Curve(tmp_path).look()["points"] == [[10, 1.5], [20, 2.5]]
    assert rundata.Curve(tmp_path, named("median")).look() is None
