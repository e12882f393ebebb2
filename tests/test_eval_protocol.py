"""Evaluation under another protocol than that of the training, and of several agents at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import playfield
from playfield.cli import main
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.play.evaluate import evaluate
from playfield.play.policy import RandomPolicy
from playfield.play.protocol import suffix, under

ATARI = make_envs("breakout", 1).spec


def test_the_protocol_is_that_of_the_training_unless_asked() -> None:
    assert under(ATARI, None, {}) is ATARI
    sticky = under(ATARI, None, {"sticky": 0.25})
    assert {k for k, v in sticky.protocol.items() if v != ATARI.protocol[k]} == {"sticky", "name"}
    assert sticky.protocol["sticky"] == 0.25
    assert (sticky.obs_shape, sticky.num_actions) == (ATARI.obs_shape, ATARI.num_actions)


def test_a_named_protocol_keeps_what_the_agent_sees() -> None:
    trained = make_envs("breakout", 1, stack=2, sticky=0.1, noop=10, full_actions=True).spec
    v5 = under(trained, "v5", {}).protocol
    assert (v5["sticky"], v5["noop"], v5["life_loss"]) == (0.25, 0, False)
    assert (v5["stack"], v5["full_actions"]) == (2, True)
    assert under(trained, "v5", {"sticky": 0.0}).protocol["sticky"] == 0


@pytest.mark.parametrize(
    ("protocol", "parts", "message"),
    [
        ("v6", {}, "v5"),
        (None, {"stack": 2}, "observation shape was"),
        (None, {"full_actions": True}, "num actions was 4 in training and is 18"),
        (None, {"obs": "ram"}, "cannot play under this protocol"),
        (None, {"stickyy": 0.1}, "sticky"),
        (None, {"sticky": 2.0}, "between 0 and 0.99"),
    ],
)
def test_what_an_agent_cannot_play_is_refused(protocol: str | None, parts: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        evaluate(RandomPolicy(ATARI), 1, protocol=protocol, parts=parts)


def test_games_are_played_under_it() -> None:
    """The same policy and random numbers: only a protocol that changes the games changes the scores."""
    short = evaluate(RandomPolicy(ATARI), 2, parts={"cap": 600})
    assert short.cut == 2
    assert {g.length for g in short.games} <= set(range(135, 151))
    assert short.protocol["cap"] == 600
    again = evaluate(RandomPolicy(ATARI), 2, parts={"cap": 600, "sticky": 0.0})
    assert again.scores.tolist() == short.scores.tolist()
    assert evaluate(RandomPolicy(ATARI), 2, parts={"cap": 600, "skip": 2}).games[0].length > 250


def test_files_are_told_apart() -> None:
    assert suffix(None, {}) == ""
    assert suffix("v5", {"sticky": 0.1, "fire_reset": True}) == "-v5-fireresettrue-sticky0.1"


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for seed in (1, 2):
        playfield.train(
            "CartPole-v1", steps=256, seed=seed, run=f"r{seed}", games=0, film=False, console=False, tensorboard=False
        )
    return ["r1", "r2"]


def test_several_runs(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *two, "--games", "5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [len(summary["scores"]) for summary in found] == [5, 5]
    assert main(["eval", "r2", "--games", "5", "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert alone["scores"] == found[1]["scores"]  # a dictionary, as ever
    assert main(["eval", "r1", "--games", "5", "r2"]) == 0  # names on both sides of options
    *_, head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["mean", "95", "%", "interval", "median", "lower", "quartile", "games", "agent"]
    assert "r1, step" in first
    assert "r2, step" in second
    assert len(list(Path("r1/eval").iterdir())) == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["r1", "nowhere"], "no agent 'nowhere'"),
        (["r1", "--sticky", "0.25"], "sticky is for Atari games"),
        (["r1", "--protocol", "v5"], "protocol is for Atari games"),
        (["r1", "--stickyy", "0.25"], "--sticky"),
        ([], "agent_name|RUN|which"),
    ],
)
def test_mistakes(two: list[str], words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", *words, "--games", "1"]) == 2
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert any(part in told for part in message.split("|"))
    assert not Path("r1/eval").exists() or not list(Path("r1/eval").iterdir())
