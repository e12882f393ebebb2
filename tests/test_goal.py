"""Stops at a target score, and checkpoints at every tenth of a run."""

from __future__ import annotations

import csv
import json
import math
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import playfield
from playfield.algos import ppo
from playfield.cli import main
from playfield.errors import UsageError
from playfield.runs import goal
from playfield.runs.goal import Goal
from ppo_runs import SMALL, Corridor, run_for

CONFIG = {"num_envs": 4, "rollout_steps": 32, "epochs": 2, "minibatches": 2}
QUIET = {"games": 0, "film": False, "tensorboard": False, "console": False, "workers": 1}


def info(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def monitor(run: Path) -> list[tuple[int, float]]:
    """(step, score) of every game, as written for other tools."""
    with open(run / "monitor.csv", newline="") as file:
        next(file)
        return [(int(row["step"]), float(row["r"])) for row in csv.DictReader(file)]


def metrics(run: Path) -> list[dict]:
    with open(run / "metrics.csv", newline="") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def first_round_at(games: list[tuple[int, float]], score: float, last: int, per_round: int) -> int:
    """The step of the first round after which the mean of the `last` games is at least `score`."""
    for step in range(per_round, games[-1][0] + per_round, per_round):
        ended = [s for at, s in games if at <= step]
        if len(ended) >= last and sum(ended[-last:]) / last >= score:
            return step
    raise AssertionError("never")


def small(run: Path, steps: int = 40_000, **wishes) -> playfield.session.Result:
    return playfield.train("CartPole-v1", run=run, steps=steps, config=CONFIG, **{**QUIET, **wishes})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-30, 30), max_size=30), st.integers(1, 12), st.integers(-30, 30))
def test_reached_is_the_mean_of_the_last_games(scores, games, score):
    last = scores[-games:]
    expected = len(scores) >= games and sum(last) >= score * games
    assert Goal(score, games).reached([float(s) for s in scores]) == expected


@pytest.mark.parametrize(("score", "games"), [(26.0, 30), (22.0, 110)])
def test_training_ends_at_the_first_round_that_reaches_it(tmp_path, score, games):
    """Also over more games than the books otherwise keep."""
    lines: list[str] = []
    run = tmp_path / "run"
    result = small(run, target_score=score, target_games=games, say=lines.append)
    assert result.steps == first_round_at(monitor(run), score, games, 128) < 40_000
    assert result.stop == info(run)["result"]["stop"] == "target"
    assert info(run)["target"] == {"score": score, "games": games}
    closing = next(line for line in lines if line.startswith("target reached"))
    assert f"a mean of {score:g} over the last {games} games" in closing
    assert f"{result.steps:,} of at most 40,000 steps" in closing
    assert any("--target-score none" in line for line in lines)
    newest = (run / "checkpoints" / "last").read_text().strip()
    assert newest == f"ckpt-{result.steps:012d}"
    assert int(metrics(run)[-1]["step"]) == result.steps
    mean = sum(s for _, s in monitor(run)[-games:]) / games
    assert float(metrics(run)[-1]["rollout/target_mean"]) == pytest.approx(mean)


def test_steps_stay_the_limit_and_the_closing_line_says_so(tmp_path):
    lines: list[str] = []
    result = small(tmp_path / "run", 1024, target_score=499, say=lines.append)
    assert (result.steps, result.stop) == (1024, "steps")
    assert info(tmp_path / "run")["result"]["stop"] == "steps"
    assert any("without reaching the target, a mean of 499 over the last 100 games" in line for line in lines)


def test_a_target_that_is_not_reached_changes_nothing(tmp_path):
    assert small(tmp_path / "with", 512, target_score=499).hash == small(tmp_path / "without", 512).hash


def test_fewer_games_than_the_target_asks_for_never_reach_it(tmp_path):
    result = small(tmp_path / "run", 1024, target_score=-5, target_games=1000)
    assert (result.steps, result.stop) == (1024, "steps")


@pytest.mark.parametrize("at", [3, 12])
def test_killed_on_the_way_it_stops_at_the_same_step(tmp_path, at, monkeypatch):
    """With a window of more than 100 games: a resumed run must still know them."""
    wishes = {"target_score": 22, "target_games": 110}
    alone, killed = tmp_path / "alone", tmp_path / "killed"
    whole = small(alone, **wishes)
    assert whole.steps > 128 * at

    class Killed(BaseException):
        pass

    from playfield.runs.run import Run

    plain, rounds = Run._after_rollout, []

    def dies(self, per_round):
        plain(self, per_round)
        rounds.append(self.step)
        if self.directory == killed and self.step == 128 * at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_after_rollout", dies)
        with pytest.raises(Killed):
            small(killed, **wishes, save_seconds=0)
    resumed = playfield.train(resume=killed, save_seconds=60.0, **{k: v for k, v in QUIET.items() if k != "workers"})
    assert (resumed.steps, resumed.stop, resumed.hash) == (whole.steps, "target", whole.hash)
    assert metrics(killed) == metrics(alone)
    assert monitor(killed) == monitor(alone)


def test_a_run_that_reached_its_target_trains_no_further(tmp_path):
    quiet = {k: v for k, v in QUIET.items() if k != "workers"}
    before = small(tmp_path / "run", target_score=26, target_games=30)
    again = playfield.train(resume=tmp_path / "run", **quiet)
    assert (again.steps, again.hash, again.stop) == (before.steps, before.hash, "target")


def test_resuming_may_change_or_lift_the_target(tmp_path):
    run, lines = tmp_path / "run", []
    quiet = {k: v for k, v in QUIET.items() if k != "workers"}
    first = small(run, target_score=26, target_games=30)
    second = playfield.train(resume=run, target_score=30, say=lines.append, **quiet)
    assert second.steps == first_round_at(monitor(run), 30, 30, 128) > first.steps
    assert any("the target is now a mean of 30 over the last 30 games" in line for line in lines)
    third = playfield.train(resume=run, target_score=math.inf, steps=second.steps + 256, **quiet)
    assert (third.steps, third.stop) == (second.steps + 256, "steps")
    changes = [e for e in info(run)["extensions"] if e.get("what") == "target"]
    assert [(c["at"], c["from"], c["to"]) for c in changes] == [
        (first.steps, {"score": 26.0, "games": 30}, {"score": 30.0, "games": 30}),
        (second.steps, {"score": 30.0, "games": 30}, None),
    ]


def test_the_command_that_repeats_a_run_has_its_target(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = small(tmp_path / "run", target_score=-1.5, target_games=7)
    words = (tmp_path / "run" / "command.txt").read_text().split()[1:]
    assert main([*words, "--run", "again", "--quiet", "--games", "0", "--no-tensorboard"]) == 0
    assert info(Path("again"))["result"]["hash"] == first.hash


@pytest.mark.parametrize("algo", ["dqn", "a2c", "random"])
def test_every_algorithm_has_it(tmp_path, algo):
    config = {"learning_starts": 200} if algo == "dqn" else {}
    wishes = {"target_score": 5, "target_games": 3, **QUIET}
    result = playfield.train("CartPole-v1", algo, run=tmp_path / "run", steps=4096, config=config, **wishes)
    assert result.stop == "target"
    assert result.steps < 4096
    assert len(monitor(tmp_path / "run")) >= 3


MISTAKES = [
    (["--target-score", "many"], "takes a number, or none, not 'many'"),
    (["--target-score", "nan"], "takes a number, or none"),
    (["--target-score", "inf"], "takes a number, or none"),
    (["--target-score", "5", "--target-games", "0"], "must be between 1"),
    (["--target-score", "5", "--target-games", "1.5"], "whole number"),
    (["--target-games", "5"], "needs --target-score"),
    (["--target-scor", "5"], "did you mean --target-score"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_is_one_line_and_leaves_nothing(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "CartPole-v1", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n"), os.listdir(tmp_path)) == ("", 1, [])


@pytest.mark.parametrize(
    "wishes",
    [{"target_score": math.nan}, {"target_score": "5"}, {"target_games": 5}, {"target_score": 5, "target_games": 0}],
)
def test_mistakes_in_python_too(tmp_path, wishes):
    with pytest.raises(UsageError, match=r"target.games|target-score"):
        small(tmp_path / "run", **wishes)
    assert os.listdir(tmp_path) == []


def test_none_on_the_command_line_is_no_target():
    assert goal.requested(goal.parse_score("none"), None) is None
    assert goal.changed(Goal(5.0), goal.parse_score("None"), None) is None
    assert goal.changed(Goal(5.0, 7), None, 9) == Goal(5.0, 9)
    assert goal.parse_score("-110") == -110


# Ten checkpoints along the way ---------------------------------------------------------------------------


def saved_at(tmp_path: Path, rounds: int, **more) -> list[int]:
    env, total = Corridor(1, 5, "end"), SMALL.batch * rounds
    make = lambda n: Corridor(n, 5, "end")  # noqa: E731
    run = run_for(env.spec, make, SMALL, total, directory=tmp_path, keep=100, **more)
    ppo.train(run, SMALL)
    run.close()
    return [int(p.name[5:]) // SMALL.batch for p in sorted((tmp_path / "checkpoints").glob("ckpt-*"))]


@pytest.mark.parametrize(("rounds", "expected"), [(20, list(range(2, 21, 2))), (3, [1, 2, 3]), (13, None)])
def test_a_run_is_saved_ten_times_however_short(tmp_path, rounds, expected, one_thread):
    saved = saved_at(tmp_path, rounds)
    assert saved[-1] == rounds
    if expected is None:  # at the first round past each tenth
        expected = sorted({-(-rounds * k // 10) for k in range(1, 11)})
        assert len(expected) == 10
    assert saved == expected


def test_the_clock_still_saves_in_between(tmp_path, one_thread):
    assert saved_at(tmp_path, 20, save_seconds=0.0) == list(range(1, 21))
