"""Figures 6.5, 7.2, 8.2 and 11.2: compiled loops beside plain ones, with the same random draws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from playfield import lessons
from playfield.lessons import baird, double_q, dyna_q, n_step_walk
from playfield.linear.problems import walk_values
from test_lesson_book import GO, draw, draw_best


def verdicts(name: str, **more) -> list[str]:
    return [row.verdict for row in lessons.run(name, **more).rows if row.verdict != "-"]


# Double Q-learning


def plain_double_q(double: bool, episodes: int, seed: int):
    rng, tables, lefts = np.random.default_rng(seed), [{"A": [0.0] * 2, "B": [0.0] * 10} for _ in range(2)], []

    def policy(s):
        return [x + y for x, y in zip(tables[0][s], tables[1][s], strict=True)]

    for _ in range(episodes):
        s = "A"
        lefts.append(0.0)
        while s:
            a = draw(rng, policy(s), 0.1)
            reward, following = (-0.1 + rng.standard_normal(), "") if s == "B" else (0.0, "" if a else "B")
            updated, other = tables
            if double and rng.random() < 0.5:
                updated, other = other, updated
            target = reward
            if following:
                lefts[-1] = 1.0
                top = draw_best(rng, updated["B"])
                target += (other if double else updated)["B"][top]
            updated[s][a] += 0.1 * (target - updated[s][a])
            s = following
    return tables, lefts


@pytest.mark.parametrize("double", [False, True])
def test_double_q_learning_takes_the_value_from_the_other_table(double):
    a, b, lefts = np.zeros((2, 2)), np.zeros((2, 10)), np.zeros(200)
    double_q.learn(double, 0.1, 0.1, np.random.default_rng(4), GO, a, b, lefts)
    tables, expected = plain_double_q(double, 200, 4)
    np.testing.assert_array_equal(lefts, expected)
    for row in (0, 1):
        np.testing.assert_allclose(a[row], tables[row]["A"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(b[row], tables[row]["B"], rtol=0, atol=1e-12)
    assert b[1].any() == double


def test_a_double_q_learning_that_is_none_differs(monkeypatch):
    assert verdicts("double-q", runs=5000) == ["pass"] * 3
    learn = double_q.learn
    monkeypatch.setattr(double_q, "learn", lambda double, *rest: learn(not double, *rest))
    assert verdicts("double-q", runs=5000) == ["differs"] * 3


# n-step TD


def plain_n_step(n: int, alpha: float, episodes: int, seed: int):
    rng, values, errors = np.random.default_rng(seed), [0.0] * 19, []
    for _ in range(episodes):
        states, rewards = [9], [0.0]
        while 0 <= states[-1] <= 18:
            states.append(states[-1] + (1 if rng.random() < 0.5 else -1))
            rewards.append({-1: -1.0, 19: 1.0}.get(states[-1], 0.0))
        length = len(states) - 1
        for tau in range(
            length
        ):  # that of tau needs no values learnt later than at tau + n - 1, so the order is the same
            end = min(tau + n, length)
            total = sum(rewards[tau + 1 : end + 1]) + (values[states[end]] if end < length else 0.0)
            values[states[tau]] += alpha * (total - values[states[tau]])
        errors.append(np.sqrt(np.mean([(v - (s - 9) / 10) ** 2 for s, v in enumerate(values)])))
    return values, errors


@pytest.mark.parametrize("n", [1, 3, 8, 512])
def test_n_step_td_predicts_as_the_book_defines_it(n):
    values, errors = np.zeros(19), np.zeros(6)
    n_step_walk.predict(n, 0.3, np.random.default_rng(6), GO, walk_values(), values, errors)
    expected = plain_n_step(n, 0.3, 6, 6)
    np.testing.assert_allclose(values, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(errors, expected[1], rtol=0, atol=1e-12)


def test_another_n_that_is_best_differs(monkeypatch):
    monkeypatch.setattr(n_step_walk, "STEPS", (1, 4, 64))
    monkeypatch.setattr(n_step_walk, "SIZES", (0.04, 0.4, 0.8))
    assert verdicts("n-step-walk", runs=60) == ["pass", "pass"]
    predict = n_step_walk.predict
    monkeypatch.setattr(n_step_walk, "predict", lambda n, *rest: predict(65 - n, *rest))
    assert verdicts("n-step-walk", runs=60) == ["differs", "differs"]


# Dyna-Q


def plain_dyna_q(planning: int, episodes: int, seed: int):
    rng, q, model, tried, steps = np.random.default_rng(seed), {}, {}, [], []
    walls = {(1, 2), (2, 2), (3, 2), (4, 5), (0, 7), (1, 7), (2, 7)}
    squares = set(itertools.product(range(6), range(9))) - walls
    shift = {0: (-1, 0), 1: (0, 1), 2: (1, 0), 3: (0, -1)}

    def values(s):
        return q.setdefault(s, [0.0] * 4)

    def learn(s, a):
        reward, following = model[s, a]
        top = 0.0 if following == (0, 8) else max(values(following))
        values(s)[a] += 0.1 * (reward + 0.95 * top - values(s)[a])

    for _ in range(episodes):
        s, count = (2, 0), 0
        while s != (0, 8):
            a = draw(rng, values(s), 0.1)
            to = (s[0] + shift[a][0], s[1] + shift[a][1])
            to = to if to in squares else s
            if (s, a) not in model:
                tried.append((s, a))
            model[s, a] = (1.0 if to == (0, 8) else 0.0, to)
            learn(s, a)
            for _ in range(planning):
                learn(*tried[int(rng.integers(0, len(tried)))])
            s, count = to, count + 1
        steps.append(count)
    return q, steps


@pytest.mark.parametrize("planning", [0, 5])
def test_dyna_q_learns_as_its_box(planning):
    q, steps = np.zeros((54, 4)), np.zeros(8)
    rates = (0.1, 0.1, 0.95)
    rng = np.random.default_rng(7)
    dyna_q.learn(planning, dyna_q.WALLS, dyna_q.START, dyna_q.GOAL, rates, rng, GO, q, steps)
    expected, expected_steps = plain_dyna_q(planning, 8, 7)
    np.testing.assert_array_equal(steps, expected_steps)
    for (row, column), values in expected.items():
        np.testing.assert_allclose(q[9 * row + column], values, rtol=0, atol=1e-12)


def test_the_fewest_steps_through_the_maze(monkeypatch):
    monkeypatch.setattr(dyna_q, "EPSILON", 0.0)
    assert dyna_q.fewest() == pytest.approx(14)
    monkeypatch.setattr(dyna_q, "WALLS", np.zeros((6, 9), bool))
    assert dyna_q.fewest() == pytest.approx(10)


def test_a_planning_that_does_nothing_differs(monkeypatch):
    assert verdicts("dyna-q", runs=50) == ["pass"] * 3
    assert lessons.run("dyna-q", runs=2, episodes=1).panels[0].lines[0].x.tolist() == [1]
    learn = dyna_q.learn
    monkeypatch.setattr(dyna_q, "learn", lambda planning, *rest: learn(5 if planning == 0 else 0, *rest))
    assert verdicts("dyna-q", runs=50) == ["differs"] * 3


# Baird


def test_the_values_of_bairds_states_are_those_of_the_figure():
    w = np.arange(1.0, 9.0)
    assert (baird.features() @ w).tolist() == [2 * i + 8 for i in range(1, 7)] + [7 + 2 * 8]
    assert baird.first_weights().tolist() == [1, 1, 1, 1, 1, 1, 10, 1]


@pytest.mark.parametrize("on_policy", [False, True])
def test_semi_gradient_td_weighs_each_update_by_the_ratio_of_the_policies(on_policy):
    x, w, path = baird.features(), baird.first_weights(), np.zeros((60, 8))
    baird.sample(on_policy, 0.01, 0.99, np.random.default_rng(8), GO, x, w, path)
    rng, expected, seventh = np.random.default_rng(8), baird.first_weights(), 0
    state = int(rng.integers(0, 7))
    for t in range(60):
        following = 6
        if not on_policy and rng.random() >= 1 / 7:
            following = int(rng.integers(0, 6))
        seventh += following == 6
        target = 0.99 * x[following] @ expected  # the policy to be evaluated goes to the seventh, always
        ratio = 1 if on_policy else {6: 1 / (1 / 7)}.get(following, 0 / (1 / 7))
        expected = expected + 0.01 * ratio * (target - x[state] @ expected) * x[state]
        np.testing.assert_allclose(path[t], expected, rtol=1e-12)
        state = following
    assert on_policy or 3 < seventh < 20


def test_dynamic_programming_sweeps_over_all_states():
    x, w = baird.features(), baird.first_weights()
    path = baird.sweeps(3)
    for t in range(3):
        w = w + 0.01 / 7 * sum((0.99 * x[6] @ w - x[s] @ w) * x[s] for s in range(7))
        np.testing.assert_allclose(path[t], w, rtol=1e-12)


def test_weights_that_stay_bounded_where_they_should_not_differ(monkeypatch):
    assert verdicts("baird", runs=10) == ["pass"] * 3
    sample = baird.sample
    monkeypatch.setattr(baird, "sample", lambda on, *rest: sample(not on, *rest))
    monkeypatch.setattr(baird, "sweeps", lambda steps: np.ones((steps, 8)))
    assert verdicts("baird", runs=10) == ["differs"] * 3
