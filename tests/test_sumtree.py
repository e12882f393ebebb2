"""The sum tree against running sums computed afresh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.replay.sum_tree import SumTree


def naive(values: np.ndarray, amount: float) -> int:
    total = 0.0
    for i, value in enumerate(values):
        total += value
        if amount < total:
            return i
    raise AssertionError("amount beyond the total")


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=40), st.data())
def test_find_is_where_the_running_sum_passes_the_amount(numbers: list[int], data) -> None:
    tree = SumTree(len(numbers))
    tree.set(np.arange(len(numbers)), np.array(numbers, float))
    assert tree.total == sum(numbers)
    for amount in range(sum(numbers)):  # whole numbers: no rounding to blur the edges
        assert tree.find(np.array([amount + 0.5]))[0] == naive(np.array(numbers), amount + 0.5)
        assert tree.find(np.array([float(amount)]))[0] == naive(np.array(numbers), float(amount))
    changed = data.draw(st.integers(0, len(numbers) - 1))
    tree.set(np.array([changed]), 5.0)
    numbers[changed] = 5
    assert tree.total == sum(numbers)
    assert tree.values.tolist() == numbers


def test_repeated_index_keeps_the_last_value_and_load_equals_set() -> None:
    tree, other = SumTree(5), SumTree(5)
    tree.set(np.array([1, 4, 1]), np.array([3.0, 2.0, 7.0]))
    other.load(np.array([0, 7.0, 0, 0, 2.0]))
    assert tree.values.tolist() == other.values.tolist() == [0, 7, 0, 0, 2]
    assert tree.total == other.total == 9
    amounts = np.linspace(0, 8.99, 50)
    np.testing.assert_array_equal(tree.find(amounts), other.find(amounts))


def test_nothing_of_number_zero_is_found_at_the_edge() -> None:
    tree = SumTree(6)
    tree.set(np.array([1, 3]), np.array([0.1, 0.2]))
    edges = np.array([0.0, 0.1, np.nextafter(tree.total, 0), tree.total, tree.total + 1e-9])
    assert set(tree.find(edges).tolist()) <= {1, 3}


def test_sums_do_not_drift() -> None:
    rng = np.random.default_rng(0)
    tree = SumTree(100)
    for _ in range(2000):
        tree.set(rng.integers(0, 100, 8), rng.random(8) * 10.0 ** rng.integers(-8, 8))
    fresh = SumTree(100)
    fresh.load(tree.values.copy())
    assert tree.total == fresh.total


def test_shares_are_proportional() -> None:
    tree = SumTree(4)
    tree.load(np.array([1.0, 0.0, 2.0, 7.0]))
    found = tree.find(np.random.default_rng(1).random(20_000) * tree.total)
    share = np.bincount(found, minlength=4) / 20_000
    np.testing.assert_allclose(share, [0.1, 0, 0.2, 0.7], atol=0.02)


def test_size_must_be_positive() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        SumTree(0)
