"""The one contract between environments and learners.

A `VectorEnv` steps `num_envs` games at once. Whatever library runs the games, a learner sees the same record:

* `obs` is what to act on next. Where a game ended it is already the first observation of the next game.
* `next_obs` is the true successor of the action, also where a game ended.
* `terminated` means "do not bootstrap": the game is over, or a life was lost under a protocol that says so.
* `truncated` means "cut here, but bootstrap from `next_obs`": a time limit.
* `episodes` lists the games that ended in this step, with their raw, undiscounted score.

No reset step is ever visible, so every record is a transition that may be learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np


@dataclass(frozen=True, slots=True)
class Episode:
    """One game that ended: which env played it, its raw score, its length in steps."""

    env: int
    score: float
    length: int


@dataclass(slots=True)
class Step:
    """What `VectorEnv.step` returns. Arrays have a leading axis [N] and are valid until the next call."""

    obs: np.ndarray  # [N, ...]
    next_obs: np.ndarray  # [N, ...]; the same array as `obs` when no game ended
    reward: np.ndarray  # [N] float32, raw
    terminated: np.ndarray  # [N] bool
    truncated: np.ndarray  # [N] bool
    episodes: list[Episode] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class EnvSpec:
    """What a learner and a reader of scores must know about an environment.

    Attributes:
        id: canonical name (`breakout`, `CartPole-v1`, a Gymnasium id).
        kind: `atari`, `classic` or `gymnasium`.
        obs_shape: shape of one observation. Pixels are channels-last: (height, width, channels).
        obs_dtype: `uint8` for pixels and RAM, `float32` otherwise.
        num_actions: size of the discrete action set.
        action_names: one name for each action.
        protocol: the settings that a score depends on, JSON-able; printed beside every score.
    """

    id: str
    kind: str
    obs_shape: tuple[int, ...]
    obs_dtype: str
    num_actions: int
    action_names: tuple[str, ...]
    protocol: dict[str, Any]

    @property
    def pixels(self) -> bool:
        return self.obs_dtype == "uint8" and len(self.obs_shape) == 3

    @property
    def stack(self) -> int:
        """How many successive pictures one observation is made of; 1 for all that is not pixels."""
        return int(self.protocol.get("stack", 1)) if self.pixels else 1


@runtime_checkable
class VectorEnv(Protocol):
    """`num_envs` games stepped at once under one `EnvSpec`."""

    spec: EnvSpec
    num_envs: int

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start every env anew, env i from `seeds[i]` (int64 [N]); returns obs [N, ...]."""

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` (int64 [N]) and return the record."""

    def state(self) -> dict[str, Any]:
        """All that `restore` needs to go on exactly: a dict of NumPy arrays and JSON values."""

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Go back to `state`, in this or a fresh process; returns the obs to act on next [N, ...]."""

    def close(self) -> None: ...
