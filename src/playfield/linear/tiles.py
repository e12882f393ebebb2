"""Compiled kernels of the coders in `features`: tiles, their numbers in a hash table, and Legendre polynomials."""

from __future__ import annotations

import math

from playfield.linear.jit import Floats, Ints, kernel


@kernel
def clip(x: float, low: float, high: float) -> float:
    """`x` between its bounds; NaN is `low`, so that no number of a tile is outside of its table."""
    if x >= high:
        return high
    return x if x > low else low


@kernel
def tiles_of(
    low: Floats, high: Floats, scale: Floats, dims: Ints, shifts: Ints, tilings: int, x: Floats, index: Ints
) -> None:
    """The flat number of the tile in each tiling, into `index`."""
    for k in range(tilings):
        index[k] = k
    for d in range(len(dims)):
        part = math.floor((clip(x[d], low[d], high[d]) - low[d]) * scale[d])
        cell = part // tilings
        left = part - cell * tilings
        for k in range(tilings):  # cell is (part + k * shifts[d]) // tilings, without a division for each
            index[k] = index[k] * dims[d] + cell
            left += shifts[d]
            while left >= tilings:
                left -= tilings
                cell += 1


@kernel
def number_of(keys: Ints, numbers: Ints, counts: Ints, size: int, tile: int) -> int:
    """The index of a tile: its own if it was visited before or one is free, else one that it must share."""
    mixed = (tile % 2147483647) * 48271 % 2147483647  # never beyond 64 bits, so plain Python computes the same
    mask = len(keys) - 1
    slot = mixed & mask
    for _ in range(len(keys)):
        if keys[slot] == tile:
            return int(numbers[slot])
        if keys[slot] < 0:
            break
        slot = (slot + 1) & mask
    if counts[0] < size:
        keys[slot] = tile
        numbers[slot] = counts[0]
        counts[0] += 1
        return int(numbers[slot])
    counts[1] += 1
    return mixed % size


@kernel
def legendre_at(n: int, x: float) -> float:
    """Legendre polynomial n at x, by Bonnet's recursion."""
    before, now = 0.0, 1.0
    for k in range(n):
        before, now = now, ((2 * k + 1) * x * now - k * before) / (k + 1)
    return now
