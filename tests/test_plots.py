"""Plots are opened again and their colours counted; the numbers are compared with naive ones."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from playfield.errors import DataError, StorageError, UsageError
from playfield.runs import logger
from playfield.show import compare_plot, plots

GAMES = [(100 * i, float(i % 7)) for i in range(1, 200)]
TEXT = {"title": "breakout, ppo", "protocol_line": "classic: sticky 0, skip 4"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e4, 1e4), max_size=60), st.integers(1, 80))
def test_moving_mean_is_the_naive_one(values: list[float], window: int) -> None:
    naive = [np.mean(values[max(0, i + 1 - window) : i + 1]) for i in range(len(values))]
    np.testing.assert_allclose(plots.moving_mean(values, window), naive, atol=1e-7)


def test_moving_mean_by_hand() -> None:
    assert plots.moving_mean([2, 4, 9, 1], 2).tolist() == [2, 3, 6.5, 5]
    with pytest.raises(UsageError):
        plots.moving_mean([1], 0)


BAD = st.sampled_from([0.1, 500.0, 499.99999999, -0.3, 1e-310, 1e17, -1e17, 1.7e308, -1.7e308, 3.0, 0.0])


@settings(max_examples=200, deadline=None)
@given(st.lists(BAD | st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=70), st.integers(1, 90))
def test_a_moving_mean_stays_within_its_window(values: list[float], window: int) -> None:
    """No rounding of what came before, no overflow; equal numbers have that number as their mean."""
    means = plots.moving_mean(values, window)
    assert means.shape == (len(values),)
    for i, mean in enumerate(means.tolist()):
        part = values[max(0, i + 1 - window) : i + 1]
        assert min(part) <= mean <= max(part)
        exact = float(sum(map(Fraction, part)) / len(part))
        assert abs(mean - exact) <= 1e-14 * max(map(abs, part)) + 1e-300


def test_what_was_once_large_is_forgotten() -> None:
    values = [1e17, -3e16, 7.7, *[500.0] * 300, *[0.1] * 300]
    means = plots.moving_mean(values, 100)
    assert set(means[102:303]) == {500.0}
    assert set(means[402:]) == {0.1}
    assert plots.moving_mean([], 5).tolist() == []
    assert plots.moving_mean([0.1] * 1000, 10**6).tolist() == [0.1] * 1000


def test_long_curves_and_windows_are_quick() -> None:
    values = np.random.default_rng(0).random(300_000)
    begun = time.process_time()
    means = plots.moving_mean(values, 200_000)
    assert time.process_time() - begun < 3
    assert means[-1] == pytest.approx(values[-200_000:].mean(), rel=1e-13)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        return np.asarray(image.convert("RGB"))


def has(picture: np.ndarray, color: str) -> int:
    rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return int((picture == rgb).all(-1).sum())


def test_learning_curve_draws_what_it_is_given(tmp_path: Path) -> None:
    out = tmp_path / "new folder" / "a.png"
    plots.learning_curve(out, GAMES, **TEXT)
    plain = pixels(out)
    assert plain.shape == (750, 1200, 3)
    assert has(plain, plots.BLUE) > 500
    assert has(plain, plots.VERMILION) == 0
    plots.learning_curve(out, GAMES, **TEXT, evals=[(5000, 3, 2, 5), (9000, 4, 3, 4.5)], size=(800, 500))
    with_evals = pixels(out)
    assert with_evals.shape == (500, 800, 3)
    assert has(with_evals, plots.VERMILION) > 50
    assert list(out.parent.iterdir()) == [out]


def test_each_argument_changes_the_picture_and_the_same_input_does_not(tmp_path: Path) -> None:
    def draw(**changes: object) -> bytes:
        given: dict = {"games": GAMES, **TEXT, "size": (480, 320)} | changes
        plots.learning_curve(tmp_path / "a.png", given.pop("games"), **given)
        return (tmp_path / "a.png").read_bytes()

    changes = [{}, {"title": "other"}, {"protocol_line": "v5"}, {"human": 5}, {"random": 5}, {"window": 3}]
    changes += [{"seconds": 600}, {"seconds": 30}, {"games": GAMES[:-1]}]
    assert len({draw(**change) for change in changes}) == len(changes)
    assert draw() == draw(games=GAMES[::-1]), "the order of games matters"
    linear = [600 * step / GAMES[-1][0] for step, _ in GAMES]
    assert draw(seconds=linear) == draw(seconds=600)


@pytest.mark.parametrize("seconds", [None, 0, 0.5, 90, 86400.0, [12.0]])
def test_one_game(tmp_path: Path, seconds: float | list[float] | None) -> None:
    plots.learning_curve(tmp_path / "a.png", [(10, 2)], **TEXT, human=30.5, random=1.7, seconds=seconds)
    assert has(pixels(tmp_path / "a.png"), plots.BLUE) > 20


def test_odd_texts_are_drawn_as_they_are(tmp_path: Path) -> None:
    texts = {"title": "$x_{ 100%", "protocol_line": "$\\frac " + "long line " * 60}
    plots.learning_curve(tmp_path / "a.png", [(0, 0), (0, 0)], **texts)
    assert pixels(tmp_path / "a.png").shape == (750, 1200, 3)


def test_nothing_to_plot_and_bad_numbers(tmp_path: Path) -> None:
    for games in ([], [(1, float("nan"))], [(float("inf"), 1)]):
        with pytest.raises(UsageError):
            plots.learning_curve(tmp_path / "a.png", games, **TEXT)
    for seconds in ([1.0, 2.0], float("nan"), -1):
        with pytest.raises(UsageError):
            plots.learning_curve(tmp_path / "a.png", GAMES, **TEXT, seconds=seconds)
    with pytest.raises(UsageError, match=r"\.png"):
        plots.learning_curve(tmp_path / "a.jpg", GAMES, **TEXT)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"):
        plots.learning_curve(tmp_path / "file" / "a.png", GAMES, **TEXT)


def test_on_common_steps_holds_the_last_value() -> None:
    a = np.array([0.0, 10, 20]), np.array([1.0, 2, 3])
    b = np.array([5.0, 15]), np.array([10.0, 20])
    grid, values = plots.on_common_steps([a, b], points=11)
    assert grid.tolist() == list(range(5, 16))
    assert values[0].tolist() == [1] * 5 + [2] * 6
    assert values[1].tolist() == [10] * 10 + [20]
    assert plots.on_common_steps([a, (np.array([30.0]), np.array([1.0]))])[0].size == 0


def test_short_count() -> None:
    assert [plots.short_count(v) for v in (0, 950, 20_000, 1.5e6, 2e9)] == ["0", "950", "20k", "1.5M", "2G"]


def test_pyplot_is_never_imported(tmp_path: Path) -> None:
    code = (
        "import sys; from playfield.show import compare_plot, plots;"
        "plots.learning_curve(sys.argv[1], [(1, 2.0), (3, 4.0)], title='t', protocol_line='p');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)


# monitor.csv


def monitor(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "monitor.csv"
    path.write_bytes(text.encode())
    return path


HEAD = '#{"t_start": 1.5, "env_id": "breakout"}\n'


def test_monitor_with_and_without_steps(tmp_path: Path) -> None:
    ours = HEAD + "r,l,t,step\n2.0,30,1.25,256\n7,40,2.5,512\n"
    assert logger.read_monitor(monitor(tmp_path, ours)) == [(256, 2.0, 30, 1.25), (512, 7.0, 40, 2.5)]
    theirs = HEAD + "r,l,t\n2.0,30,1.25\n7,40,2.5\n"
    assert logger.read_monitor(monitor(tmp_path, theirs)) == [(30, 2.0, 30, 1.25), (70, 7.0, 40, 2.5)]
    assert logger.read_monitor(monitor(tmp_path, theirs.replace("\n", "\r\n"))) == [
        (30, 2.0, 30, 1.25),
        (70, 7.0, 40, 2.5),
    ]
    assert logger.read_monitor(monitor(tmp_path, HEAD + "r,l,t\n")) == []


def test_monitor_cut_off_at_any_byte_gives_whole_games_or_an_error(tmp_path: Path) -> None:
    whole = HEAD + "r,l,t,step\n2.0,30,1.25,256\n17.0,400,22.5,5120\n"
    games = logger.read_monitor(monitor(tmp_path, whole))
    start = len(HEAD + "r,l,t,step\n")
    for end in range(len(whole)):
        path = monitor(tmp_path, whole[:end])
        if end < start:
            with pytest.raises(DataError, match="not a monitor file"):
                logger.read_monitor(path)
        else:
            assert logger.read_monitor(path) == games[: whole[start:end].count("\n")]


@pytest.mark.parametrize("row", ["1,2", "1,x,3,4", "nan,1,2,3", "1,2,3,4,5", "1,inf,3,4", "1,2,inf,4"])
def test_a_damaged_line_is_named(tmp_path: Path, row: str) -> None:
    path = monitor(tmp_path, HEAD + f"r,l,t,step\n1,2,3,4\n{row}\n1,2,3,9\n")
    with pytest.raises(DataError, match="line 4"):
        logger.read_monitor(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    for text in ("", "\n", "r,l,t\n1,2,3\n", "#{bad\nr,l,t\n", HEAD + "a,b\n", HEAD):
        with pytest.raises(DataError, match=r"not a monitor file|not valid JSON"):
            logger.read_monitor(monitor(tmp_path, text))
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError):
        logger.read_monitor(tmp_path / "binary")
    with pytest.raises(DataError):
        logger.read_monitor(tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        logger.read_monitor(tmp_path / "none.csv")


def test_monitor_with_mixed_line_ends(tmp_path: Path) -> None:
    """csv.DictWriter ends its rows with CRLF, the comment line ends with LF."""
    text = '#{"t_start": 1.0, "env_id": "None"}\nr,l,t\n1.0,10,0.5\r\n2.0,20,0.9\r\n'
    assert [g[0] for g in logger.read_monitor(monitor(tmp_path, text))] == [10, 30]


def test_long_names_leave_room_for_the_curves(tmp_path, monkeypatch):
    """Without a warning of matplotlib, which then gives up the layout: all words are there, none on another."""
    words = "ppo --preset long --init-from breakout --lr 1e-4 --ent-coef 0.001 --epochs 2 --replay-failures"
    steps = np.linspace(0, 1000, 20)
    lines = [compare_plot.Line(f"{words} 0.{i}", i, steps, np.outer(np.ones(3), steps) + 3 * i) for i in range(1, 4)]
    figures = []
    monkeypatch.setattr(compare_plot, "save_figure", lambda figure, out: figures.append(figure))
    compare_plot.comparison(tmp_path / "a.png", [compare_plot.Panel("breakout", lines)], foot="a foot " * 40)
    figure = figures[0]
    figure.draw_without_rendering()
    axes, whole = figure.axes[0], figure.bbox
    assert axes.get_window_extent().width > 0.4 * whole.width
    assert axes.get_window_extent().height > 0.6 * whole.height
    names = [text for text in axes.texts if "ppo" in text.get_text()]
    assert [" ".join(text.get_text().split()) for text in names] == [line.label for line in lines]
    boxes = [text.get_window_extent() for text in names]
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for box in boxes)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
