"""Panels are compared with pixels worked out by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.errors import UsageError
from playfield.show import panels
from playfield.show.panels import BACKGROUND, BLUE, ORANGE

RNG = np.random.default_rng


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5))
def test_upscale_repeats_each_pixel(h: int, w: int, down: int, across: int) -> None:
    frame = RNG(h * w).integers(0, 256, (h, w, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        panels.upscale(frame, (down, across)), np.kron(frame, np.ones((down, across, 1), np.uint8))
    )
    assert np.array_equal(panels.fit(frame, h * down), panels.upscale(frame, down))


def test_fit_and_tv_sizes() -> None:
    frame = RNG(0).integers(0, 256, (210, 160, 3), dtype=np.uint8)
    assert [panels.tv(frame, s).shape[:2] for s in (1, 2, 3, 4)] == [
        (210, 320),
        (420, 480),
        (630, 800),
        (840, 1120),
    ]
    assert panels.fit(frame, 105).shape == (105, 80, 3)
    np.testing.assert_allclose(panels.fit(frame, 105), frame.reshape(105, 2, 80, 2, 3).mean((1, 3)), atol=1.01)
    assert panels.fit(frame[..., 0], 315).shape == (315, 240)
    for call in (lambda: panels.fit(frame, 0), lambda: panels.upscale(frame, 0)):
        with pytest.raises(UsageError):
            call()


def test_stack_overlay_fades_older_frames() -> None:
    stack = np.zeros((6, 5, 4), np.uint8)
    for k in range(4):
        stack[k + 1, k, k] = 200  # the ball moves down the diagonal
    stack[0] = 142  # the wall stands still
    picture = panels.stack_overlay(stack, height=12)
    assert picture.shape == (12, 10, 3)
    small = picture[::2, ::2]
    assert np.array_equal(picture, panels.upscale(small, 2))
    np.testing.assert_array_equal(small[0], np.full((5, 3), 142))
    assert [int(small[k + 1, k].max()) for k in range(4)] == [50, 100, 200, 200]
    assert np.ptp(small[4, 3]) == 0, "the newest is grey"
    assert np.ptp(small[3, 2]) > 100, "older ones have a hue"


def test_stack_strip_is_oldest_first() -> None:
    stack = np.stack([np.full((4, 4), 10 * k, np.uint8) for k in range(3)], -1)
    strip = panels.stack_strip(stack, height=8, gap=2)
    assert strip.shape == (8, 28, 3)
    assert [int(strip[0, x, 0]) for x in (0, 10, 20)] == [0, 10, 20]
    for bad in (stack.astype(float), stack[..., 0]):
        with pytest.raises(UsageError, match="stack"):
            panels.stack_strip(bad)


def test_beside_and_mosaic_place_panels() -> None:
    a, b = np.full((10, 4, 3), 1, np.uint8), np.full((6, 5, 3), 2, np.uint8)
    out = panels.beside(a, b, gap=3)
    assert out.shape == (10, 12, 3)
    assert (out[:, :4] == 1).all()
    assert (out[2:8, 7:] == 2).all()
    assert (out[:2, 7:] == BACKGROUND).all()
    assert (out[:, 4:7] == BACKGROUND).all()
    with pytest.raises(UsageError):
        panels.beside()


@pytest.mark.parametrize(
    ("n", "columns", "grid"), [(1, None, (1, 1)), (4, None, (2, 2)), (9, None, (3, 3)), (25, None, (5, 5)),
                               (5, None, (2, 3)), (7, 2, (4, 2)), (2, 8, (1, 8))],
)  # fmt: skip
def test_mosaic_grid(n: int, columns: int | None, grid: tuple[int, int]) -> None:
    frames = [np.full((3, 4, 3), 100 + i, np.uint8) for i in range(n)]
    out = panels.mosaic(frames, columns, gap=2)
    assert out.shape == (grid[0] * 5 - 2, grid[1] * 6 - 2, 3)
    for i in range(n):
        y, x = i // grid[1] * 5, i % grid[1] * 6
        assert (out[y : y + 3, x : x + 4] == 100 + i).all()
    assert int((out >= 100).all(-1).sum()) == 12 * n


def test_mosaic_errors_and_dim() -> None:
    for frames, columns in (
        ([], None),
        ([np.zeros((2, 2, 3)), np.zeros((2, 3, 3))], None),
        ([np.zeros((2, 2, 3))], 0),
    ):
        with pytest.raises(UsageError):
            panels.mosaic(frames, columns)
    assert panels.dim(np.array([[[255, 80, 0]]], np.uint8)).tolist() == [[[95, 30, 0]]]


COMPASS = ["UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT", "DOWNLEFT"]
ALL = ["NOOP", "FIRE", *COMPASS, *(name + "FIRE" for name in COMPASS)]


def bar_lengths(picture: np.ndarray, color: tuple[int, int, int]) -> list[int]:
    """Pixels of `color` in the rows where it is found, one number per run of rows."""
    counts = (picture == color).all(-1).sum(1)
    starts = np.flatnonzero((counts > 0) & (np.concatenate([[0], counts[:-1]]) == 0))
    return [int(counts[s]) for s in starts]


def test_probability_bars_have_their_lengths() -> None:
    probs = np.array([0.5, 0.25, 0.05, 0.2])
    picture = panels.probability_bars(probs, ALL[:4], (300, 400), chosen=1, value=2.5)
    assert picture.shape == (300, 400, 3)
    assert picture.dtype == np.uint8
    blue, orange = bar_lengths(picture, BLUE), bar_lengths(picture, ORANGE)
    assert len(blue) == 3
    assert len(orange) == 1
    full = blue[0] / 0.5
    np.testing.assert_allclose([blue[0], orange[0], blue[1], blue[2]], probs * full, atol=1.01)
    (whole,) = bar_lengths(panels.probability_bars([1, 0], ["a", "b"], (300, 400)), BLUE)
    assert whole > 200


def test_bars_change_with_names_value_and_choice() -> None:
    def draw(**changes: object) -> bytes:
        given: dict = {"probs": [0.3, 0.7], "names": ["left", "right"], "chosen": 0, "value": 1.0} | changes
        return panels.probability_bars(**given).tobytes()

    changes = [{}, {"probs": [0.31, 0.69]}, {"names": ["up", "right"]}, {"chosen": 1}, {"chosen": None}]
    changes += [{"value": 2.0}, {"value": None}]
    assert len({draw(**change) for change in changes}) == len(changes)
    assert draw() == draw()


@pytest.mark.parametrize("size", [(420, 260), (220, 200), (840, 500), (60, 60)])
def test_18_actions_fit_and_the_colors_are_few(size: tuple[int, int]) -> None:
    probs = RNG(1).dirichlet(np.ones(18))
    picture = panels.caption(panels.probability_bars(probs, ALL, size, 4, -12.5), "step 1,000", "score 3")
    assert picture.shape == (size[0] + 28, size[1], 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) <= 128
    assert len(bar_lengths(panels.probability_bars(np.full(18, 1.0), ALL, (420, 260)), BLUE)) == 18


def test_bars_take_odd_numbers() -> None:
    panels.probability_bars([float("nan"), 2.0, -1.0], ["a", "b", "c"])
    q = panels.q_bars([-1.0, 3.0, 1.0], ALL[:3], (300, 400), chosen=1)
    low, best, middle = *bar_lengths(q, BLUE)[:1], *bar_lengths(q, ORANGE), *bar_lengths(q, BLUE)[1:]
    assert low / best == pytest.approx(0.1, abs=0.02)
    assert middle / best == pytest.approx(0.55, abs=0.02)
    panels.q_bars([2.0, 2.0], ["a", "b"])
    for probs, names in (([0.5, 0.5], ["a"]), ([], []), ([[1.0]], ["a"])):
        with pytest.raises(UsageError, match="action names"):
            panels.probability_bars(probs, names)


def test_bars_are_fast() -> None:
    panels.probability_bars(np.ones(18) / 18, ALL, value=0.0)
    rng = RNG(0)
    rows = rng.dirichlet(np.ones(18), 50)
    start = time.perf_counter()
    for row in rows:
        panels.probability_bars(row, ALL, chosen=3, value=float(row[0]))
    assert 50 / (time.perf_counter() - start) > 200


def test_caption_keeps_the_panel_and_cuts_long_text() -> None:
    panel = np.full((20, 120, 3), 9, np.uint8)
    out = panels.caption(panel, "score 12")
    assert np.array_equal(out[28:], panel)
    assert out[:28].max() > 200, "no text"
    assert (
        panels.caption(panel, "a\nb", "c").shape == panels.caption(panel, "word " * 50, "x" * 99).shape == out.shape
    )
    assert panels.caption(panel, "").shape == out.shape
    assert not np.array_equal(panels.caption(panel, "score 12", "1"), out)
    panels.caption(np.zeros((2, 3, 3), np.uint8), "narrow", "strip")
