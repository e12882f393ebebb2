"""A saved replay buffer, checked before it is used: its numbers become indices."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from playfield.envs.checks import like
from playfield.errors import DataError


def take(state: Mapping[str, Any], arrays: Mapping[str, np.ndarray], num_actions: int) -> None:
    """Copy the arrays of a saved buffer, except priorities, into those of the same names.

    Raises DataError for other shapes or types, and for what no buffer holds.
    """
    found = {name: like(name, state[name], array) for name, array in arrays.items()}
    count, actions = found["count"], found["actions"]
    if (count < 0).any() or (count > 2**61).any() or (actions >= num_actions).any() or (actions < 0).any():
        raise DataError("the saved replay buffer has actions or counts out of range")
    if not np.isfinite(found["rewards"]).all():
        raise DataError("the saved replay buffer has rewards that are not finite")
    for name, array in arrays.items():
        array[:] = found[name]


def priorities(state: Mapping[str, Any], here: np.ndarray) -> np.ndarray:
    """The saved priorities, of the shape of those `here`. Raises DataError where they are none."""
    found = like("priorities", state["priorities"], here)
    if not (np.isfinite(found).all() and (found >= 0).all() and math.isfinite(state["top"])):
        raise DataError("the saved replay buffer has priorities that are not finite, or negative")
    return found
