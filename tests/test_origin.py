"""A run goes on from its own checkpoints only, and says what was changed by hand or could not be used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import playfield
from playfield.cli import main
from playfield.errors import DataError
from playfield.runs import origin

QUIET = {"console": False, "tensorboard": False, "games": 0, "film": False}
RESUME = ["--games", "0", "--no-tensorboard", "--quiet"]
PPO = {"rollout_steps": 32, "num_envs": 4}
DQN = {"num_envs": 4, "capacity": 500, "learning_starts": 200}


def trained(where: Path, algo: str, seed: int = 1, env: str = "CartPole-v1", steps: int = 512, **config) -> Path:
    base = {"ppo": PPO, "a2c": {"num_envs": 4}, "dqn": DQN}[algo]
    playfield.train(env, algo, steps=steps, seed=seed, run=where, config={**base, **config}, **QUIET)
    return where


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("runs")
    return {
        "ppo": trained(home / "ppo", "ppo"),
        "seed": trained(home / "seed", "ppo", seed=2),
        "net": trained(home / "net", "ppo", net="mlp:width=8"),
        "size": trained(home / "size", "ppo", num_envs=8),
        "env": trained(home / "env", "ppo", env="Acrobot-v1"),
        "a2c": trained(home / "a2c", "a2c"),
        "dqn": trained(home / "dqn", "dqn"),
    }


@pytest.fixture
def run(runs, tmp_path) -> Path:
    return Path(shutil.copytree(runs["ppo"], tmp_path / "run"))


def files(run: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}


def edit(run: Path, **changes) -> None:
    info = json.loads((run / "run.json").read_text())
    info["config"] |= changes.pop("config", {})
    (run / "run.json").write_text(json.dumps(info | changes))


def damage(run: Path, step: int) -> None:
    file = run / f"checkpoints/ckpt-{step:012d}/tensors.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ("seed", ["seed 2", "run.json: 1"]),
        ("net", ["option net mlp:width=8", "run.json: auto"]),
        ("env", ["env Acrobot-v1", "run.json: CartPole-v1"]),
        ("a2c", ["algo a2c", "run.json: ppo"]),
        ("dqn", ["algo dqn", "run.json: ppo"]),
        ("size", ["option num_envs 8", "run.json: 4"]),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(other, named, run, runs, capsys):
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(runs[other] / "checkpoints", run / "checkpoints")
    before = files(run)
    for words in (["train", "--resume", str(run), "--steps", "1024", *RESUME], ["eval", str(run), "--games", "1"]):
        assert main(words) == 3
        error = capsys.readouterr().err
        assert all(name in error for name in named), error
        assert error.count("\n") == 1
    with pytest.raises(DataError, match="checkpoint of another run"):
        playfield.load_policy(run)
    after = files(run)
    assert {p: data for p, data in after.items() if p.name not in ("lock", "run.json")} == {
        p: data for p, data in before.items() if p.name not in ("lock", "run.json")
    }


def test_a_checkpoint_of_a_run_of_an_old_version_is_compared_too(run, runs):
    """Old checkpoints have no fingerprint, but environment, algorithm, seed, protocol and options."""
    edit(run, fingerprint=None)
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(runs["seed"] / "checkpoints", run / "checkpoints")
    with pytest.raises(DataError, match="seed 2"):
        playfield.train(resume=run, steps=1024, **QUIET)


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"config": {"lr": 0.1}}, "option lr 0.1"), ({"seed": 7}, "seed 7 (it was 1)"), ({"steps": 900}, "steps 900")],
)
def test_what_was_changed_by_hand_is_said_and_no_longer_exact(changes, said, run, capsys):
    edit(run, **changes)
    assert main(["train", "--resume", str(run), "--steps", "1024", *RESUME]) == 0
    error = capsys.readouterr().err
    assert "no longer exact" in error
    assert said in error
    assert json.loads((run / "run.json").read_text())["exact"] is False


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("compute", "precision", "bf16"), ("config", "lr", 0.1), ("protocol", "time_limit", 50)],
)
def test_what_is_not_in_the_weights_is_compared_too(part, name, value, run, capsys):
    """Another precision rounds differently, and a time limit stands beside a score: both were taken as they stood."""
    info = json.loads((run / "run.json").read_text())
    info[part][name] = value
    if part == "protocol":
        info["spec"]["protocol"][name] = value
    (run / "run.json").write_text(json.dumps(info))
    assert main(["eval", str(run), "--games", "1", "--json"]) == 0
    out, error = capsys.readouterr()
    what = {"compute": name, "config": f"option {name}", "protocol": f"protocol {name}"}[part]
    assert error.startswith(f"changed by hand in {run / 'run.json'}: {what} {value} (it was ")
    assert error.count("\n") == 1
    assert json.loads(out)["warnings"] == [error.strip()]
    assert len(playfield.train(resume=run, steps=1024, **QUIET).warnings) == 1
    assert json.loads((run / "run.json").read_text())["exact"] is False
    capsys.readouterr()
    playfield.load_policy(run)
    assert capsys.readouterr().err == "", "what goes on from there is as run.json says"


@pytest.mark.parametrize(("name", "value"), [("skip_min", "x"), ("skip", 0), ("time_limit", "x"), ("cap", [1])])
def test_numbers_of_a_protocol_are_numbers(name, value, run, capsys):
    """`record` and `eval` compute with them: text there was a traceback."""
    info = json.loads((run / "run.json").read_text())
    for protocol in (info["protocol"], info["spec"]["protocol"]):
        protocol[name] = value
    (run / "run.json").write_text(json.dumps(info))
    for words in (["eval", str(run), "--games", "1"], ["record", str(run), "--steps", "3"]):
        assert main(words) == 3
        error = capsys.readouterr().err
        assert "protocol must be a table, with whole numbers of frames and steps" in error
        assert error.count("\n") == 1


def test_a_changed_precision_is_seen_with_checkpoints_that_do_not_hold_it(run, monkeypatch, caplog):
    whole = origin.meta_of
    monkeypatch.setattr(origin, "meta_of", lambda *of: {k: v for k, v in whole(*of).items() if k != "compute"})
    playfield.train(resume=run, steps=1024, **QUIET)
    monkeypatch.undo()
    assert playfield.load_policy(run).warnings == ()
    edit(run, compute={"device": "cpu", "precision": "bf16", "workers": 1})
    assert "fingerprint" in playfield.load_policy(run).warnings[0]
    assert "no longer exact" in playfield.train(resume=run, steps=1536, **QUIET).warnings[0]


def test_an_option_that_was_taken_out_is_missed(runs, tmp_path):
    """Without `eval_epsilon` an agent is evaluated by another rule."""
    run = Path(shutil.copytree(runs["dqn"], tmp_path / "run"))
    info = json.loads((run / "run.json").read_text())
    del info["config"]["eval_epsilon"]
    (run / "run.json").write_text(json.dumps(info))
    assert "option eval_epsilon None (it was -1.0)" in playfield.load_policy(run).warnings[0]


@pytest.mark.parametrize(
    ("name", "value"), [("obs_bounds", [[-1] * 4, [9] * 4]), ("states", [[4, 0]]), ("first_action", 1)]
)
def test_another_reading_of_observations_or_actions_is_refused(name, value, run):
    """Networks got scaled observations that they had never seen, and scored 13 instead of 98."""
    info = json.loads((run / "run.json").read_text())
    info["spec"][name] = value
    (run / "run.json").write_text(json.dumps(info))
    for use in (lambda: playfield.load_policy(run), lambda: playfield.train(resume=run, steps=1024, **QUIET)):
        with pytest.raises(DataError, match=f"another run: spec {name}"):
            use()


def test_other_names_of_actions_are_said(run):
    """They decide nothing but what films and explanations say."""
    info = json.loads((run / "run.json").read_text())
    info["spec"]["action_names"] = ["up", "down"]
    (run / "run.json").write_text(json.dumps(info))
    said = playfield.load_policy(run).warnings
    assert len(said) == 1
    assert said[0].startswith("changed by hand in ")
    assert "spec action_names ['up', 'down'] (it was ['left', 'right'])" in said[0]
    assert len(playfield.train(resume=run, steps=1024, **QUIET).warnings) == 1
    assert playfield.load_policy(run).warnings == ()


def test_a_run_that_nobody_changed_stays_exact(run, capsys):
    result = playfield.train(resume=run, steps=1024, **QUIET)
    assert playfield.train(resume=run, steps=1536, **QUIET).warnings == result.warnings == ()
    assert "exact" not in json.loads((run / "run.json").read_text())
    assert capsys.readouterr().err == ""


def test_a_network_changed_by_hand_is_refused_before_anything_is_copied(run):
    edit(run, config={"net": "mlp:width=100000000"})
    for use in (lambda: playfield.load_policy(run), lambda: playfield.train(resume=run, steps=1024, **QUIET)):
        with pytest.raises(DataError, match="net"):
            use()


def test_a_part_that_only_one_of_the_two_has_is_refused(run):
    info = json.loads((run / "run.json").read_text())
    info["compute"]["workers"] += 1
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(DataError, match=r"rollout-|4 envs"):
        playfield.train(resume=run, steps=1024, **QUIET)


def test_an_older_checkpoint_is_never_used_without_a_word(run, tmp_path, capsys):
    steps = [int(path.name[5:]) for path in sorted((run / "checkpoints").glob("ckpt-*"))]
    damage(run, steps[-1])
    line = f"ckpt-{steps[-1]:012d}: tensors.safetensors is damaged"
    film = str(tmp_path / "f.gif")
    verbs = {
        "eval": ["eval", str(run), "--games", "1"],
        "json": ["eval", str(run), "--games", "1", "--json"],
        "record": ["record", str(run), "--steps", "2", "--out", film],
        "explain": ["explain", str(run), "--moments", "1", "--out", str(tmp_path / "why")],
        "resume": ["train", "--resume", str(run), "--steps", "1024", *RESUME],
    }
    for verb, words in verbs.items():
        assert main(words) == 0, verb
        out, error = capsys.readouterr()
        assert error.count(line) == 1, verb
        if verb == "json":
            assert line in json.loads(out)["warnings"][0]


def test_python_is_told_too(run, caplog):
    steps = [int(path.name[5:]) for path in sorted((run / "checkpoints").glob("ckpt-*"))]
    damage(run, steps[-1])
    policy = playfield.load_policy(run)
    assert len(policy.warnings) == 1
    assert [r.levelname for r in caplog.records] == ["WARNING"]
    assert len(playfield.train(resume=run, steps=1024, **QUIET).warnings) == 1
