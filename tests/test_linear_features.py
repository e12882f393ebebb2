"""Coders against the book's definitions, written a second time in linear_naive."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linear_naive import Tiles3, fourier, legendre, polynomial, tile_coordinates
from playfield.errors import UsageError
from playfield.linear import features
from playfield.linear.coders import coder_for, squared_length
from playfield.linear.problems import PROBLEMS

UNIT = features.Bounds(np.zeros(2), np.ones(2), np.ones(2))
QUICK = settings(max_examples=25, deadline=None)


def bounds_of(name: str) -> features.Bounds:
    p = PROBLEMS[name]
    return features.Bounds(np.array(p.low), np.array(p.high), np.array(p.tiled))


def box(dims: int) -> features.Bounds:
    """Cubes of odd sizes and places whose tiles are exact in binary."""
    low = np.array([-2.0, 0.5, 3.0, -1.0])[:dims]
    return features.Bounds(low, low + 4.0, np.full(dims, 4.0))


def encode(coder: features.Coder, x, compiled: bool = True) -> tuple[list[int], list[float]]:
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    function = features.encode if compiled else features.encode.py_func
    on = function(coder, np.asarray(x, float), index, value)
    return index[:on].tolist(), value[:on].tolist()


def points(bounds: features.Bounds, count: int, seed: int = 0) -> np.ndarray:
    """Random points, with corners among them."""
    rng = np.random.default_rng(seed)
    out = rng.uniform(bounds.low, bounds.high, (count, len(bounds.low)))
    return np.concatenate([out, [bounds.low, bounds.high]])


def scaled(bounds: features.Bounds, x, tiles: int) -> np.ndarray:
    return (np.asarray(x) - bounds.low) * tiles / bounds.tiled


# Tile coding


@given(
    dims=st.integers(1, 4),
    tilings=st.sampled_from([1, 2, 4, 8, 16]),
    tiles=st.integers(1, 4),
    seed=st.integers(0, 99),
)
@QUICK
def test_index_hash_table_is_tiles3(dims, tilings, tiles, seed):
    """The same numbers for the same sequence of points; first come, first numbered."""
    tiles = 2 ** (tiles - 1)  # so that scaling rounds nothing
    bounds, size = box(dims), 512
    mine = features.iht(bounds, tilings=tilings, tiles=tiles, size=size)
    theirs, shared = Tiles3(size), 0
    for x in points(bounds, 60, seed):
        index, value = encode(mine, x)
        expected = theirs.tiles(tilings, scaled(bounds, x, tiles))
        assert len(index) == tilings
        assert value == [1.0] * tilings
        for got, number in zip(index, expected, strict=True):
            assert got == number if number is not None else 0 <= got < size
        shared += expected.count(None)
        assert mine.counts.tolist() == [len(theirs.numbers), shared]
    assert theirs.overfull == shared


@given(dims=st.integers(1, 3), cells=st.integers(1, 30), seed=st.integers(0, 99))
@QUICK
def test_a_grid_has_a_feature_for_each_cell(dims, cells, seed):
    """Cells of equal width; the upper bound is in the last one, and so is what lies beyond it."""
    bounds = box(dims)
    coder = features.grid(bounds, cells=cells)
    assert (coder.size, coder.active) == (cells**dims, 1)
    edges = np.linspace(bounds.low, bounds.high, cells + 1)
    for x in [*points(bounds, 60, seed), bounds.low - 5, bounds.high + 5]:
        place = [min(max(np.searchsorted(edges[:, d], x[d], "right") - 1, 0), cells - 1) for d in range(dims)]
        near = np.abs(edges[1:-1] - x).min() < 1e-9 if cells > 1 else False  # which side of an edge is rounding
        assert near or encode(coder, x) == ([int(np.ravel_multi_index(place, [cells] * dims))], [1.0])


def test_a_grid_has_one_cell_where_there_is_one_value_and_holds_far_from_zero():
    flat = features.Bounds(np.array([2.0, 1e9]), np.array([2.0, 1e9 + 1]), np.array([0.0, 1.0]))
    coder = features.grid(flat, cells=5)
    assert coder.size == 5
    assert [encode(coder, [2.0, 1e9 + x])[0] for x in (0.0, 0.3, 0.99, 1.0)] == [[0], [1], [4], [4]]


def test_a_grid_of_the_walk_is_a_table_of_its_states():
    coder = features.grid(bounds_of("random-walk"), cells=19)
    assert [encode(coder, [float(state)])[0] for state in range(19)] == [[state] for state in range(19)]


def test_too_many_cells_are_refused():
    with pytest.raises(UsageError, match=r"grid would have 25,600,000,000 cells: use fewer, or tilings"):
        features.grid(box(4), cells=400)


def test_a_full_table_shares_and_counts():
    mine, theirs = features.iht(UNIT, tilings=4, tiles=8, size=40), Tiles3(40)
    seen: dict[tuple, int] = {}
    for x in points(UNIT, 300):
        index, _ = encode(mine, x)
        theirs.tiles(4, scaled(UNIT, x, 8))
        for k, (cell, number) in enumerate(zip(tile_coordinates(4, scaled(UNIT, x, 8)), index, strict=True)):
            assert seen.setdefault((k, *cell), number) == number  # a shared number stays
    assert mine.counts.tolist() == [40, theirs.overfull]
    assert theirs.overfull > 500
    assert len(set(seen.values())) == 40 < len(seen)
    late = [number for number in seen.values()][40:]
    assert len(set(late)) > 20  # those who share are spread over the table


def test_fresh_tables_are_apart():
    one = features.iht(UNIT, tilings=2, tiles=4, size=64)
    two = features.fresh(one)
    encode(one, [0.1, 0.9])
    assert (one.counts[0], two.counts[0]) == (2, 0)
    assert encode(two, [0.9, 0.1])[0] == [0, 1]


@given(dims=st.integers(1, 4), tilings=st.sampled_from([1, 3, 8]), seed=st.integers(0, 99))
@QUICK
def test_tilings_number_every_cell_once(dims, tilings, seed):
    """Two points share a feature where, and only where, they share the tile."""
    bounds = box(dims)
    coder = features.tilings(bounds, tilings=tilings, tiles=4)
    by_cell: dict[tuple, int] = {}
    for x in points(bounds, 80, seed):
        index, value = encode(coder, x)
        assert value == [1.0] * tilings
        assert 0 <= min(index) <= max(index) < coder.size
        cells = tile_coordinates(tilings, scaled(bounds, x, 4))
        for k, (cell, number) in enumerate(zip(cells, index, strict=True)):
            assert by_cell.setdefault((k, *cell), number) == number
    assert len(set(by_cell.values())) == len(by_cell)


def test_displacement_by_hand():
    """Section 9.5.4: with 4 tilings of one tile, moving by a quarter crosses one tiling's edge at a time."""
    coder = features.tilings(features.Bounds(np.zeros(1), np.ones(1), np.ones(1)), tilings=4, tiles=1)
    at = [encode(coder, [x])[0] for x in (0.0, 0.25, 0.5, 0.75)]
    crossed = [sum(a != b for a, b in zip(one, two, strict=True)) for one, two in itertools.pairwise(at)]
    assert crossed == [1, 1, 1]
    assert [a != b for a, b in zip(at[0], at[1], strict=True)] == [False, False, False, True]
    # the second dimension is displaced three times as far: tiling 1 crosses its edge a quarter from the start
    coder = features.tilings(UNIT, tilings=4, tiles=1)
    at = [encode(coder, [0.0, y])[0] for y in (0.0, 0.2499, 0.25, 0.5)]
    assert at[0] == at[1]
    assert [a != b for a, b in zip(at[1], at[2], strict=True)] == [False, True, False, False]
    assert [a != b for a, b in zip(at[2], at[3], strict=True)] == [False, False, True, False]


# The lesson's numbers


def lesson_cells(x: float, v: float, tilings: int, tiles: int) -> list[tuple[int, int, int]]:
    across, up = int(tilings * tiles * (x + 1.2) / 1.7), int(tilings * tiles * (v + 0.07) / 0.14)
    return [(k, (across + k) // tilings, (up + 3 * k) // tilings) for k in range(tilings)]


@pytest.mark.parametrize(("name", "rows"), [("mountain-car", 9), ("mountain-car-gym", 10)])
def test_the_lessons_tilings(name, rows):
    """Flat numbers (k*rows + s)*11 + sv with 8 tilings of 8x8: 792 features on its own car, 880 on Gymnasium's."""
    bounds = bounds_of(name)
    plain = features.tilings(bounds, tilings=8, tiles=8)
    assert plain.size == 8 * rows * 11
    small, mixed = features.modulo(bounds, size=100), features.hashed(bounds, size=512)
    differ, xs = 0, points(bounds, 3000)
    for x, v in xs:
        cells = lesson_cells(x, v, 8, 8)
        flat = [(k * rows + s) * 11 + sv for k, s, sv in cells]
        got = encode(plain, [x, v])[0]
        differ += got != flat
        if got == flat:
            assert encode(small, [x, v])[0] == [i % 100 for i in flat]
            assert encode(mixed, [x, v])[0] == [hash(cell) % 512 for cell in cells]
    assert differ == 0


@pytest.mark.parametrize("tiles", [8, 16, 32])
def test_the_lessons_additive_features(tiles):
    """i and j + T + 1, or, where faithful to the lesson's Gymnasium class, j + T: one feature has two meanings."""
    plain = features.onehot(bounds_of("mountain-car"), tiles=tiles)
    assert plain.size == 2 * (tiles + 1)
    bounds = bounds_of("mountain-car-gym")
    gym, faithful = features.onehot(bounds, tiles=tiles), features.onehot(bounds, tiles=tiles, faithful=True)
    overlap = set()
    for x, v in points(bounds, 3000):
        i, j = int(tiles * (x + 1.2) / 1.7), int(tiles * (v + 0.07) / 0.14)
        if x <= 0.5:
            assert encode(plain, [x, v]) == ([i, j + tiles + 1], [1.0, 1.0])
        assert encode(gym, [x, v])[0][0] == i
        assert encode(faithful, [x, v])[0] == [i, j + tiles]
        overlap |= {i} & {j + tiles for j in range(tiles)}
    assert overlap >= {tiles}
    first, second = ({encode(gym, p)[0][d] for p in points(bounds, 500)} for d in (0, 1))
    assert not first & second


# Bases


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(("dims", "order"), [(1, 5), (2, 3), (4, 2)])
def test_bases_by_definition(dims, order, compiled):
    """The book's products and cosines, each once, and NumPy's Legendre polynomials; 1 is among them."""
    bounds = box(dims)
    pairs = ((features.polynomial, polynomial), (features.fourier, fourier), (features.legendre, legendre))
    for make, define in pairs:
        coder = make(bounds, order=order)
        assert coder.size == coder.active == (order + 1) ** dims
        for x in points(bounds, 20):
            unit = (x - bounds.low) / (bounds.high - bounds.low)
            index, value = encode(coder, x, compiled)
            assert index == list(range(coder.size))
            assert value == pytest.approx(define(unit, order), abs=1e-12)
            assert value[0] == 1.0


def test_scaled_waves_do_what_step_sizes_of_their_own_would():
    """Konidaris et al.: alpha / |c| for wave c. One step of w towards a target moves the value of any state alike."""
    plain, scaled = (features.fourier(box(3), order=2, scaled=s) for s in (False, True))
    length = np.linalg.norm(list(itertools.product(range(3), repeat=3)), axis=1)
    length[0] = 1
    x, y = (np.array([encode(coder, p)[1] for p in points(box(3), 2)[:2]]) for coder in (plain, scaled))
    assert y == pytest.approx(x / np.sqrt(length))
    error, alpha = 0.7, 0.01
    by_steps, by_features = (alpha / length * error * x[0]) @ x[1], (alpha * error * y[0]) @ y[1]
    assert by_features == pytest.approx(by_steps)


@pytest.mark.parametrize("make", [features.polynomial, features.legendre])
def test_the_squared_length_of_polynomials_is_the_largest(make):
    """Against a grid of states, corners among them."""
    for order in (1, 4):
        coder = make(UNIT, order=order)
        grid = itertools.product(np.linspace(0, 1, 21), repeat=2)
        found = [np.square(encode(coder, list(state))[1]).sum() for state in grid]
        assert squared_length(coder) == pytest.approx(max(found))


def test_legendre_polynomials_learn_where_powers_cannot():
    """One pass over a thousand values of a cubic, which both can represent: the error that is left."""
    rng, left = np.random.default_rng(0), {}
    states = rng.uniform(0, 1, (1000, 1))

    def target(x: float) -> float:
        return 4 * (2 * x - 1) ** 3 - 3 * (2 * x - 1)

    for make in (features.polynomial, features.legendre):
        coder = make(features.Bounds(np.zeros(1), np.ones(1), np.ones(1)), order=3)
        w, alpha = np.zeros(coder.size), 0.5 / squared_length(coder)
        for x in states:
            value = np.array(encode(coder, x)[1])
            w += alpha * (target(x[0]) - w @ value) * value
        grid = np.linspace(0, 1, 50)
        errors = [w @ np.array(encode(coder, [x])[1]) - target(x) for x in grid]
        left[make] = np.square(errors).mean()
    assert left[features.legendre] < 1e-3 < 0.1 < left[features.polynomial]


@pytest.mark.parametrize("make", [features.fourier, features.tilings, features.identity])
def test_squared_length_is_the_mean_of_states_spread_evenly(make):
    """Against 4,000 random states; and of scaled waves."""
    for coder in [make(UNIT)] + [features.fourier(UNIT, scaled=True)] * (make is features.fourier):
        x = np.random.default_rng(0).uniform(0, 1, (4000, 2))
        found = np.mean([np.square(encode(coder, state)[1]).sum() for state in x])
        assert squared_length(coder) == pytest.approx(found, rel=0.03)
    ram = features.bits(features.Bounds(np.zeros(3), np.full(3, 255.0), np.full(3, 256.0)))
    every = [len(encode(ram, [b, 0, 255])[0]) for b in range(256)]
    assert squared_length(ram) == np.mean(every) == 13.0


def test_outside_the_bounds_counts_as_the_edge():
    for make in (features.tilings, features.iht, features.onehot, features.fourier, features.legendre):
        coder = make(UNIT)
        assert encode(coder, [-3.0, 7.0]) == encode(coder, [0.0, 1.0])


@given(st.lists(st.integers(0, 255), min_size=1, max_size=6))
@QUICK
def test_bits(ram):
    coder = features.bits(features.Bounds(np.zeros(len(ram)), np.full(len(ram), 255.0), np.full(len(ram), 255.0)))
    dense = np.zeros(coder.size)
    index, value = encode(coder, ram)
    dense[index] = value
    assert dense[-1] == 1  # always on
    assert dense[:-1].reshape(-1, 8).dot(2 ** np.arange(8)).tolist() == ram


def test_identity():
    coder = features.identity(UNIT)
    assert encode(coder, [0.25, -3.5]) == ([0, 1, 2], [0.25, -3.5, 1.0])


# Compiled code, and refusals


@pytest.mark.parametrize("name", ["mountain-car", "mountain-car-gym", "cartpole", "random-walk"])
def test_compiled_is_plain_python_bit_for_bit(name):
    bounds = bounds_of(name)
    kinds = (features.tilings, features.iht, features.onehot, features.fourier, features.polynomial, features.bits)
    for make in (*kinds, features.identity):
        fast = make(bounds, size=50) if make is features.iht else make(bounds)
        slow = features.fresh(fast)
        for x in points(bounds, 20) if make is not features.bits else np.arange(255.0)[:, None] + 0 * bounds.low:
            assert encode(fast, x) == encode(slow, x, compiled=False)
        assert (fast.counts == slow.counts).all()


def test_too_many_features_are_refused():
    wide = features.Bounds(np.zeros(8), np.ones(8), np.ones(8))
    with pytest.raises(UsageError, match="iht"):
        features.tilings(wide)
    with pytest.raises(UsageError, match="lower it"):
        features.fourier(wide, order=8)
    assert math.isfinite(features.iht(wide).size)


# Displacement vectors


@pytest.mark.parametrize(("displace", "vector"), [("", (1, 3)), ("1-3", (1, 3)), ("1-1", (1, 1)), ("0-5", (0, 5))])
@pytest.mark.parametrize("name", ["tilings", "iht"])
def test_tilings_are_displaced_by_the_vector_that_is_given(name, displace, vector):
    coder = features.fresh(getattr(features, name)(box(2), tilings=4, tiles=3, displace=displace))

    def cells(x) -> list[tuple[int, ...]]:
        units = [math.floor(u * 4) for u in scaled(box(2), x, 3)]
        return [tuple((u + k * step) // 4 for u, step in zip(units, vector, strict=True)) for k in range(4)]

    seen = [(encode(coder, x)[0], cells(x)) for x in points(box(2), 40)]
    for (features_a, cells_a), (features_b, cells_b) in itertools.combinations(seen, 2):
        assert [a == b for a, b in zip(features_a, features_b, strict=True)] == [
            a == b for a, b in zip(cells_a, cells_b, strict=True)
        ]
    assert len({index for found, _ in seen for index in found}) <= coder.size


@pytest.mark.parametrize("displace", ["1", "1-2-3", "1-x", "-1-2", "1--2", "1-1000"])
def test_a_vector_that_does_not_fit_is_refused(displace):
    with pytest.raises(UsageError, match="takes 2 numbers, as in 1-3"):
        features.tilings(box(2), displace=displace)


@pytest.mark.parametrize("width", [0.25, 1.0, 4.0])
def test_a_basis_spans_the_range_however_narrow_it_is(width: float) -> None:
    """Fourier features of order 1 are 1 and cos(pi x) with x from 0 to 1 between the bounds."""
    coder = coder_for("fourier:order=1", np.array([-1.0]), np.array([-1.0 + width]))
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    for share in (0.0, 0.5, 1.0):
        features.encode(coder, np.array([-1.0 + share * width]), index, value)
        np.testing.assert_allclose(value, [1, math.cos(math.pi * share)], atol=1e-12)
