"""What a first session meets: a result stands for its run, long work is not silent, a stop is no failure."""

import io
import itertools
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import playfield
from playfield.cli import main
from playfield.cli._tuning import importances
from playfield.experiments import progress
from playfield.experiments.job import Job
from playfield.runs.console import Console
from playfield.show import explain

SMALL = {"steps": 512, "num_envs": 2, "rollout_steps": 32, "film": False, "quiet": True, "games": 0}


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    return playfield.train("CartPole-v1", run=tmp_path_factory.mktemp("newcomer") / "run", **SMALL)


def test_a_result_stands_for_its_run(result, tmp_path):
    assert Path(result) == result.directory
    policy = playfield.load_policy(result)
    assert str(result.directory) in policy.label
    assert len(playfield.evaluate(result, games=2).games) == 2
    assert [r["run"] for r in playfield.list_runs(result)] == [str(result.directory)]
    assert playfield.record(result, steps=2, out=tmp_path / "a.gif") == [tmp_path / "a.gif"]
    assert playfield.train(resume=result, steps=640, film=False, quiet=True).steps == 640


def test_a_rollout_beyond_the_last_step_is_not_more_than_all():
    out = io.StringIO()
    console = Console("ppo", 1000, out)
    console.log(1024, {"train/loss": 1.0})
    console.close()
    assert "1,024 of 1,000 steps (100%)" in out.getvalue()


def test_an_explanation_that_takes_long_says_how_far_it_is(result, tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 3))
    monkeypatch.setattr(explain.time, "monotonic", lambda: next(clock))
    lines: list[str] = []
    explain.explain(str(result.directory), moments=2, out=tmp_path / "why", say=lines.append)
    assert lines[0] == "playing a game: 1 steps so far"
    assert lines[-1] == "explaining moment 2 of 2"


@pytest.mark.parametrize(("seconds", "told"), [(0.0, False), (2.0, True)])
def test_only_work_of_two_seconds_says_how_far_it_is(seconds, told, result, tmp_path, capsys, monkeypatch):
    clock = itertools.count(0.0, seconds)  # it is looked at before the work and at each line that could be said
    monkeypatch.setattr(explain, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert main(["explain", str(result.directory), "--moments", "1", "--out", str(tmp_path / "why")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("wrote ")
    assert (len(lines) > 1) is told


def test_importances_of_few_trials_say_so():
    found = {"lr": 0.7, "vf_coef": 0.296, "clip": 0.004}
    assert importances(found, 19) == "importances (from 19 trials, too few to rely on): lr 70%, vf-coef 30%"
    assert importances(found, 20) == "importances: lr 70%, vf-coef 30%"


def test_lines_come_now_and_then():
    lines: list[str] = []
    say = explain.now_and_then(lines.append, 0.05)
    say("too early")
    time.sleep(0.06)
    say("one")
    say("at once")
    assert lines == ["one"]
    explain.now_and_then(None, 0.0)("nobody listens")


@pytest.mark.parametrize("code", [128 + s for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)])
def test_a_training_that_was_stopped_did_not_fail(code, result, capsys):
    job = Job("CartPole-v1", "ppo", (), 1, 99_999, result.directory)
    with progress.Progress([job]) as shown:
        shown.ended(job, code)
        shown.ended(job, 6)
    stopped, failed = capsys.readouterr().err.splitlines()
    assert stopped.startswith("ppo on CartPole-v1, seed 1: stopped at step ")
    assert stopped.endswith(" and saved; 0 of 1 runs")
    assert "ended with exit status 6" in failed


def test_a_training_that_was_stopped_while_it_began(tmp_path, capsys):
    job = Job("CartPole-v1", "ppo", (), 1, 99_999, tmp_path / "none")
    with progress.Progress([job]) as shown:
        shown.ended(job, -signal.SIGTERM)
        shown.ended(job, -signal.SIGKILL)
    stopped, killed = capsys.readouterr().err.splitlines()
    assert stopped == "ppo on CartPole-v1, seed 1: stopped before it began; 0 of 1 runs"
    assert "ended with exit status -9" in killed
