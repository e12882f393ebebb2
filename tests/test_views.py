"""Views: geometry, purity, the folded path against a bouncing ball, and predictions against a real game."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.envs import views
from playfield.envs.catalog import open_game
from playfield.envs.views import Aimbot, View, colour, dim, landing_column
from playfield.errors import DataError, EnvError, UsageError

ALL_SPECS = [
    ",".join(word for word in (c, d, h) if word) for c in views.COLOURS for d in views.DIMS for h in ("", *views.HUDS)
]


def noise(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 210, 160, 3), dtype=np.uint8)


def screen(ball: tuple[int, int] | None = None, paddle: int = 70) -> np.ndarray:
    """A Breakout screen, painted by hand: walls, a paddle, and a ball with its top left pixel at `ball`."""
    frame = np.zeros((210, 160, 3), np.uint8)
    frame[17:32] = 142
    frame[17:196, :8] = frame[17:196, 152:] = 142
    frame[57:93, 8:152] = (200, 72, 72)
    frame[189:193, paddle : paddle + 16] = (200, 72, 72)
    if ball is not None:
        row, col = ball
        frame[row : row + 4, col : col + 2] = (200, 72, 72)
    return frame


def bounce(row: float, col: float, v_row: float, v_col: float) -> float:
    """Oracle: go from wall to wall, one flight at a time, until the ball is down."""
    left, right = 7.5, 151.5
    time = (189 - row) / v_row
    while v_col and time > 0:
        flight = ((right if v_col > 0 else left) - col) / v_col
        if flight >= time:
            break
        time -= flight
        col = right if v_col > 0 else left
        v_col = -v_col
    return col + time * v_col


@settings(max_examples=300, deadline=None)
@given(
    row=st.floats(93, 188.9),
    col=st.floats(7.5, 151.5),
    v_row=st.floats(0.1, 12),
    v_col=st.floats(-40, 40),
)
def test_the_fold_is_a_bouncing_ball(row: float, col: float, v_row: float, v_col: float) -> None:
    landing = landing_column(row, col, v_row, v_col)
    assert 7.5 <= landing <= 151.5
    assert landing == pytest.approx(bounce(row, col, v_row, v_col), abs=1e-6)


@pytest.mark.parametrize(
    ("straight", "folded"),
    [(80, 80), (-30, 45), (-140, 148), (-200, 88), (170, 133), (300, 12), (7.5, 7.5), (151.5, 151.5)],
)
def test_both_walls_reflect(straight: float, folded: float) -> None:
    """By hand. The original drew the first three to the left of the screen at -30, 156 and 216."""
    assert landing_column(100, 80, 1.0, (straight - 80) / 89) == pytest.approx(folded)


def test_colours() -> None:
    frame = np.array([[[10, 51, 3], [50, 0, 50], [255, 0, 0]]], np.uint8)
    assert (colour(frame, "3col") == frame).all()
    assert colour(frame, "grey").tolist() == [[[51], [50], [255]]]
    assert colour(frame, "mono").tolist() == [[[255], [0], [255]]]
    raw = noise(2)
    assert (colour(raw, "grey")[..., 0] == raw.max(axis=-1)).all()


def test_dims() -> None:
    raw = noise(2)
    assert (dim(raw, "keep") == raw).all()
    trimmed = dim(raw, "trim")
    assert trimmed.shape == (2, 173, 143, 3)
    assert (trimmed == raw[:, 32:205, 8:151]).all()
    for mode, value in (("blacken", 0), ("whiten", 255)):
        blank = dim(raw, mode)
        assert (blank[:, 32:205, 8:151] == trimmed).all()
        outside = np.ones((210, 160), bool)
        outside[32:205, 8:151] = False
        assert (blank[:, outside] == value).all()
    assert (dim(raw[0], "trim") == trimmed[0]).all()  # any leading axes, also none


@pytest.mark.parametrize("spec", ALL_SPECS)
def test_every_view_is_pure_uint8_and_of_its_shape(spec: str) -> None:
    view = View.parse(spec)
    for seed in range(2):
        raw = noise(3, seed)
        before = raw.copy()
        seen = view(raw, np.zeros(3, bool))
        assert seen.dtype == np.uint8
        assert seen.shape == (3, *view.shape)
        assert (raw == before).all()
        assert not np.shares_memory(raw, seen)
    assert View.parse(view.spec).spec == view.spec


def test_parse() -> None:
    assert View.parse("aimbot, Trim,mono").spec == "mono,trim,aimbot"
    assert View.parse("grey").spec == "grey,keep"
    assert View.parse("mono,trim").shape == (173, 143, 1)
    assert not View.parse("grey").breakout_only
    assert View.parse("counters").breakout_only
    with pytest.raises(UsageError, match="did you mean aimbot"):
        View.parse("mono,trim,aimbott")
    with pytest.raises(UsageError, match="did you mean grey"):
        View.parse("gray")
    with pytest.raises(UsageError, match="two of 3col, grey, mono"):
        View.parse("mono,grey")
    for empty in ("", "mono,", ",,"):
        with pytest.raises(UsageError):
            View.parse(empty)
    with pytest.raises(UsageError, match="blacken"):
        dim(noise(1), "black")


def test_other_frames_are_refused() -> None:
    view = View.parse("mono,aimbot")
    with pytest.raises(EnvError, match="shape"):
        view(np.zeros((1, 250, 160, 3), np.uint8), np.zeros(1, bool))
    with pytest.raises(EnvError, match="uint8"):
        view(np.zeros((1, 210, 160, 3)), np.zeros(1, bool))
    view(noise(2), np.zeros(2, bool))
    with pytest.raises(EnvError, match="tracks 2 games"):
        view(noise(3), np.zeros(3, bool))


@pytest.mark.parametrize(
    ("ball", "centre"),
    [
        ((120, 80), (121.5, 80.5)),
        ((186, 80), (187.5, 80.5)),
        ((91, 80), (92.5, 80.5)),
        ((120, 7), (121.5, 7.5)),
        ((120, 151), (121.5, 151.5)),
    ],
)
def test_the_ball_is_found_also_where_it_is_cut_off(ball: tuple[int, int], centre: tuple[float, float]) -> None:
    frame = screen(ball)
    covered = np.ones((210, 160), bool)
    covered[93:188, 8:152] = False
    frame[covered] = screen()[covered]  # the walls and the bricks hide the ball
    assert views.find_ball(frame[None])[0].tolist() == list(centre)


def test_no_ball_no_paddle() -> None:
    black = np.zeros((1, 210, 160, 3), np.uint8)
    assert np.isnan(views.find_ball(black)).all()
    assert np.isnan(views.find_paddle(black)).all()
    assert views.find_paddle(screen(paddle=70)[None]).tolist() == [77.5]


def mark(seen: np.ndarray) -> list[int]:
    """Columns of the HUD in one raw-sized frame."""
    return np.flatnonzero((seen[200:205] == 255).all(axis=(0, 2))).tolist()


def test_the_mark_is_where_the_ball_will_land() -> None:
    view = View.parse("aimbot")
    no = np.zeros(1, bool)
    assert mark(view(screen((120, 60))[None], no)[0]) == []  # one frame says nothing of speed
    raw = screen((128, 64))[None]
    seen = view(raw, no)[0]
    assert (raw[0] == screen((128, 64))).all()  # painted on a copy
    # centre (129.5, 64.5), half a column a row: 59.5 rows on, at 94.25
    assert mark(seen) == [91, 92, 93, 94, 95, 96]
    rest = np.r_[0:200, 205:210]
    assert (seen[rest] == screen((128, 64))[rest]).all()
    assert mark(view(screen((124, 66))[None], no)[0]) == []  # rising
    assert mark(view(screen()[None], no)[0]) == []  # gone


@pytest.mark.parametrize(("cols", "expected"), [((10, 8), [8, 9, 10]), ((150, 150), [148, 149, 150])])
def test_the_mark_stops_at_the_walls(cols: tuple[int, int], expected: list[int]) -> None:
    view = View.parse("aimbot")
    view(screen((180, cols[0]))[None], np.zeros(1, bool))
    seen = view(screen((184, cols[1]))[None], np.zeros(1, bool))[0]
    assert mark(seen) == expected


def test_a_new_life_forgets_the_ball() -> None:
    """No phantom speed from the last ball of the life before."""
    view = View.parse("aimbot")
    frames = np.stack([screen((120, 60))] * 2)
    later = np.stack([screen((128, 64))] * 2)
    view(frames, np.zeros(2, bool))
    seen = view(later, np.array([True, False]))
    assert mark(seen[0]) == []
    assert mark(seen[1]) != []


def test_counters() -> None:
    view = View.parse("grey,trim,counters")
    no = np.zeros(1, bool)
    assert view(screen((120, 60))[None], no)[0, 0, :5, 0].tolist() == [255, 0, 96, 148, 124]
    # 59.5 rows at 8 a step; landing at 94.25, ball (129.5, 64.5), paddle 77.5
    parts = [59.5 / 8 / 10, 94.25 / 160, 64.5 / 160, 129.5 / 210, 77.5 / 160]
    seen = view(screen((128, 64))[None], no)
    assert seen[0, 0, :5, 0].tolist() == [round(255 * part) for part in parts]
    assert seen[0, 1:].max() == 200  # the rest of the picture is untouched
    assert view(np.zeros((1, 210, 160, 3), np.uint8), no)[0, 0, :5, 0].tolist() == [255, 0, 0, 0, 0]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.one_of(st.just(float("nan")), st.floats(-1e6, 1e6)), min_size=4, max_size=4),
    st.one_of(st.just(float("nan")), st.floats(0, 160)),
)
def test_counters_never_overflow(numbers: list[float], paddle: float) -> None:
    bot = Aimbot(1)
    bot.ball[0] = numbers[:2]
    bot.steps[0], bot.landing[0] = numbers[2:]
    values = views.predict_counters(bot, np.array([paddle]))
    assert values.shape == (1, 5)
    for value, number in zip(values[0, 1:3], (numbers[3] / 160, numbers[1] / 160), strict=True):
        assert value == (0 if np.isnan(number) else round(255 * min(max(number, 0), 1)))


def play(skip: int, decisions: int, seed: int) -> list[tuple[np.ndarray, int, int, int]]:
    """Play Breakout by following the aimbot, letting a third of the balls go.

    Returns for each decision the raw frame, the ball's (x, y) in the console's memory, and the lives: an
    independent measure of where the ball is.
    """
    ale = open_game("breakout", seed=seed)
    noop, fire, right, left = ale.getMinimalActionSet()
    rng = np.random.default_rng(seed)
    bot = Aimbot(1)
    miss, offset = False, 0.0
    record = []
    for t in range(decisions):
        frame = ale.getScreenRGB()
        memory = ale.getRAM()
        record.append((frame, int(memory[99]), int(memory[101]), ale.lives()))
        landing = bot.step(frame[None])[0]
        if np.isnan(bot.ball[0, 0]):
            action = fire if t % 8 == 0 else noop
            miss, offset = rng.random() < 0.35, rng.uniform(-9, 9)
        else:
            target = offset + (bot.ball[0, 1] if np.isnan(landing) else landing)
            target += (60 if target < 80 else -60) if miss else 0
            away = target - views.find_paddle(frame[None])[0]
            action = right if away > 3 else left if away < -3 else noop
        for _ in range(skip):
            ale.act(action)
        if ale.game_over():
            ale.reset_game()
    return record


# The memory's numbers, moved to the ball's centre on the screen.
X_TO_COLUMN, Y_TO_ROW = -48.5, 10.5


def test_against_a_real_game() -> None:
    """The ball is where the console's memory says, and lands where the aimbot said."""
    errors = []
    for seed in range(2):
        record = play(skip=4, decisions=1500, seed=seed)
        lives = [r[3] for r in record]
        bot = Aimbot(1)
        landing = []
        for t, (frame, x, y, _) in enumerate(record):
            bot.reset(np.array([t > 0 and lives[t] != lives[t - 1]]))
            landing.append(bot.step(frame[None])[0])
            if not np.isnan(bot.ball[0, 0]):
                assert bot.ball[0].tolist() == [y + Y_TO_ROW, x + X_TO_COLUMN]
        for t in range(12, len(record) - 1):
            (_, x0, y0, _), (_, x1, y1, _) = record[t], record[t + 1]
            row0, row1 = y0 + Y_TO_ROW, y1 + Y_TO_ROW
            if not (y0 > 0 and row0 < 189 <= row1):
                continue  # only a lost ball crosses the paddle's row
            crossing = x0 + (x1 - x0) * (189 - row0) / (row1 - row0) + X_TO_COLUMN
            # the last 40 frames; the aimbot sees every fourth
            errors += [abs(p - crossing) for p in landing[t - 9 : t + 1] if not np.isnan(p)]
    assert len(errors) > 100
    good = np.mean(np.array(errors) <= 3)
    assert good >= 0.95, f"{good:.3f} of {len(errors)} predictions within 3 pixels"


def test_state_goes_through_json_and_restores_exactly() -> None:
    frames = [frame for frame, _, _, _ in play(skip=4, decisions=60, seed=3)]
    pairs = [np.stack([a, b]) for a, b in zip(frames[:-5], frames[5:], strict=True)]
    for spec in ("mono,trim,aimbot", "counters"):
        whole, first = View.parse(spec), View.parse(spec)
        no = np.zeros(2, bool)
        expected = [whole(pair, no) for pair in pairs]
        for pair in pairs[:30]:
            first(pair, no)
        second = View.parse(spec)
        second.restore(json.loads(json.dumps(first.state(), allow_nan=False)))
        for pair, want in zip(pairs[30:], expected[30:], strict=True):
            assert (second(pair, no) == want).all()
    fresh = View.parse("mono")
    fresh.restore(fresh.state())
    with pytest.raises(DataError, match="mono"):
        fresh.restore(View.parse("grey").state())
