"""The random walk of 1,000 states, and prediction on it with linear features: shared by four lessons.

The walk starts in the middle. A step leads to one of the 100 states on either side, all equally likely; a step beyond
an end ends the episode, with reward -1 on the left and +1 on the right. Source: Sutton and Barto 2018, example 9.1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from playfield.lessons._panels import Line
from playfield.lessons._request import Request
from playfield.lessons._tabular import play_all
from playfield.linear.jit import Bools, Floats, jit, kernel
from playfield.linear.kernels import sample_uniform

STATES, REACH = 1_000, 100
START = STATES // 2 - 1  # the book's state 500
POINTS = 100  # of a curve
Ints = NDArray[np.int64]


def exact() -> tuple[Floats, Floats]:
    """True values [1000], and the share of its steps that the walk spends in each state [1000]."""
    to = np.zeros((STATES, STATES))
    for state in range(STATES):
        to[state, max(state - REACH, 0) : state + REACH + 1] = 1 / (2 * REACH)
        to[state, state] = 0.0
    at = np.arange(STATES)
    left, right = np.maximum(REACH - at, 0), np.maximum(at + REACH - STATES + 1, 0)
    one = np.eye(STATES)
    values = np.linalg.solve(one - to, (right - left) / (2 * REACH))
    visits = np.linalg.solve(one - to.T, one[START])
    return np.asarray(values, np.float64), np.asarray(visits / visits.sum(), np.float64)


def polynomial(order: int) -> Floats:
    """Features [1000, order + 1]: the powers of the state's place in 0 to 1."""
    return np.asarray((np.arange(STATES) / (STATES - 1))[:, None] ** np.arange(order + 1), np.float64)


def fourier(order: int) -> Floats:
    """Features [1000, order + 1]: cosines with 0 to `order` half waves over the walk."""
    return np.asarray(np.cos(np.pi * np.arange(order + 1) * (np.arange(STATES) / (STATES - 1))[:, None]), np.float64)


def dense(features: Floats) -> tuple[Ints, Floats]:
    """Features [1000, D] as (index, factor), each [1000, D]: where a state has weights, and how much of each."""
    return np.broadcast_to(np.arange(features.shape[1]), features.shape).copy(), np.ascontiguousarray(features)


def tilings(count: int, width: int = 200, offset: int = 4) -> tuple[Ints, Floats]:
    """Tilings with tiles of `width` states, each `offset` states further, as (index, factor), each [1000, count]."""
    tiles = STATES // width + (count > 1)  # shifted ones need one more
    shift = offset * np.arange(count)
    return np.arange(count) * tiles + (np.arange(STATES)[:, None] + shift) // width, np.ones((STATES, count))


def best_error(index: Ints, factor: Floats, truth: Floats, share: Floats) -> float:
    """The lowest error that any weights have: by least squares."""
    x = np.zeros((STATES, int(index.max()) + 1))
    np.put_along_axis(x, index, factor, axis=1)
    root = np.sqrt(share)
    weights = np.linalg.lstsq(x * root[:, None], truth * root, rcond=None)[0]
    return round(float(np.sqrt(share @ (truth - x @ weights) ** 2)), 12)  # 0 where every state has its own weight


@kernel
def move(state: int, rng: np.random.Generator) -> int:
    """The next state; below 0 or above 999 the episode is over."""
    jump = sample_uniform(rng, 2 * REACH) - REACH
    return state + (jump if jump < 0 else jump + 1)


@kernel
def value(state: int, index: Ints, factor: Floats, w: Floats) -> float:
    """The estimate of a state."""
    total = 0.0
    for i in range(index.shape[1]):
        total += factor[state, i] * w[index[state, i]]
    return total


@kernel
def error_of(index: Ints, factor: Floats, w: Floats, truth: Floats, share: Floats) -> float:
    """Root of the mean square error of all states, each weighted by `share`."""
    total = 0.0
    for state in range(len(truth)):
        total += share[state] * (truth[state] - value(state, index, factor, w)) ** 2
    return math.sqrt(total)


@jit
def monte_carlo(
    alpha: float,
    every: int,
    rng: np.random.Generator,
    stop: Bools,
    index: Ints,
    factor: Floats,
    w: Floats,
    truth: Floats,
    share: Floats,
    errors: Floats,
) -> None:
    """Gradient Monte Carlo of the weights w [D], in place; `errors` [P]: after each `every` episodes."""
    visited = np.zeros(1_000, np.int64)
    for episode in range(len(errors) * every):
        if stop[0]:
            return
        state, length = START, 0
        while 0 <= state < STATES:
            if length == len(visited):
                visited = np.concatenate((visited, visited))
            visited[length] = state
            length += 1
            state = move(state, rng)
        outcome = 1.0 if state >= STATES else -1.0
        for t in range(length):
            at = visited[t]
            change = alpha * (outcome - value(at, index, factor, w))
            for i in range(index.shape[1]):
                w[index[at, i]] += change * factor[at, i]
        if (episode + 1) % every == 0:
            errors[(episode + 1) // every - 1] = error_of(index, factor, w, truth, share)


@jit
def td_lambda(
    alpha: float,
    lam: float,
    rng: np.random.Generator,
    stop: Bools,
    index: Ints,
    factor: Floats,
    w: Floats,
    truth: Floats,
    share: Floats,
    errors: Floats,
) -> None:
    """Semi-gradient TD(lambda) with accumulating traces, as `monte_carlo`; `errors` [episodes]: after each."""
    trace = np.zeros(len(w))
    for episode in range(len(errors)):
        if stop[0]:
            return
        state = START
        trace[:] = 0.0
        while 0 <= state < STATES:
            following = move(state, rng)
            if following < 0:
                target = -1.0
            elif following >= STATES:
                target = 1.0
            else:
                target = value(following, index, factor, w)
            change = alpha * (target - value(state, index, factor, w))
            for i in range(len(trace)):
                trace[i] *= lam
            for i in range(index.shape[1]):
                trace[index[state, i]] += factor[state, i]
            for i in range(len(trace)):
                w[i] += change * trace[i]
            state = following
        errors[episode] = error_of(index, factor, w, truth, share)


def learnt(
    request: Request, label: str, alpha: float, index: Ints, factor: Floats, truth: Floats, share: Floats
) -> tuple[Line, float]:
    """Errors of gradient Monte Carlo in all runs, as a curve over the episodes, and the seconds that they took."""
    every = max(1, request.episodes // POINTS)
    points = request.episodes // every

    def play(rng: np.random.Generator, stop: Bools) -> Floats:
        errors, w = np.zeros(points), np.zeros(int(index.max()) + 1)
        monte_carlo(alpha, every, rng, stop, index, factor, w, truth, share, errors)
        return errors

    found, seconds = play_all(request, label, play)
    return Line(label, every * np.arange(1, points + 1), np.stack(found)), seconds
