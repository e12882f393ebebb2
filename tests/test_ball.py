"""The measure of whether a picture shows the ball, on frames whose ball is known."""

from __future__ import annotations

import numpy as np
import pytest

from playfield.datasets import ball
from screens import screens


@pytest.fixture(scope="module")
def game():
    frames, places = screens(120, 3)
    back = ball.background(frames)
    return frames[1:], places[1:], back, ball.find(frames[1:], frames[:-1], back)


def test_the_background_is_what_mostly_stands_there(game):
    back = game[2]
    assert back.dtype == np.uint8
    assert (back[:70, 3:-3] == 40).all()
    assert (back[:, :3] == 142).all()


def test_balls_are_found_where_they_are(game):
    frames, places, _, found = game
    assert len(found) > 0.8 * len(frames)
    apart = np.abs(found.places - places[found.rows])
    assert apart[:, 0].max() <= 1  # a ball is two pixels high
    assert apart[:, 1].max() == 0
    assert (found.contrast == 160).all()


def test_what_stands_still_or_is_large_is_no_ball(game):
    frames, _, back, _ = game
    assert not len(ball.find(frames, frames, back))
    two = frames.copy()
    two[:, 20:24, 40:44] = 200  # a brick, where there was none before
    bare = np.broadcast_to(back, frames.shape)
    assert not len(ball.find(np.where(frames == 200, two, bare)[:0], frames[:0], back))
    brick = bare.copy()
    brick[:, 20:24, 40:44] = 200
    assert not len(ball.find(brick, bare, back))


def test_two_candidates_are_not_one_for_certain(game):
    frames, _, back, _ = game
    bare = np.broadcast_to(back, frames[:1].shape)
    one = bare.copy()
    one[0, 30, 30] = 200
    two = one.copy()
    two[0, 50, 50] = 200
    assert len(ball.find(one, bare, back)) == 1
    assert not len(ball.find(two, bare, back))
    near = one.copy()
    near[0, 30:40, 33:40] = 200  # a thing beside it
    assert not len(ball.find(near, bare, back))


@pytest.mark.parametrize(
    ("move", "faint", "expected"), [(0, 1.0, 1.0), (2, 1.0, 1.0), (4, 1.0, 0.0), (0, 0.6, 1.0), (0, 0.4, 0.0)]
)
def test_shown_means_bright_and_near(game, move, faint, expected):
    """A picture with the ball so many pixels away, so faint."""
    _, _, back, found = game
    pictures = np.broadcast_to(back, (len(found), 84, 84)).copy()
    for picture, (y, x) in zip(pictures, found.places, strict=True):
        picture[y, x + move] = 40 + 160 * faint
    assert ball.shown(pictures, found, back).mean() == expected
    assert ball.shown(pictures, found, back, radius=5).mean() == (1.0 if faint > 0.5 else 0.0)


def test_a_dark_spot_is_not_a_bright_one(game):
    _, _, back, found = game
    assert not ball.shown(np.zeros((len(found), 84, 84), np.uint8), found, back).any()


def test_haze_shows_balls_and_invents_as_many(game):
    frames, _, back, found = game
    true = frames[found.rows]
    haze = np.full_like(true, 150)
    assert ball.shown(haze, found, back).all()
    assert ball.invented(haze, true, found, back).all()
    assert ball.shown(true, found, back).all()
    assert not ball.invented(true, true, found, back).any()
