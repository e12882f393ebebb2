"""What a linear learner sees: coders by name, from a state to a few features that are on, or to all with values.

Each public function here that takes bounds and returns a `Coder` is a value of `--features`, and its keyword-only
arguments are its options: `--features tilings:tilings=16,tiles=8`. A coder that needs no bounds ignores them.
`encode` is the compiled half: a state to indices and values.

Tilings are those of Sutton and Barto (2018, section 9.5.4): tiling k of n is displaced by k/n of a tile times
(1, 3, 5, ...) along the dimensions, or times other numbers, as in `displace=1-1`. `iht` is Sutton's index hash table:
cells get numbers in the order in which they are first seen, and when the table is full, cells share numbers by
hashing: that is counted. `modulo` and `hashed` are what a course uses in its place, for comparison. Fourier:
Konidaris, Osentoski and Thomas 2011.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from playfield.errors import UsageError
from playfield.linear.jit import piece

TABLE, FIRST_COME, ADDITIVE, FOURIER, POLYNOMIAL, LEGENDRE, BITS, IDENTITY = range(8)
LARGEST = 2**22  # features, or cells of a table
MOST_ON = 2**16  # features that are on at once: each takes time at every step


class Coder(NamedTuple):
    """A coder, ready for compiled code. D numbers in a state, F features, K of them on at most.

    Attributes:
        kind: one of the codes above.
        size, active: F, K.
        low, high, scale: [D] bounds, and what turns a number above `low` into tiles (or into [0, 1]).
        dims: [D] cells of a tiling along each dimension.
        tilings: how many.
        shifts: [D] displacement vector.
        cells: [cells] feature of each cell; of `iht`: [slots] keys, -1 where free.
        numbers: [slots] the number that each key of `iht` got.
        told: [2] numbers given, and how often a cell had to share one.
        powers: [F, D] of Fourier, polynomial and Legendre bases.
        gains: [F] what their features are multiplied by.
    """

    kind: int
    size: int
    active: int
    low: np.ndarray
    high: np.ndarray
    scale: np.ndarray
    dims: np.ndarray
    tilings: int
    shifts: np.ndarray
    cells: np.ndarray
    numbers: np.ndarray
    told: np.ndarray
    powers: np.ndarray
    gains: np.ndarray


class Bounds(NamedTuple):
    """Where observations lie: [D] arrays; `tiled` is the range that is cut into whole tiles (see `Problem`)."""

    low: np.ndarray
    high: np.ndarray
    tiled: np.ndarray


def _coder(kind: int, size: int, active: int, bounds: Bounds | None = None, **own: Any) -> Coder:
    if size > LARGEST:
        raise UsageError(f"--features would be {size:,} features: {LARGEST:,} are the most; fewer tiles, or iht")
    none, ints = np.zeros(0), np.zeros(0, np.int64)
    parts: dict[str, Any] = {
        "scale": none,
        "dims": ints,
        "tilings": 1,
        "shifts": ints,
        "cells": ints,
        "numbers": ints,
    }
    parts |= {"told": np.zeros(2, np.int64), "powers": np.zeros((0, 0)), "gains": none} | own
    low, high = (bounds.low, bounds.high) if bounds else (none, none)
    return Coder(kind, size, active, low.astype(np.float64), high.astype(np.float64), **parts)


def _grid(bounds: Bounds, tilings: int, tiles: int, displace: str) -> dict[str, Any]:
    if tilings > MOST_ON:
        raise UsageError(f"{tilings:,} tilings would put as many features on at once: use fewer, {MOST_ON:,} at most")
    scale = tilings * tiles / bounds.tiled
    top = np.floor((bounds.high - bounds.low) * scale).astype(np.int64)
    shifts = 1 + 2 * np.arange(len(top))
    if displace:
        words = displace.split("-")
        if len(words) != len(top) or not all(word.isdecimal() and len(word) < 4 for word in words):
            example = "-".join(map(str, shifts))
            raise UsageError(f"displace of --features takes {len(top)} numbers, as in {example}, not {displace!r}")
        shifts = np.array([int(word) for word in words])
    dims = (top + (tilings - 1) * shifts) // tilings + 1
    return {"scale": scale, "dims": dims, "tilings": tilings, "shifts": shifts}


def _cells(grid: dict[str, Any], most: int, name: str) -> int:
    count = grid["tilings"] * math.prod(int(d) for d in grid["dims"])
    if count > most:
        mend = "use fewer tiles, or onehot" if name == "iht" else "use iht, which numbers those that are seen"
        if len(grid["dims"]) > 10:
            mend = "use onehot, bits or identity"
        raise UsageError(f"--features {name} would have {_many(count)} cells: {mend}")
    return count


def _many(count: int) -> str:
    return f"{count:,}" if count < 10**15 else f"10^{math.floor(math.log10(count))}"


def tilings(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, displace: str = "") -> Coder:
    """Tile coding: a feature for each cell of each tiling, one of each tiling on."""
    grid = _grid(bounds, tilings, tiles, displace)
    count = _cells(grid, LARGEST, "tilings")
    return _coder(TABLE, count, tilings, bounds, cells=np.arange(count), **grid)


def iht(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, size: int = 4096, displace: str = "") -> Coder:
    """Tile coding whose cells are numbered as they are first seen, at most `size` of them."""
    grid = _grid(bounds, tilings, tiles, displace)
    _cells(grid, 2**62, "iht")
    if size < tilings:
        raise UsageError(
            f"--features iht with {tilings:,} tilings needs as many numbers for one state: "
            f"use fewer tilings, or size={1 << (tilings - 1).bit_length() + 3}"
        )
    slots = 1 << (2 * size - 1).bit_length()
    keys, numbers = np.full(slots, -1), np.zeros(slots, np.int64)
    return _coder(FIRST_COME, size, tilings, bounds, cells=keys, numbers=numbers, **grid)


def modulo(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, size: int = 1024, displace: str = "") -> Coder:
    """Tile coding whose cell numbers are taken modulo `size`: far cells share features, silently."""
    grid = _grid(bounds, tilings, tiles, displace)
    count = _cells(grid, LARGEST, "modulo")
    return _coder(TABLE, size, tilings, bounds, cells=np.arange(count) % size, **grid)


def hashed(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, size: int = 1024, displace: str = "") -> Coder:
    """Tile coding by Python's hash of a cell's coordinates, modulo `size`."""
    grid = _grid(bounds, tilings, tiles, displace)
    _cells(grid, LARGEST, "hashed")
    every = itertools.product(range(tilings), *(range(int(d)) for d in grid["dims"]))
    cells = np.array([hash(cell) % size for cell in every], np.int64)
    return _coder(TABLE, size, tilings, bounds, cells=cells, **grid)


def onehot(bounds: Bounds, *, tiles: int = 8, faithful: bool = False) -> Coder:
    """Additive: each dimension cut into tiles by itself, one feature of each on.

    `faithful` numbers them as a course did: the last tile of a dimension is also the first of the next.
    """
    scale = tiles / bounds.tiled
    top = np.floor((bounds.high - bounds.low) * scale).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(top + 1)]) if not faithful else np.arange(len(top) + 1) * tiles
    size = int(starts[-1]) if not faithful else int(starts[-2] + top[-1] + 1)
    return _coder(ADDITIVE, size, len(top), bounds, scale=scale, dims=top + 1, cells=starts[:-1])


def fourier(bounds: Bounds, *, order: int = 3, scaled: bool = False) -> Coder:
    """Fourier basis: cosines of all waves up to an order along each dimension.

    `scaled` divides a wave c by the root of its length |c|: then one step size does what alpha / |c| for each wave
    does (Konidaris, Osentoski and Thomas 2011), and true online methods stay exact. It is off, as in the book;
    `playfield lesson mountain-car-bases` has both.
    """
    powers = _powers(bounds, order)
    length = np.maximum(np.sqrt((powers**2).sum(axis=1)), 1.0)
    return _basis_coder(FOURIER, bounds, powers, length**-0.5 if scaled else np.ones(len(powers)))


def polynomial(bounds: Bounds, *, order: int = 3) -> Coder:
    """Products of powers up to an order of each dimension, scaled to [0, 1].

    They are much alike (x^2, x^3, ...), so that steps of any size learn slowly or diverge: see `legendre`.
    """
    powers = _powers(bounds, order)
    return _basis_coder(POLYNOMIAL, bounds, powers, np.ones(len(powers)))


def legendre(bounds: Bounds, *, order: int = 5) -> Coder:
    """Products of Legendre polynomials up to an order of each dimension, scaled to [-1, 1].

    The functions that they can sum to are those of `polynomial`, but over states spread evenly no two of them have
    anything in common, so that gradient steps learn.
    """
    powers = _powers(bounds, order)
    return _basis_coder(LEGENDRE, bounds, powers, np.ones(len(powers)))


def bits(bounds: Bounds) -> Coder:
    """Each bit of each byte, and one that is always on: for the RAM of Atari games."""
    size = 8 * len(bounds.low) + 1
    return _coder(BITS, size, size, bounds)


def identity(bounds: Bounds) -> Coder:
    """The observation's numbers as they are, and a 1."""
    size = len(bounds.low) + 1
    return _coder(IDENTITY, size, size, bounds)


def _basis_coder(kind: int, bounds: Bounds, powers: np.ndarray, gains: np.ndarray) -> Coder:
    size, scale = len(powers), 1 / (bounds.high - bounds.low)
    return _coder(kind, size, size, bounds, scale=scale, powers=powers, gains=gains)


def _powers(bounds: Bounds, order: int) -> np.ndarray:
    dims = len(bounds.low)
    if (order + 1) ** dims > MOST_ON:
        raise UsageError(
            f"order {order} of {dims} dimensions would be {_many((order + 1) ** dims)} features: lower it"
        )
    return np.array(list(itertools.product(range(order + 1), repeat=dims)), np.float64)


def squared_length(coder: Coder) -> float:
    """Squared length of feature vectors that step sizes go by: the mean over states spread evenly.

    Of polynomials it is the largest, since in the corners they are far longer than elsewhere. Where the bounds are
    not known (`identity`), numbers are taken to lie between 0 and 1.
    """
    if coder.kind == FOURIER:  # a wave's mean square is 1/2, a constant's 1
        return float((coder.gains**2 * np.where(coder.powers.any(axis=1), 0.5, 1.0)).sum())
    if coder.kind == BITS:
        return (coder.size - 1) / 2 + 1
    if coder.kind == IDENTITY:
        return (coder.size - 1) / 3 + 1
    return float(coder.active)


def fresh(coder: Coder) -> Coder:
    """A copy with tables of its own: a run that numbers cells must not see those of another."""
    if coder.kind != FIRST_COME:
        return coder  # nothing in it changes
    return coder._replace(cells=coder.cells.copy(), numbers=coder.numbers.copy(), told=coder.told.copy())


# Arrays of a coder are taken out of it once, at the top: compiled code would count references at every use.


@piece
def encode(c, x, index, value):
    """The features of state `x` [D], into `index` and `value` [K]; returns how many are on."""
    kind = c.kind
    if kind == TABLE:
        return _table(c, x, index, value)
    if kind == FIRST_COME:
        return _first_come(c, x, index, value)
    if kind == ADDITIVE:
        return _additive(c, x, index, value)
    if kind == BITS:
        return _bits(x, index, value)
    if kind == IDENTITY:
        return _identity(c.size, x, index, value)
    return _basis(c, x, index, value)


@piece
def _inside(x, low, high):
    return min(max(x, low), high)


@piece
def _additive(c, x, index, value):
    low, high, scale, first = c.low, c.high, c.scale, c.cells
    for d in range(len(low)):
        index[d] = first[d] + math.floor((_inside(x[d], low[d], high[d]) - low[d]) * scale[d])
        value[d] = 1.0
    return len(low)


@piece
def _identity(size, x, index, value):
    for i in range(size):
        index[i] = i
        value[i] = x[i] if i < len(x) else 1.0
    return size


@piece
def _bits(x, index, value):
    on = 0
    for d in range(len(x)):
        byte = int(x[d])
        for b in range(8):
            if (byte >> b) & 1:
                index[on] = 8 * d + b
                value[on] = 1.0
                on += 1
    index[on] = 8 * len(x)
    value[on] = 1.0
    return on + 1


@piece
def _legendre(n, x):
    """Legendre polynomial n at x, by Bonnet's recursion."""
    before, now = 0.0, 1.0
    for k in range(n):
        before, now = now, ((2 * k + 1) * x * now - k * before) / (k + 1)
    return now


@piece
def _basis(c, x, index, value):
    low, high, scale, powers, gains, kind = c.low, c.high, c.scale, c.powers, c.gains, c.kind
    for i in range(len(powers)):
        angle, product = 0.0, 1.0
        for d in range(len(low)):
            unit = (_inside(x[d], low[d], high[d]) - low[d]) * scale[d]
            if kind == FOURIER:
                angle += powers[i, d] * unit
            elif kind == LEGENDRE:
                product *= _legendre(int(powers[i, d]), 2 * unit - 1)
            else:
                product *= unit ** powers[i, d]
        index[i] = i
        value[i] = gains[i] * (math.cos(math.pi * angle) if kind == FOURIER else product)
    return len(powers)


@piece
def _table(c, x, index, value):
    cells, tilings = c.cells, c.tilings
    _tiles(c.low, c.high, c.scale, c.dims, c.shifts, tilings, x, index)
    for k in range(tilings):
        index[k] = cells[index[k]]
        value[k] = 1.0
    return tilings


@piece
def _first_come(c, x, index, value):
    keys, numbers, told, size, tilings = c.cells, c.numbers, c.told, c.size, c.tilings
    _tiles(c.low, c.high, c.scale, c.dims, c.shifts, tilings, x, index)
    for k in range(tilings):
        index[k] = _number(keys, numbers, told, size, index[k])
        value[k] = 1.0
    return tilings


@piece
def _tiles(low, high, scale, dims, shifts, tilings, x, index):
    """The flat number of the cell in each tiling, into `index`."""
    for k in range(tilings):
        index[k] = k
    for d in range(len(dims)):
        part = math.floor((_inside(x[d], low[d], high[d]) - low[d]) * scale[d])
        cell = part // tilings
        left = part - cell * tilings
        for k in range(tilings):  # cell is (part + k * shifts[d]) // tilings, without a division for each
            index[k] = index[k] * dims[d] + cell
            left += shifts[d]
            while left >= tilings:
                left -= tilings
                cell += 1


@piece
def _number(keys, numbers, told, size, cell):
    """The number of a cell: its own if it was seen before or there is one left, else one that it must share."""
    mixed = (cell % 2147483647) * 48271 % 2147483647  # never beyond 64 bits, so plain Python computes the same
    mask = len(keys) - 1
    slot = mixed & mask
    for _ in range(len(keys)):
        if keys[slot] == cell:
            return numbers[slot]
        if keys[slot] < 0:
            break
        slot = (slot + 1) & mask
    if told[0] < size:
        keys[slot] = cell
        numbers[slot] = told[0]
        told[0] += 1
        return numbers[slot]
    told[1] += 1
    return mixed % size
