"""Time to a score in a comparison, against times that are known."""

from __future__ import annotations

import csv
import io
import json
import math
import statistics

import pytest

from compare_runs import write_run
from playfield.cli import main
from playfield.experiments import compare, until

C = "CartPole-v1"


def runs(root, algo, firsts, window=2, total=1000, env=C):
    """Runs whose games score 0 until one reaches 9 at step `first` for the first time; None: never."""
    for seed, first in enumerate(firsts, 1):
        games = [(s, 9.0 if first is not None and s >= first else 0.0) for s in range(100, total + 1, 100)]
        write_run(root / env / algo / str(seed), env, algo, seed, games, total)


def found(root, score, window=2):
    return until.find(compare.read(root, window).curves, score, window)


def test_the_first_step_at_which_the_mean_of_the_window_is_reached(tmp_path):
    runs(tmp_path, "dqn", [300, 500, 800])
    (one,) = found(tmp_path, 9.0)  # two games of 9 end 100 steps after the first
    assert (one.seeds, one.steps) == ((1, 2, 3), (400, 600, 900))
    assert one.seconds == tuple(s / 500 for s in one.steps)
    assert one.reached == 3
    assert one.as_dict()["median_steps"] == statistics.median([400, 600, 900])
    (half,) = found(tmp_path, 4.5)
    assert half.steps == (300, 500, 800)
    (three,) = found(tmp_path, 9.0, window=3)
    assert three.steps == (500, 700, 1000)


def test_fewer_games_than_the_window_reach_nothing(tmp_path):
    """The mean of a single lucky game is no mean of a hundred."""
    write_run(tmp_path / C / "dqn" / "1", C, "dqn", 1, [(100, 9.0), (200, 9.0), (300, 0.0), (1000, 0.0)], 1000)
    assert found(tmp_path, 9.0, window=3)[0].steps == (math.inf,)
    write_run(tmp_path / "2" / C / "dqn" / "1", C, "dqn", 1, [(100, 9.0), (200, 9.0)], 1000)
    assert found(tmp_path / "2", 9.0, window=3)[0].steps == (math.inf,), "the end of the run is no game"
    assert found(tmp_path / C, 6.0, window=3)[0].steps == (300,)


@pytest.mark.parametrize(
    ("firsts", "median"),
    [([300, None, 500], 600), ([300, None, None], None), ([None, None], None), ([None, 300], None)],
)
def test_a_training_that_never_gets_there_counts_as_the_longest(tmp_path, firsts, median):
    runs(tmp_path, "dqn", firsts)
    told = found(tmp_path, 9.0)[0].as_dict()
    assert told["median_steps"] == median
    assert told["reached"] == sum(f is not None for f in firsts)
    assert [s is None for s in told["steps"]] == [f is None for f in firsts]


def test_every_output_has_it(tmp_path, capsys):
    runs(tmp_path, "dqn", [300, None, 500])
    runs(tmp_path, "ppo", [200, 200, 400])
    words = ["compare", "--dir", str(tmp_path), "--window", "2", "--until", "9"]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["until"]
    assert [(r["label"], r["reached"], r["median_steps"], r["steps"]) for r in told["rows"]] == [
        ("dqn", 2, 600, [400, None, 600]),
        ("ppo", 3, 300, [300, 300, 500]),
    ]
    assert main([*words, "--table", "md"]) == 0
    out = capsys.readouterr().out
    assert "| CartPole-v1 | dqn | 2 of 3 | 600 | 400 to never |" in out
    assert "| CartPole-v1 | ppo | 3 of 3 | 300 | 300 to 500 |" in out
    assert "mean of the last 2 training games was 9 or more" in out
    assert main([*words, "--table", "csv"]) == 0
    rows = [r for r in csv.DictReader(io.StringIO(capsys.readouterr().out)) if r["table"] == "until"]
    assert [(r["algorithm"], r["statistic"], r["value"], r["low"], r["high"]) for r in rows[:2]] == [
        ("dqn", "reached", "2", "", ""),
        ("dqn", "median steps", "600.0", "400.0", ""),
    ]
    assert main(words) == 0
    assert "400 to never" in capsys.readouterr().out


def test_it_is_a_score_of_one_environment(tmp_path, capsys):
    runs(tmp_path, "dqn", [300])
    runs(tmp_path, "dqn", [300], env="Acrobot-v1")
    for words in (
        ["--dir", str(tmp_path)],
        [C, "Acrobot-v1", "--algo", "ppo", "--steps", "1000", "--dir", str(tmp_path / "new")],
    ):
        assert main(["compare", *words, "--until", "9"]) == 2
        assert "--until is a score of one environment: name one of" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
