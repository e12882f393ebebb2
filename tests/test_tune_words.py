"""What a tuning is given: words, and files that may be damaged or hostile; and the command from end to end."""

from __future__ import annotations

import importlib.util
import json
import os
import pickle
import re
from pathlib import Path

import pytest

from playfield.cli import main
from playfield.cli._tuning import open_study
from playfield.errors import DataError
from playfield.experiments import tune, tuning
from test_tune import go, settings
from tune_place import C


def hostile():
    class Evil:
        def __reduce__(self):
            return os.system, ("touch /tmp/scratch-evil",)

    return pickle.dumps(Evil())


@pytest.mark.parametrize(
    "data",
    [
        hostile(),
        b"[" * 100_000 + b"\n",
        b"[1]\n",
        b"{}\n",
        b'{"op_code": 0, "worker_id": "w", "study_name": "tuning", "directions": [77]}\n',
        b'{"op_code": 99, "worker_id": "w"}\n',
        b'{"op_code": 0, "worker_id": "w", "study_name": "other", "directions": [2]}\n',
        b'{"op_code": 0, "worker_id": "w", "study_name": "tuning", "directions": [1, 2]}\n',
        b'{"op_code": 0, "worker_id": "w", "study_name": "tuning", "directions": [2]}\n'
        b'{"op_code": 4, "worker_id": "w", "study_id": 0, "datetime_start": "x", "state": 77}\n',
    ],
    ids=["pickle", "deep", "list", "empty", "direction", "operation", "another study", "two directions", "trial"],
)
def test_a_hostile_journal_is_refused_and_runs_nothing(tmp_path, data):
    tuning.save(tmp_path, settings())
    (tmp_path / "journal.log").write_bytes(data)
    with pytest.raises(DataError, match="journal"):
        open_study(tmp_path, settings()).trials()


def test_pipes_links_and_huge_journals_are_refused(tmp_path):
    tuning.save(tmp_path, settings())
    journal = tmp_path / "journal.log"
    os.mkfifo(journal)
    with pytest.raises(DataError, match="regular"):
        open_study(tmp_path, settings())
    journal.unlink()
    with open(journal, "wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(DataError, match="more than"):
        open_study(tmp_path, settings())
    journal.unlink()
    journal.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="link"):
        open_study(tmp_path, settings())
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_pickled(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("pickled")

    for name in ("dumps", "loads", "dump", "load"):
        monkeypatch.setattr(pickle, name, fail)
    go(tmp_path, settings(prune=True))
    for line in (tmp_path / "journal.log").read_text().splitlines():
        assert isinstance(json.loads(line), dict)


def test_values_of_a_journal_that_are_no_options_never_become_words(tmp_path):
    with pytest.raises(DataError, match="unusable values"):
        settings().jobs(3, {"lr": "--trust"}, tmp_path / "trials" / "0003")
    with pytest.raises(DataError, match="unusable values"):
        settings().jobs(3, {"run": "x"}, tmp_path / "trials" / "0003")


@pytest.mark.parametrize(
    "change",
    [
        {"env": 3},
        {"space": {"lr": {"low": "x", "high": 1, "log": False, "choices": []}}},
        {"space": {"run": {"low": 0, "high": 1, "log": False, "choices": []}}},
        {"default": {}},
        {"trials": 1e300},
        {"over": "mean"},
        {"more": 1},
        {"format": 2},
        {"algo": "nothing"},
        {"minutes": 3},
    ],
    ids=str,
)
def test_damaged_settings_are_refused(tmp_path, change):
    tuning.save(tmp_path, settings())
    assert tuning.load(tmp_path) == settings()
    stored = json.loads((tmp_path / "tune.json").read_text())
    (tmp_path / "tune.json").write_text(json.dumps({**stored, **change}))
    with pytest.raises(DataError, match=r"tune\.json"):
        tuning.load(tmp_path)


S = ["--steps", "2k"]
MISTAKES = [
    ([], "which environment"),
    (["--dir", "none"], "no tuning in none"),
    (["--trials", "3", "--dir", "none"], "--trials is for tuning"),
    (["CartPol-v1", *S], "did you mean CartPole-v1"),
    ([C, "--algo", "ppoo", *S], "did you mean ppo"),
    ([C, "--algo", "ppo --epohcs 3", *S], "did you mean --epochs"),
    ([C, "--algo", "ppo --seed 3", *S], "a tuning sets that itself"),
    ([C, "--algo", "random", *S], "nothing to search"),
    ([C, "--algo", "ppo"], "how long is each training"),
    ([C, *S, "--minutes", "3"], "how long is each training"),
    ([C, *S, "--objective", "time"], "needs --until"),
    ([C, *S, "--objective", "score", "--until", "3"], "is the objective time"),
    ([C, *S, "--until", "none"], "--until takes a number"),
    ([C, *S, "--space", "none.toml"], "no file none.toml"),
    ([C, *S, "--space", "space.toml"], "space.toml, line 2: no option called 'gama': did you mean gamma"),
    ([C, *S, "--", "--run", "x"], "a tuning sets that itself"),
    ([C, *S, "--", "--rendezvous=h:1"], "each training of a tuning is on one machine"),
    ([C, "--algo", "dqn", *S, "--", "--workers-as", "processes"], "dqn trains with threads only: leave it out"),
    ([C, "--algo", "sarsa", "--trials", "100000", "--seeds", "1000", "--minutes", "60", "--dir", "d"], "add --yes"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_a_mistake_is_reported_before_anything_starts(words, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.toml").write_text("lr = [1e-3, 1e-4]\ngama = [0.9, 0.99]\n")
    assert main(["tune", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["space.toml"]


def test_a_job_array_is_no_place_for_a_tuning_and_not_offered(capsys):
    for words, offered in ((["tune"], False), (["compare"], True)):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        told = " ".join(capsys.readouterr().out.split())
        assert "HOST:PORT or ray://HOST:PORT: that cluster" in told
        assert ("slurm" in told) is offered
    assert main(["tune", C, *S, "--on", "slrm"]) == 2
    assert "slurm" not in capsys.readouterr().err
    assert main(["tune", C, *S, "--on", "loca"]) == 2
    assert "did you mean local?" in capsys.readouterr().err


def test_without_optuna_one_line_says_how_to_get_it(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "optuna" else found(name, *a))
    assert main(["tune", C, *S]) == 2
    assert capsys.readouterr().err == "playfield: tuning needs Optuna: pip install 'playfield[tune]'\n"
    assert list(tmp_path.iterdir()) == []


def test_one_module_imports_optuna_and_no_other_imports_that_unasked():
    package = Path(tune.__file__).parent.parent
    texts = {path.name: path.read_text("utf-8") for path in package.rglob("*.py")}
    assert {name for name, text in texts.items() if "import optuna" in text} == {"study.py"}
    users = {name for name, text in texts.items() if re.search(r"^from playfield.experiments.study ", text, re.M)}
    assert users == {"tune.py", "tune_progress.py", "tune_results.py", "_tuning.py"}
    above = r"^from playfield.experiments.(tune|tune_\w+) |^from playfield.experiments import .*\btune\b"
    assert {name for name, text in texts.items() if re.search(above, text, re.M)} <= {
        "tune.py",
        "tune_progress.py",
        "_tuning.py",
    }
    command = (package / "cli" / "tune.py").read_text("utf-8")
    assert not re.search(r"^from playfield.(experiments.study|experiments.tune |cli import _tuning)", command, re.M)


def test_the_command_tunes_and_the_preset_trains_with_what_it_found(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.toml").write_text("lr = {low = 1e-4, high = 1e-2, log = true}\nrollout-steps = [16, 32]\n")
    words = ["tune", C, "--algo", "ppo --num-envs 4", "--trials", "2", "--steps", "512", "--window", "5"]
    words += ["--space", "space.toml", "--dir", "t", "--jobs", "2", "--json"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert len(told["trials"]) == 2
    assert "2 of 2 trials" in err
    best = next(t for t in told["trials"] if t["trial"] == told["best"])
    assert (
        main(["train", C, "--preset", "t/best.toml", "--run", "r", "--steps", "256", "--games", "0", "--quiet"]) == 0
    )
    capsys.readouterr()
    config = json.loads(Path("r/run.json").read_text())["config"]
    assert {**best["params"], "num_envs": 4}.items() <= config.items()
    command = told["command"].split()
    assert command[:3] == ["playfield", "train", C]
    assert all(f"--{k.replace('_', '-')}={v}" in command for k, v in best["params"].items())

    before = {p: p.stat().st_mtime_ns for p in Path("t").rglob("run.json")}
    assert main(["tune", "--dir", "t"]) == 0
    text = capsys.readouterr().out
    assert f"best: trial {told['best']}, score" in text
    assert "preset: playfield train CartPole-v1 --preset t/best.toml" in text
    assert {p: p.stat().st_mtime_ns for p in Path("t").rglob("run.json")} == before
