"""How many games have started from states that are no longer kept (see `endgames`).

A state is what a seed and actions led to. It may come again after it was dropped: as a later loss of the game that
left it, or from games that start earlier in the same game and go on alike, as those of an agent that always does the
same. Nothing else leads there, as every game has a seed of its own: a use is forgotten once no game can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from playfield.envs.checks import like
from playfield.envs.failures import REMEMBERED, TIMES
from playfield.errors import DataError

Key = tuple[int, int, int]  # seed, number of actions, their digest
COLUMNS = ("seed", "length", "digest", "used")


def key(seed: int, actions: bytes) -> Key:
    """The name of a state: of one size, however long its actions are."""
    digest = hashlib.blake2b(actions, digest_size=8).digest()
    return seed, len(actions), int.from_bytes(digest, "little", signed=True)


class Uses:
    """Uses of states that were dropped; at most `REMEMBERED` when another is asked for, see `full`."""

    def __init__(self) -> None:
        self._used: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._used)

    def clear(self) -> None:
        """Forget all."""
        self._used.clear()

    def add(self, seed: int, actions: bytes, used: int) -> None:
        """A state was dropped after so many games."""
        if used:
            self._used[key(seed, actions)] = used

    def of(self, seed: int, actions: bytes) -> int:
        """Games that have started from this state."""
        return self._used.get(key(seed, actions), 0)

    def take(self, seed: int, actions: bytes) -> int:
        """The same, for a state that is kept again."""
        return self._used.pop(key(seed, actions), 0)

    def forget(self, reached: Mapping[int, int]) -> None:
        """Forget states that cannot come again.

        Args:
            reached: for each seed that games still go on with, the fewest actions of a state that they can leave.
        """
        self._used = {k: n for k, n in self._used.items() if k[0] in reached and k[1] >= reached[k[0]]}

    @property
    def full(self) -> bool:
        """Whether there is no place for another state's uses."""
        return len(self._used) >= REMEMBERED

    def state(self) -> dict[str, Any]:
        """A snapshot: four arrays."""
        rows = np.array([(*k, n) for k, n in self._used.items()], np.int64).reshape(-1, len(COLUMNS))
        return {name: rows[:, i].copy() for i, name in enumerate(COLUMNS)}

    def restore(self, state: Mapping[str, Any] | None) -> None:
        """Go on from a snapshot; None: of a version that remembered nothing. Raises DataError for what cannot be."""
        state = {name: np.zeros(0, np.int64) for name in COLUMNS} if state is None else state
        count = len(state["used"])
        columns = [like(name, state[name], np.zeros(count, np.int64)).tolist() for name in COLUMNS]
        if any(not 0 < used <= TIMES for used in columns[-1]):
            raise DataError("the snapshot has more uses of a state than there are")
        self._used = {(seed, length, digest): used for seed, length, digest, used in zip(*columns, strict=True)}
