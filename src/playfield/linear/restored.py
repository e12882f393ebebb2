"""Arrays of a checkpoint, checked before compiled loops use them as indices: those loops check nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from playfield.envs.checks import like
from playfield.errors import DataError

SIGNED = ("actions", "last")  # -1 stands for no action yet


def check(name: str, saved: Any, here: np.ndarray, most: Mapping[str, int]) -> np.ndarray:
    """The saved array, of the shape and type of the one `here`.

    Args:
        name: of the array.
        here: what it is to replace.
        most: the largest whole number that may stand in it, by name.

    Raises DataError for another shape or type, or a number out of range.
    """
    found = like(name, saved, here)
    if found.dtype.kind == "i" and found.size:
        low, high = -1 if name in SIGNED else 0, most.get(name, 2**62)
        if int(found.min()) < low or int(found.max()) > high:
            raise DataError(f"the saved {name} has numbers from {found.min()} to {found.max()}, not {low} to {high}")
    return found


def ranges(actions: int, size: int, active: int, arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """`most` of `check` for a method's arrays: of `actions` actions and `size` features, `active` of them at most."""
    return {
        "indices": size - 1,
        "active": active,
        "last": max(actions - 1, active),
        "actions": actions,
        "length": len(arrays["nonzero"]) if "nonzero" in arrays else 0,
        "critic_length": len(arrays["critic_nonzero"]) if "critic_nonzero" in arrays else 0,
        "nonzero": len(arrays.get("nonzero", ())) - 1,
        "critic_nonzero": len(arrays.get("critic_nonzero", ())) - 1,
    }
