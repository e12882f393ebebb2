"""Any Gymnasium environment with discrete actions, under the contract of `playfield.envs.base`.

The envs are stepped one after another in this process. Each is reset the moment its game ends, so no reset
step is ever seen; the successor of the last action is kept in `next_obs`. Gymnasium's `SyncVectorEnv` does
the same, but cannot say which env raised, and cannot take one env alone through its past, which `restore`
needs.

An arbitrary env cannot be copied, so a snapshot is its past: the seed of an explicit reset (the *anchor*) and
all actions since. `restore` plays them again. To keep that short, an env whose log has passed `LOG_LIMIT`
steps is reset with a new seed at the next end of a game. That seed comes from the env's first seed and the
number of the anchor, so the games of a run depend on its seeds and actions alone, saved or not.
"""

from __future__ import annotations

import hashlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from playfield.envs.base import EnvSpec, Episode, Step
from playfield.envs.checks import check_actions, check_finite, check_num_envs, check_seeds
from playfield.envs.gym_make import Codec, find, make, make_first, plain
from playfield.errors import DataError, EnvError, PlayfieldError, UsageError

if TYPE_CHECKING:
    import gymnasium

#: steps after which an env gets a new anchor at the next end of a game
LOG_LIMIT = 2000

_STEP_API = (
    "step must return (obs, reward, terminated, truncated, info), five values. "
    "An env of the old Gym API returns four: "
    "split its done into terminated (the game is over) and truncated (a time limit)"
)
_RESET_API = (
    "reset must take (*, seed=None, options=None) and return (obs, info). "
    "An env of the old Gym API does not: change its reset"
)


def anchor_seed(first: int, anchor: int) -> int:
    """The seed of an env's explicit reset number `anchor`: `first`, then 31-bit numbers drawn from it."""
    if anchor == 0:
        return first
    return int(np.random.SeedSequence(first, spawn_key=(anchor,)).generate_state(1)[0] >> 1)


class GymVectorEnv:
    """`num_envs` games of one Gymnasium id.

    Observations: a uint8 `Box` is kept as it is, also channels-first pixels; any other `Box` becomes float32;
    a `Discrete` observation becomes a one-hot float32 vector. Actions: `Discrete`, counted from 0.
    A step can set both `terminated` and `truncated`, as in Gymnasium.

    Args:
        id: a registered id, or `module:Id`, where importing `module` registers it.
        num_envs: how many games side by side.
        kwargs: handed to `gymnasium.make`; part of the protocol.

    Attributes:
        exact: False once a restored env did not come back to the state it was saved in.

    Raises:
        UsageError: unknown id or argument, unsupported space, missing package.
        EnvError: the env could not be made.
    """

    spec: EnvSpec
    num_envs: int

    def __init__(self, id: str, num_envs: int, **kwargs: Any) -> None:
        self.num_envs = check_num_envs(num_envs)
        find(id)
        first, kwargs = make_first(id, kwargs)
        envs = [first]
        try:
            self._codec = Codec(id, first)
            envs += [make(id, kwargs) for _ in range(self.num_envs - 1)]
        except BaseException:
            for env in envs:
                env.close()
            raise
        self._lanes = [_Lane(i, env, self._codec) for i, env in enumerate(envs)]
        told = {k: v for k, v in kwargs.items() if k not in ("render_mode", "max_episode_steps")}
        protocol: dict[str, Any] = {
            "env": id,
            "time_limit": None if first.spec is None else first.spec.max_episode_steps,
        }
        if told:
            protocol["kwargs"] = {k: plain(v) for k, v in sorted(told.items())}
        self.spec = EnvSpec(
            id=id,
            kind="gymnasium",
            obs_shape=self._codec.shape,
            obs_dtype=self._codec.dtype.name,
            num_actions=self._codec.num_actions,
            action_names=tuple(str(self._codec.first_action + a) for a in range(self._codec.num_actions)),
            protocol=protocol,
        )
        self._obs = np.zeros((0, *self._codec.shape), self._codec.dtype)
        self._steps = 0
        self._started = False
        self.exact = True

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start all games anew, env i from `seeds[i]`; returns obs [N, ...].

        Raises:
            EnvError: an env raised, or broke the API.
            DivergedError: an observation is not finite.
        """
        obs = np.empty((self.num_envs, *self._codec.shape), self._codec.dtype)
        self._steps = 0
        for lane, seed in zip(self._lanes, check_seeds(seeds, self.num_envs), strict=True):
            lane.first_seed, lane.anchor = seed, 0
            obs[lane.index] = lane.reset_seeded(0)
        check_finite(obs)
        self._started = True
        self._obs = obs.copy()
        return obs

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N].

        Raises:
            EnvError: called before `reset`, an action out of range, an env raised or broke the API.
            DivergedError: an observation or reward is not finite.
        """
        self._must_have_started()
        actions = check_actions(actions, self.num_envs, self.spec.num_actions)
        n = self.num_envs
        next_obs = np.empty((n, *self._codec.shape), self._codec.dtype)
        reward = np.empty(n, np.float64)
        terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
        self._steps += 1
        for lane, action in zip(self._lanes, actions.tolist(), strict=True):
            i = lane.index
            next_obs[i], reward[i], terminated[i], truncated[i] = lane.step(action, self._steps)
        with np.errstate(over="ignore"):  # what does not fit into float32 is found by the next line
            reward32 = reward.astype(np.float32)
        check_finite(next_obs, reward32, actions, self._steps)
        ended = np.flatnonzero(terminated | truncated)
        if not len(ended):
            self._obs = next_obs.copy()  # a learner may normalise what it gets in place
            return Step(next_obs, next_obs, reward32, terminated, truncated)
        obs = next_obs.copy()
        episodes = []
        for i in ended.tolist():
            lane = self._lanes[i]
            episodes.append(Episode(i, lane.score, lane.length))
            obs[i] = lane.next_game(self._steps)
        check_finite(obs[ended], step=self._steps, envs=ended)
        self._obs = obs.copy()
        return Step(obs, next_obs, reward32, terminated, truncated, episodes)

    def _must_have_started(self) -> None:
        if not self._started:
            raise EnvError("no game has been started: call reset(seeds) first")

    def state(self) -> dict[str, Any]:
        """A snapshot: each env's first seed, its anchor's number and seed, its actions since (end to end)."""
        self._must_have_started()
        lanes = self._lanes
        return {
            "protocol": self.spec.protocol,
            "steps": self._steps,
            "first_seeds": np.array([lane.first_seed for lane in lanes], np.int64),
            "anchors": np.array([lane.anchor for lane in lanes], np.int64),
            "anchor_seeds": np.array([anchor_seed(e.first_seed, e.anchor) for e in lanes], np.int64),
            "log_lengths": np.array([len(lane.log) for lane in lanes], np.int64),
            "actions": np.array([a for lane in lanes for a in lane.log], np.int32),
            "digests": [lane.digest(self._obs[lane.index]) for lane in lanes],
        }

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Go on from `state` by playing each env's log again; returns the obs to act on next [N, ...].

        An env that does not come back to the same observation, score and length depends on something besides
        its seed and its actions. Then a RuntimeWarning names it, `exact` becomes False, and play goes on from
        where it came to.

        Raises:
            DataError: the snapshot is of another protocol or another number of envs.
            EnvError: an env raised.
        """
        if state["protocol"] != self.spec.protocol or len(state["log_lengths"]) != self.num_envs:
            raise DataError(
                f"the snapshot holds {len(state['log_lengths'])} envs of {state['protocol']}, "
                f"this is {self.num_envs} of {self.spec.protocol}"
            )
        obs = np.empty((self.num_envs, *self._codec.shape), self._codec.dtype)
        logs = np.split(np.asarray(state["actions"]), np.cumsum(state["log_lengths"])[:-1])
        strayed = []
        for lane in self._lanes:
            i = lane.index
            lane.first_seed = int(state["first_seeds"][i])
            obs[i] = lane.replay(int(state["anchors"][i]), logs[i].tolist())
            if lane.digest(obs[i]) != state["digests"][i]:
                strayed.append(i)
        if strayed:
            self.exact = False
            warnings.warn(
                f"{self.spec.id}: env {', '.join(map(str, strayed))} did not come back to where it was "
                "saved: its games depend on more than seed and actions, so this is not an exact continuation",
                RuntimeWarning,
                stacklevel=2,
            )
        self._steps = int(state["steps"])
        self._started = True
        self._obs = obs.copy()
        return obs

    def render(self, env_index: int) -> np.ndarray:
        """The game of one env now, uint8 RGB [height, width, 3].

        Raises:
            UsageError: the env cannot draw itself into an array, or needs a package to do so.
            EnvError: the env raised, or drew something else.
        """
        from gymnasium.error import DependencyNotInstalled

        self._must_have_started()
        env = self._lanes[env_index].env
        if env.render_mode != "rgb_array":
            raise UsageError(f"{self.spec.id} has no render mode 'rgb_array': there is no picture to show")
        try:
            frame = np.asarray(env.render())
        except DependencyNotInstalled as error:
            raise UsageError(f"{self.spec.id} cannot be drawn: {error}") from error
        except Exception as error:
            raise _blame(error, env_index, f"render at step {self._steps}") from error
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise EnvError(f"{self.spec.id} drew {frame.dtype} {frame.shape}, not uint8 [height, width, 3]")
        return frame

    def close(self) -> None:
        """Close every env."""
        for lane in self._lanes:
            lane.env.close()


class _Lane:
    """One env with its log: enough to play it, and to play it again."""

    def __init__(self, index: int, env: gymnasium.Env, codec: Codec) -> None:
        self.index, self.env, self.codec = index, env, codec
        self.first_seed, self.anchor = 0, 0
        self.log: list[int] = []
        self.score, self.length = 0.0, 0

    def reset_seeded(self, step: int) -> np.ndarray:
        """A new game from the seed of the current anchor; the log starts again."""
        self.log = []
        return self._reset(anchor_seed(self.first_seed, self.anchor), step)

    def next_game(self, step: int) -> np.ndarray:
        """The next game after an end, from a new anchor when the log has grown long."""
        if len(self.log) > LOG_LIMIT:
            self.anchor += 1
            return self.reset_seeded(step)
        return self._reset(None, step)

    def _reset(self, seed: int | None, step: int) -> np.ndarray:
        try:
            result = self.env.reset(seed=seed)
            if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
                raise EnvError(_RESET_API)
            obs = self.codec.encode(result[0])
        except Exception as error:
            raise _blame(error, self.index, f"reset at step {step}") from error
        self.score, self.length = 0.0, 0
        return obs

    def step(self, action: int, step: int) -> tuple[np.ndarray, float, bool, bool]:
        """(next_obs, reward, terminated, truncated) of one action counted from 0."""
        try:
            result: tuple[Any, ...] = self.env.step(np.int64(action + self.codec.first_action))
            if not isinstance(result, tuple) or len(result) != 5:
                raise EnvError(_STEP_API)
            obs, reward = self.codec.encode(result[0]), float(result[1])
            terminated, truncated = bool(result[2]), bool(result[3])
        except Exception as error:
            raise _blame(error, self.index, f"step {step}, action {action}") from error
        self.log.append(action)
        self.score += reward
        self.length += 1
        return obs, reward, terminated, truncated

    def replay(self, anchor: int, log: list[int]) -> np.ndarray:
        """Play `log` from anchor number `anchor`; returns the obs to act on next."""
        self.anchor = anchor
        obs = self.reset_seeded(0)
        for k, action in enumerate(log, start=1):
            obs, _, terminated, truncated = self.step(action, k)
            if terminated or truncated:
                # a log that was saved went on from here, so this end made no new anchor
                obs = self._reset(None, k)
        return obs

    def digest(self, obs: np.ndarray) -> str:
        """A fingerprint of where the env is, as far as it can be seen from outside."""
        head = f"{self.length} {self.score!r}".encode()
        return hashlib.sha256(head + obs.tobytes()).hexdigest()[:32]


def _blame(error: Exception, index: int, where: str) -> PlayfieldError:
    """An EnvError that names the env and the moment, and the cure where the old API is the cause."""
    text = str(error) if isinstance(error, PlayfieldError) else f"{type(error).__name__}: {error}"
    if "expected 5, got 4" in text:  # Gymnasium's wrappers unpack what step returned
        text = _STEP_API
    elif "unexpected keyword argument 'seed'" in text or "unexpected keyword argument 'options'" in text:
        text = _RESET_API
    return EnvError(f"env {index} failed in {where}: {text}")
