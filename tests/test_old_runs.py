"""Runs made by playfield 0.1.0 before its modules moved into rooms: they resume, and end with the same bits."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import playfield
from playfield.compute import versions

RUNS = Path(__file__).parent / "runs_before_the_move"


@pytest.mark.parametrize("name", sorted(p.name for p in RUNS.iterdir()))
def test_an_old_run_ends_with_the_hash_that_the_old_code_gave(name, tmp_path):
    run = tmp_path / name
    shutil.copytree(RUNS / name, run)
    expected = json.loads((run / "expected.json").read_text())
    result = playfield.train(resume=run, games=0, film=False, console=False, tensorboard=False)
    assert result.steps == expected["steps"]
    policy = playfield.load_policy(run)
    assert policy.explain(playfield.make_envs(policy.spec.id, 2).reset([1, 2]))["value"].shape == (2,)
    made_with = json.loads((RUNS / name / "run.json").read_text())["versions"]
    if made_with == versions():  # other versions of torch or numpy, or another processor, may round otherwise
        assert result.hash == expected["hash"]
    else:
        assert json.loads((run / "run.json").read_text())["exact"] is False
