"""Random play on Atari games, written down so that two games can be compared to the bit."""

from __future__ import annotations

import hashlib

import numpy as np

from playfield.envs.base import Step, VectorEnv


def seeds(n: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + n, dtype=np.int64)


def play(env: VectorEnv, steps: int, key: int = 0) -> list[Step]:
    """Random play; env i draws its own actions from (key, i), so that they do not depend on the number of envs."""
    draws = [np.random.default_rng([key, i]).integers(env.spec.num_actions, size=steps) for i in range(env.num_envs)]
    return [copied(env.step(np.array(actions))) for actions in np.stack(draws, 1)] if steps else []


def copied(s: Step) -> Step:
    next_obs = s.next_obs.copy()
    obs = next_obs if s.obs is s.next_obs else s.obs.copy()
    return Step(obs, next_obs, s.reward.copy(), s.terminated.copy(), s.truncated.copy(), list(s.episodes))


def digest(records: list[Step]) -> str:
    h = hashlib.sha256()
    for s in records:
        for a in (s.obs, s.next_obs, s.reward, s.terminated, s.truncated):
            h.update(np.ascontiguousarray(a).tobytes())
        h.update(repr(s.episodes).encode())
    return h.hexdigest()
