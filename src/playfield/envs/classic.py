"""CartPole, Acrobot and MountainCar, all envs stepped by NumPy together.

Each problem is a `Game`: constants and pure functions on the states of many envs. `ClassicVectorEnv` adds what all
of them share: seeding, resets, the time limit, scores, exact snapshots.

The dynamics are Gymnasium's to the bit: an env seeded with s has the same episodes as `gymnasium.make(id)` reset
once with seed s and then without a seed after each episode. That needs the same float arithmetic in the same order
(the states are float64, observations are rounded to float32 at the end, a first Acrobot state is float32) and the
same generator (PCG64). One NumPy call is not the same for arrays and for
scalars: `x**2` of a scalar is the C library's `pow`, of an array it is `x*x`, and the two differ in the last
bit about once in a thousand. `np.float_power` calls `pow` for every element and gives the scalar's bits.

Sources: Barto, Sutton & Anderson 1983 (CartPole); Sutton 1996 and Sutton & Barto 2018 (Acrobot, the book's
equations); Moore 1990 (MountainCar); constants and order of operations as in Gymnasium 1.x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from playfield.envs import classic_draw
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.envs.checks import check_actions, check_finite, check_num_envs, check_seeds, like, not_reset
from playfield.errors import DataError, UsageError, unknown

Dynamics = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Game:
    """One classic control problem. N envs, states of size D, observations of size K.

    Attributes:
        action_names: one name for each action.
        obs_size: K.
        reset_size: uniform random numbers R that a reset takes from the env's generator.
        low, high: their range.
        reset: these numbers, float64 [N, R] -> states [N, D] (float32 where Gymnasium rounds its first state).
        dynamics: states float64 [N, D], actions int64 [N] -> new states [N, D], rewards float32 [N],
            terminated bool [N].
        observe: states [N, D] -> observations float32 [N, K].
        draw: one state [D] -> frame, uint8 RGB [height, width, 3].
    """

    action_names: tuple[str, ...]
    obs_size: int
    reset_size: int
    low: float
    high: float
    reset: Callable[[np.ndarray], np.ndarray]
    dynamics: Dynamics
    observe: Callable[[np.ndarray], np.ndarray]
    draw: Callable[[np.ndarray], np.ndarray]


def _as_float32(states: np.ndarray) -> np.ndarray:
    return states.astype(np.float32)


# CartPole: state = cart position [m], its velocity, pole angle [rad, 0 upright], its angular velocity.

_TOTAL_MASS = 0.1 + 1.0
_POLE_MASS_LENGTH = 0.1 * 0.5
_ANGLE_LIMIT = 12 * 2 * np.pi / 360


def _cartpole_reset(uniform: np.ndarray) -> np.ndarray:
    return uniform


def _cartpole(states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    angle, spin = np.ascontiguousarray(states[:, 2]), states[:, 3]
    force = np.where(actions == 1, 10.0, -10.0)
    cos, sin = np.cos(angle), np.sin(angle)
    push = (force + _POLE_MASS_LENGTH * np.square(spin) * sin) / _TOTAL_MASS
    spin_rate = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * np.square(cos) / _TOTAL_MASS))
    rates = np.empty_like(states)
    rates[:, 0] = states[:, 1]
    rates[:, 1] = push - _POLE_MASS_LENGTH * spin_rate * cos / _TOTAL_MASS
    rates[:, 2] = spin
    rates[:, 3] = spin_rate
    new = states + 0.02 * rates  # Euler steps of 0.02 s
    terminated = (np.abs(new[:, 0]) > 2.4) | (np.abs(new[:, 2]) > _ANGLE_LIMIT)
    return new, np.ones(len(new), np.float32), terminated


# MountainCar: state = position, velocity.


def _mountain_car_reset(uniform: np.ndarray) -> np.ndarray:
    return np.concatenate([uniform, np.zeros_like(uniform)], axis=1)


def _mountain_car(states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    position, velocity = states[:, 0], states[:, 1]
    velocity = velocity + ((actions - 1) * 0.001 + np.cos(3 * position) * -0.0025)
    velocity = np.clip(velocity, -0.07, 0.07)
    position = np.clip(position + velocity, -1.2, 0.6)
    velocity = np.where((position == -1.2) & (velocity < 0), 0.0, velocity)  # the left wall stops the car
    terminated = (position >= 0.5) & (velocity >= 0)
    return np.stack([position, velocity], axis=1), np.full(len(states), -1.0, np.float32), terminated


# Acrobot: state = angle of the first link [rad, 0 hangs down], of the second relative to it, their angular
# velocities.


def _acrobot_reset(uniform: np.ndarray) -> np.ndarray:
    return uniform.astype(np.float32)


def _acrobot_rates(state: np.ndarray, torque: np.ndarray) -> np.ndarray:
    """Time derivative of `state` [4, N]; masses, lengths and inertias are 1, centres of mass at 0.5."""
    angle1, angle2, spin1, spin2 = state
    cos2, sin2 = np.cos(angle2), np.sin(angle2)
    d1 = 0.25 + (1.25 + cos2) + 1.0 + 1.0
    d2 = (0.25 + 0.5 * cos2) + 1.0
    phi2 = 4.9 * np.cos(angle1 + angle2 - np.pi / 2.0)
    spin2_squared = np.float_power(spin2, 2)
    phi1 = -0.5 * spin2_squared * sin2 - spin2 * spin1 * sin2 + (0.5 + 1.0) * 9.8 * np.cos(angle1 - np.pi / 2) + phi2
    ratio = d2 / d1
    rate2 = (torque + ratio * phi1 - 0.5 * np.float_power(spin1, 2) * sin2 - phi2) / (
        1.25 - np.float_power(d2, 2) / d1
    )
    rate1 = -(d2 * rate2 + phi1) / d1
    return np.stack([spin1, spin2, rate1, rate2])


def _wrap(angle: np.ndarray) -> np.ndarray:
    """Angles wrapped into [-pi, pi], one turn at a time as in Gymnasium, for the same rounding."""
    while (over := angle > np.pi).any():
        angle = np.where(over, angle - 2 * np.pi, angle)
    while (under := angle < -np.pi).any():
        angle = np.where(under, angle + 2 * np.pi, angle)
    return angle


def _acrobot(states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start = np.ascontiguousarray(states.T)
    torque = (actions - 1).astype(np.float64)
    # one Runge-Kutta step (fourth order) of 0.2 s
    k1 = _acrobot_rates(start, torque)
    k2 = _acrobot_rates(start + 0.1 * k1, torque)
    k3 = _acrobot_rates(start + 0.1 * k2, torque)
    k4 = _acrobot_rates(start + 0.2 * k3, torque)
    end = start + 0.2 / 6.0 * (k1 + 2 * k2 + 2 * k3 + k4)
    end[:2] = _wrap(end[:2])
    end[2] = np.clip(end[2], -4 * np.pi, 4 * np.pi)
    end[3] = np.clip(end[3], -9 * np.pi, 9 * np.pi)
    terminated = -np.cos(end[0]) - np.cos(end[1] + end[0]) > 1.0
    return np.ascontiguousarray(end.T), np.where(terminated, 0.0, -1.0).astype(np.float32), terminated


def _acrobot_observe(states: np.ndarray) -> np.ndarray:
    angles = np.ascontiguousarray(states[:, :2])
    cos, sin = np.cos(angles), np.sin(angles)  # in float32 for a first state, as in Gymnasium
    columns = (cos[:, 0], sin[:, 0], cos[:, 1], sin[:, 1], states[:, 2], states[:, 3])
    return np.stack(columns, axis=1).astype(np.float32)


CARTPOLE = Game(("left", "right"), 4, 4, -0.05, 0.05, _cartpole_reset, _cartpole, _as_float32, classic_draw.cartpole)
ACROBOT = Game(
    ("torque -1", "torque 0", "torque +1"),
    6,
    4,
    -0.1,
    0.1,
    _acrobot_reset,
    _acrobot,
    _acrobot_observe,
    classic_draw.acrobot,
)
MOUNTAIN_CAR = Game(
    ("left", "coast", "right"),
    2,
    1,
    -0.6,
    -0.4,
    _mountain_car_reset,
    _mountain_car,
    _as_float32,
    classic_draw.mountain_car,
)

# id -> the problem and its time limit in steps
_GAMES: dict[str, tuple[Game, int]] = {
    "CartPole-v0": (CARTPOLE, 200),
    "CartPole-v1": (CARTPOLE, 500),
    "Acrobot-v1": (ACROBOT, 500),
    "MountainCar-v0": (MOUNTAIN_CAR, 200),
}
CLASSIC_IDS: tuple[str, ...] = tuple(_GAMES)
#: mean score over 100 games from which a problem counts as solved (Gymnasium's `reward_threshold`)
THRESHOLDS: dict[str, float] = {
    "CartPole-v0": 195.0,
    "CartPole-v1": 475.0,
    "Acrobot-v1": -100.0,
    "MountainCar-v0": -110.0,
}


class ClassicVectorEnv:
    """`num_envs` environments of one classic control problem; see `playfield.envs.base` for the contract.

    A step at the time limit that also terminates the episode sets both `terminated` and `truncated`, as in Gymnasium.

    Args:
        id: one of `CLASSIC_IDS`.
        num_envs: number of environments.
        max_steps: time limit in steps; None means the problem's own.

    Raises:
        UsageError: unknown id, or a number that is not positive.
    """

    spec: EnvSpec
    num_envs: int

    def __init__(self, id: str, num_envs: int, max_steps: int | None = None) -> None:
        if id not in _GAMES:
            raise unknown("classic control problem", id, CLASSIC_IDS)
        self.game, limit = _GAMES[id]
        self.num_envs = check_num_envs(num_envs)
        if max_steps is not None and max_steps < 1:
            raise UsageError(f"the time limit must be at least 1 step, not {max_steps}")
        self.max_steps = limit if max_steps is None else int(max_steps)
        game = self.game
        self.spec = EnvSpec(
            id=id,
            kind="classic",
            obs_shape=(game.obs_size,),
            obs_dtype="float32",
            num_actions=len(game.action_names),
            action_names=game.action_names,
            protocol={"env": id, "time_limit": self.max_steps},
        )
        self._generators: list[np.random.Generator] = []
        self._states = np.zeros((0, 0))
        self._obs = np.zeros((0, game.obs_size), np.float32)
        self._scores = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._steps = 0

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        """Start a new episode in every env, env i seeded with `seeds[i]`; returns obs float32 [N, K].

        Raises UsageError for seeds of another shape or below 0.
        """
        # the same stream as gymnasium.utils.seeding.np_random(seed)
        self._generators = [np.random.default_rng(seed) for seed in check_seeds(seeds, self.num_envs)]
        first = self._first_states(np.arange(self.num_envs))
        self._states = first.astype(np.float64)
        self._obs = self.game.observe(first)
        self._scores = np.zeros(self.num_envs)
        self._lengths = np.zeros(self.num_envs, np.int64)
        self._steps = 0
        return self._obs.copy()

    def _first_states(self, envs: np.ndarray) -> np.ndarray:
        """First states of new episodes of `envs`, sampled with the generators of those envs only."""
        game = self.game
        uniform = [self._generators[i].uniform(game.low, game.high, game.reset_size) for i in envs]
        return game.reset(np.stack(uniform))

    def step(self, actions: np.ndarray) -> Step:
        """Apply `actions` int64 [N].

        Raises:
            EnvError: called before `reset`, or an action out of range.
            DivergedError: an observation is no longer finite.
        """
        self._check_started()
        actions = check_actions(actions, self.num_envs, self.spec.num_actions)
        self._states, reward, terminated = self.game.dynamics(self._states, actions)
        self._steps += 1
        self._lengths += 1
        self._scores += reward
        truncated = self._lengths >= self.max_steps
        next_obs = self.game.observe(self._states)
        check_finite(next_obs, reward, actions, self._steps)
        ended = np.flatnonzero(terminated | truncated)
        if not len(ended):
            self._obs = next_obs.copy()  # a learner may change the returned array in place
            return Step(next_obs, next_obs, reward, terminated, truncated)
        episodes = [Episode(int(i), float(self._scores[i]), int(self._lengths[i])) for i in ended]
        first = self._first_states(ended)
        obs = next_obs.copy()
        obs[ended] = self.game.observe(first)
        self._states[ended] = first
        self._scores[ended] = 0.0
        self._lengths[ended] = 0
        self._obs = obs.copy()
        return Step(obs, next_obs, reward, terminated, truncated, episodes)

    def _check_started(self) -> None:
        if not self._generators:
            raise not_reset()

    def state(self) -> dict[str, Any]:
        """A snapshot: arrays, and one JSON dict of ints per generator. Raises EnvError before the first `reset`."""
        self._check_started()
        return {
            "id": self.spec.id,
            "states": self._states.copy(),
            "obs": self._obs.copy(),
            "scores": self._scores.copy(),
            "lengths": self._lengths.copy(),
            "steps": self._steps,
            "generators": [g.bit_generator.state for g in self._generators],
        }

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        """Continue from `state`; returns the obs to act on next, float32 [N, K].

        Raises:
            DataError: the snapshot is of another problem or another number of envs.
        """
        if state["id"] != self.spec.id or len(state["lengths"]) != self.num_envs:
            raise DataError(
                f"the snapshot holds {len(state['lengths'])} envs of {state['id']}, "
                f"this is {self.num_envs} of {self.spec.id}"
            )
        generators = [np.random.default_rng(0) for _ in range(self.num_envs)]
        for generator, saved in zip(generators, state["generators"], strict=True):
            generator.bit_generator.state = saved
        self._generators = generators
        states, n = np.array(state["states"], np.float64), self.num_envs
        self._obs = like("obs", state["obs"], np.zeros((n, self.game.obs_size), np.float32))
        self._scores = like("scores", state["scores"], np.zeros(n))
        self._lengths = like("lengths", state["lengths"], np.zeros(n, np.int64))
        if len(states) != n or not np.isfinite(states).all() or self.game.observe(states).shape != self._obs.shape:
            raise DataError(f"the snapshot's states {list(states.shape)} are not of {n} envs of {self.spec.id}")
        self._states = states
        self._steps = int(state["steps"])
        return self._obs.copy()

    def render(self, env_index: int) -> np.ndarray:
        """The current frame of one env, uint8 RGB [400, 600, 3]. Raises EnvError before the first `reset`."""
        self._check_started()
        return self.game.draw(self._states[env_index])

    def close(self) -> None:
        """Nothing to release."""
