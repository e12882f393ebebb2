"""Modes and difficulties of Atari games: the emulator plays them, the protocol names them, runs keep them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from ale_py.env import AtariEnv

import playfield
from playfield.cli import main
from playfield.envs import make_envs, make_from, protocol_line
from playfield.envs.atari import Atari
from playfield.envs.atari_modes import AtariModes, chosen, ranges
from playfield.envs.atari_protocol import AtariProtocol, protocol
from playfield.envs.base import Step
from playfield.envs.catalog import game_info
from playfield.envs.family import family
from playfield.errors import UsageError
from playfield.play.evaluate import evaluate
from playfield.play.policy import RandomPolicy
from playfield.play.protocol import suffix, under
from playfield.runs import storage

OTHER = {"mode": 4, "difficulty": 1}  # of Breakout


def play(env, steps: int, seed: int = 0) -> list[Step]:
    rng = np.random.default_rng(seed)
    return [env.step(rng.integers(env.spec.num_actions, size=env.num_envs)) for _ in range(steps)]


def same(a: Step, b: Step) -> bool:
    return a.episodes == b.episodes and all(
        np.array_equal(getattr(a, name), getattr(b, name)) for name in ("obs", "reward", "terminated", "truncated")
    )


@pytest.mark.parametrize(
    ("game", "parts", "raw"),
    [
        ("breakout", {}, False),
        ("breakout", {}, True),
        ("pong", {"colour": "rgb", "size": 0, "stack": 2}, False),
        ("freeway", {"size": 50, "maxpool": False}, False),
    ],
)
def test_single_emulators_play_by_the_rules_of_the_vector_emulator(game, parts, raw):
    """In the first mode, and without random numbers: the same games, bit for bit."""
    rules = protocol("v5", sticky=0.0, life_loss=True, fire_reset=True, noop=1, cap=900, **parts)
    ours, theirs = AtariModes(game, 2, rules, raw=raw), Atari(game, 2, rules, raw=raw)
    assert ours.spec == theirs.spec
    assert np.array_equal(ours.reset(np.array([1, 2])), theirs.reset(np.array([1, 2])))
    ended = 0
    for a, b in zip(play(ours, 300), play(theirs, 300), strict=True):
        assert same(a, b)
        # After the end of a game the vector emulator shows the frames before that end; nobody learns from them.
        shown = ~a.terminated
        assert np.array_equal(a.next_obs[shown], b.next_obs[shown])
        ended += len(a.episodes)
    assert ended >= 2, "the cap or the end of a game was reached"


@pytest.mark.parametrize(
    ("game", "mode", "difficulty"), [("breakout", 4, 1), ("breakout", None, 1), ("space_invaders", 9, None)]
)
def test_the_game_is_that_of_gymnasiums_environment_in_that_mode(game, mode, difficulty):
    """ale-py's own environment, told mode and difficulty, has the same RAM after the same actions."""
    parts = {k: v for k, v in (("mode", mode), ("difficulty", difficulty)) if v is not None}
    theirs = AtariEnv(game, obs_type="ram", frameskip=1, repeat_action_probability=0, **parts)
    ours = make_envs(game, 1, protocol="v5", sticky=0.0, obs="ram", skip=1, **parts)
    first = make_envs(game, 1, protocol="v5", sticky=0.0, obs="ram", skip=1)
    assert np.array_equal(ours.reset(np.array([5]))[0], theirs.reset(seed=5)[0])
    first.reset(np.array([5]))
    rng, other = np.random.default_rng(0), False
    for action in rng.integers(ours.spec.num_actions, size=200):
        obs = ours.step(np.array([action])).obs[0]
        assert np.array_equal(obs, theirs.step(action)[0])
        other |= not np.array_equal(obs, first.step(np.array([action])).obs[0])
    assert other, "it is not the game of the first mode"
    theirs.close()


def test_pixels_and_rewards_are_of_another_game():
    here, there = make_envs("breakout", 1, noop=0), make_envs("breakout", 1, noop=0, mode=12)
    assert isinstance(here, Atari)
    assert isinstance(there, AtariModes)
    assert here.spec.obs_shape == there.spec.obs_shape == (84, 84, 4)
    here.reset(np.array([0])), there.reset(np.array([0]))
    assert any(not np.array_equal(a.obs, b.obs) for a, b in zip(play(here, 100), play(there, 100), strict=True))


@pytest.mark.parametrize("parts", [{"view": "mono,trim"}, {"obs": "ram"}, {"sticky": 0.25, "colour": "rgb"}])
def test_a_snapshot_continues_to_the_bit_in_its_mode(parts):
    env = make_envs("breakout", 2, **OTHER, **parts)
    assert {k: env.spec.protocol[k] for k in OTHER} == OTHER
    env.reset(np.array([3, 4]))
    play(env, 260)
    state, rest = env.state(), play(env, 40, 1)
    again = make_from(env.spec, 2)
    again.restore(state)
    assert all(same(a, b) for a, b in zip(rest, play(again, 40, 1), strict=True))


def test_raw_frames_are_of_the_same_games():
    """What films need: a twin with its picture unprocessed."""
    env = make_envs("breakout", 1, **OTHER)
    twin = make_from(env.spec, 1, raw=True)
    env.reset(np.array([1])), twin.reset(np.array([1]))
    pairs = list(zip(play(env, 200), play(twin, 200), strict=True))
    assert all(a.episodes == b.episodes and np.array_equal(a.reward, b.reward) for a, b in pairs)
    assert twin.spec.obs_shape == (210, 160, 3)


# The protocol ------------------------------------------------------------------------------------------------


def test_the_default_is_not_named_whether_it_was_asked_for_or_not():
    plain = make_envs("breakout", 1).spec
    assert not {"mode", "difficulty"} & plain.protocol.keys(), "old runs keep their protocol"
    assert make_envs("breakout", 1, mode=0, difficulty=0).spec == plain
    assert make_envs("space_war", 1, mode=game_info("space_war").modes[0]).spec.protocol["name"] == "classic"
    # The only difficulty of backgammon that ALE names is not the one that it plays.
    assert chosen("backgammon", {"difficulty": 3}) == {"difficulty": 3}
    assert "mode" not in protocol_line(plain.protocol)


def test_the_protocol_names_what_is_not_the_default():
    stored = make_envs("breakout", 1, **OTHER).spec.protocol
    assert stored["name"] == "custom"
    assert protocol_line(stored).endswith("stack 4, mode 4, difficulty 1")
    assert AtariProtocol.from_stored(stored).other_game
    assert suffix(make_envs("breakout", 1).spec.protocol, stored, None, OTHER) == "-difficulty1-mode4"


def test_another_mode_has_no_published_scores():
    spec = make_envs("breakout", 1, mode=4, cap=400).spec
    assert family("atari").reference_scores("breakout", spec.protocol) == (None, None)
    assert family("atari").reference_scores("breakout", make_envs("breakout", 1).spec.protocol) == (1.7, 30.5)
    assert evaluate(RandomPolicy(spec), 1).human_normalized is None


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"mode": 5}, "breakout has no mode 5: choose from 0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44"),
        ({"difficulty": 2}, "breakout has no difficulty 2: choose from 0-1"),
        ({"mode": -1}, "no mode -1"),
        ({"mode": True}, "no mode True"),
        ({"mode": 4.0}, "no mode 4.0"),
        ({"mode": "4"}, "no mode 4"),
        ({"obs": "ram", "mode": 3}, "no mode 3"),
        ({"view": "mono,trim", "mode": 3}, "no mode 3"),
    ],
)
def test_what_the_emulator_does_not_have_is_refused(parts, message):
    with pytest.raises(UsageError, match=message):
        make_envs("breakout", 1, **parts)


def test_the_vector_emulator_never_plays_the_wrong_mode():
    with pytest.raises(UsageError, match="another mode"):
        Atari("breakout", 1, protocol(mode=4))


def test_a_very_long_list_is_cut():
    assert ranges((0, 1, 2, 5)) == "0-2, 5"
    assert ranges(()) == ""
    assert ranges(tuple(range(0, 200, 2))) == "0, 2, 4, 6, 8, ..., 198 (100 in all)"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["train", "pong", "--mode", "9"], "pong has no mode 9: choose from 0-1"),
        (["train", "pong", "--difficulty", "4"], "pong has no difficulty 4: choose from 0-3"),
        (["train", "pong", "--mode", "first"], "--mode takes a whole number"),
        (["train", "CartPole-v1", "--mode", "0"], "mode is for Atari games; CartPole-v1 has no such option"),
        (["train", "MountainCar-v0", "--difficulty", "1"], "difficulty is for Atari games"),
        (["train", "FrozenLake-v1", "--mode", "1"], "unexpected keyword argument 'mode'"),
        (["eval", "breakout", "--mode", "5"], "breakout has no mode 5"),
        (["preprocess", "breakout", "--mode", "5"], "breakout has no mode 5"),
    ],
)
def test_a_wrong_one_is_one_line_and_leaves_nothing(words, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) in (2, 6)
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_an_evaluation_keeps_the_mode_of_the_training_or_has_another():
    trained = make_envs("breakout", 1, **OTHER).spec
    assert under(trained, "v5", {}).protocol.items() >= {"mode": 4, "difficulty": 1, "sticky": 0.25}.items()
    first = under(trained, None, {"mode": 0, "difficulty": 0}).protocol
    assert first == make_envs("breakout", 1).spec.protocol
    assert under(trained, None, {"mode": 8}).protocol["mode"] == 8


def test_games_lists_them(capsys):
    assert main(["games", "breakout"]) == 0
    assert "0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44 (default 0)" in capsys.readouterr().out
    assert main(["games", "tetris"]) == 0
    assert "(default" not in capsys.readouterr().out, "there is no choice"


def test_the_steps_of_preprocessing_are_shown_in_a_mode(tmp_path, capsys):
    out = tmp_path / "a.png"
    assert main(["preprocess", "breakout", "--mode", "4", "--steps", "8", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["largest_difference_by_hand"] == 0


# Runs --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the package catches it."""


def test_a_killed_training_goes_on_in_its_mode_to_the_same_bits(tmp_path, monkeypatch, capsys):
    config = {"num_envs": 2, "rollout_steps": 16, "epochs": 1, "minibatches": 1, "net": "mlp"}
    quiet = {"console": False, "tensorboard": False, "games": 0, "film": False}
    asked = {"steps": 256, "obs": "ram", "save_seconds": 0.0, **OTHER, **config, **quiet}
    said: list[str] = []
    whole = playfield.train("breakout", run=tmp_path / "whole", say=said.append, **asked)
    assert "mode 4, difficulty 1" in "\n".join(said)
    saves = iter(range(100))

    def kill_in_the_fourth_save(point: str) -> None:
        if point == "fsync tensors.safetensors" and next(saves) == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(storage, "fault_point", kill_in_the_fourth_save)
        with pytest.raises(Killed):
            playfield.train("breakout", run=tmp_path / "killed", **asked)
    stored = json.loads(Path(tmp_path / "killed" / "run.json").read_text())
    assert stored["protocol"].items() >= OTHER.items()
    resumed = playfield.train(resume=tmp_path / "killed", **quiet)
    assert resumed.hash == whole.hash
    capsys.readouterr()
    words = ["eval", str(tmp_path / "killed"), "--games", "1", "--cap", "200", "--json"]
    for more, expected in (([], 4), (["--mode", "0"], None)):
        assert main([*words, *more]) == 0
        assert json.loads(capsys.readouterr().out)["protocol"].get("mode") == expected
