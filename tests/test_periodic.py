"""Evaluations during a training: they change nothing of it, and are the same after a kill."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import Any

import pytest

import playfield
from playfield.cli import main
from playfield.errors import DataError, UsageError
from playfield.play.agent import load_policy
from playfield.runs import fence
from playfield.runs.info import read_info
from playfield.runs.logger import EVALUATIONS, read_evaluations
from playfield.show import plots
from playfield.training import periodic

QUIET: dict[str, Any] = {"games": 0, "film": False, "console": False, "tensorboard": False}


def rows(directory: Path) -> list[dict[str, str]]:
    with (directory / EVALUATIONS).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("algo", ["ppo", "dqn", "rainbow", "sarsa", "pqn", "random"])
def test_the_training_is_the_same_with_and_without(algo: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"algo": algo, "steps": 2048, "seed": 3, **QUIET}
    if algo in ("dqn", "rainbow"):
        asked |= {"config": {"learning_starts": 256, "capacity": 2_000, "train_period": 16}, "workers": 2}
    plain = playfield.train("CartPole-v1", run=tmp_path / "a", **asked)
    watched = playfield.train("CartPole-v1", run=tmp_path / "b", eval_every=1024, eval_games=2, **asked)
    assert plain.hash == watched.hash
    assert [(int(r["step"]) // 1024, r["games"]) for r in rows(tmp_path / "b")] == [(1, "2"), (2, "2")]
    assert not (tmp_path / "a" / EVALUATIONS).exists()
    assert "eval_every" not in read_info(tmp_path / "a")


def test_the_rows_are_evaluations_of_the_weights_of_then(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"steps": 2048, "run": tmp_path / "r", "eval_every": 1000, "eval_games": 5, **QUIET}
    playfield.train("CartPole-v1", save_seconds=0.0, keep=9, **asked)
    found = rows(tmp_path / "r")
    assert [int(row["step"]) for row in found] == [1024, 2048]  # the first rollouts after 1,000 and 2,000
    for row in found:
        again = playfield.evaluate(load_policy(tmp_path / "r", row["step"]), games=5).summary()
        assert (float(row["mean"]), float(row["low"]), float(row["high"])) == (again["mean"], *again["ci95"])
        assert [float(row[k]) for k in ("median", "lower_quartile", "std")] == [
            again[k] for k in ("median", "lower_quartile", "std")
        ]
    assert [e[:2] for e in read_evaluations(tmp_path / "r" / EVALUATIONS)] == [
        (int(row["step"]), float(row["mean"])) for row in found
    ]


def test_a_killed_run_has_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It dies after an evaluation that no checkpoint has seen: the row is dropped, and written again."""
    asked: dict[str, Any] = {"steps": 6144, "eval_every": 1024, "eval_games": 5, "seed": 2, "keep": 20, **QUIET}
    whole = playfield.train("CartPole-v1", run=tmp_path / "whole", save_seconds=0.0, **asked)
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    for name in (4096, 5120, 6144):
        shutil.rmtree(tmp_path / "cut" / "checkpoints" / f"ckpt-{name:012d}")
    (tmp_path / "cut" / "checkpoints" / "last").unlink(missing_ok=True)
    with (tmp_path / "cut" / EVALUATIONS).open("a") as file:
        file.write("6144,9")  # a write that was cut off
    resumed = playfield.train(resume=tmp_path / "cut", **QUIET)
    assert resumed.hash == whole.hash
    assert (tmp_path / "cut" / EVALUATIONS).read_bytes() == (tmp_path / "whole" / EVALUATIONS).read_bytes()
    assert len(rows(tmp_path / "whole")) == 6


def test_the_words_the_command_and_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    drawn: list[Any] = []
    draw = plots.learning_curve
    monkeypatch.setattr(plots, "learning_curve", lambda *a, **k: (drawn.append(k["evals"]), draw(*a, **k)))
    words = ["train", "CartPole-v1", "--steps", "2048", "--games", "5", "--no-film", "--run", "r"]
    assert main([*words, "--eval-every", "1k", "--eval-games", "6"]) == 0
    assert "evaluation at step 1,024: mean score " in capsys.readouterr().out
    assert "--eval-every 1000 --eval-games 6" in Path("r/command.txt").read_text()
    [evals] = drawn
    assert [e[0] for e in evals] == [1024, 2048, 2048]  # two during the training, and the one at its end
    assert main(["train", "--resume", "r", "--steps", "3k", "--eval-every", "5"]) == 2
    assert "--eval-every is part of the run" in capsys.readouterr().err


@pytest.mark.parametrize("value", [0, -1, 1.5, "many"])
def test_what_is_no_number_of_steps(value: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"eval.every"):
        playfield.train("CartPole-v1", steps=10, run=tmp_path / "r", eval_every=value)
    assert not (tmp_path / "r").exists()


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    path = tmp_path / "evaluations.csv"
    assert read_evaluations(path) == []
    path.write_text("step,mean\n5,much\n")
    with pytest.raises(DataError, match=r"evaluations\.csv"):
        read_evaluations(path)


def test_a_run_that_went_on_elsewhere_meanwhile_gets_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The games of an evaluation take their time; a second row for its step would be that of the later attempt."""
    run = tmp_path / "run"
    fence.advance(run)
    monkeypatch.setenv(fence.VARIABLE, f"1:{run}")
    evaluate = periodic.evaluate

    def slow(*given: Any) -> Any:
        found = evaluate(*given)
        fence.advance(run)
        return found

    monkeypatch.setattr(periodic, "evaluate", slow)
    with pytest.raises(fence.FencedError):
        playfield.train("CartPole-v1", steps=1024, run=run, eval_every=500, eval_games=1, **QUIET)
    assert not (run / EVALUATIONS).exists()
