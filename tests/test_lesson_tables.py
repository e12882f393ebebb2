"""Tables on MountainCar and the walks, offline true online TD, true online Q: verdicts that can fail."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from playfield import lessons
from playfield.lessons import (
    _big_walk,
    _walk,
    mountain_car_table,
    n_step_walk,
    random_walk_offline,
    true_online_q,
    walk_table,
)
from playfield.lessons._panels import Curves, Line
from playfield.lessons._picture import png
from playfield.lessons._request import Budget
from playfield.linear import many
from playfield.linear.problems import walk_values
from playfield.show.plots import CYCLE
from test_lesson_book_td import verdicts


@pytest.fixture
def few_sizes(monkeypatch):
    monkeypatch.setattr(_walk, "LAMBDAS", (0.0, 0.8, 1.0))
    monkeypatch.setattr(_walk, "SIZES", (0.031, 0.35, 0.8))
    monkeypatch.setattr(random_walk_offline, "SIZES", (0.4,))


def offline_by_hand(lam: float, alpha: float, episodes: int, seed: int) -> list[float]:
    """Errors of the offline lambda-return algorithm on the walk, from whole episodes and the returns in them."""
    rng, values, errors = np.random.default_rng(seed), np.zeros(19), []
    for _ in range(episodes):
        states = [9]
        while 0 <= states[-1] <= 18:
            states.append(states[-1] + (1 if rng.random() < 0.5 else -1))
        worth = [values[s] if 0 <= s <= 18 else np.sign(s) for s in states[1:]]  # the reward belongs to the end
        goal, goals = worth[-1], [worth[-1]]
        for after in reversed(worth[:-1]):  # G_t = (1 - lambda) v(S_t+1) + lambda G_t+1 where the reward is 0
            goal = (1 - lam) * after + lam * goal
            goals.insert(0, goal)
        for state, goal in zip(states[:-1], goals, strict=True):
            values[state] += alpha * (goal - values[state])
        errors.append(float(np.sqrt(np.mean((values - walk_values()) ** 2))))
    return errors


@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
def test_the_walk_is_learnt_offline_as_by_whole_episodes(lam):
    options = {"gamma": 1.0, "lam": lam, "trace": "dutch", "offline": True, "alpha": 0.3}
    out = many.experiment("td_lambda", "random-walk", _walk.FEATURES, seeds=[3, 4], episodes=6, **options)
    assert out.errors == pytest.approx(np.array([offline_by_hand(lam, 0.3, 6, seed) for seed in (3, 4)]), abs=1e-9)


def test_offline_errors_differ_from_those_of_a_poor_n_step_method(few_sizes, monkeypatch):
    assert verdicts("random-walk-offline", runs=50) == ["pass"] * 2
    monkeypatch.setattr(n_step_walk, "predict", lambda n, alpha, rng, stop, truth, values, errors: errors.fill(0.2))
    assert verdicts("random-walk-offline", runs=50) == ["pass", "differs"]
    monkeypatch.setattr(_walk, "LAMBDAS", (0.0, 1.0))
    assert verdicts("random-walk-offline", runs=50)[0] == "differs"


def test_a_greedy_q_that_is_not_sarsa_differs(monkeypatch):
    monkeypatch.setattr(true_online_q, "BUDGET", Budget(runs=3, episodes=500))
    assert verdicts("true-online-q") == ["pass"] * 4
    run_all = true_online_q.run_all

    def others(request, settings):
        """Sarsa explores, and Q's traces are late."""
        outs = run_all(request, settings)
        return [outs[0], outs[4], outs[2], outs[3], outs[5], outs[4], outs[6]]

    monkeypatch.setattr(true_online_q, "run_all", others)
    assert verdicts("true-online-q") == ["pass", "differs", "differs", "differs"]


def test_tables_that_are_no_slower_differ(monkeypatch):
    monkeypatch.setattr(mountain_car_table, "BUDGET", Budget(runs=10, episodes=500))
    assert verdicts("mountain-car-table") == ["pass"] * 5
    run_all = mountain_car_table.run_all

    def others(request, settings):
        """The finest first, and in the place of all that should be better than a table."""
        coarse, middle, fine, _, _ = run_all(request, settings)
        return [fine, middle, coarse, fine, fine]

    monkeypatch.setattr(mountain_car_table, "run_all", others)
    assert verdicts("mountain-car-table") == ["differs"] * 5


def test_a_map_shows_the_greedy_action_of_each_cell():
    out = many.experiment("sarsa", "mountain-car", "grid:cells=5", seeds=[0], episodes=3, alpha=0.5)
    panel = mountain_car_table._map("", out)
    states = np.array([[x, v] for v in panel.y for x in panel.x])
    values = many.values(out.coders[0], out.weights[0], states)
    expected = np.where((values == 0).all(axis=1), panel.none, values.argmax(axis=1)).reshape(5, 5)
    np.testing.assert_array_equal(panel.chosen, expected)
    assert len(np.unique(expected)) == 4


def test_a_table_of_the_walk_that_learns_no_better_differs(monkeypatch):
    monkeypatch.setattr(walk_table, "BUDGET", Budget(runs=1, episodes=3_500))
    assert verdicts("walk-table") == ["pass", "pass"]
    rows = {(row.setting, row.measure): row.ours for row in lessons.run("walk-table", runs=1, episodes=5).rows}
    assert rows["a table", "lowest error of any weights"] == 0
    td_lambda = _big_walk.td_lambda
    monkeypatch.setattr(
        _big_walk, "td_lambda", lambda alpha, *rest: td_lambda({0.2: 0.01 / 50, 0.01: 0.01}.get(alpha, 1e-6), *rest)
    )
    assert verdicts("walk-table") == ["differs", "differs"]


def test_every_line_of_a_busy_picture_keeps_its_colour():
    """With 56 colours the fourth method of a study had that of the second."""
    x, rng = np.arange(300.0), np.random.default_rng(0)
    lines = [Line(f"{i}", x, i + rng.normal(size=(5, 300)).cumsum(axis=1) / 9) for i in range(6)]
    panels = [Curves("a", "x", "y", lines), Curves("b", "x", "y", lines), Curves("c", "x", "y", lines)]
    with Image.open(io.BytesIO(png("title", panels))) as picture:
        found = np.array([colour for _, colour in picture.convert("RGB").getcolors(1 << 24)])
    for colour in CYCLE[:6]:
        asked = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(found - asked).sum(axis=1).min() <= 6, colour
