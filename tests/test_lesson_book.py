"""Lessons from the book: compiled loops beside plain ones that follow its boxes, with the same random draws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from playfield import lessons
from playfield.lessons import bandits, cliff, short_corridor
from playfield.lessons._tabular import best, choose

GO = np.zeros(1, np.bool_)


def draw(rng, values, epsilon: float) -> int:
    """An epsilon-greedy action; each further one of equal actions takes over with the probability 1/2, 1/3, ..."""
    if rng.random() < epsilon:
        return int(rng.integers(0, len(values)))
    return draw_best(rng, values)


def draw_best(rng, values) -> int:
    chosen, ties = 0, 0
    for a, value in enumerate(values):
        if value > values[chosen] or ties == 0:
            chosen, ties = a, 1
        elif value == values[chosen]:
            ties += 1
            chosen = a if rng.random() * ties < 1 else chosen
    return chosen


def test_equal_actions_are_equally_likely():
    rng, values = np.random.default_rng(1), np.array([2.0, 5.0, 5.0, 1.0, 5.0])
    counts = np.bincount([best(values, rng) for _ in range(3000)], minlength=5)
    assert counts[0] == counts[3] == 0
    assert counts[[1, 2, 4]] == pytest.approx(1000, abs=120)
    counts = np.bincount([choose(values, 0.5, rng) for _ in range(5000)], minlength=5)
    assert counts[[0, 3]] == pytest.approx(500, abs=90)


# Cliff


def plain_cliff(off_policy: bool, episodes: int, seed: int):
    rng, q, returns = np.random.default_rng(seed), {}, []
    shift = {0: (-1, 0), 1: (0, 1), 2: (1, 0), 3: (0, -1)}

    def values(s):
        return q.setdefault(s, [0.0] * 4)

    for _ in range(episodes):
        s, total = (3, 0), 0.0
        a = draw(rng, values(s), 0.1)
        while s != (3, 11):
            following = (min(max(s[0] + shift[a][0], 0), 3), min(max(s[1] + shift[a][1], 0), 11))
            reward = -1.0
            if following[0] == 3 and following[1] in range(1, 11):
                reward, following = -100.0, (3, 0)
            total += reward
            ended = following == (3, 11)
            a_next, old = 0, values(s)[a]
            if off_policy:
                values(s)[a] = old + 0.5 * (reward + (0 if ended else max(values(following))) - old)
            if not ended:
                a_next = draw(rng, values(following), 0.1)
            if not off_policy:
                values(s)[a] = old + 0.5 * (reward + (0 if ended else values(following)[a_next]) - old)
            s, a = following, a_next
        returns.append(total)
    return q, returns


@pytest.mark.parametrize("off_policy", [False, True])
def test_cliff_learns_as_the_boxes_of_sarsa_and_q_learning(off_policy):
    q, returns = np.zeros((4, 12, 4)), np.zeros(30)
    cliff.learn(off_policy, 0.5, 0.1, np.random.default_rng(3), GO, q, returns)
    expected, expected_returns = plain_cliff(off_policy, 30, 3)
    np.testing.assert_array_equal(returns, expected_returns)
    assert min(expected_returns) < -200  # it fell
    for (row, column), values in expected.items():
        np.testing.assert_allclose(q[row, column], values, rtol=0, atol=1e-9)


def test_the_greedy_path_and_whether_it_goes_along_the_edge():
    q = np.zeros((4, 12, 4))
    q[3, 0, 0] = q[2, :11, 1] = q[2, 11, 2] = 1
    assert cliff.greedy_path(q) == (13, 10)
    q[2, 0] = q[1, 11] = 0
    q[2, 0, 0] = q[1, :11, 1] = q[1:3, 11, 2] = 1
    assert cliff.greedy_path(q) == (15, 0)
    along = q.copy()
    q[1, 5, 3] = 2
    assert cliff.greedy_path(q) == (0, 0)
    along[3, 0, 0] = along[2, :10, 1] = 2  # along the edge, and up before its last square
    along[2, 10, 0] = along[1, 10, 1] = 2
    path = cliff.greedy_path(along)
    assert path == (15, 10)
    assert not cliff._path_row("Sarsa", path, shortest=False).holds
    assert cliff._path_row("Sarsa", cliff.Path(15, 0), shortest=False).holds


def test_sarsa_on_the_edge_and_q_learning_off_it_differ(monkeypatch):
    verdicts = [row.verdict for row in lessons.run("cliff", runs=100).rows if row.verdict != "-"]
    assert verdicts == ["pass"] * 5
    learn = cliff.learn
    monkeypatch.setattr(cliff, "learn", lambda off, *rest: learn(not off, *rest))
    verdicts = [row.verdict for row in lessons.run("cliff", runs=100).rows if row.verdict != "-"]
    assert verdicts == ["differs"] * 5


# Bandits


def plain_bandit(kind: str, parameter: float, steps: int, seed: int):
    rng = np.random.default_rng(seed)
    arms = [rng.standard_normal() for _ in range(10)]
    first = parameter if kind == "optimistic" else 0.0
    q, n, h, earned, right = [first] * 10, [0] * 10, [0.0] * 10, [], []
    for t in range(1, steps + 1):
        pi = np.exp(h) / np.exp(h).sum()
        if kind == "epsilon":
            a = draw(rng, q, parameter)
        elif kind == "optimistic":
            a = draw_best(rng, q)
        elif kind == "ucb":
            a = draw_best(
                rng, [q[i] + parameter * math.sqrt(math.log(t) / n[i]) if n[i] else math.inf for i in range(10)]
            )
        else:
            a = int(np.searchsorted(np.cumsum(pi)[:-1], rng.random(), side="right"))
        r = arms[a] + rng.standard_normal()
        earned.append(r)
        right.append(float(a == int(np.argmax(arms))))
        n[a] += 1
        q[a] += (r - q[a]) * (0.1 if kind == "optimistic" else 1 / n[a])
        baseline = np.mean(earned)
        h = [h[i] + parameter * (r - baseline) * ((i == a) - pi[i]) for i in range(10)]
    return arms, earned, right


@pytest.mark.parametrize(
    ("kind", "code", "parameter"),
    [
        ("epsilon", bandits.SAMPLE_MEANS, 0.0),
        ("epsilon", bandits.SAMPLE_MEANS, 0.2),
        ("optimistic", bandits.CONSTANT, 4.0),
        ("ucb", bandits.UCB, 1.0),
        ("gradient", bandits.GRADIENT, 0.5),
    ],
)
def test_bandits_are_played_as_the_book_defines_them(kind, code, parameter):
    arms, rewards, right = np.zeros(10), np.zeros(200), np.zeros(200)
    bandits.play(code, parameter, np.random.default_rng(5), GO, arms, rewards, right)
    expected = plain_bandit(kind, parameter, 200, 5)
    for found, wanted in zip((arms, rewards, right), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_a_bandit_lesson_that_explores_wrongly_differs(monkeypatch):
    monkeypatch.setattr(bandits, "STUDY", (bandits.Method("epsilon", bandits.SAMPLE_MEANS, (-3, -1, 0)),))
    monkeypatch.setattr(bandits, "STUDIED", 20)
    monkeypatch.setattr(bandits, "EPSILONS", (0.1, 0.01, 0.0))
    rows = lessons.run("bandits", runs=1000).rows
    found = {(row.setting, row.measure): row.verdict for row in rows}
    assert found["epsilon 0.1, 0.01, greedy", "reward"] == "differs"
    assert found["epsilon 0.1, 0.01, greedy", "best arm"] == "differs"
    assert found["greedy", "reward, last 100 steps"] == "pass"
    assert found["the best arm", "value"] == "pass"
    assert [row.verdict for row in rows][-1] == "differs"  # the best epsilon is the first


# Short corridor


def plain_corridor(alpha: float, episodes: int, seed: int):
    rng, theta = np.random.default_rng(seed), np.array([0.5, -0.5])
    x = {"left": np.array([1.0, 0.0]), "right": np.array([0.0, 1.0])}
    leads = {0: {"left": 0, "right": 1}, 1: {"left": 2, "right": 0}, 2: {"left": 1, "right": 3}}

    def pi():
        weights = {a: math.exp(theta @ x[a]) for a in x}
        return {a: w / sum(weights.values()) for a, w in weights.items()}

    returns, right = [], []
    for _ in range(episodes):
        s, played, chance = 0, [], pi()["right"]
        right.append(chance)
        while s != 3:
            a = "right" if rng.random() < chance else "left"
            played.append(a)
            s = leads[s][a]
        for t, a in enumerate(played):
            now = pi()
            gradient = x[a] - sum(now[b] * x[b] for b in x)
            theta = theta + alpha * -(len(played) - t) * gradient
        returns.append(-len(played))
    return theta, returns, right


def test_reinforce_follows_the_gradient_of_the_softmax_policy():
    theta, returns, right = np.array([0.5, -0.5]), np.zeros(20), np.zeros(20)
    short_corridor.learn(2.0**-9, np.random.default_rng(2), GO, theta, np.zeros(9999, np.bool_), returns, right)
    expected = plain_corridor(2.0**-9, 20, 2)
    for found, wanted in zip((theta, returns, right), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)


def test_the_return_of_a_policy_in_the_corridor_is_that_of_the_formula():
    for p in (0.05, 0.3, 0.5858, 0.95):
        assert short_corridor.value(p) == pytest.approx((2 * p - 4) / (p * (1 - p)))


def test_a_corridor_learnt_badly_differs(monkeypatch):
    found = [row.verdict for row in lessons.run("short-corridor", runs=50).rows if row.verdict != "-"]
    assert found == ["pass"] * 4
    monkeypatch.setattr(short_corridor, "POWERS", (-13,))
    learn = short_corridor.learn
    monkeypatch.setattr(short_corridor, "learn", lambda alpha, *rest: learn(alpha / 1000, *rest))
    monkeypatch.setattr(short_corridor, "value", lambda p: -10 - p)
    found = [row.verdict for row in lessons.run("short-corridor", runs=50).rows if row.verdict != "-"]
    assert found == ["differs"] * 4
