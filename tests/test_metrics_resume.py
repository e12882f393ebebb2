"""metrics.csv and monitor.csv of a run that was killed in a save and resumed: each cell as in one left alone."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import playfield
from playfield.runs import catalog, storage

OPTIONS = {"console": False, "tensorboard": False, "games": 0, "film": False}
SMALL = {"num_envs": 4, "rollout_steps": 16, "capacity": 2_000, "learning_starts": 200, "batch_size": 16}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package catches it."""


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a table, without its cells that hold a time."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return [{k: v for k, v in row.items() if k != "t" and not k.startswith("time/")} for row in csv.DictReader(lines)]


QUICK = ("dqn", "mrp", "ppo", "sarsa_lambda")  # one of each kind of loop


@pytest.mark.parametrize(
    "algo", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in catalog.algorithms()]
)
def test_a_run_killed_in_a_save_has_every_cell(algo, tmp_path, monkeypatch):
    known = {o.name for o in catalog.options(algo)}
    config = {name: value for name, value in SMALL.items() if name in known}
    if algo == "sarsa_lambda":
        config["alpha"] = 0.003  # with four environments the default diverges
    asked = {"env": "CartPole-v1", "algo": algo, "steps": 1_300, "seed": 3, "config": config, **OPTIONS}
    if algo == "mrp":
        asked["steps"] = 2_600  # its values are measured every 2,000 steps, and stand in the rows between
    whole = playfield.train(**asked, run=tmp_path / "whole")

    saves = iter(range(100))

    def kill_in_the_ninth_save(point: str) -> None:
        if point == "fsync tensors.safetensors" and next(saves) == 8:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(storage, "fault_point", kill_in_the_ninth_save)
        with pytest.raises(Killed):
            playfield.train(**asked, run=tmp_path / "killed")
    before = len(rows(tmp_path / "killed" / "metrics.csv"))
    resumed = playfield.train(resume=tmp_path / "killed", **OPTIONS)
    assert resumed.hash == whole.hash
    for table in ("metrics.csv", "monitor.csv"):
        assert rows(tmp_path / "killed" / table) == rows(tmp_path / "whole" / table), table
    found = rows(tmp_path / "killed" / "metrics.csv")
    assert 2 <= before < len(found)
    if algo == "mrp":
        assert all(row["value/error"] for row in found if int(row["step"]) > 2_100)
