"""Trainings that start from the weights of another run (`--init-from`)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import playfield
from playfield.cli import main
from playfield.envs import make_envs
from playfield.errors import DataError
from playfield.play.agent import find_agent
from playfield.runs.run import Run
from playfield.runs.tree import tree_hash
from playfield.training import init_from

QUIET = {"games": 0, "film": False, "tensorboard": False, "console": False, "workers": 1}
SMALL = {"num_envs": 4, "rollout_steps": 32}
# Algorithm, its environment, and options.
ALGORITHMS = [
    ("ppo", "CartPole-v1", SMALL),
    ("a2c", "CartPole-v1", {}),
    ("dqn", "CartPole-v1", {"learning_starts": 256, "concurrent": True}),
    ("c51", "CartPole-v1", {"learning_starts": 256}),
    ("pqn", "CartPole-v1", {}),
    ("mrp", "CartPole-v1", {"learning_starts": 64}),
    ("sarsa", "CartPole-v1", {"epsilon": 0.3, "epsilon_decay": 0.9}),
    ("linear_ac", "CartPole-v1", {}),
    ("qlearning", "FrozenLake-v1", {}),
]


def numbers(weights: dict) -> dict[str, np.ndarray]:
    return {name: np.asarray(w) for name, w in weights.items()}


def weights_of(run: Path) -> dict[str, np.ndarray]:
    return numbers(find_agent(run).weights)


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


class Begun(Exception):
    """The training has begun."""


@pytest.mark.parametrize(("algo", "env", "options"), ALGORITHMS, ids=[a for a, _, _ in ALGORITHMS])
def test_a_training_starts_from_the_weights_of_the_other(algo, env, options, tmp_path, monkeypatch):
    playfield.train(env, algo, steps=512, run=tmp_path / "one", config=options, **QUIET)
    began = {}

    def look(run: Run, _: int):
        state = run.tree()["parts"]
        began.update(numbers(state["learner"]["weights"]))
        assert not state["learner"].get("optimizer")
        if "target" in state:
            assert same(numbers(state["target"]), {k: v for k, v in began.items() if k in state["target"]})
        raise Begun

    monkeypatch.setattr(Run, "steps", look)
    with pytest.raises(Begun):
        playfield.train(
            env, algo, steps=512, seed=2, run=tmp_path / "two", init_from=tmp_path / "one", config=options, **QUIET
        )
    wanted = weights_of(tmp_path / "one")
    if "epsilon" in wanted:  # it starts anew
        fresh, ended = began.pop("epsilon"), wanted.pop("epsilon")
        assert algo != "sarsa" or fresh == 0.3 > ended
    assert same(began, wanted)
    assert any(np.ptp(w) for w in wanted.values())


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("source") / "one"
    playfield.train("CartPole-v1", steps=512, run=run, config=SMALL, **QUIET)
    return run


def test_it_is_recorded_and_said(source, tmp_path):
    said: list[str] = []
    run = tmp_path / "two"
    playfield.train("CartPole-v1", steps=256, run=run, init_from=source, config=SMALL, say=said.append, **QUIET)
    info, other = (json.loads((r / "run.json").read_text()) for r in (run, source))
    found = tree_hash(find_agent(source).weights)
    assert info["init_from"] == {
        "run": str(source),
        "step": 512,
        "hash": found,
        **{k: other[k] for k in ("env", "algo", "seed", "fingerprint", "playfield")},
    }
    assert f"begins  from the weights of {source}, step 512 (ppo on CartPole-v1)" in "\n".join(said)
    assert same(load_file(run / init_from.FILE), weights_of(source))
    assert f"--init-from {source}@sha256:{found[:16]} " in (run / "command.txt").read_text()
    assert info["fingerprint"] != other["fingerprint"]


def test_it_goes_on_exactly_although_the_other_is_gone(source, tmp_path):
    options = {"steps": 512, "seed": 2, "config": SMALL, **QUIET}
    first = tmp_path / "first"
    shutil.copytree(source, tmp_path / "other")
    whole = playfield.train("CartPole-v1", run=first, init_from=tmp_path / "other", **options)
    plain = playfield.train("CartPole-v1", run=tmp_path / "plain", **options)
    assert whole.hash != plain.hash
    shutil.rmtree(tmp_path / "other")
    killed = tmp_path / "killed"  # before its first checkpoint
    shutil.copytree(first, killed)
    shutil.rmtree(killed / "checkpoints")
    assert playfield.train(resume=killed, **{k: v for k, v in QUIET.items() if k != "workers"}).hash == whole.hash
    later = tmp_path / "later"  # after one
    shutil.copytree(first, later)
    for newest in ("ckpt-000000000512", "last", "best"):
        place = later / "checkpoints" / newest
        shutil.rmtree(place) if place.is_dir() and not place.is_symlink() else place.unlink(missing_ok=True)
    assert playfield.train(resume=later, **{k: v for k, v in QUIET.items() if k != "workers"}).hash == whole.hash


def test_the_same_command_makes_the_same_run_while_the_other_has_these_weights(source, tmp_path):
    pinned = f"{source}@sha256:{tree_hash(find_agent(source).weights)[:16]}"
    options = {"steps": 256, "config": SMALL, **QUIET}
    one = playfield.train("CartPole-v1", run=tmp_path / "one", init_from=pinned, **options)
    two = playfield.train("CartPole-v1", run=tmp_path / "two", init_from=source, **options)
    assert one.hash == two.hash
    with pytest.raises(DataError, match="trained further, or replaced"):
        playfield.train("CartPole-v1", run=tmp_path / "x", init_from=f"{source}@sha256:0123", **options)
    assert not (tmp_path / "x").exists()


def refused(capsys, *words: str) -> str:
    """The one line by which a training is refused; nothing is made."""
    code = main(["train", *words, "--steps", "256", "--quiet"])
    line = capsys.readouterr().err
    assert code in (2, 3)
    assert line.count("\n") == 1
    assert "Traceback" not in line
    return line


def test_what_does_not_fit_is_refused_in_a_line(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    begin = ["--init-from", str(source)]
    for words, expected in (
        (["Acrobot-v1", *begin], "obs_shape (4,) (here (6,)), num_actions 2 (here 3)"),
        (["CartPole-v1", "--net", "mlp:width=2", *begin], "body.1.bias is (64,), expected (128,)"),
        (["CartPole-v1", "--algo", "dqn", *begin], "does not fit dqn"),
        (["CartPole-v1", "--algo", "sarsa", *begin], "algorithm ppo (here sarsa)"),
        (["CartPole-v1", "--algo", "random", *begin], "random has no weights"),
        (["CartPole-v1", "--init-from", "breakout"], "obs_dtype uint8 (here float32)"),
        (["CartPole-v1", "--init-from", "last"], "give the run directory"),
        (["CartPole-v1", "--init-from", "nowhere"], "no agent 'nowhere': give a run directory, or a shipped agent"),
        (["CartPole-v1", "--algo", "td_lambda", "--policy", "nowhere"], "give a run directory, or a shipped agent"),
        (["CartPole-v1", "--init-from", str(tmp_path)], "no agent"),
        (["--resume", str(source), *begin], "--init-from is part of the run"),
    ):
        assert expected in refused(capsys, *words), words
    playfield.train("CartPole-v1", "sarsa", steps=64, run="tiles", config={"rollout_steps": 32}, **QUIET)
    words = ["CartPole-v1", "--algo", "sarsa", "--features", "iht:tilings=8,tiles=4,size=16384"]
    assert "features iht:tilings=16" in refused(capsys, *words, "--init-from", "tiles")
    assert not (tmp_path / "runs").exists()


def test_damaged_weights_are_not_loaded(source, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(source, "bad")
    for tensors in Path("bad/checkpoints").glob("ckpt-*/tensors.safetensors"):
        data = bytearray(tensors.read_bytes())
        data[-5] ^= 1
        tensors.write_bytes(data)
    assert "not loaded" in refused(capsys, "CartPole-v1", "--init-from", "bad")


def test_a_changed_copy_is_noticed(source, tmp_path):
    run = tmp_path / "two"
    playfield.train("CartPole-v1", steps=256, run=run, init_from=source, config=SMALL, **QUIET)
    again = {**{k: v for k, v in QUIET.items() if k != "workers"}, "steps": 512}
    text = (run / "run.json").read_text()
    info = json.loads(text)
    info["init_from"]["hash"] = "0" * 64
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match="has not the weights that the run began from"):
        playfield.train(resume=run, **again)
    (run / "run.json").write_text(text)
    (run / init_from.FILE).unlink()
    with pytest.raises(DataError, match=r"init\.safetensors"):
        playfield.train(resume=run, **again)
    assert json.loads((run / "run.json").read_text())["steps"] == 256


def test_another_network_of_the_same_shape_is_noted(source, tmp_path):
    said: list[str] = []
    options = {**SMALL, "net": "mlp:act=relu"}
    playfield.train(
        "CartPole-v1", steps=256, run=tmp_path / "r", init_from=source, config=options, say=said.append, **QUIET
    )
    assert any("is called auto, here mlp:act=relu: the weights fit" in line for line in said)


def test_weights_that_mean_another_value_are_noted(tmp_path):
    """Of the same shapes: a distribution over other returns, and the scores of another algorithm."""
    small = {"learning_starts": 256, "capacity": 500}
    first = tmp_path / "c51"
    playfield.train(
        "CartPole-v1", "c51", steps=128, run=first, config={**small, "v_min": 0.0, "v_max": 100.0}, **QUIET
    )
    for algo, options, notes in (
        ("c51", {"v_min": 0.0, "v_max": 500.0}, ["v_max is 500.0 here and was 100.0 in"]),
        ("c51", {"v_min": 0.0, "v_max": 100.0}, []),
        ("hlgauss", {"bins": 101, "v_min": 0.0, "v_max": 100.0}, ["learnt by c51"]),
    ):
        said: list[str] = []
        playfield.train(
            "CartPole-v1", algo, steps=128, run=tmp_path / f"{algo}{len(said)}{options['v_max']}", init_from=first,
            config={**small, **options}, say=said.append, **QUIET,
        )  # fmt: skip
        told = [line for line in said if line.startswith("note: ") and ("learnt" in line or "v_m" in line)]
        assert len(told) == len(notes)
        assert all(note in line for note, line in zip(notes, told, strict=True))


def test_a_part_of_another_package_starts_from_its_state(source):
    """One without `begin`: its `restore` takes the weights."""

    class Other:
        def __init__(self) -> None:
            self.w = np.zeros(3, np.float32)

        def state(self) -> dict:
            return {"weights": {"w": self.w.copy()}, "seen": 4}

        def restore(self, state: dict) -> None:
            assert state["seen"] == 4
            self.w[...] = state["weights"]["w"]

    run = Run(
        {
            "seed": 1,
            "steps": 8,
            "spec": make_envs("CartPole-v1", 1).spec,
            "config": {},
            "compute": {"device": "cpu", "precision": "fp32", "workers": 1},
        },
        None,
        begin={"w": np.arange(3, dtype=np.float32)},
    )
    assert run.track("learner", Other()).w.tolist() == [0, 1, 2]
    assert run.track("other", Other()).w.tolist() == [0, 0, 0]
