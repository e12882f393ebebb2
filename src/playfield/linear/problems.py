"""Small environments as scalar code, for many runs in compiled loops.

    mountain-car      MountainCar of a course on linear methods: x starts in [-0.6, -0.4), the track ends at x = 0.5
    mountain-car-gym  Gymnasium's MountainCar: the same, but the track goes on to 0.6; observations are float32
    cartpole, acrobot Gymnasium's CartPole-v1 and Acrobot-v1, without their time limits
    random-walk       19 states in a row, a step to either side at random; reward -1 left of them, +1 right of them

`start` and `step` change a state in place, `observe` writes the observation of it. Sources: Moore 1990 and Sutton
1996 (MountainCar), Barto, Sutton and Anderson 1983 (CartPole), Sutton and Barto 2018 (examples 6.2, 7.1, 12).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from playfield.errors import unknown
from playfield.linear.jit import Floats, kernel

CAR, CAR_GYM, CARTPOLE, ACROBOT, WALK = range(5)
WALK_STATES = 19
STATE = 4  # numbers in the largest state


@dataclass(frozen=True)
class Problem:
    """A problem, as the compiled functions and the coders need it.

    Attributes:
        code: its number in the compiled functions.
        actions: number of actions.
        low, high: [D] bounds of observations (CartPole's velocities rarely leave them).
        tiled: [D] width of the range above `low` that is cut into tiles; beyond it lies one more tile.
        env: id of the same environment in `make_envs`, or empty.
    """

    code: int
    actions: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    tiled: tuple[float, ...]
    env: str = ""


_PI = math.pi
PROBLEMS: dict[str, Problem] = {
    "mountain-car": Problem(CAR, 3, (-1.2, -0.07), (0.5, 0.07), (1.7, 0.14)),
    "mountain-car-gym": Problem(CAR_GYM, 3, (-1.2, -0.07), (0.6, 0.07), (1.7, 0.14), "MountainCar-v0"),
    "cartpole": Problem(
        CARTPOLE, 2, (-2.4, -3.0, -0.21, -3.5), (2.4, 3.0, 0.21, 3.5), (4.8, 6, 0.42, 7), "CartPole-v1"
    ),
    "acrobot": Problem(
        ACROBOT,
        3,
        (-1.0, -1.0, -1.0, -1.0, -4 * _PI, -9 * _PI),
        (1.0, 1.0, 1.0, 1.0, 4 * _PI, 9 * _PI),
        (2.0, 2.0, 2.0, 2.0, 8 * _PI, 18 * _PI),
        "Acrobot-v1",
    ),
    "random-walk": Problem(WALK, 1, (0.0,), (WALK_STATES - 1.0,), (WALK_STATES - 1.0,)),
}


def problem(name: str) -> Problem:
    """The problem called `name`. Raises UsageError for an unknown name."""
    if name not in PROBLEMS:
        raise unknown("problem", name, PROBLEMS)
    return PROBLEMS[name]


@kernel
def start(code: int, rng: np.random.Generator, state: Floats) -> None:
    """Sample an initial state into `state` [STATE]."""
    if code == CAR:
        state[0] = -0.6 + 0.2 * rng.random()
        state[1] = 0.0
    elif code == CAR_GYM:
        state[0] = -0.6 + (-0.4 - -0.6) * rng.random()
        state[1] = 0.0
    elif code == CARTPOLE:
        for i in range(4):
            state[i] = -0.05 + (0.05 - -0.05) * rng.random()
    elif code == ACROBOT:
        for i in range(4):
            state[i] = np.float32(-0.1 + (0.1 - -0.1) * rng.random())
    else:
        state[0] = WALK_STATES // 2


@kernel
def observe(code: int, state: Floats, obs: Floats) -> None:
    """Write the observation of `state` into `obs` [D]: rounded to float32 where Gymnasium's is."""
    if code in (CAR, WALK):
        obs[0] = state[0]
        if code == CAR:
            obs[1] = state[1]
    elif code == ACROBOT:
        obs[0] = np.float32(math.cos(state[0]))
        obs[1] = np.float32(math.sin(state[0]))
        obs[2] = np.float32(math.cos(state[1]))
        obs[3] = np.float32(math.sin(state[1]))
        obs[4] = np.float32(state[2])
        obs[5] = np.float32(state[3])
    else:
        for i in range(len(obs)):
            obs[i] = np.float32(state[i])


@kernel
def step(code: int, rng: np.random.Generator, state: Floats, action: int) -> tuple[float, bool]:
    """Take `action` in `state`, which becomes the next state; returns (reward, terminated)."""
    if code in (CAR, CAR_GYM):
        return _car(state, action, 0.5 if code == CAR else 0.6)
    if code == CARTPOLE:
        return _cartpole(state, action)
    if code == ACROBOT:
        return _acrobot(state, action)
    state[0] += 1 if rng.random() < 0.5 else -1
    if state[0] < 0:
        return -1.0, True
    if state[0] >= WALK_STATES:
        return 1.0, True
    return 0.0, False


@kernel
def _car(state: Floats, action: int, end: float) -> tuple[float, bool]:
    v = state[1] + ((action - 1) * 0.001 + math.cos(3 * state[0]) * -0.0025)
    v = min(max(v, -0.07), 0.07)
    x = min(max(state[0] + v, -1.2), end)
    if x <= -1.2 and v < 0:  # the left wall stops the car
        v = 0.0
    state[0], state[1] = x, v
    return -1.0, x >= 0.5 and v >= 0


@kernel
def _cartpole(state: Floats, action: int) -> tuple[float, bool]:
    x, speed, angle, spin = state[0], state[1], state[2], state[3]
    force = 10.0 if action == 1 else -10.0
    cos, sin = math.cos(angle), math.sin(angle)
    push = (force + 0.05 * (spin * spin) * sin) / 1.1
    spin_rate = (9.8 * sin - cos * push) / (0.5 * (4.0 / 3.0 - 0.1 * (cos * cos) / 1.1))
    state[0] = x + 0.02 * speed  # Euler steps of 0.02 s
    state[1] = speed + 0.02 * (push - 0.05 * spin_rate * cos / 1.1)
    state[2] = angle + 0.02 * spin
    state[3] = spin + 0.02 * spin_rate
    return 1.0, abs(state[0]) > 2.4 or abs(state[2]) > 12 * 2 * math.pi / 360


@kernel
def _rates(a1: float, a2: float, s1: float, s2: float, torque: float) -> tuple[float, float]:
    """Angular accelerations of the Acrobot's links; masses, lengths and inertias are 1, centres of mass at 0.5."""
    d1 = 0.25 + (1.25 + math.cos(a2)) + 2.0
    d2 = (0.25 + 0.5 * math.cos(a2)) + 1.0
    phi2 = 4.9 * math.cos(a1 + a2 - math.pi / 2)
    phi1 = -0.5 * s2 * s2 * math.sin(a2) - s2 * s1 * math.sin(a2) + 14.7 * math.cos(a1 - math.pi / 2) + phi2
    r2 = (torque + d2 / d1 * phi1 - 0.5 * s1 * s1 * math.sin(a2) - phi2) / (1.25 - d2 * d2 / d1)
    return -(d2 * r2 + phi1) / d1, r2


@kernel
def _wrap(angle: float) -> float:
    while angle > math.pi:
        angle -= 2 * math.pi
    while angle < -math.pi:
        angle += 2 * math.pi
    return angle


@kernel
def _acrobot(state: Floats, action: int) -> tuple[float, bool]:
    a1, a2, s1, s2 = state[0], state[1], state[2], state[3]
    torque = action - 1.0
    # One Runge-Kutta step (fourth order) of 0.2 s; k is the rate of (a1, a2, s1, s2).
    r1, r2 = _rates(a1, a2, s1, s2, torque)
    k1 = (s1, s2, r1, r2)
    r1, r2 = _rates(a1 + 0.1 * k1[0], a2 + 0.1 * k1[1], s1 + 0.1 * k1[2], s2 + 0.1 * k1[3], torque)
    k2 = (s1 + 0.1 * k1[2], s2 + 0.1 * k1[3], r1, r2)
    r1, r2 = _rates(a1 + 0.1 * k2[0], a2 + 0.1 * k2[1], s1 + 0.1 * k2[2], s2 + 0.1 * k2[3], torque)
    k3 = (s1 + 0.1 * k2[2], s2 + 0.1 * k2[3], r1, r2)
    r1, r2 = _rates(a1 + 0.2 * k3[0], a2 + 0.2 * k3[1], s1 + 0.2 * k3[2], s2 + 0.2 * k3[3], torque)
    k4 = (s1 + 0.2 * k3[2], s2 + 0.2 * k3[3], r1, r2)
    for i in range(4):
        state[i] += 0.2 / 6.0 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i])
    state[0], state[1] = _wrap(state[0]), _wrap(state[1])
    state[2] = min(max(state[2], -4 * math.pi), 4 * math.pi)
    state[3] = min(max(state[3], -9 * math.pi), 9 * math.pi)
    over = -math.cos(state[0]) - math.cos(state[1] + state[0]) > 1.0
    return (0.0 if over else -1.0), over


def walk_values() -> np.ndarray:
    """True values [19] of the random walk's states with gamma 1: linear from -0.9 to 0.9."""
    half = WALK_STATES // 2
    return np.arange(-half, half + 1) / (half + 1)
