"""Checks of what goes into an environment (seeds, actions) and of what comes out (observations, rewards).

A NaN that enters a replay buffer or a rollout ends up in every weight, with nothing to tell where it came from, so
numbers are checked where they arise. All checks cost a few microseconds when nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from playfield.errors import DataError, DivergedError, EnvError, UsageError


def like(name: str, saved: Any, here: np.ndarray) -> np.ndarray:
    """A copy of the array `saved` in a checkpoint. Raises DataError unless its shape and type are those of `here`."""
    found = np.array(saved)
    if found.shape != here.shape or found.dtype != here.dtype:
        expected = f"{here.dtype} {list(here.shape)}"
        raise DataError(f"the saved {name} is {found.dtype} {list(found.shape)}, expected {expected}")
    return found


def check_finite(
    obs: np.ndarray,
    reward: np.ndarray | None = None,
    actions: np.ndarray | None = None,
    step: int = 0,
    envs: Sequence[int] | np.ndarray | None = None,
) -> None:
    """Raise `DivergedError` where an observation or reward is NaN or infinite.

    Args:
        obs: [N, ...]; integer observations (pixels, RAM) are always finite and are not looked at.
        reward: [N], or None at a reset.
        actions: int64 [N], the actions of this step, or None at a reset.
        step: number of the vector env's step, for the message.
        envs: the env index of each row [N]; None when row i is env i.

    Raises:
        DivergedError: naming the first bad env, the step, its action and the value.
    """
    if reward is not None and not np.isfinite(reward).all():
        row = int(np.flatnonzero(~np.isfinite(reward))[0])
        raise _diverged("reward", reward[row], row, actions, step, envs)
    if np.issubdtype(obs.dtype, np.inexact) and not np.isfinite(obs).all():
        first = np.argwhere(~np.isfinite(obs))[0]
        row, place = int(first[0]), [int(i) for i in first[1:]]
        name = f"observation{place}" if place else "observation"
        raise _diverged(name, obs[tuple(first)], row, actions, step, envs)


def _diverged(
    name: str,
    value: np.generic,
    row: int,
    actions: np.ndarray | None,
    step: int,
    envs: Sequence[int] | np.ndarray | None,
) -> DivergedError:
    env = row if envs is None else int(envs[row])
    after = "at its reset" if actions is None else f"after action {int(actions[row])}"
    return DivergedError(f"env {env} gave {name} = {value} at step {step} {after}: it must be finite")


def check_actions(actions: np.ndarray, num_envs: int, num_actions: int, first: int = 0) -> np.ndarray:
    """`actions` as int64 [num_envs]; `first` is the environment's own number of action 0.

    Raises:
        EnvError: the shape is not [num_envs], the numbers are not whole, or one is not in 0..num_actions-1.
    """
    given = np.asarray(actions)
    if given.shape != (num_envs,) or not np.issubdtype(given.dtype, np.integer):
        raise EnvError(
            f"step needs one whole number per env, an integer array of shape ({num_envs},), "
            f"not {given.dtype} of shape {given.shape}"
        )
    if given.min() < 0 or given.max() >= num_actions:
        env = int(np.flatnonzero((given < 0) | (given >= num_actions))[0])
        own = f": step counts from 0, where the environment's own numbers begin at {first}" if first else ""
        raise EnvError(f"action {given[env]} for env {env} is not in 0..{num_actions - 1}{own}")
    return given.astype(np.int64, copy=False)


def check_seeds(seeds: np.ndarray, num_envs: int) -> list[int]:
    """The seeds as Python ints.

    Raises:
        UsageError: the shape is not [num_envs], or a seed is negative or not whole.
    """
    given = np.asarray(seeds)
    if given.shape != (num_envs,) or not np.issubdtype(given.dtype, np.integer):
        raise UsageError(f"reset needs one whole seed per env, shape ({num_envs},), not {given.shape}")
    if (given < 0).any():
        env = int(np.flatnonzero(given < 0)[0])
        raise UsageError(f"seeds must not be negative: env {env} got {given[env]}")
    return [int(s) for s in given]


def not_reset() -> EnvError:
    """The error of an environment that is used before its first `reset`."""
    return EnvError("no episode has been started: call reset(seeds) first")


def check_num_envs(num_envs: int) -> int:
    """`num_envs`, or UsageError when it is not a positive whole number."""
    if isinstance(num_envs, bool) or not isinstance(num_envs, (int, np.integer)) or num_envs < 1:
        raise UsageError(f"the number of envs must be a whole number of at least 1, not {num_envs!r}")
    return int(num_envs)
