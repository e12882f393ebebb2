"""Any Gymnasium environment with discrete actions, under the contract of `playfield.envs.base`.

The envs are stepped one after another in this process. Each is reset in the step in which its episode ends, so no
reset step is ever seen; the true successor of the last action is kept in `next_obs`. Gymnasium's `SyncVectorEnv`
does the same, but cannot say which env raised, and cannot execute the log of one env alone, which `restore` needs
(see `playfield.envs.action_log`).
"""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled

from playfield.envs import hang
from playfield.envs.action_log import GymnasiumLog, check_snapshot, warn_not_reached
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.envs.checks import check_actions, check_finite, check_num_envs, check_seeds, not_reset
from playfield.envs.closing import close
from playfield.envs.codec import Codec
from playfield.envs.gym_make import check_spaces, find, json_value, make, make_first, time_limit
from playfield.envs.gym_single import SubEnv
from playfield.envs.picture import as_picture
from playfield.envs.traces import told
from playfield.envs.user_code import PASSED, RAISED, running
from playfield.errors import EnvError, UsageError


@dataclass(frozen=True)
class Limits:
    """Where episodes are truncated.

    Attributes:
        time_limit: as stored with a run, in steps, -1 for none; None: as the environment is registered.
        max_steps: besides that, for those who wait for the end of a game; None: nowhere.
    """

    time_limit: int | None = None
    max_steps: int | None = None


class GymVectorEnv:
    """`num_envs` environments of one Gymnasium id.

    Observations: a uint8 `Box` is kept as it is, also channels-first pixels; any other `Box` becomes float32; a
    `Discrete` observation, or several (`MultiDiscrete`, `MultiBinary`, a `Tuple` of `Discrete`), become one-hot
    float32 vectors, one after another. Actions: `Discrete`, numbered from 0 (`spec.first_action` is the env's
    own number of action 0).
    A step can set both `terminated` and `truncated`, as in Gymnasium.

    Args:
        id: a registered id, or `module:Name`: an id that importing `module` registers, or a class or function in it.
        num_envs: number of environments.
        limits: where episodes are truncated.
        kwargs: passed to `gymnasium.make`; part of the protocol.

    Attributes:
        exact: False once a restored env did not reach the state it was saved in.

    Raises:
        UsageError: unknown id or argument, unsupported space, missing package.
        EnvError: the env could not be made.
    """

    spec: EnvSpec
    num_envs: int

    def __init__(self, id: str, num_envs: int, limits: Limits = Limits(), /, **kwargs: Any) -> None:
        self.num_envs = check_num_envs(num_envs)
        id = find(id)
        first, kwargs = make_first(id, kwargs)
        if limits.time_limit is not None and limits.time_limit != (time_limit(first) or -1):
            close(first, id)
            first, kwargs = make_first(id, {**kwargs, "max_episode_steps": limits.time_limit})
        envs = [first]
        try:
            check_spaces(id, first)
            with running(f"{id} failed in its spaces"):
                self._codec = Codec(id, first)
            envs += [make(id, kwargs) for _ in range(self.num_envs - 1)]
            if len({builtins.id(env.unwrapped) for env in envs}) < len(envs):
                raise UsageError(f"{id} makes the same environment again and again: every call must make a new one")
        except BaseException:
            for env in envs:
                close(env, id)
            raise
        self._envs = [SubEnv(i, env, self._codec, limits.max_steps) for i, env in enumerate(envs)]
        settings = {k: v for k, v in kwargs.items() if k not in ("render_mode", "max_episode_steps")}
        protocol: dict[str, Any] = {"env": id, "time_limit": time_limit(first)}
        if settings:
            protocol["kwargs"] = {k: json_value(v) for k, v in sorted(settings.items())}
        self.spec = EnvSpec(
            id=id,
            kind="gymnasium",
            obs_shape=self._codec.shape,
            obs_dtype=self._codec.dtype.name,
            num_actions=self._codec.num_actions,
            action_names=tuple(str(self._codec.first_action + a) for a in range(self._codec.num_actions)),
            protocol=protocol,
            first_action=self._codec.first_action,
            obs_bounds=self._codec.bounds,
            states=self._codec.states,
            states_shape=self._codec.states_shape,
        )
        self._obs = np.zeros((0, *self._codec.shape), self._codec.dtype)
        self._steps = 0
        self._log: GymnasiumLog | None = None
        self._call = hang.Call(id)
        self.exact = True

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start a new episode in every env, env i seeded with `seeds[i]`; returns obs [N, ...].

        Raises:
            UsageError: seeds of another shape, or below 0.
            EnvError: an env raised, or broke the API.
            DivergedError: an observation is not finite.
        """
        obs = np.empty((self.num_envs, *self._codec.shape), self._codec.dtype)
        self._steps = 0
        log = GymnasiumLog(np.array(check_seeds(seeds, self.num_envs), np.int64))
        for env, seed in zip(self._envs, log.seed.tolist(), strict=True):
            with self._call:
                obs[env.index] = env.reset(seed, 0)
        check_finite(obs)
        self._log = log
        self._obs = obs.copy()
        return obs

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N].

        Raises:
            EnvError: called before `reset`, an action out of range, an env raised or broke the API.
            DivergedError: an observation or reward is not finite.
        """
        log = self._started()
        actions = check_actions(actions, self.num_envs, self.spec.num_actions, self.spec.first_action)
        n = self.num_envs
        next_obs = np.empty((n, *self._codec.shape), self._codec.dtype)
        reward = np.empty(n, np.float64)
        terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
        self._steps += 1
        with self._call:
            for env, action in zip(self._envs, actions.tolist(), strict=True):
                i = env.index
                next_obs[i], reward[i], terminated[i], truncated[i] = env.step(action, self._steps)
        log.add(actions)
        with np.errstate(over="ignore"):  # an overflow of float32 is infinite, which check_finite refuses
            reward32 = reward.astype(np.float32)
        check_finite(next_obs, reward32, actions, self._steps)
        ended = np.flatnonzero(terminated | truncated)
        if not len(ended):
            self._obs = next_obs.copy()  # a learner may change the returned array in place
            return Step(next_obs, next_obs, reward32, terminated, truncated)
        obs = next_obs.copy()
        episodes = []
        for i in ended.tolist():
            env = self._envs[i]
            episodes.append(Episode(i, env.score, env.length))
            with self._call:
                obs[i] = env.reset(log.next_seed(i), self._steps)
        check_finite(obs[ended], step=self._steps, envs=ended)
        self._obs = obs.copy()
        return Step(obs, next_obs, reward32, terminated, truncated, episodes)

    def oddities(self) -> list[str]:
        """What of env 0 a training should say, after a few resets and steps of it: a seed that is ignored, one array
        returned again and again. Call it on envs that nothing else is done with."""
        env, found = self._envs[0], []
        try:
            with self._call:
                one = [env.reset(7, 0).copy(), env.step(0, 1)[0].copy()]
            with self._call:
                two = [env.reset(7, 0).copy(), env.step(0, 1)[0].copy()]
            with self._call:
                raw = [env.env.reset(seed=8)[0], *(env.env.step(np.int64(self.spec.first_action))[0] for _ in "12")]
        except PASSED:
            raise
        except RAISED:  # the training says it better
            return []
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, two, strict=True)):
            found.append(
                f"{self.spec.id} does not begin alike after the same seed: its runs cannot be repeated exactly"
            )
        if isinstance(raw[0], np.ndarray) and all(np.shares_memory(raw[0], other) for other in raw[1:]):
            found.append(
                f"{self.spec.id} returns one buffer again and again as its observations: they are copied here, other "
                "libraries may not"
            )
        return found

    def _started(self) -> GymnasiumLog:
        if self._log is None:
            raise not_reset()
        return self._log

    def state(self) -> dict[str, Any]:
        """A snapshot: each env's first seed, number and seed of its anchor, and its actions since, one env's after
        another's. Raises EnvError before the first `reset`."""
        log = self._started()
        return {
            "protocol": self.spec.protocol,
            "steps": self._steps,
            "first_seeds": log.first.copy(),
            "anchors": log.anchors.copy(),
            "anchor_seeds": log.seed.copy(),
            "log_lengths": log.lengths,
            "actions": log.flat(np.int32),
            "digests": [env.digest(self._obs[env.index]) for env in self._envs],
        }

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Continue from `state` by executing each env's log again; returns the obs to act on next [N, ...].

        An env that does not reach the same observation, score and length depends on something besides its seed and
        its actions. Then `exact` becomes False, and it continues from the state it reached.

        Raises:
            DataError: the snapshot is of another protocol or another number of envs.
            EnvError: an env raised.

        Warns:
            RuntimeWarning: an env did not reach the state it was saved in.
        """
        saved, protocol = state["protocol"], self.spec.protocol
        check_snapshot(saved == protocol, saved, len(state["log_lengths"]), protocol, self.num_envs)
        log = GymnasiumLog.saved(
            state["first_seeds"], state["anchor_seeds"], state["anchors"], state["log_lengths"], state["actions"]
        )
        obs = np.empty((self.num_envs, *self._codec.shape), self._codec.dtype)
        for env, seed, actions in zip(self._envs, log.seed.tolist(), log.actions, strict=True):
            obs[env.index] = env.replay(seed, actions, self._call)
        wrong = [env.index for env in self._envs if env.digest(obs[env.index]) != state["digests"][env.index]]
        self.exact = self.exact and not wrong
        warn_not_reached(self.spec, wrong, ": it depends on more than seed and actions", stacklevel=3)
        self._steps = int(state["steps"])
        self._log = log
        self._obs = obs.copy()
        return obs

    def render(self, env_index: int) -> np.ndarray:
        """The current frame of one env, uint8 RGB [height, width, 3]; see `as_picture` for what is converted.

        Raises:
            UsageError: the env has no render mode `rgb_array`, or needs a package for it.
            EnvError: the env raised, or drew no picture.
        """
        self._started()
        env = self._envs[env_index].env
        try:
            with self._call:
                if env.render_mode != "rgb_array":
                    raise UsageError(f"{self.spec.id} has no render mode 'rgb_array': it cannot be shown")
                drawn = env.render()
        except (UsageError, *PASSED):
            raise
        except DependencyNotInstalled as error:
            raise UsageError(f"{self.spec.id} cannot be rendered: {error}") from error
        except RAISED as error:
            raise EnvError(f"env {env_index} failed in render at step {self._steps}: {told(error)}") from error
        try:
            return as_picture(drawn)
        except ValueError as error:
            raise EnvError(f"{self.spec.id} rendered {error}, not a picture, uint8 [height, width, 3]") from error

    def close(self) -> None:
        """Close every env. That one raises or hangs is only told: what was done with it is done."""
        for env in self._envs:
            close(env.env, self.spec.id)
