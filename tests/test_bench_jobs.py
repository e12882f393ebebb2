"""`playfield bench jobs`: how many trainings at once a machine carries."""

from __future__ import annotations

import importlib
import inspect

import pytest

from playfield import bench
from playfield.bench import jobs
from playfield.cli import main
from playfield.errors import PlayfieldError, UsageError


def test_both_ways_train_what_they_say(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "cores", lambda: 2)
    seen = []

    class Watched(jobs.Local):
        def start(self, job):
            seen.append((job.words, job.seed, job.steps))
            return super().start(job)

    monkeypatch.setattr(jobs, "Local", Watched)
    out = bench.main("jobs", env="CartPole-v1", algo="ppo", steps=2048, rounds=1)
    one, many = "CartPole-v1 --workers 2 --algo ppo", "CartPole-v1 --workers 1 --algo ppo"
    assert [(" ".join(words), seed, steps) for words, seed, steps in seen] == [
        (one, 1, 2048),
        (many, 1, 2048),
        (many, 2, 2048),
    ]
    speeds = out["steps_per_second"]
    assert out["ratio"] == pytest.approx(speeds["many"] / speeds["one"])
    assert "2 trainings at once" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_what_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="pppo"):
        bench.main("jobs", algo="pppo")
    monkeypatch.setattr(jobs, "cores", lambda: 1)
    with pytest.raises(UsageError, match="one core"):
        bench.main("jobs")
    monkeypatch.setattr(jobs, "cores", lambda: 3)
    with pytest.raises(PlayfieldError, match="exit code 2: --minibatches"):  # no third of a minibatch
        bench.main("jobs", env="CartPole-v1", steps=100, rounds=1)
    assert list(tmp_path.iterdir()) == []


def test_the_help_of_a_benchmark_is_its_own(capsys):
    for words, own, others in (
        (["jobs", "--help"], ["--env", "--algo", "--rounds"], ["--vs", "--kills", "--fused", "bench ppo"]),
        (["--kills", "3", "kill", "-h"], ["--kills", "playfield bench kill --env breakout"], ["--vs", "--rounds"]),
        (["--help"], ["--vs", "--kills", "--rounds", "playfield bench ppo --vs sb3"], []),
    ):
        with pytest.raises(SystemExit):
            main(["bench", *words])
        said = capsys.readouterr().out
        assert [one for one in own if one not in said] == []
        assert [one for one in others if one in said] == []
        assert ("Which carries more trainings" in said) == ("jobs" in words)
    for name in bench.names():
        about, known = bench.told_of(name)
        module = importlib.import_module(f"playfield.bench.{name}")
        assert about == inspect.getdoc(module)
        assert known == list(inspect.signature(module.run).parameters)
