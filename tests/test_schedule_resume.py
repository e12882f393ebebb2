"""Runs with schedules that are stopped and go on, or are made longer: the same bits, and what it means is said."""

from __future__ import annotations

import contextlib
import csv
from pathlib import Path

import pytest

import playfield
from playfield.runs.run import Run
from test_schedules import KINDS

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = {"games": 0, "film": False, "console": False, "tensorboard": False, "save_seconds": 0}
TRAININGS = {
    "ppo": {"num_envs": 2, "rollout_steps": 32, "epochs": 1, "minibatches": 2, "net": "mlp"},
    "dqn": {
        "num_envs": 2,
        "rollout_steps": 32,
        "learning_starts": 64,
        "batch_size": 16,
        "train_period": 8,
        "net": "mlp",
    },
    "pqn": {"num_envs": 2, "rollout_steps": 32, "epochs": 1, "minibatches": 2, "net": "mlp"},
    "sarsa": {"rollout_steps": 64, "features": "identity"},
}


class Enough(Exception):
    pass


def stopped_at(run: Path, step: int, algo: str, steps: int, config: dict, monkeypatch) -> None:
    """A run that ends as by a kill when it has saved the checkpoint of `step`."""
    with monkeypatch.context() as patch:
        save = Run.save

        def saving(self):
            path = save(self)
            if self.step >= step:
                raise Enough
            return path

        patch.setattr(Run, "save", saving)
        with pytest.raises(Enough):
            playfield.train("CartPole-v1", algo, steps=steps, run=run, config=config, **SHORT)


@pytest.mark.parametrize(
    ("algo", "given"),
    [
        *(("ppo", {"lr": text}) for text in KINDS),
        ("ppo", {"clip": "cosine:0.3..0.1", "ent_coef": "linear:0.1..0"}),
        ("dqn", {"epsilon": "piecewise:0=1,0.5=0.1", "lr": "linear:1e-3..0"}),
        ("pqn", {"epsilon": "exp:1..0.01", "lr": "exp:1e-3,rate=0.5,per=64"}),
        ("sarsa", {"epsilon": "linear:0.5..0", "alpha": "cosine:0.1..0.01"}),
    ],
    ids=str,
)
def test_a_run_stopped_within_a_schedule_ends_with_the_same_bits(algo, given, tmp_path, monkeypatch) -> None:
    config = TRAININGS[algo] | given
    whole = playfield.train("CartPole-v1", algo, steps=256, run=tmp_path / "whole", config=config, **SHORT)
    stopped_at(tmp_path / "cut", 128, algo, 256, config, monkeypatch)
    assert playfield.train(resume=tmp_path / "cut", **SHORT).hash == whole.hash
    other = config | {name: value.replace("1e-3", "2e-3").replace("0.1", "0.2") for name, value in given.items()}
    if other != config:
        found = playfield.train("CartPole-v1", algo, steps=256, run=tmp_path / "other", config=other, **SHORT)
        assert found.hash != whole.hash, "the schedule matters"


def test_a_lengthened_run_says_and_records_what_its_schedules_do_and_resumes_exactly(tmp_path, monkeypatch) -> None:
    config = TRAININGS["ppo"] | {"lr": "linear:1e-3..0", "ent_coef": "exp:0.1,rate=0.5,per=256"}
    hashes = []
    for name in ("whole", "cut"):
        run = tmp_path / name
        playfield.train("CartPole-v1", "ppo", steps=256, run=run, config=config, **SHORT)
        said: list[str] = []
        with monkeypatch.context() as patch:
            save = Run.save

            def saving(self, name=name, save=save):
                path = save(self)
                if name == "cut" and self.step >= 384:
                    raise Enough
                return path

            patch.setattr(Run, "save", saving)
            with pytest.raises(Enough) if name == "cut" else contextlib.nullcontext():
                playfield.train(resume=run, steps=512, say=said.append, **SHORT)
        line = "the total is now 512 steps instead of 256; schedules follow the new total: "
        assert line + "at step 256 learning rate 0 becomes 0.0005" in said
        info = playfield.play.agent.read_info(run)
        values = {"learning rate": [0.0, 0.0005]}  # the bonus is not tied to the total
        assert info["extensions"] == [{"at": 256, "from": 256, "to": 512, "values": values}]
        assert info["schedule"] == "learning rate: linear:0.001..0; entropy bonus: exp:0.1,rate=0.5,per=256"
        result = playfield.train(resume=run, **SHORT) if name == "cut" else None
        hashes.append(playfield.play.agent.read_info(run)["result"]["hash"])
        assert result is None or result.steps == 512
    assert hashes[0] == hashes[1]
    with (tmp_path / "cut" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    logged = {int(r["time/total_timesteps"]): float(r["train/learning_rate"]) for r in rows}
    first = {64 * k: 1e-3 * (1 - (k - 1) / 4) for k in range(1, 5)}  # a row holds its rollout's value
    assert logged == pytest.approx(first | {64 * k: 1e-3 * (1 - (k - 1) / 8) for k in range(5, 9)}, rel=1e-4)


def test_a_lengthened_run_whose_schedule_is_by_steps_keeps_its_values(tmp_path) -> None:
    config = TRAININGS["ppo"] | {"lr": "exp:1e-3,rate=0.5,per=256"}
    said: list[str] = []
    playfield.train("CartPole-v1", steps=128, run=tmp_path / "short", config=config, **SHORT)
    longer = playfield.train(resume=tmp_path / "short", steps=256, say=said.append, **SHORT)
    assert "the total is now 256 steps instead of 128; the schedules' values at this step stay" in said
    whole = playfield.train("CartPole-v1", steps=256, run=tmp_path / "whole", config=config, **SHORT)
    assert longer.hash == whole.hash, "as if it had been planned so"


def test_the_plan_names_the_schedules(tmp_path) -> None:
    said: list[str] = []
    config = TRAININGS["dqn"] | {"lr": "cosine:1e-3..0", "epsilon": "linear:1..0.1"}
    playfield.train("CartPole-v1", "dqn", steps=128, run=tmp_path / "run", config=config, say=said.append, **SHORT)
    text = "\n".join(said)
    assert "schedule  learning rate: cosine:0.001..0; epsilon: linear:1..0.1\n" in text
