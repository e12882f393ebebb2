"""Intervals against hand-worked numbers and against integrals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from playfield.play.statistics import difference_interval, t_interval, t_quantile

# Percentage points as every table of Student's t prints them.
TABLE = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}


@pytest.mark.parametrize(("degrees", "t"), TABLE.items())
def test_quantiles_are_those_of_the_tables(degrees, t):
    assert t_quantile(degrees) == pytest.approx(t, abs=6e-4)


def test_other_levels():
    assert t_quantile(1, 0.9) == pytest.approx(math.tan(0.45 * math.pi))  # Cauchy's distribution
    assert t_quantile(2, 0.8) == pytest.approx(0.8 * math.sqrt(2 / (1 - 0.8**2)))  # P = t / sqrt(2 + t^2)
    assert t_quantile(7, 0.99) == pytest.approx(3.4995, abs=1e-4)


@pytest.mark.parametrize("degrees", [1, 2, 3, 6, 7, 20])
def test_the_density_between_the_quantiles_has_the_probability(degrees):
    t = t_quantile(degrees, 0.7)
    x = np.linspace(-t, t, 20_001)
    scale = math.gamma((degrees + 1) / 2) / math.sqrt(degrees * math.pi) / math.gamma(degrees / 2)
    density = scale * (1 + x**2 / degrees) ** (-(degrees + 1) / 2)
    assert np.trapezoid(density, x) == pytest.approx(0.7, abs=1e-6)


def test_interval_by_hand():
    # 1, 2, 3: mean 2, s = 1, half = 4.3027 / sqrt(3) = 2.4842. 0, 10: mean 5, s = 7.0711, half = 12.7062 * 5.
    low, high = t_interval(np.array([1.0, 2, 3]))
    assert (low, high) == (pytest.approx(-0.4842, abs=1e-4), pytest.approx(4.4842, abs=1e-4))
    low, high = t_interval(np.array([[0.0, 7], [10, 7]]))
    assert low == pytest.approx([-58.531, 7], abs=1e-3)
    assert high == pytest.approx([68.531, 7], abs=1e-3)


def test_one_run_has_no_interval():
    low, high = t_interval(np.ones((1, 3)))
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_differences_by_hand():
    # Variances of the means 1/3 and 4/3: (5/3)^2 / ((1/3)^2 / 2 + (4/3)^2 / 2) = 2.94 degrees, so 2: 4.3027.
    half = 4.30265 * math.sqrt(5 / 3)
    assert difference_interval([1, 2, 3], [4, 6, 8]) == pytest.approx((-4 - half, -4 + half), abs=1e-4)
    assert difference_interval([1, 1], [3, 3, 3]) == (-2, -2)
    assert np.isnan(difference_interval([1], [3, 4])).all()


def test_differences_lie_in_their_interval_as_often_as_is_said():
    """3 and 40 draws whose spreads differ: the true difference is in at least 95 of 100 intervals, and not in all."""
    rng = np.random.default_rng(0)
    within = []
    for _ in range(2000):
        low, high = difference_interval(rng.normal(1, 3, 3).tolist(), rng.normal(0, 1, 40).tolist())
        within.append(low <= 1 <= high)
    assert 0.94 < np.mean(within) < 0.97
