"""An experiment's file that was changed: the table shows what the file says now, and tells what else lies there."""

from __future__ import annotations

import csv
import io
import json

import pytest

from compare_runs import runs
from playfield.cli import main

C, A = "CartPole-v1", "Acrobot-v1"
NOW = """
envs = ["CartPole-v1"]
seeds = 2
steps = 100
dir = "out"
algorithms = ["dqn --lr 0.1"]
"""


@pytest.fixture
def changed(tmp_path, monkeypatch):
    """The learning rate was 0.2, and Acrobot was in the file. All is trained."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.toml").write_text(NOW)
    runs(tmp_path / "out", {"dqn --lr 0.2": {C: [90.0, 80.0], A: [-90.0]}, "dqn --lr 0.1": {C: [10.0, 20.0]}})
    for stored in (tmp_path / "out").glob("*/dqn-lr-0.1/compare.json"):
        told = json.loads(stored.read_text())
        told["words"] = [C, "--workers", "1", "--algo", "dqn", "--lr", "0.1"]
        stored.write_text(json.dumps(told))


def shown(capsys, *words):
    assert main(["compare", "my.toml", *words]) == 0
    return capsys.readouterr().out


SAID = "Left out: 3 runs not in my.toml (dqn --lr 0.2 on Acrobot-v1, dqn --lr 0.2 on CartPole-v1; "


def test_lines_that_are_not_in_the_file_any_more_are_left_out_and_named(changed, capsys):
    out = " ".join(shown(capsys).split())
    assert SAID + "all: playfield compare --dir out)." in out
    table = out.partition("Mean")[0]
    assert "dqn --lr 0.1" in table
    assert "lr 0.2" not in table
    assert "Acrobot" not in table


def test_json_has_the_line_and_every_run(changed, capsys):
    told = json.loads(shown(capsys, "--json"))
    assert [(row["label"], row["mean"]) for row in told["rows"]] == [("dqn --lr 0.1", 15.0)]
    assert [(x["run"], x["why"]) for x in told["left_out"]] == [
        ("out/Acrobot-v1/dqn-lr-0.2/1", "dqn --lr 0.2 on Acrobot-v1 is not in my.toml"),
        ("out/CartPole-v1/dqn-lr-0.2/1", "dqn --lr 0.2 on CartPole-v1 is not in my.toml"),
        ("out/CartPole-v1/dqn-lr-0.2/2", "dqn --lr 0.2 on CartPole-v1 is not in my.toml"),
    ]
    assert any(note.startswith(SAID) for note in told["notes"])


@pytest.mark.parametrize("kind", ["md", "csv", "latex"])
def test_tables_have_the_line(kind, changed, capsys):
    out = shown(capsys, "--table", kind)
    if kind == "csv":
        (row,) = csv.DictReader(io.StringIO(out))
        assert SAID in row["note"]
    assert "3 runs not in my.toml" in out


def test_without_the_file_all_is_shown(changed, capsys):
    assert main(["compare", "--dir", "out", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert len(told["rows"]) == 3
    assert not told["left_out"]


def test_seeds_that_the_file_no_longer_names_count_and_are_told(changed, tmp_path, capsys):
    (tmp_path / "my.toml").write_text(NOW.replace("seeds = 2", "seeds = 1"))
    told = json.loads(shown(capsys, "--json"))
    assert told["rows"][0]["seeds"] == [1, 2]
    assert "dqn --lr 0.1 on CartPole-v1: seed 2, not in my.toml, counted too." in told["notes"]
    told = json.loads(shown(capsys, "--json", "--seeds", "2"))
    assert not any("counted too" in note for note in told["notes"]), "seed 2 is asked for"


def test_nothing_is_said_where_the_file_has_all(changed, tmp_path, capsys):
    (tmp_path / "my.toml").write_text(NOW.replace("CartPole-v1", "Acrobot-v1").replace("0.1", "0.2"))
    told = json.loads(shown(capsys, "--json", "--seeds", "1,"))
    assert [row["env"] for row in told["rows"]] == [A]
