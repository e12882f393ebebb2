"""The past of Atari games, short enough to be played again.

The emulator's own snapshot is not exact (it forgets the previous action that a sticky frame repeats; some games
come back wrong), but the same seed and the same actions give the same game to the bit. So a snapshot is a past:
for each env the seed of its last explicit reset (the *anchor*) and all actions since. A game that ends with a long
log starts the next one from a new anchor, whose seed comes from the env's first seed and the anchor's number: the
games of a run depend on its seeds and actions alone, saved or not.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import DataError, EnvError

ANCHOR_STEPS = 1024  # a game that ends with a longer log is followed by an explicitly seeded reset

MAX_SEED = 2**31 - 1  # the emulator's seeds are 32-bit integers; negative ones mean the clock


class ActionLog:
    """Seeds, anchors and executed actions of N envs.

    Attributes:
        seed: int64 [N], the seed of each env's last explicit reset.
    """

    def __init__(self, seeds: np.ndarray) -> None:
        self._first = np.asarray(seeds, np.int64) % MAX_SEED
        self.seed = self._first.copy()
        self._anchors = np.zeros(len(self.seed), np.int64)
        self.actions: list[list[int]] = [[] for _ in self.seed]

    def add(self, actions: np.ndarray) -> None:
        """Append one executed action of each env, int64 [N]."""
        for log, action in zip(self.actions, actions.tolist(), strict=True):
            log.append(action)

    def long(self, i: int) -> bool:
        """Is it time for a new anchor when the game of env `i` ends?"""
        return len(self.actions[i]) > ANCHOR_STEPS

    def anchor(self, i: int) -> int:
        """Forget the log of env `i`; returns the seed that its next game must be started from."""
        self._anchors[i] += 1
        sequence = np.random.SeedSequence([int(self._first[i]), int(self._anchors[i])])
        self.seed[i] = int(sequence.generate_state(1)[0]) % MAX_SEED
        self.actions[i] = []
        return int(self.seed[i])

    def state(self, protocol: dict[str, Any], obs: np.ndarray) -> dict[str, Any]:
        """A snapshot; `protocol` and `obs` [N, ...] let `restore` see that it fits and that it came true."""
        return {
            "protocol": dict(protocol),
            "first_seed": self._first.copy(),
            "seed": self.seed.copy(),
            "anchors": self._anchors.copy(),
            "length": np.array([len(log) for log in self.actions], np.int64),
            "log": np.array([a for log in self.actions for a in log], np.uint8),
            "digest": digests(obs),
        }

    @classmethod
    def load(cls, state: dict[str, Any], protocol: dict[str, Any], num_envs: int) -> ActionLog:
        """The log in `state`. DataError if it is of other games than `protocol` or of another number of envs."""
        rules = [{k: v for k, v in p.items() if k not in ("ale_py", "name")} for p in (state["protocol"], protocol)]
        if rules[0] != rules[1] or len(state["length"]) != num_envs:
            raise DataError(
                f"the snapshot holds {len(state['length'])} envs of {state['protocol']}, "
                f"this is {num_envs} of {protocol}"
            )
        log = cls(np.array(state["first_seed"], np.int64))
        log.seed = np.array(state["seed"], np.int64)
        log._anchors = np.array(state["anchors"], np.int64)
        ends = np.cumsum(state["length"])[:-1]
        log.actions = [chunk.tolist() for chunk in np.split(np.asarray(state["log"], np.int64), ends)]
        return log


def digests(obs: np.ndarray) -> np.ndarray:
    """A checksum of each env's observation: [N, ...] -> int64 [N]."""
    return np.array([zlib.crc32(o.tobytes()) for o in obs], np.int64)


def started(log: ActionLog | None) -> ActionLog:
    """`log`, or EnvError where there is none yet."""
    if log is None:
        raise EnvError("no game has been started: call reset(seeds) first")
    return log


def restore(
    state: dict[str, Any], spec: EnvSpec, num_envs: int, replay: Callable[[ActionLog], np.ndarray]
) -> np.ndarray:
    """Go back to `state` by playing its actions again: the `restore` of an environment, whose caller it warns.

    Args:
        state: of `ActionLog.state`.
        spec, num_envs: of the environment that goes back.
        replay: starts the games of a log, executes its actions, and returns the obs that they lead to [N, ...].

    Raises:
        DataError: the state is of other games, another protocol or another number of envs; nothing was replayed.

    Warns:
        RuntimeWarning: an env did not come back to where it was (another version of ale-py).
    """
    obs = replay(ActionLog.load(state, spec.protocol, num_envs))
    strayed = np.flatnonzero(digests(obs) != np.asarray(state["digest"]))
    if len(strayed):
        warnings.warn(
            f"{spec.id}: env {', '.join(map(str, strayed))} did not come back to where it was saved with ale-py "
            f"{state['protocol'].get('ale_py')} (this is {spec.protocol['ale_py']}), "
            "so this is not an exact continuation",
            RuntimeWarning,
            stacklevel=3,
        )
    return obs
