"""Statistics of runs on tasks, against loops from the definitions, answers by hand and a known truth."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from playfield.errors import UsageError
from playfield.experiments import aggregate as stats

# Two tasks of four seeds: sorted they are -1 0 1 2 3 4 5 10, of which the middle half is 1 2 3 4.
BY_HAND = np.array([[0.0, 10.0], [1.0, 5.0], [2.0, -1.0], [3.0, 4.0]])
SCORES = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.integers(-8, 8).map(float))


# From the definitions, with loops: nothing here is shared with the code under test. ------------------------------


def naive_iqm(scores):
    flat = sorted(value for row in scores for value in row)
    out = len(flat) // 4
    kept = flat[out : len(flat) - out]
    return math.fsum(kept) / len(kept)


def naive_mean(scores):
    return math.fsum(value for row in scores for value in row) / (len(scores) * len(scores[0]))


def naive_median(scores):
    means = sorted(math.fsum(row[t] for row in scores) / len(scores) for t in range(len(scores[0])))
    middle = len(means) // 2
    return means[middle] if len(means) % 2 else (means[middle - 1] + means[middle]) / 2


def naive_gap(scores, gamma=1.0):
    return math.fsum(max(gamma - value, 0.0) for row in scores for value in row) / (len(scores) * len(scores[0]))


def naive_improvement(x, y):
    per_task = []
    for t in range(len(x[0])):
        won = sum(1.0 if a[t] > b[t] else 0.5 if a[t] == b[t] else 0.0 for a in x for b in y)
        per_task.append(won / (len(x) * len(y)))
    return math.fsum(per_task) / len(per_task)


def naive_profile(scores, taus):
    flat = [value for row in scores for value in row]
    return [sum(value > tau for value in flat) / len(flat) for tau in taus]


def naive_interval(statistic, *samples, draws=2000):
    """The stratified bootstrap with Python's own random numbers."""
    source = random.Random(7)
    found = []
    for _ in range(draws):
        drawn = []
        for scores in samples:
            columns = [[row[t] for row in scores] for t in range(len(scores[0]))]
            drawn.append(list(zip(*(source.choices(c, k=len(c)) for c in columns), strict=True)))
        found.append(statistic(*drawn))
    found.sort()

    def quantile(q):
        place = q * (draws - 1)
        low = int(place)
        return found[low] + (place - low) * (found[min(low + 1, draws - 1)] - found[low])

    return quantile(0.025), quantile(0.975)


ONE = {
    "iqm": (stats.iqm, naive_iqm, 2.5),
    "mean": (stats.mean, naive_mean, 3.0),
    "median": (stats.median, naive_median, 3.0),
    "gap": (stats.optimality_gap, naive_gap, 3 / 8),
}


@pytest.mark.parametrize("name", ONE)
def test_a_known_answer(name):
    """Means of the tasks are 1.5 and 4.5; below 1 are 0 (by 1) and -1 (by 2)."""
    ours, naive, answer = ONE[name]
    assert ours(BY_HAND) == pytest.approx(answer)
    assert naive(BY_HAND.tolist()) == pytest.approx(answer)


def test_more_known_answers():
    assert stats.optimality_gap(BY_HAND, 3.0) == pytest.approx((3 + 2 + 1 + 4) / 8)
    assert stats.iqm(np.array([[1.0], [2.0], [9.0]])) == 4, "of fewer than four nothing is left out"
    assert stats.iqm(np.array([[1.0, 2.0, 3.0, 4.0, 50.0]])) == 3, "of five one at either end"
    assert stats.median(np.array([[1.0, 2.0, 9.0]])) == 2
    # Task 1: 1 beats 0, ties 1 -> 1.5 of 2; 3 beats both. Task 2: never, and one tie of four.
    x, y = np.array([[1.0, 0.0], [3.0, 2.0]]), np.array([[0.0, 2.0], [1.0, 5.0]])
    assert stats.improvement(x, y) == pytest.approx((3.5 / 4 + 0.5 / 4) / 2)
    taus = np.array([-2.0, -1.0, 2.5, 5.0, 10.0])
    assert stats.profile(BY_HAND, taus).tolist() == [1.0, 7 / 8, 4 / 8, 1 / 8, 0.0], "above tau, not at it"


@settings(max_examples=80, deadline=None)
@given(SCORES)
def test_the_statistics_are_those_of_the_definitions(scores):
    for ours, naive, _ in ONE.values():
        assert ours(scores) == pytest.approx(naive(scores.tolist()), abs=1e-12)
    taus = np.linspace(-9, 9, 7)
    assert stats.profile(scores, taus).tolist() == pytest.approx(naive_profile(scores.tolist(), taus))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_the_probability_of_improvement_is_that_of_the_definition(data):
    tasks = data.draw(st.integers(1, 3))
    draw = [
        data.draw(arrays(np.float64, (data.draw(st.integers(1, 5)), tasks), elements=st.integers(-3, 3).map(float)))
        for _ in "xy"
    ]
    x, y = draw
    assert stats.improvement(x, y) == pytest.approx(naive_improvement(x.tolist(), y.tolist()))
    assert stats.improvement(x, y) + stats.improvement(y, x) == pytest.approx(1)
    assert stats.improvement(x, x) == pytest.approx(0.5)


@settings(max_examples=80, deadline=None)
@given(SCORES, st.randoms(use_true_random=False))
def test_the_order_of_seeds_does_not_matter_and_the_iqm_lies_within(scores, source):
    shuffled = scores.copy()
    for t in range(scores.shape[1]):  # each task for itself: seeds are no pairs
        shuffled[:, t] = source.sample(scores[:, t].tolist(), len(scores))
    for ours, _, _ in ONE.values():
        assert ours(shuffled) == pytest.approx(float(ours(scores)), abs=1e-12)
    assert scores.min() - 1e-12 <= stats.iqm(scores) <= scores.max() + 1e-12
    assert stats.iqm(scores + 3) == pytest.approx(float(stats.iqm(scores)) + 3)
    above = stats.profile(scores, np.linspace(-9, 9, 10))
    assert (np.diff(above) <= 0).all()
    assert (above[0], above[-1]) == (1, 0)


@pytest.mark.parametrize("name", ONE)
def test_leading_axes_are_kept(name):
    many = np.random.default_rng(3).normal(size=(2, 3, 5, 4))
    ours = ONE[name][0]
    assert ours(many).shape == (2, 3)
    assert ours(many)[1, 2] == pytest.approx(float(ours(many[1, 2])))
    assert stats.profile(many, np.zeros(6)).shape == (2, 3, 6)
    assert stats.improvement(many, many[:, :, :2]).shape == (2, 3)


# Intervals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE)
def test_an_interval_is_near_that_of_a_naive_bootstrap(name):
    scores = np.random.default_rng(4).normal([0.0, 2.0, 1.0], [1.0, 0.3, 2.0], size=(6, 3))
    ours, naive, _ = ONE[name]
    low, high = stats.bootstrap(ours, scores)
    expected = naive_interval(naive, scores.tolist())
    assert low < ours(scores) < high
    # The ends of 2,000 draws have a standard error of some hundredths of the width.
    assert (low, high) == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))


def test_the_interval_of_an_improvement_is_near_that_of_a_naive_bootstrap():
    source = np.random.default_rng(5)
    x, y = source.normal(0.5, 1, (5, 2)), source.normal(0.0, 1, (7, 2))
    expected = naive_interval(naive_improvement, x.tolist(), y.tolist())
    found = stats.bootstrap(stats.improvement, x, y)
    assert found == pytest.approx(expected, abs=0.1 * (expected[1] - expected[0]))


def test_each_task_is_sampled_for_itself_and_only_from_its_own_runs():
    """Two tasks far apart with opposite orders of seeds: sampled together, the sum would not vary at all."""
    scores = np.array([[1.0, 103.0], [2.0, 102.0], [3.0, 101.0]])
    sums = []
    stats.bootstrap(lambda s: (sums.append(s.sum(axis=(-2, -1))) if s.ndim == 3 else None) or stats.mean(s), scores)
    assert len(set(np.concatenate(sums).tolist())) > 5
    low, high = stats.bootstrap(lambda s: s.mean(axis=-2), scores)
    assert (low >= [1, 101]).all()
    assert (high <= [3, 103]).all()


def test_an_interval_is_seeded_and_does_not_depend_on_the_size_of_chunks(monkeypatch):
    scores = np.random.default_rng(6).normal(size=(5, 3))
    first = stats.bootstrap(stats.iqm, scores, draws=301)
    assert stats.bootstrap(stats.iqm, scores, draws=301) == first
    assert stats.bootstrap(stats.iqm, scores, draws=301, seed=1) != first
    monkeypatch.setattr(stats, "CHUNK", 100)
    assert stats.bootstrap(stats.iqm, scores, draws=301) == first
    narrow = stats.bootstrap(stats.iqm, scores, draws=301, level=0.5)
    assert first[0] < narrow[0] < narrow[1] < first[1]


def test_the_interval_of_the_mean_covers_the_truth():
    """Percentile intervals of ten seeds are a little short: 90 to 99 of 100 that claim 95."""
    source = np.random.default_rng(8)
    truth = np.array([0.0, 1.0, 5.0])
    covered = 0
    for repetition in range(300):
        scores = source.normal(truth, [1.0, 0.5, 2.0], size=(10, 3))
        low, high = stats.bootstrap(stats.mean, scores, draws=500, seed=repetition)
        covered += low <= truth.mean() <= high
    assert 0.90 <= covered / 300 <= 0.99


def test_one_seed_has_no_interval():
    assert np.isnan(stats.bootstrap(stats.iqm, np.ones((1, 5)))).all()
    found = stats.aggregates({"a": [[1.0, 2.0]], "b": [[0.0, 1.0], [3.0, 4.0]]})
    assert found.statistics["a"]["iqm"] == stats.Estimate(1.5, None, None)
    assert found.statistics["b"]["iqm"].low is not None
    assert found.improvement["b", "a"] == stats.Estimate(0.5, None, None)


def test_a_curve_samples_whole_runs():
    """A run that is always ahead keeps being so in each draw: its interval is that of its first point, moved."""
    base = np.random.default_rng(9).normal(size=(5, 2))
    runs = np.stack([base, base + 10, 2 * base])
    value, low, high = stats.curve(runs)
    assert value == pytest.approx([float(stats.iqm(r)) for r in runs])
    assert (low[1], high[1]) == pytest.approx((low[0] + 10, high[0] + 10))
    assert (low[2], high[2]) == pytest.approx((2 * low[0], 2 * high[0]))
    assert (low[0], high[0]) == pytest.approx(tuple(float(end) for end in stats.bootstrap(stats.iqm, base)))


# All of it -------------------------------------------------------------------------------------------------------


def test_algorithms_with_different_numbers_of_seeds():
    source = np.random.default_rng(10)
    given = {"a": source.normal(1, 1, (6, 2)), "b": source.normal(0, 1, (3, 2)), "c": source.normal(0, 1, (4, 2))}
    found = stats.aggregates(given, ["t", "u"], baseline="b", gamma=0.5)
    assert found.algorithms == ("a", "b", "c")
    assert found.statistics["a"]["optimality_gap"].value == pytest.approx(naive_gap(given["a"].tolist(), 0.5))
    for x in "abc":
        for y in set("abc") - {x}:
            one, other = found.improvement[x, y], found.improvement[y, x]
            assert one.value == pytest.approx(naive_improvement(given[x].tolist(), given[y].tolist()))
            assert (one.low, one.high) == pytest.approx((1 - other.high, 1 - other.low))
            assert one.low <= one.value <= one.high
    rows = found.rows()
    assert [(r["algorithm"], r["seeds"], r["tasks"]) for r in rows] == [("a", 6, 2), ("b", 3, 2), ("c", 4, 2)]
    assert ["improvement" in r for r in rows] == [True, False, True], "over the baseline"
    assert rows[0]["improvement"] == found.improvement["a", "b"].value


@pytest.mark.parametrize(
    ("scores", "more", "message"),
    [
        ({"a": [[1.0, math.nan]]}, {}, "scores of a: the score of seed 0, task 1"),
        ({"a": [[1.0], [math.inf]]}, {}, "seed 1, task 0"),
        ({"a": [1.0, 2.0]}, {}, r"expected scores \[seeds, tasks\]"),
        ({"a": [[1.0], [2.0, 3.0]]}, {}, "the same seeds for each task"),
        ({"a": [["x"]]}, {}, "expected numbers"),
        ({"a": []}, {}, "shape"),
        ({}, {}, "one algorithm or more"),
        ({"a": [[1.0]], "b": [[1.0, 2.0]]}, {}, "a 1, b 2"),
        ({"a": [[1.0]]}, {"tasks": ["t", "u"]}, "tasks: expected 1"),
        ({"a": [[1.0]]}, {"baseline": "b"}, "baseline takes one of a"),
    ],
)
def test_scores_that_cannot_be_aggregated(scores, more, message):
    with pytest.raises(UsageError, match=message):
        stats.aggregates(scores, **more)
