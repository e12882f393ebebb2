"""`playfield bench save`: what is saved, in which order, and what is refused."""

from __future__ import annotations

import json

import pytest

from playfield import bench
from playfield.bench import save
from playfield.errors import UsageError
from playfield.runs import checkpoint
from playfield.runs.run import Run


def test_both_runs_save_the_same_but_for_the_replay_buffer(capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    saved, trees = Run.save, []

    def note(run: Run):
        path = saved(run)
        trees.append((run.directory.name, checkpoint.load(run.directory / "checkpoints").tree))
        return path

    monkeypatch.setattr(Run, "save", note)
    out = bench.main("save", steps=64, rounds=2, capacity=1_000, json=True)
    assert json.loads(capsys.readouterr().out) == out
    assert [name for name, _ in trees] == ["with", "without", "without", "with", "with", "without"]
    parts = [tree["parts"] for _, tree in trees]
    assert set(parts[-1]) == {"learner", "target"}
    assert set(parts[-2]) == {"learner", "target", "replay"}
    assert parts[-1]["learner"]["optimizer"]["exp_avg"].any()
    assert parts[-2]["replay"]["count"].sum() == 3 * 64
    assert [len(p["replay"]["files"]["segments"]) for p in parts if "replay" in p] == [1, 2, 3]
    assert out["ratio_min"] <= out["ratio"] <= out["ratio_max"]
    assert out["replay_bytes"] == parts[-2]["replay"]["files"]["segments"][-1]["size"]
    assert list(tmp_path.iterdir()) == []


def test_sizes_that_cannot_be(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wishes in ({"steps": 100}, {"steps": save.ENVS * 10, "capacity": 200}):
        with pytest.raises(UsageError, match="multiple of 16"):
            bench.main("save", **wishes)
    assert list(tmp_path.iterdir()) == []
