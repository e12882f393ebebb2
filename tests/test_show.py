"""Captions of films, which are neither cut off nor dimmed; styles, mosaics, progress and `start`."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.play import player
from playfield.play.player import Player
from playfield.play.policy import RandomPolicy
from playfield.show import film, panels
from playfield.show.record import record


@pytest.fixture
def captions(monkeypatch):
    """(left, right, picture) of every strip that is drawn, while they are drawn as ever."""
    seen = []
    caption = panels.caption

    def note(panel, text, right="", **how):
        seen.append((text, right, panel))
        return caption(panel, text, right, **how)

    monkeypatch.setattr(panels, "caption", note)
    return seen


def policy_for(env: str) -> RandomPolicy:
    envs = make_envs(env, 1)
    spec = envs.spec
    envs.close()
    return RandomPolicy(spec, 0)


def shortened(text: str, width: int, size: int = 16) -> bool:
    return panels._shorten(text, size, width - size) != text


def test_a_mosaic_says_game_agent_and_the_score_of_each_tile(captions, tmp_path):
    policy = policy_for("CartPole-v1")
    pictures = film.film_mosaic(policy, 4, tmp_path / "m.gif", seed=3)
    heads = [(text, right) for text, right, _ in captions if text.startswith("CartPole-v1")]
    assert heads == [(f"CartPole-v1 · {policy.label}", f"step {t}") for t in range(pictures)]
    lengths = []
    for i in range(4):
        player = Player(policy_for("CartPole-v1"), 3 + i)
        lengths.append(sum(1 for _ in player.moments(0, 0)))
        player.close()
    for i in range(4):
        tiles = [
            (text, right, panel)
            for text, right, panel in captions
            if right in (f"game {i + 1}", f"game {i + 1}, over")
        ]
        scores = [int(text.removeprefix("score ")) for text, _, _ in tiles]
        assert scores == list(range(1, len(scores) + 1))  # CartPole gives 1 a step
        assert [right.endswith("over") for _, right, _ in tiles] == [False] * (len(scores) - 1) + [True]
        assert tiles[-1][2].max() < 100 < tiles[0][2].max()  # the picture is dimmed, the words above it are not
    assert pictures == max(int(text.removeprefix("score ")) for text, right, _ in captions if right.endswith("over"))
    with Image.open(tmp_path / "m.gif") as gif:
        assert gif.n_frames <= pictures
        gif.seek(gif.n_frames - 1)
        last = np.asarray(gif.convert("RGB"))
    strips = last[28 : 28 + 28]  # above the first row of tiles, when all games are over
    assert strips.max() > 220


def test_a_mosaic_of_atari_fits_its_words(captions, tmp_path):
    film.film_mosaic(policy_for("breakout"), 9, tmp_path / "m.mp4", steps=2)
    assert {panel.shape for text, _, panel in captions if text.startswith("score")} == {(210, 320, 3)}
    assert not shortened("score 1,234,567" + "game 25, over" + "mm", 320)
    assert not shortened(
        "breakout · shipped agent breakout, sampled at temperature 0.5 (training: 1)" + "step 10,000mm", 972
    )
    assert player.fps_of(policy_for("breakout").spec) == 15


def test_only_square_mosaics(tmp_path):
    for count in (0, 5, 121):
        with pytest.raises(UsageError, match="square number"):
            film.film_mosaic(policy_for("CartPole-v1"), count, tmp_path / "m.gif")


@pytest.mark.parametrize("style", film.STYLES)
def test_a_page_names_its_panels(captions, style):
    policy = policy_for("breakout")
    player = Player(policy, 0)
    moment = next(itertools.islice(player.moments(), 5, None))
    player.close()
    picture = film.film_frame(moment, policy.spec, style)
    sees = "observation (orange: older frames)"
    wants = ["action probabilities"] if "probs" in moment.outputs else []
    expected = {"plain": [], "bars": [], "net": ["screen", sees], "all": ["screen", sees, *wants]}[style]
    assert [text for text, _, _ in captions] == expected + (["breakout · score 0"] if style != "plain" else [])
    for text, right, panel in captions:
        size = 16 if text.startswith("breakout") else 14
        assert not shortened(text + ("mm" + right if right else ""), panel.shape[1], size)
    assert picture.dtype == np.uint8
    if style == "plain":
        assert (picture == panels.tv(moment.frame)).all()


def test_values_of_actions_are_drawn_before_probabilities(monkeypatch):
    policy = policy_for("CartPole-v1")
    player = Player(policy, 0)
    moment = next(player.moments())
    player.close()
    valued = dataclasses.replace(moment, outputs={**moment.outputs, "q": np.array([1.0, 3.0])})
    drawn = panels.q_bars([1.0, 3.0], policy.spec.action_names, (moment.frame.shape[0], 260), moment.action)
    assert (film.film_frame(valued, policy.spec, "bars")[-drawn.shape[0] :, -260:] == drawn).all()
    assert not np.array_equal(
        film.film_frame(moment, policy.spec, "bars"), film.film_frame(valued, policy.spec, "bars")
    )


@pytest.mark.parametrize("mosaic", [0, 4])
def test_a_long_film_says_how_far_it_is(mosaic, tmp_path, monkeypatch):
    now, said, path = [0.0], [], tmp_path / "long.gif"
    tick = film.Film.add
    monkeypatch.setattr(
        film.Film, "add", lambda self, picture: (tick(self, picture), now.__setitem__(0, now[0] + 4.0))
    )
    monkeypatch.setattr(film.time, "monotonic", lambda: now[0])
    record("CartPole-v1", agent="random", out=path, steps=7, mosaic=mosaic, style="plain", say=said.append)
    assert said[:-1] == [f"filming {path}: {count} frames of 7" for count in (3, 6)]  # every 10 seconds, at 4 each
    assert said[-1].startswith(f"wrote {path}: 7 frames")


def test_a_film_may_start_later(tmp_path):
    whole, late, said = tmp_path / "whole.gif", tmp_path / "late.gif", []
    record("CartPole-v1", agent="random", out=whole, steps=10, seed=1, style="plain", say=said.append)
    record("CartPole-v1", agent="random", out=late, steps=3, start=7, seed=1, style="plain", say=said.append)
    assert said.pop(1) == "playing 7 steps before the film begins"
    assert [line.split(": ")[1].split(",")[0] for line in said] == ["10 frames", "3 frames"]
    with Image.open(whole) as a, Image.open(late) as b:
        a.seek(7)
        np.testing.assert_array_equal(np.asarray(a.convert("RGB")), np.asarray(b.convert("RGB")))
        a.seek(6)
        assert (np.asarray(a.convert("RGB")) != np.asarray(b.convert("RGB"))).any()
    with pytest.raises(UsageError, match="no film is written"):
        record("CartPole-v1", agent="random", out=tmp_path / "none.gif", start=10_000, seed=1)
    assert not (tmp_path / "none.gif").exists()
    with pytest.raises(UsageError, match="leave out --mosaic"):
        record("CartPole-v1", agent="random", out=tmp_path / "none.gif", start=5, mosaic=4)
