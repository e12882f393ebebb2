"""Figures 9.5 and 9.10, and TD(lambda) with tilings: compiled loops beside plain ones, with the same random draws."""

from __future__ import annotations

import numpy as np
import pytest

from playfield.lessons import _big_walk as walk
from playfield.lessons import walk_bases, walk_tilings, walk_tilings_td
from playfield.lessons._request import Budget
from test_lesson_book import GO
from test_lesson_book_td import verdicts


def steps_of(rng: np.random.Generator):
    """The states of an episode and its outcome, by the words of the book: 100 states to either side."""
    neighbours = [d for d in range(-100, 101) if d]
    states = [499]
    while True:
        following = states[-1] + neighbours[int(rng.integers(0, 200))]
        if not 0 <= following < 1000:
            return states, 1.0 if following > 0 else -1.0
        states.append(following)


def test_the_true_values_and_shares_are_those_of_many_sweeps():
    """Dynamic programming, and the flow of probability from the start, both in loops over neighbours."""
    truth, share = walk.exact()
    values, flow, visits = np.zeros(1000), np.eye(1000)[499], np.zeros(1000)
    for _ in range(1500):
        visits += flow
        padded = np.concatenate([-np.ones(100), values, np.ones(100)])
        sums = np.convolve(padded, np.ones(201), "valid") - values
        flow = (np.convolve(flow, np.ones(201), "same") - flow) / 200
        values = sums / 200
    np.testing.assert_allclose(values, truth, atol=1e-6)
    np.testing.assert_allclose(visits / visits.sum(), share, atol=1e-8)
    assert truth[499] < 0 < truth[500], "the middle lies between the book's states 500 and 501"
    assert share.argmax() == 499
    assert share.sum() == pytest.approx(1)


def test_the_features_of_a_state():
    place = 250 / 999
    np.testing.assert_allclose(walk.polynomial(3)[250], [1, place, place**2, place**3])
    np.testing.assert_allclose(walk.fourier(2)[250], [1, np.cos(np.pi * place), np.cos(2 * np.pi * place)])
    index, factor = walk.tilings(1)
    assert index[[0, 199, 200, 999], 0].tolist() == [0, 0, 1, 4]
    index, factor = walk.tilings(50)
    assert (index.shape, factor.min(), factor.max()) == ((1000, 50), 1, 1)
    assert np.unique(index).size == 50 * 6 - 1, "the first, which is not shifted, has five"
    assert index.max() == 50 * 6 - 1
    for state, other, shared in ((400, 403, 50), (400, 404, 49), (404, 403, 49), (400, 500, 25), (0, 200, 0)):
        assert np.intersect1d(index[state], index[other]).size == shared, (state, other)


@pytest.mark.parametrize("made", [walk.dense(walk.fourier(4)), walk.tilings(3)], ids=["fourier", "tilings"])
@pytest.mark.parametrize("method", ["monte-carlo", "td"])
def test_weights_are_learnt_as_the_book_defines_it(method, made):
    index, factor = made
    truth, share = walk.exact()
    x = np.zeros((1000, int(index.max()) + 1))
    for state in range(1000):
        x[state, index[state]] = factor[state]
    w, plain, errors, expected = np.zeros(x.shape[1]), np.zeros(x.shape[1]), np.zeros(5), []
    alpha, lam, rng = 0.01, 0.7, np.random.default_rng(3)
    for _ in range(10):
        states, outcome = steps_of(rng)
        trace = np.zeros_like(plain)
        for t, state in enumerate(states):
            if method == "td":
                target = plain @ x[states[t + 1]] if t + 1 < len(states) else outcome
                trace = lam * trace + x[state]
            else:
                target, trace = outcome, x[state]
            plain = plain + alpha * (target - plain @ x[state]) * trace
        expected.append(np.sqrt(sum(share * (truth - x @ plain) ** 2)))
    if method == "td":
        errors = np.zeros(10)
        walk.td_lambda(alpha, lam, np.random.default_rng(3), GO, index, factor, w, truth, share, errors)
    else:
        expected = expected[1::2]
        walk.monte_carlo(alpha, 2, np.random.default_rng(3), GO, index, factor, w, truth, share, errors)
    np.testing.assert_allclose(w, plain, rtol=0, atol=1e-9)
    np.testing.assert_allclose(errors, expected, rtol=0, atol=1e-9)


def test_the_best_error_is_that_of_tile_means():
    truth, share = walk.exact()
    groups = np.repeat(np.arange(5), 200)
    means = np.array([np.average(truth[groups == g], weights=share[groups == g]) for g in range(5)])
    limit = walk.best_error(*walk.tilings(1), truth, share)
    assert limit == pytest.approx(np.sqrt(share @ (truth - means[groups]) ** 2), rel=1e-9)


def test_a_basis_that_learns_no_better_differs(monkeypatch):
    monkeypatch.setattr(walk_bases, "ORDERS", (5,))
    monkeypatch.setattr(walk_bases, "BUDGET", Budget(runs=3, episodes=5_000))
    assert verdicts("walk-bases") == ["pass"]
    monkeypatch.setattr(walk_bases, "BASES", {"polynomial": (walk.fourier, 5e-5), "Fourier": (walk.polynomial, 1e-4)})
    assert verdicts("walk-bases") == ["differs"]


def test_tilings_that_are_not_shifted_differ(monkeypatch):
    monkeypatch.setattr(walk_tilings, "BUDGET", Budget(runs=3, episodes=5_000))
    assert verdicts("walk-tilings") == ["pass", "pass"]
    tilings = walk.tilings
    monkeypatch.setattr(walk, "tilings", lambda count: tilings(count, offset=0))
    assert verdicts("walk-tilings") == ["differs", "differs"]


def test_a_trace_that_is_another_differs(monkeypatch):
    monkeypatch.setattr(walk_tilings_td, "LAMBDAS", (0.0, 1.0))
    monkeypatch.setattr(walk_tilings_td, "SIZES", (0.005, 0.1, 0.5))
    assert verdicts("walk-tilings-td", runs=50) == ["pass"] * 3
    td_lambda = walk.td_lambda
    monkeypatch.setattr(walk, "td_lambda", lambda alpha, lam, *rest: td_lambda(alpha, 1 - lam, *rest))
    assert verdicts("walk-tilings-td", runs=50) == ["differs"] * 3
