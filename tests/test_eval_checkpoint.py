"""Evaluations, films and live pages of an agent whose name says which checkpoint is meant: they are called by it."""

from __future__ import annotations

from pathlib import Path

import pytest

import playfield
from playfield.cli import main
from playfield.errors import UsageError
from playfield.play.agent import checkpoint_of
from playfield.runs import checkpoint
from playfield.show.watch.game import Source

RUN = Path("runs/CartPole-v1/ppo/1")
SAVED = RUN / "checkpoints"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        playfield.train("CartPole-v1", steps=1024, run=str(RUN), games=0, film=False, quiet=True)
        checkpoint.mark_best(SAVED, SAVED / (SAVED / "last").read_text("utf-8").strip(), 1.0, {})
    return folder


@pytest.mark.parametrize(
    ("words", "called"),
    [
        (["best"], "best"),
        ([str(SAVED / "best")], "best"),
        ([str(RUN), "--checkpoint", "best"], "best"),
        (["last"], "last"),
        ([str(RUN)], "last"),
        ([str(RUN), "--checkpoint", "1024"], "1024"),
        ([str(SAVED / "ckpt-000000001024")], "1024"),
        ([str(RUN), "--agent", "random"], "random"),
    ],
)
def test_the_file_is_called_by_the_checkpoint_that_was_played(words, called, home, monkeypatch):
    """`eval best` replaced the evaluation of the last checkpoint: the run's own score."""
    monkeypatch.chdir(home)
    before = set((RUN / "eval").glob("*.json"))
    for path in before:
        path.unlink()
    assert main(["eval", *words, "--games", "1"]) == 0
    assert [path.name for path in (RUN / "eval").glob("*.json")] == [f"{called}-t1-seed0-1.json"]


@pytest.mark.parametrize("verb", ["eval", "record", "watch", "explain", "collect"])
@pytest.mark.parametrize(
    "words",
    [
        ["best", "--checkpoint", "last"],
        ["last", "--checkpoint", "1024"],
        [str(SAVED / "best"), "--checkpoint", "1024"],
        [str(SAVED / "ckpt-000000001024"), "--checkpoint", "best"],
        [str(RUN), "--agent", "random", "--checkpoint", "best"],
    ],
)
def test_a_second_checkpoint_is_refused(verb, words, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert main([verb, *words]) == 2
    told = capsys.readouterr().err
    assert "leave out --checkpoint" in told
    assert told.count("\n") == 1


def test_also_of_another_run_and_in_python(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    assert main(["eval", str(RUN), str(SAVED / "best"), "--checkpoint", "1024"]) == 2
    assert "names one checkpoint" in capsys.readouterr().err
    with pytest.raises(UsageError, match="best names one checkpoint"):
        playfield.load_policy("best", "1024")
    with pytest.raises(UsageError, match="names one checkpoint"):
        playfield.load_policy(SAVED / "best", "1024")
    assert playfield.load_policy("best", "best").label == playfield.load_policy("best").label
    assert checkpoint_of("breakout", "last") == "last"


def test_films_are_called_by_it_too(home, monkeypatch):
    monkeypatch.chdir(home)
    assert main(["record", "best", "--steps", "2", "--show", "plain"]) == 0
    assert {path.stem for path in (RUN / "films").iterdir()} == {"best-seed0"}


def test_the_live_page_of_one_checkpoint_does_not_follow_the_newest(home, monkeypatch):
    monkeypatch.chdir(home)
    assert [Source(name).first for name in ("best", str(SAVED / "best"))] == ["best", "best"]
    assert Source(str(SAVED / "ckpt-000000001024")).first == "1024"
    assert [Source(name).first for name in ("last", str(RUN))] == ["follow", "follow"]
