"""One Gymnasium env: what it returns is checked against Gymnasium's rules, and what it raises is named."""

from __future__ import annotations

import hashlib
import numbers
from typing import Any

import gymnasium
import numpy as np

from playfield.envs import hang
from playfield.envs.codec import Codec
from playfield.envs.traces import defined, told
from playfield.envs.user_code import PASSED, RAISED
from playfield.errors import EnvError, PlayfieldError

STEP_API = (
    "step must return (obs, reward, terminated, truncated, info), five values. "
    "An env of the old Gym API returns four: "
    "split its done into terminated (the episode is over) and truncated (a time limit)"
)
RESET_API = (
    "reset must take (*, seed=None, options=None) and return (obs, info). "
    "An env of the old Gym API does not: change its reset"
)


class SubEnv:
    """One environment of the vector, with score and length of its current episode.

    Args:
        index: its number in the vector.
        most: steps after which an episode is truncated; None: only the environment ends it.
    """

    def __init__(self, index: int, env: gymnasium.Env, codec: Codec, most: int | None = None) -> None:
        self.index, self.env, self.codec, self.most = index, env, codec, most
        self.score, self.length = 0.0, 0

    def reset(self, seed: int | None, step: int) -> np.ndarray:
        """Start a new episode, with `seed` or else with the env's own generator; returns its first observation."""
        try:
            result = self.env.reset(seed=seed)
            if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
                raise EnvError(RESET_API)
            obs = self.codec.encode(result[0])
        except PASSED:
            raise
        except RAISED as error:
            raise self.named(error, "reset", f"reset at step {step}") from error
        self.score, self.length = 0.0, 0
        return obs

    def step(self, action: int, step: int) -> tuple[np.ndarray, float, bool, bool]:
        """(next_obs, reward, terminated, truncated) of one action, numbered from 0."""
        try:
            result: tuple[Any, ...] = self.env.step(np.int64(action + self.codec.first_action))
            if not isinstance(result, tuple) or len(result) != 5:
                raise EnvError(STEP_API)
            obs, reward, terminated, truncated = self.codec.encode(result[0]), result[1], result[2], result[3]
            if type(reward) is not float:
                reward = _reward(reward)
            if type(terminated) is not bool:
                terminated = _flag("terminated", terminated)
            if type(truncated) is not bool:
                truncated = _flag("truncated", truncated)
        except PASSED:
            raise
        except RAISED as error:
            raise self.named(error, "step", f"step {step}, action {action}") from error
        self.score += reward
        self.length += 1
        return obs, reward, terminated, truncated or (self.length == self.most and not terminated)

    def replay(self, seed: int, actions: list[int], call: hang.Call) -> np.ndarray:
        """Execute `actions` from a reset with `seed`, each as a `call`; returns the obs to act on next."""
        with call:
            obs = self.reset(seed, 0)
        for k, action in enumerate(actions, start=1):
            with call:
                obs, _, terminated, truncated = self.step(action, k)
                if terminated or truncated:
                    # the log goes on, so this end made no new anchor
                    obs = self.reset(None, k)
        return obs

    def digest(self, obs: np.ndarray) -> str:
        """A fingerprint of the env's state, as far as it can be seen from outside: obs, score and length."""
        head = f"{self.length} {self.score!r}".encode()
        return hashlib.sha256(head + obs.tobytes()).hexdigest()[:32]

    def named(self, error: BaseException, method: str, where: str) -> EnvError:
        """An EnvError that names the env, the step, the line and, for the old API, what to change."""
        text = told(error)
        if "expected 5, got 4" in text:  # Gymnasium's wrappers unpack what step returned
            error = EnvError(STEP_API)
        elif "unexpected keyword argument 'seed'" in text or "unexpected keyword argument 'options'" in text:
            error = EnvError(RESET_API)
        if isinstance(error, PlayfieldError):  # a broken rule: what broke it is the method
            place = defined(self.env, method)
            text = f"{error} ({place})" if place else str(error)
        return EnvError(f"env {self.index} failed in {where}: {text}")


def _reward(value: Any) -> float:
    """A reward that is no Python float: any real number, also as an array of one."""
    number = _number(value)
    if number is None:
        raise EnvError(f"the reward must be a number, not {_short(value)}")
    return number


def _flag(name: str, value: Any) -> bool:
    """An end of an episode that is no Python bool: NumPy's, 0 or 1, also as an array of one."""
    number = _number(value)
    if number not in (0, 1):
        raise EnvError(f"{name} must be True or False, not {_short(value)}")
    return bool(number)


def _number(value: Any) -> float | None:
    """A real number, or the only one of an array; else None."""
    if isinstance(value, (numbers.Real, np.bool_)):
        return float(value)
    array = np.asarray(value)
    return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "biuf" else None


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."
