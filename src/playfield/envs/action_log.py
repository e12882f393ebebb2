"""Action logs: snapshots of environments that cannot be copied exactly.

ALE's own snapshot is not exact (it forgets the previous action, which a sticky frame repeats; some games come back
wrong), and an arbitrary Gymnasium environment has none. But the same seed and the same actions give the same
episodes to the bit. So a snapshot is the past of each environment: the seed of its last explicit reset (the
*anchor*) and all actions executed since. `restore` resets with that seed and executes the actions again.

To keep logs short, an environment whose log is longer than `limit` when an episode ends starts the next episode from
a new anchor. The new seed is derived from the environment's first seed and the anchor's number, so the episodes of a
run depend on its seeds and actions alone, whether it was saved or not.

`AtariLog` and `GymnasiumLog` differ in the limit, in the derivation of seeds and in the layout of a snapshot. They
stay different because checkpoints hold them and runs must continue to the bit.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from typing import Any, Self

import numpy as np

from playfield.envs.base import MAX_SEED, EnvSpec
from playfield.envs.checks import like
from playfield.errors import DataError


class ActionLog:
    """Seeds, anchors and executed actions of N environments since their last explicit reset.

    Args:
        seeds: int64 [N], the seeds of the first reset.

    Attributes:
        limit: steps after which an environment gets a new anchor at the next end of an episode.
        first: int64 [N], the seeds of the first reset.
        anchors: int64 [N], number of anchors since then.
        seed: int64 [N], the seed of each environment's last explicit reset.
        actions: N lists of the actions executed since that reset.
    """

    limit: int

    def __init__(self, seeds: np.ndarray) -> None:
        self.first = np.array(seeds, np.int64)
        self.seed = self.first.copy()
        self.anchors = np.zeros(len(self.first), np.int64)
        self.actions: list[list[int]] = [[] for _ in self.seed]

    @staticmethod
    def anchor_seed(first: int, anchor: int) -> int:
        """The seed of explicit reset number `anchor` (from 1) of an environment whose first seed was `first`."""
        raise NotImplementedError

    @property
    def lengths(self) -> np.ndarray:
        """Actions in each log, int64 [N]."""
        return np.array([len(log) for log in self.actions], np.int64)

    def add(self, actions: np.ndarray) -> None:
        """Append one executed action of each environment, int64 [N]."""
        for log, action in zip(self.actions, actions.tolist(), strict=True):
            log.append(action)

    def next_seed(self, i: int) -> int | None:
        """How the next episode of environment `i` starts: from this seed of a new anchor, or as it is (None)."""
        if len(self.actions[i]) <= self.limit:
            return None
        self.anchors[i] += 1
        self.seed[i] = self.anchor_seed(int(self.first[i]), int(self.anchors[i]))
        self.actions[i] = []
        return int(self.seed[i])

    @classmethod
    def saved(
        cls, first: np.ndarray, seed: np.ndarray, anchors: np.ndarray, lengths: np.ndarray, actions: np.ndarray
    ) -> Self:
        """The log with these attributes (each [N]); `actions` of all environments stand one after another."""
        log = cls(first)
        log.seed, log.anchors = like("seeds", seed, log.first), like("anchors", anchors, log.first)
        if len(like("lengths", lengths, log.first)) and (np.min(lengths) < 0 or np.sum(lengths) != np.size(actions)):
            raise DataError("the snapshot's lengths are not those of its actions")
        log.actions = [chunk.tolist() for chunk in np.split(np.asarray(actions, np.int64), np.cumsum(lengths)[:-1])]
        return log

    def flat(self, dtype: type[np.integer[Any]]) -> np.ndarray:
        """The actions of all environments, one after another."""
        return np.array([a for log in self.actions for a in log], dtype)


class AtariLog(ActionLog):
    """The log of Atari games. Seeds are reduced modulo 2**31 - 1, as the emulator needs them."""

    limit = 1024

    def __init__(self, seeds: np.ndarray) -> None:
        super().__init__(np.asarray(seeds, np.int64) % MAX_SEED)

    @staticmethod
    def anchor_seed(first: int, anchor: int) -> int:
        return int(np.random.SeedSequence([first, anchor]).generate_state(1)[0]) % MAX_SEED

    def state(self, protocol: dict[str, Any], obs: np.ndarray) -> dict[str, Any]:
        """A snapshot; `protocol` and `obs` [N, ...] let `replay` check that it fits and that it was reached."""
        return {
            "protocol": dict(protocol),
            "first_seed": self.first.copy(),
            "seed": self.seed.copy(),
            "anchors": self.anchors.copy(),
            "length": self.lengths,
            "log": self.flat(np.uint8),
            "digest": checksums(obs),
        }

    @classmethod
    def load(cls, state: dict[str, Any], protocol: dict[str, Any], num_envs: int) -> AtariLog:
        """The log in `state`. DataError for games under another protocol or another number of environments."""
        settings = [
            {k: v for k, v in p.items() if k not in ("ale_py", "name")} for p in (state["protocol"], protocol)
        ]
        check_snapshot(settings[0] == settings[1], state["protocol"], len(state["length"]), protocol, num_envs)
        return cls.saved(state["first_seed"], state["seed"], state["anchors"], state["length"], state["log"])

    @classmethod
    def replay(
        cls, state: dict[str, Any], spec: EnvSpec, num_envs: int, execute: Callable[[AtariLog], np.ndarray]
    ) -> np.ndarray:
        """The `restore` of an Atari environment, whose caller it warns; returns the obs to act on next [N, ...].

        Args:
            state: of `AtariLog.state`.
            spec, num_envs: of the environment that goes back.
            execute: starts the games of a log, executes its actions, and returns the obs after them [N, ...].

        Raises:
            DataError: the state is of other games, another protocol or another number of environments; nothing was
                executed.

        Warns:
            RuntimeWarning: an environment did not reach the state it was saved in (another version of ale-py).
        """
        obs = execute(cls.load(state, spec.protocol, num_envs))
        wrong = np.flatnonzero(checksums(obs) != np.asarray(state["digest"])).tolist()
        saved, here = state["protocol"].get("ale_py"), spec.protocol["ale_py"]
        warn_not_reached(spec, wrong, f" (saved with ale-py {saved}, this is {here})", stacklevel=4)
        return obs


class GymnasiumLog(ActionLog):
    """The log of Gymnasium environments; their snapshot is laid out in `gym_env.py`."""

    limit = 2000

    @staticmethod
    def anchor_seed(first: int, anchor: int) -> int:
        return int(np.random.SeedSequence(first, spawn_key=(anchor,)).generate_state(1)[0] >> 1)


def checksums(obs: np.ndarray) -> np.ndarray:
    """A checksum of each environment's observation: [N, ...] -> int64 [N]."""
    return np.array([zlib.crc32(o.tobytes()) for o in obs], np.int64)


def check_snapshot(
    same: bool, saved: dict[str, Any], saved_envs: int, protocol: dict[str, Any], num_envs: int
) -> None:
    """Raise DataError unless the saved protocol is the `same` as this one and the number of environments is too."""
    if not same or saved_envs != num_envs:
        raise DataError(f"the snapshot holds {saved_envs} envs of {saved}, this is {num_envs} of {protocol}")


def warn_not_reached(spec: EnvSpec, envs: list[int], why: str, stacklevel: int) -> None:
    """Warn (RuntimeWarning) of the `envs` that did not reach their saved state after a replay; nothing if none."""
    if envs:
        warnings.warn(
            f"{spec.id}: env {', '.join(map(str, envs))} did not reach its saved state{why}, "
            "so this is not an exact continuation",
            RuntimeWarning,
            stacklevel=stacklevel,
        )
