"""`--preset FILE.toml`: checked like words, recorded in the run, and not needed after its start."""

from __future__ import annotations

import json
import os

import pytest

import playfield
from playfield.cli import main
from playfield.cli.train import understand
from playfield.errors import DataError, UsageError
from playfield.runs.preset_file import is_file, preset_text, read_preset
from playfield.training.prepare import check
from playfield.training.request import Request

C = "CartPole-v1"
TUNED = {"lr": 0.0123456789012345, "num_envs": 4, "rollout_steps": 32, "anneal": False, "gamma": 0.98}
FAST = ["--steps", "512", "--games", "0", "--no-film", "--quiet", "--workers", "1"]


def test_a_preset_file_trains_with_exactly_its_options(tmp_path, capsys):
    path, run = tmp_path / "best.toml", tmp_path / "run"
    path.write_text(preset_text("ppo", "default", TUNED, ["a note\nof two lines"]))
    assert read_preset(path).options == TUNED
    assert main(["train", C, "--preset", str(path), "--run", str(run), "--epochs", "2", *FAST]) == 0
    info = json.loads((run / "run.json").read_text())
    assert TUNED.items() <= info["config"].items()
    assert info["config"]["epochs"] == 2, "what is given beside it is added"
    assert (info["algo"], info["preset"]) == ("ppo", "default")
    assert info["preset_file"] == {"file": "best.toml", "algo": "ppo", "preset": "default", "options": TUNED}
    assert str(tmp_path / "best.toml") not in info["command"]

    path.unlink()  # neither a resume nor the command that repeats the run needs it
    assert main(["train", "--resume", str(run), "--steps", "1024", "--quiet"]) == 0
    words = understand(info["command"].split()[2:])[0]
    _, values = check(Request(**{k: v for k, v in words.items() if k != "resume"}))
    assert values == {**info["config"], "net": values["net"]}

    config = {**TUNED, "epochs": 2}
    alone = playfield.train(C, steps=512, config=config, workers=1, run=tmp_path / "alone", games=0, quiet=True)
    path.write_text(preset_text("ppo", "default", TUNED, []))
    again = playfield.train(
        C, preset=str(path), steps=512, epochs=2, workers=1, run=tmp_path / "b", games=0, quiet=True
    )
    assert again.hash == alone.hash


def test_what_is_given_beside_it_wins(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('algo = "dqn"\n[options]\nlr = 0.5\nmmap = true')
    values = check(Request(C, algo="dqn", preset=str(path), config={"lr": 0.25, "packed": True}))[1]
    assert (values["lr"], values["mmap"], values["packed"]) == (0.25, False, True)
    assert understand([C, "--preset", str(path)])[0]["algo"] == "dqn", "the file names the algorithm"
    assert understand([C, f"--preset={path}", "--algo", "dqn"])[0]["algo"] == "dqn"
    assert not is_file("cleanrl")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ('algo = "ppo"\n[options]\n\nlearnin_rate = 1e-3', 4, "no ppo option called 'learnin_rate': did you mean"),
        ('algo = "ppo"\n[options]\nepohcs = 3', 3, "did you mean epochs"),
        ('algo = "ppo"\n[options]\nlr = -1.0', 3, "at least 0"),
        ('algo = "ppo"\n[options]\nlr = "quick"', 3, "lr takes"),
        ('algo = "ppo"\n[options]\nlr = [1.0]', 3, "lr takes"),
        ('algo = "pppo"', 1, "did you mean ppo"),
        ('algo = "ppo"\npreset = "cleanr"', 2, "preset must be one of"),
        ('algo = "ppo"\noptions = 3', 2, "must be a table"),
        ('algo = "ppo"\n[optoins]\nlr = 1e-3', 2, "did you mean options"),
        ("[options]\nlr = 1e-3", 0, "lacks the algorithm"),
    ],
)
def test_a_mistake_names_file_line_and_the_nearest_name(tmp_path, capsys, text, line, message):
    path = tmp_path / "p.toml"
    path.write_text(text)
    assert main(["train", C, "--preset", str(path), "--run", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert (f"{path}, line {line}: " if line else f"{path}: ") in err
    assert message in err
    assert not (tmp_path / "run").exists()


def test_another_algorithm_than_that_of_the_file(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('algo = "dqn"')
    with pytest.raises(UsageError, match=r"is a preset of dqn, not of ppo: use --algo dqn"):
        check(Request(C, algo="ppo", preset=str(path)))
    with pytest.raises(UsageError, match="no file"):
        check(Request(C, preset=str(tmp_path / "none.toml")))


def test_hostile_preset_files_are_refused(tmp_path):
    path = tmp_path / "p.toml"

    def refused():
        with pytest.raises(DataError):
            read_preset(path)

    for data in (
        b"\x80\x04\x95\x0bcos\nsystem",
        b"algo = " + b"[" * 200_000,
        b'algo = "ppo"\n[options.' + b"a." * 9_000,
    ):
        path.write_bytes(data)
        refused()
    with open(path, "wb") as file:
        file.truncate(3 << 30)
    refused()
    path.unlink()
    os.mkfifo(path)
    refused()
    path.unlink()
    path.mkdir()
    refused()
