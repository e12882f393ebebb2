"""Collected play: the screens that the environment gives, the memory of the same moment, the same from one seed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from playfield.cli import main
from playfield.datasets import dataset
from playfield.datasets.collect import Observations, _progress, collect, play
from playfield.envs.atari import Atari
from playfield.envs.atari_protocol import protocol
from playfield.envs.atari_ram import AtariRam
from playfield.envs.classic import ClassicVectorEnv
from playfield.errors import UsageError
from playfield.play.policy import RandomPolicy


@pytest.mark.parametrize("game", ["breakout", "pong"])
def test_observations_are_those_of_the_vector_emulator(game):
    """Without random no-ops and sticky frames both emulators play the same game."""
    rules = protocol("classic", noop=0)
    env, other = Atari(game, 1, rules), AtariRam(game, 1, rules, screens=True)
    observations = Observations(env.spec, 1)
    rng = np.random.default_rng(3)
    obs, ram = env.reset(np.array([1])), other.reset(np.array([2]))
    np.testing.assert_array_equal(observations.reset(other, ram), obs)
    over = 0
    for _ in range(230):
        actions = rng.integers(env.spec.num_actions, size=1)
        one, two = env.step(actions), other.step(actions)
        over += len(one.episodes)
        assert one.reward == two.reward
        assert one.terminated == two.terminated
        np.testing.assert_array_equal(
            observations.step(other, two.obs, np.array([bool(two.episodes)])), one.obs, err_msg=f"{game}"
        )
    assert over or game != "breakout"


@pytest.fixture(scope="module")
def recorded():
    rules = protocol("classic")
    env = Atari("breakout", 1, rules)
    env.close()
    return play(RandomPolicy(env.spec, 0), 500, seed=5, num_envs=1)


def test_rows_tell_the_game(recorded):
    columns, scores = recorded
    data = dataset.Dataset(None, {}, **columns)
    starts = np.flatnonzero(data.starts)
    ends = np.append(starts[1:], len(data)) - 1
    np.testing.assert_array_equal(np.flatnonzero(data.actions < 0), ends)
    assert (data.actions >= 0).sum() == 500
    assert len(data) == 500 + len(starts)
    assert data.actions.max() < 4
    cut = data.truncated[ends - 1]
    assert (data.terminated[ends - 1] | cut).all()
    assert not data.truncated[data.actions < 0].any()
    assert len(scores) >= 2
    returns = np.add.reduceat(data.rewards, starts)
    assert sorted(returns[~cut]) == sorted(scores)
    # Breakout keeps its lives in byte 57: within a game a life is lost where, and only where, a step terminated.
    for start, end in zip(starts, ends, strict=True):
        lives = data.ram[start : end + 1, 57].astype(int)
        np.testing.assert_array_equal(np.diff(lives) < 0, data.terminated[start:end])
        assert lives[0] == 5
    lost = np.flatnonzero(data.terminated)
    again = [i + 1 for i in lost.tolist() if data.actions[i + 1] >= 0 and i + 1 < len(data)]
    assert again
    assert (data.actions[again] == 1).all()  # FIRE, which the protocol presses


def test_bytes_belong_to_their_screens(recorded):
    """Breakout's paddle: its place in the memory and on the screen go together."""
    columns = recorded[0]
    seen = columns["frames"][:, 76:78].astype(int).max(axis=1)[:, 5:79]
    centre = (seen * np.arange(5, 79)).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    inside = (columns["ram"][:, 72] > 60) & (columns["ram"][:, 72] < 180)
    assert inside.sum() > 100
    assert np.corrcoef(centre[inside], columns["ram"][inside, 72])[0, 1] > 0.99


def test_one_seed_one_dataset(tmp_path):
    one, two, other = (
        collect("breakout", agent="random", steps=40, num_envs=1, seed=s, out=tmp_path / name)
        for s, name in ((3, "a"), (3, "b"), (4, "c"))
    )
    assert (one / "data.safetensors").read_bytes() == (two / "data.safetensors").read_bytes()
    assert (one / "dataset.json").read_bytes() == (two / "dataset.json").read_bytes()
    assert (one / "data.safetensors").read_bytes() != (other / "data.safetensors").read_bytes()


def test_agents_play_and_chance_mixes_in():
    """An agent that always presses RIGHT: epsilon says how often it does something else."""

    class Right(RandomPolicy):
        def act(self, obs, uniform=None):
            assert obs.shape == (1, 84, 84, 4)
            return np.full(len(obs), 2)

    env = Atari("pong", 1, protocol("classic", noop=0))
    env.close()
    for epsilon, low, high in ((0.0, 1, 1), (0.6, 0.35, 0.65)):
        actions = play(Right(env.spec), 200, epsilon=epsilon, seed=1, num_envs=1)[0]["actions"]
        share = (actions[actions >= 0] == 2).mean()
        assert low <= share <= high  # 0.4 + 0.6 / 6 expected


def test_agents_of_ram_play():
    env = AtariRam("breakout", 1, protocol("classic"))
    columns, _ = play(RandomPolicy(env.spec, 0), 20, num_envs=1)
    assert columns["frames"][5].any()


@pytest.mark.parametrize("change", [{"colour": "rgb"}, {"view": "mono"}])
def test_other_views_are_refused(change):
    env = Atari("breakout", 1)
    env.close()
    spec = dataclasses.replace(env.spec, protocol={**env.spec.protocol, **change})
    with pytest.raises(UsageError, match="only grey screens"):
        play(RandomPolicy(spec), 4)


def test_classic_control_is_refused():
    with pytest.raises(UsageError, match="only Atari"):
        play(RandomPolicy(ClassicVectorEnv("CartPole-v1", 1).spec), 4)


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["collect", "breakout", "--agent", "random", "--steps", "20", "--num-envs", "1"]
    assert main(words) == 0
    assert "playfield autoencoder datasets/breakout" in capsys.readouterr().out
    assert dataset.load("datasets/breakout").meta["agent"] == "random"
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "exists already" in error
    assert main(["collect", "brekout"]) == 2
    assert "breakout" in capsys.readouterr().err
    assert main(["collect", "breakout", "--epsilon", "2", "--out", "x"]) == 2
    assert not (tmp_path / "x").exists()


def test_the_time_left_leaves_out_what_came_before_the_first_step(monkeypatch) -> None:
    now, said = [0.0], []
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    on_step = _progress(100, said.append)
    now[0] = 1_000.0  # imports, the emulator's start
    on_step(4)
    for done in range(8, 101, 4):
        now[0] += 3.0
        on_step(done)
    assert said[0] == "12 of 100 steps (12%), 1 min 06 s left"  # 88 steps at 0.75 s each
    assert said[-1] == "92 of 100 steps (92%), 6.0 s left"
