"""Features of linear methods: coders by name, each from an observation to the indices and values of its features.

Each public function here that takes bounds and returns a `Coder` is a value of `--features`, and its keyword-only
arguments are its options: `--features tilings:tilings=16,tiles=8`. A coder that needs no bounds ignores them.
`encode` is compiled: from one observation to the active features.

Tilings are those of Sutton and Barto (2018, section 9.5.4): tiling k of n is displaced by k/n of a tile times
(1, 3, 5, ...) along the dimensions, or times other numbers, as in `displace=1-1`. `iht` is Sutton's index hash table:
tiles get indices in the order in which they are first visited; when the table is full, further tiles share indices by
hashing, and these collisions are counted. `modulo` and `hashed` are what a course uses instead, for comparison.
Fourier: Konidaris, Osentoski and Thomas 2011.
"""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np

from playfield.errors import UsageError
from playfield.linear.bounds import Bounds, check_bounds, readable
from playfield.linear.jit import Floats, Ints, kernel
from playfield.linear.tiles import clip, legendre_at, number_of, tiles_of

TABLE, FIRST_COME, ADDITIVE, FOURIER, POLYNOMIAL, LEGENDRE, BITS, IDENTITY, STATES = range(9)
MAX_FEATURES = 2**22  # or tiles of a table
MAX_ACTIVE = 2**16  # features active at once: each takes time at every step


class Coder(NamedTuple):
    """A coder, as compiled code takes it. An observation is [D]; F features, K of them active at most.

    Attributes:
        kind: one of the codes above.
        size, active: F, K.
        low, high, scale: [D] bounds, and the factor from a number above `low` to tiles (or to [0, 1]).
        dims: [D] tiles of a tiling along each dimension; for named states the number of each space's.
        tilings: how many.
        shifts: [D] displacement vector.
        cells: [tiles] feature of each tile; of `iht`: [slots] keys of the hash table, -1 where free.
        numbers: [slots] of `iht`: the index of each key.
        counts: [2] of `iht`: indices in use, and collisions (lookups of a tile that shares its index).
        powers: [F, D] of Fourier, polynomial and Legendre bases.
        gains: [F] factors of these features.
    """

    kind: int
    size: int
    active: int
    low: Floats
    high: Floats
    scale: Floats
    dims: Ints
    tilings: int
    shifts: Ints
    cells: Ints
    numbers: Ints
    counts: Ints
    powers: Floats
    gains: Floats


def _coder(kind: int, size: int, active: int, bounds: Bounds | None = None, **own: Any) -> Coder:
    if size > MAX_FEATURES:
        raise UsageError(f"--features would be {size:,} features, at most {MAX_FEATURES:,}: use fewer tiles, or iht")
    none, ints = np.zeros(0), np.zeros(0, np.int64)
    parts: dict[str, Any] = {
        "scale": none,
        "dims": ints,
        "tilings": 1,
        "shifts": ints,
        "cells": ints,
        "numbers": ints,
    }
    parts |= {"counts": np.zeros(2, np.int64), "powers": np.zeros((0, 0)), "gains": none} | own
    low, high = (bounds.low, bounds.high) if bounds else (none, none)
    return Coder(kind, size, active, low.astype(np.float64), high.astype(np.float64), **parts)


def _grid(bounds: Bounds, tilings: int, tiles: int, displace: str) -> dict[str, Any]:
    if tilings > MAX_ACTIVE:
        raise UsageError(f"{tilings:,} tilings are too many: use fewer, at most {MAX_ACTIVE:,}")
    bounds = check_bounds(bounds)
    scale = tilings * tiles / bounds.tiled
    top = np.floor((bounds.high - bounds.low) * scale).astype(np.int64)
    shifts = 1 + 2 * np.arange(len(top))
    if displace:
        words = displace.split("-")
        if len(words) != len(top) or not all(word.isascii() and word.isdecimal() and len(word) < 4 for word in words):
            example = "-".join(map(str, shifts))
            raise UsageError(f"displace of --features takes {len(top)} numbers, as in {example}, not {displace!r}")
        shifts = np.array([int(word) for word in words])
    dims = (top + (tilings - 1) * shifts) // tilings + 1
    return {"scale": scale, "dims": dims, "tilings": tilings, "shifts": shifts}


def _tile_count(grid: dict[str, Any], most: int, name: str) -> int:
    """Tiles of all tilings. Raises UsageError for more than `most`."""
    count = int(grid["tilings"]) * math.prod(int(d) for d in grid["dims"])
    if count > most:
        hint = "use fewer tiles, or onehot" if name == "iht" else "use iht, which stores only the tiles visited"
        if len(grid["dims"]) > 10:
            hint = "use onehot, bits or identity"
        raise UsageError(f"--features {name} would have {readable(count)} tiles: {hint}")
    return count


def tilings(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, displace: str = "") -> Coder:
    """Tile coding: a feature for each tile of each tiling; one of each tiling is active."""
    grid = _grid(bounds, tilings, tiles, displace)
    count = _tile_count(grid, MAX_FEATURES, "tilings")
    return _coder(TABLE, count, tilings, bounds, cells=np.arange(count), **grid)


def grid(bounds: Bounds, *, cells: int = 20) -> Coder:
    """A table for numbers within bounds: as many equal cells along each dimension, a feature for each of all cells.

    As one tiling, but the cells end at the bounds: nothing that is learnt in one cell is known in the next.
    """
    bounds = check_bounds(bounds)
    width = bounds.high - bounds.low
    dims = np.where(width > 0, cells, 1).astype(np.int64)
    count = math.prod(int(d) for d in dims)
    if count > MAX_FEATURES:
        raise UsageError(f"--features grid would have {readable(count)} cells: use fewer, or tilings")
    scale = dims / np.where(width > 0, width, 1.0)
    inside = bounds._replace(high=bounds.high - 0.5 / scale)  # the middle of the last cell, which the bound is in
    shifts = np.zeros(len(dims), np.int64)
    return _coder(TABLE, count, 1, inside, scale=scale, dims=dims, shifts=shifts, cells=np.arange(count))


def iht(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, size: int = 4096, displace: str = "") -> Coder:
    """Tile coding with an index hash table: tiles get indices when first visited, at most `size` of them."""
    grid = _grid(bounds, tilings, tiles, displace)
    _tile_count(grid, 2**62, "iht")
    if size < tilings:
        raise UsageError(
            f"--features iht with {tilings:,} tilings needs as many indices for one state: "
            f"use fewer tilings, or size={1 << (tilings - 1).bit_length() + 3}"
        )
    slots = 1 << (2 * size - 1).bit_length()
    keys, numbers = np.full(slots, -1), np.zeros(slots, np.int64)
    return _coder(FIRST_COME, size, tilings, bounds, cells=keys, numbers=numbers, **grid)


def modulo(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, size: int = 1024, displace: str = "") -> Coder:
    """Tile coding with tile numbers modulo `size`: distant tiles share features, uncounted."""
    grid = _grid(bounds, tilings, tiles, displace)
    count = _tile_count(grid, MAX_FEATURES, "modulo")
    return _coder(TABLE, size, tilings, bounds, cells=np.arange(count) % size, **grid)


def hashed(bounds: Bounds, *, tilings: int = 8, tiles: int = 8, size: int = 1024, displace: str = "") -> Coder:
    """Tile coding by Python's hash of a tile's coordinates, modulo `size`."""
    grid = _grid(bounds, tilings, tiles, displace)
    _tile_count(grid, MAX_FEATURES, "hashed")
    every = itertools.product(range(tilings), *(range(int(d)) for d in grid["dims"]))
    cells = np.array([hash(cell) % size for cell in every], np.int64)
    return _coder(TABLE, size, tilings, bounds, cells=cells, **grid)


def onehot(bounds: Bounds, *, tiles: int = 8, faithful: bool = False) -> Coder:
    """Each dimension tiled by itself, one feature of each active: the value is a sum of functions of one dimension.

    `faithful` numbers them as a course did: the last tile of a dimension is also the first of the next.
    """
    bounds = check_bounds(bounds)
    scale = tiles / bounds.tiled
    top = np.floor((bounds.high - bounds.low) * scale).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(top + 1)]) if not faithful else np.arange(len(top) + 1) * tiles
    size = int(starts[-1]) if not faithful else int(starts[-2] + top[-1] + 1)
    return _coder(ADDITIVE, size, len(top), bounds, scale=scale, dims=top + 1, cells=starts[:-1])


def fourier(bounds: Bounds, *, order: int = 3, scaled: bool = False) -> Coder:
    """Fourier basis: cosines of all frequency vectors up to an order along each dimension.

    `scaled` divides the feature of frequency vector c by sqrt(|c|): one step size then has the effect of alpha / |c|
    for each feature (Konidaris, Osentoski and Thomas 2011), and true online methods stay exact. Off by default, as in
    the book; `playfield lesson mountain-car-bases` compares both.
    """
    powers = _powers(bounds, order)
    length = np.maximum(np.sqrt((powers**2).sum(axis=1)), 1.0)
    return _basis_coder(FOURIER, bounds, powers, length**-0.5 if scaled else np.ones(len(powers)))


def polynomial(bounds: Bounds, *, order: int = 3) -> Coder:
    """Products of powers up to an order of each dimension, scaled to [0, 1].

    They are strongly correlated (x^2, x^3, ...), so gradient steps learn slowly or diverge: see `legendre`.
    """
    powers = _powers(bounds, order)
    return _basis_coder(POLYNOMIAL, bounds, powers, np.ones(len(powers)))


def legendre(bounds: Bounds, *, order: int = 5) -> Coder:
    """Products of Legendre polynomials up to an order of each dimension, scaled to [-1, 1].

    They span the same functions as `polynomial`, but are orthogonal over uniformly distributed states, so that
    gradient steps learn.
    """
    powers = _powers(bounds, order)
    return _basis_coder(LEGENDRE, bounds, powers, np.ones(len(powers)))


def bits(bounds: Bounds) -> Coder:
    """Each bit of each byte, and a constant 1: for the RAM of Atari games."""
    size = 8 * len(bounds.low) + 1
    return _coder(BITS, size, size, bounds)


def identity(bounds: Bounds) -> Coder:
    """The observation's numbers as they are, and a constant 1; of named states only their one-hot vectors."""
    size = len(bounds.low) + (not bounds.states)
    return _coder(IDENTITY, size, size, bounds, dims=np.array(bounds.states, np.int64))


def table(bounds: Bounds) -> Coder:
    """One feature for each state, of `Discrete` observations and products of them: a table of values."""
    if not bounds.states:
        raise UsageError("--features table takes named states, which are Discrete observations: use grid or tilings")
    count = math.prod(bounds.states)
    if count > MAX_FEATURES:
        raise UsageError(f"--features table would have {readable(count)} states: use identity")
    return _coder(STATES, count, 1, bounds, dims=np.array(bounds.states, np.int64))


def _basis_coder(kind: int, bounds: Bounds, powers: np.ndarray, gains: np.ndarray) -> Coder:
    bounds = check_bounds(bounds)
    width = bounds.high - bounds.low
    size, scale = len(powers), 1 / np.where(width > 0, width, 1.0)
    return _coder(kind, size, size, bounds, scale=scale, powers=powers, gains=gains)


def _powers(bounds: Bounds, order: int) -> np.ndarray:
    dims = len(bounds.low)
    if (order + 1) ** dims > MAX_ACTIVE:
        raise UsageError(
            f"order {order} in {dims} dimensions would be {readable((order + 1) ** dims)} features: lower it"
        )
    return np.array(list(itertools.product(range(order + 1), repeat=dims)), np.float64)


def fresh(coder: Coder) -> Coder:
    """A copy with its own hash table, for another run; other coders do not change and are shared."""
    if coder.kind != FIRST_COME:
        return coder
    return coder._replace(cells=coder.cells.copy(), numbers=coder.numbers.copy(), counts=coder.counts.copy())


# Arrays are taken out of the coder once, at the top: compiled code would count references at every use.


@kernel
def encode(c: Coder, x: Floats, index: Ints, value: Floats) -> int:
    """The active features of observation `x` [D], into `index` and `value` [K]; returns how many they are."""
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
    if kind == STATES:
        return _state(c.dims, x, index, value)
    return _basis(c, x, index, value)


@kernel
def _additive(c: Coder, x: Floats, index: Ints, value: Floats) -> int:
    low, high, scale, first = c.low, c.high, c.scale, c.cells
    for d in range(len(low)):
        index[d] = first[d] + math.floor((clip(x[d], low[d], high[d]) - low[d]) * scale[d])
        value[d] = 1.0
    return len(low)


@kernel
def _identity(size: int, x: Floats, index: Ints, value: Floats) -> int:
    for i in range(size):
        index[i] = i
        value[i] = x[i] if i < len(x) else 1.0
    return size


@kernel
def _state(sizes: Ints, x: Floats, index: Ints, value: Floats) -> int:
    number, start = 0, 0
    for size in sizes:
        place = 0
        for i in range(size):
            if x[start + i] > 0.5:
                place = i
                break
        number = number * size + place
        start += size
    index[0] = number
    value[0] = 1.0
    return 1


@kernel
def _bits(x: Floats, index: Ints, value: Floats) -> int:
    active = 0
    for d in range(len(x)):
        byte = int(x[d])
        for b in range(8):
            if (byte >> b) & 1:
                index[active] = 8 * d + b
                value[active] = 1.0
                active += 1
    index[active] = 8 * len(x)
    value[active] = 1.0
    return active + 1


@kernel
def _basis(c: Coder, x: Floats, index: Ints, value: Floats) -> int:
    low, high, scale, powers, gains, kind = c.low, c.high, c.scale, c.powers, c.gains, c.kind
    for i in range(len(powers)):
        angle, product = 0.0, 1.0
        for d in range(len(low)):
            unit = (clip(x[d], low[d], high[d]) - low[d]) * scale[d]
            if kind == FOURIER:
                angle += powers[i, d] * unit
            elif kind == LEGENDRE:
                product *= legendre_at(int(powers[i, d]), 2 * unit - 1)
            else:
                product *= unit ** powers[i, d]
        index[i] = i
        value[i] = gains[i] * (math.cos(math.pi * angle) if kind == FOURIER else product)
    return len(powers)


@kernel
def _table(c: Coder, x: Floats, index: Ints, value: Floats) -> int:
    cells, tilings = c.cells, c.tilings
    tiles_of(c.low, c.high, c.scale, c.dims, c.shifts, tilings, x, index)
    for k in range(tilings):
        index[k] = cells[index[k]]
        value[k] = 1.0
    return tilings


@kernel
def _first_come(c: Coder, x: Floats, index: Ints, value: Floats) -> int:
    keys, numbers, counts, size, tilings = c.cells, c.numbers, c.counts, c.size, c.tilings
    tiles_of(c.low, c.high, c.scale, c.dims, c.shifts, tilings, x, index)
    for k in range(tilings):
        index[k] = number_of(keys, numbers, counts, size, index[k])
        value[k] = 1.0
    return tilings
