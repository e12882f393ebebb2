"""The range of observations that features divide into tiles or waves."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from playfield.errors import UsageError

MOST_WIDE, LEAST_WIDE = 1e6, 1e-6  # of the range of one number: the numbers of tiles stay exact


class Bounds(NamedTuple):
    """The range of observations: [D] arrays; `tiled` is the width that is cut into whole tiles (see `Problem`).

    `states` has the sizes of the spaces of named states whose one-hot vectors the observation is (see `EnvSpec`).
    """

    low: np.ndarray
    high: np.ndarray
    tiled: np.ndarray
    states: tuple[int, ...] = ()


def check_bounds(bounds: Bounds, whose: str = "observations") -> Bounds:
    """`bounds` that can be divided into tiles: of equal ones the only value is in the first.

    Raises UsageError for bounds that are not finite, reversed, or too wide or narrow for exact tiles. Tiles of other
    bounds would have numbers that compiled code must not see.
    """
    low, high, tiled = (np.asarray(side, np.float64) for side in bounds[:3])
    if not low.shape == high.shape == tiled.shape or low.ndim != 1 or not len(low):
        raise UsageError(f"{whose} need bounds of one shape, of one number at least")
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    for bad, what in (
        (~(np.isfinite(low) & np.isfinite(high) & np.isfinite(tiled)), "not finite"),
        (width < 0, "in reverse order"),
        (~((width < MOST_WIDE) & (tiled < MOST_WIDE)), f"more than {MOST_WIDE:,.0f} apart"),
        ((width > 0) & ((width < LEAST_WIDE) | (tiled < LEAST_WIDE)), f"less than {LEAST_WIDE:g} apart"),
    ):
        if bad.any():
            d = int(np.flatnonzero(bad)[0])
            raise UsageError(
                f"{whose} have bounds that cannot be divided into tiles: those of number {d} are {what} "
                f"({low[d]:g} and {high[d]:g}): use --features identity, or declare others"
            )
    return bounds._replace(low=low, high=high, tiled=np.where(width > 0, tiled, 1.0))


def readable(count: int) -> str:
    """A count of features for people: exact, or its power of ten."""
    return f"{count:,}" if count < 10**15 else f"10^{math.floor(math.log10(count))}"
