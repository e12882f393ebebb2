"""`playfield preprocess`: its steps by hand against the emulator's own, over several games, rules and life losses."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from playfield.cli import main
from playfield.envs import make_envs
from playfield.envs.catalog import open_game
from playfield.show.preprocess import luminance, play


def test_luminance_is_the_weighted_mean_and_ales_own_grey() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (50, 40, 3)).astype(np.uint8)
    mean = np.average(rgb, axis=-1, weights=[0.299, 0.587, 0.114])
    assert np.abs(luminance(rgb) - mean).max() <= 0.5 + 1e-9
    thousandths = rgb.astype(int) @ np.array([299, 587, 114])
    exact = thousandths % 1000 != 500  # a half may be rounded either way
    np.testing.assert_array_equal(luminance(rgb)[exact], ((thousandths + 500) // 1000)[exact])
    for game in ("breakout", "seaquest", "ms_pacman"):
        ale = open_game(game)
        for _ in range(150):
            ale.act(int(rng.integers(4)))
        np.testing.assert_array_equal(luminance(ale.getScreenRGB()), ale.getScreenGrayscale())


@pytest.mark.parametrize(
    ("game", "parts"),
    [
        ("breakout", {}),
        ("pong", {"size": 64, "skip": 3, "stack": 2}),
        ("space_invaders", {"sticky": 0.25, "noop": 5}),
        ("breakout", {"maxpool": False, "fire_reset": False}),
        ("breakout", {"size": 0}),
    ],
    ids=str,
)
def test_single_frames_lead_to_what_the_environment_gives(game: str, parts: dict) -> None:
    """The second emulator plays the very same frames, through lost lives and new games: every step's observation is
    the maximum of its last two frames, brightness only, resized."""
    env = make_envs(game, 1, **parts)
    for steps in (1, 40, 400):
        frames, obs, played = play(env, steps, seed=3)
        assert played >= steps
        assert len(frames) == env.protocol.skip
        grey = [np.rint(frame @ np.array([0.299, 0.587, 0.114])).astype(np.uint8) for frame in frames]
        picture = np.maximum(grey[-2], grey[-1]) if env.protocol.maxpool else grey[-1]
        if env.protocol.size:
            picture = cv2.resize(picture, (env.protocol.size,) * 2, interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(obs[..., -1], picture)
    env.close()


def test_the_same_seed_gives_the_same_play_and_another_another() -> None:
    env = make_envs("breakout", 1)
    a, b, c = (play(env, 30, seed)[1] for seed in (0, 0, 1))
    env.close()
    np.testing.assert_array_equal(a, b)
    assert (a != c).any()


@pytest.mark.parametrize("words", [[], ["--view", "mono,trim"], ["--colour", "rgb"], ["--size", "0", "--stack", "2"]])
def test_the_command_writes_one_picture(words: list[str], tmp_path, capsys) -> None:
    out = tmp_path / "steps.png"
    assert main(["preprocess", "breakout", "--steps", "20", "--seed", "1", "--out", str(out), "--json", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["picture"] == str(out)
    assert told["screen_bytes"] == 100_800
    assert told["obs_bytes"] == np.prod(told["obs_shape"])
    by_hand = not words or words[0] == "--size"
    assert told["largest_difference_by_hand"] == (0 if by_hand else None)
    with Image.open(out) as picture:
        assert min(picture.size) > 700
    assert [p.name for p in tmp_path.iterdir()] == ["steps.png"]


def test_it_says_what_the_environment_really_does(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["preprocess", "breakout", "--steps", "5"]) == 0
    out = capsys.readouterr().out
    for words in ("100,800 bytes becomes 84x84x4, 28,224 bytes", "ALE's grey screens", "shown here is identical"):
        assert words in out
    assert (tmp_path / "preprocess-breakout.png").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["CartPole-v1"], "has no Atari pixel observations"),
        (["breakout", "--obs", "ram"], "has no Atari pixel observations"),
        (["brekout"], "did you mean breakout"),
        (["breakout", "--steps", "0"], "between 1"),
        (["breakout", "--steps", "1", "--out", "a.jpg"], "a.png"),
        (
            ["breakout", "--steps", "1", "--out", "."],
            "--out . is a directory: name a file in it, such as picture.png",
        ),
        (["breakout", "--steps", "1", "--out", ""], "--out takes a path, not ''"),
        (["breakout", "--steps", "1", "--out", "no/where/a.png"], "there is no directory no/where"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes(words, message, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["preprocess", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (err.count("\n"), out) == (1, "")
    assert list(tmp_path.iterdir()) == []
