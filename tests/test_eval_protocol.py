"""Evaluation under another protocol than that of the training, and of several agents at once."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import ale_py
import numpy as np
import pytest

import playfield
from playfield.cli import main
from playfield.envs import make_envs, protocol_line
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.play.evaluate import evaluate, report, table
from playfield.play.policy import RandomPolicy
from playfield.play.protocol import cell, suffix, under

ATARI = make_envs("breakout", 1).spec
CLASSIC = {"sticky": 0.0, "noop": 30, "life_loss": True, "fire_reset": True}


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


def test_other_pictures_of_the_same_shape_are_refused() -> None:
    env = make_envs("breakout", 1, view="mono,trim")
    spec = env.spec
    env.close()
    for parts, message in (
        ({"view": "mono,trim,aimbot"}, "view was mono,trim in training and is mono,trim,aimbot here"),
        ({"view": "grey,trim"}, "view was mono,trim in training and is grey,trim here"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate(RandomPolicy(spec), 1, parts=parts)
    assert under(spec, "v5", {"view": "mono,trim"}).protocol["view"] == "mono,trim"


def test_the_emulator_that_played_is_named() -> None:
    """Not that of the training, years ago."""
    old = dataclasses.replace(ATARI, protocol={**ATARI.protocol, "ale_py": "0.9.0"})
    for parts in ({}, {"sticky": 0.0}):
        found = evaluate(RandomPolicy(old), 1, parts={"cap": 100, **parts})
        assert found.summary()["protocol"]["ale_py"] == ale_py.__version__
    plain = evaluate(RandomPolicy(old), 1)
    assert plain.protocol == {**ATARI.protocol, "ale_py": ale_py.__version__}
    assert suffix(old.protocol, plain.protocol, None, {}) == ""


def test_games_are_played_under_it() -> None:
    """The same policy and random numbers: only a protocol that changes the games changes the scores."""
    short = evaluate(RandomPolicy(ATARI), 2, parts={"cap": 600})
    assert short.cut == 2
    assert {g.length for g in short.games} <= set(range(135, 151))
    assert short.protocol["cap"] == 600
    again = evaluate(RandomPolicy(ATARI), 2, parts={"cap": 600, "sticky": 0.0})
    assert again.scores.tolist() == short.scores.tolist()
    assert evaluate(RandomPolicy(ATARI), 2, parts={"cap": 600, "skip": 2}).games[0].length > 250


def told(spec: EnvSpec, protocol: str | None = None, **parts: object) -> str:
    return suffix(spec.protocol, under(spec, protocol, parts).protocol, protocol, parts)


def test_files_are_told_apart() -> None:
    assert told(ATARI) == ""
    assert told(ATARI, "v5") == "-v5"
    assert told(ATARI, "v5", sticky=0.1, fire_reset=True) == "-v5-fireresettrue-sticky0.1"
    assert told(ATARI, "v5", sticky=0.0) == "-v5-sticky0.0"
    assert told(ATARI, sticky=0.25, noop=30) == "-sticky0.25"


def test_rules_that_are_those_of_the_training_are_not_foreign() -> None:
    """Though they were named: such scores are the run's own."""
    v5 = make_envs("breakout", 1, protocol="v5").spec
    assert told(v5, "v5") == told(v5, "v5", sticky=0.25) == told(v5, life_loss=False) == ""
    assert told(ATARI, "classic") == told(ATARI, noop=30) == told(ATARI, "v5", **CLASSIC) == ""
    assert told(v5, "v5", sticky=0.1) == told(v5, sticky=0.1) == "-sticky0.1"
    older = dataclasses.replace(v5, protocol={**v5.protocol, "ale_py": "0.1", "name": "custom"})
    assert told(older, "v5") == ""


class Still:
    """An agent that does nothing, trained under `spec`."""

    label = "still"

    def __init__(self, spec: EnvSpec) -> None:
        self.spec = spec

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        return np.zeros(len(obs), np.int64)

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        return {}


@pytest.fixture(scope="module")
def short() -> EnvSpec:
    return make_envs("breakout", 1, cap=400).spec


def test_both_protocols_are_named_where_they_differ(short: EnvSpec) -> None:
    own, other = (evaluate(Still(short), 1, parts=parts) for parts in ({}, {"sticky": 0.25}))
    for result in (own, other):
        assert result.summary()["trained_protocol"] == short.protocol
    assert own.summary()["protocol"] == short.protocol
    assert other.summary()["protocol"]["sticky"] == 0.25
    line = f"  training  under another protocol: {protocol_line(short.protocol)}"
    assert line in report(other).splitlines()
    assert protocol_line(other.protocol) in report(other)
    assert "  training" not in report(own)
    again = evaluate(Still(short), 1, protocol="classic", parts={"cap": 400})
    assert "  training" not in report(again), "the same rules, named"


def test_a_policy_that_was_not_trained_has_no_protocol_of_its_training(short: EnvSpec) -> None:
    random = evaluate(RandomPolicy(short), 1, parts={"sticky": 0.25})
    assert random.summary()["trained_protocol"] is None
    assert "  training" not in report(random)


def test_a_table_has_a_column_of_protocols_where_they_differ(short: EnvSpec) -> None:
    v5 = make_envs("breakout", 1, protocol="v5", cap=400).spec
    one, two = evaluate(Still(short), 1), evaluate(Still(v5), 1)
    moved = evaluate(Still(short), 1, parts={"sticky": 0.25})
    assert "protocol" not in table([one, one])
    head, first, second = table([one, two]).splitlines()
    assert head.split()[-3:] == ["games", "protocol", "agent"]
    assert "  classic, cap 400  breakout: still" in first
    assert "classic, sticky 0.25, noop 0, cap 400, life-loss false, fire-reset false  breakout: still" in second
    for row in table([moved, moved]).splitlines()[1:]:
        assert "classic, sticky 0.25, cap 400 (training: classic, cap 400)  breakout: still" in row
    assert cell(None, ATARI.protocol) == "classic"


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


def test_no_game_is_played_where_another_agent_cannot_play(
    two: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of them can: its games would be played, and their result lost."""
    assert main(["eval", "breakout", "r1", "--sticky", "0.2", "--games", "1", "--cap", "400"]) == 2
    told = capsys.readouterr()
    assert "sticky is for Atari games" in told.err
    assert "evaluation" not in told.out + told.err
    for tensors in Path("r2/checkpoints").glob("ckpt-*/tensors.safetensors"):
        tensors.write_bytes(b"damaged")
    assert main(["eval", "r1", "r2", "--games", "1"]) == 3
    assert not Path("r1/eval").exists()
