"""The linear methods written a second time, slowly, from the definitions in Sutton and Barto's book (2018).

Nothing here is shared with the package: dense vectors, whole episodes kept in lists, every return computed anew.
`phi` maps a state to a dense vector [F]; weights of values are [F], of action values [A, F].
An episode is `rewards` R_1..R_T and its states; `terminal`: it terminated, else it was truncated after T steps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np

# Features: sections 9.5.1, 9.5.2 and 9.5.4


class Tiles3:
    """An index hash table: tiles get numbers in the order in which they are first met.

    When it is full, a new tile shares a number with others: `overfull` counts how often that was asked.
    """

    def __init__(self, size: int) -> None:
        self.size, self.numbers, self.overfull = size, {}, 0

    def number(self, tile: tuple[int, ...]) -> int | None:
        """The tile's own number; None where there is no room for it any more."""
        if tile not in self.numbers:
            if len(self.numbers) >= self.size:
                self.overfull += 1
                return None
            self.numbers[tile] = len(self.numbers)
        return self.numbers[tile]

    def tiles(self, tilings: int, scaled: Sequence[float]) -> list[int | None]:
        """Numbers of the active tiles of numbers `scaled` so that a tile is 1 wide.

        Tiling k is displaced by k/tilings of a tile times (1, 3, 5, ...), one odd number for each dimension.
        """
        return [self.number((k, *coordinates)) for k, coordinates in enumerate(tile_coordinates(tilings, scaled))]


def tile_coordinates(tilings: int, scaled: Sequence[float]) -> list[tuple[int, ...]]:
    """Which tile of each tiling holds the point: counted in units of 1/tilings of a tile, then divided."""
    units = [math.floor(x * tilings) for x in scaled]
    return [tuple((u + k * (1 + 2 * d)) // tilings for d, u in enumerate(units)) for k in range(tilings)]


def polynomial(state: Sequence[float], order: int) -> list[float]:
    """All products of powers 0..order of the numbers of a state (equation 9.17)."""
    powers = itertools.product(range(order + 1), repeat=len(state))
    return [math.prod(s**c for s, c in zip(state, cs, strict=True)) for cs in powers]


def legendre(state: Sequence[float], order: int) -> list[float]:
    """Products of Legendre polynomials 0..order of the numbers of a state, by NumPy; they lie between 0 and 1."""
    one = [[np.polynomial.legendre.legval(2 * s - 1, np.eye(order + 1)[n]) for n in range(order + 1)] for s in state]
    return [math.prod(values) for values in itertools.product(*one)]


def fourier(state: Sequence[float], order: int) -> list[float]:
    """cos(pi s.c) for all whole-number vectors c of 0..order (equation 9.18); the state lies in the unit cube."""
    coefficients = itertools.product(range(order + 1), repeat=len(state))
    return [math.cos(math.pi * sum(s * c for s, c in zip(state, cs, strict=True))) for cs in coefficients]


# Games


class LessonCar:
    """Lesson 18's own mountain car: starts in [-0.6, -0.4), x in [-1.2, 0.5], ends at 0.5, -1 at every step."""

    actions = 3

    def start(self, rng: np.random.Generator) -> tuple[float, float]:
        return -0.6 + 0.2 * rng.random(), 0.0

    def step(self, state, action: int, rng=None):
        x, v = state
        v = min(max(v + (0.001 * (action - 1) - 0.0025 * math.cos(3 * x)), -0.07), 0.07)
        x = min(max(x + v, -1.2), 0.5)
        return (x, 0.0 if x <= -1.2 else v), -1.0, x >= 0.5


# Returns


def n_step_return(rewards, values_then, t: int, n: int, gamma: float) -> float:
    """R_{t+1} + ... + gamma^{n-1} R_{t+n} + gamma^n values_then(t + n): the value of the state met then (7.1)."""
    return sum(gamma**k * rewards[t + k] for k in range(n)) + gamma**n * values_then(t + n)


def truncated_lambda_return(rewards, values_then, t: int, horizon: int, gamma: float, lam: float) -> float:
    """G^lambda_{t:h}, equation 12.9: what is known of the lambda-return from t when only h steps have been seen."""
    n_steps = horizon - t
    parts = [(1 - lam) * lam ** (n - 1) * n_step_return(rewards, values_then, t, n, gamma) for n in range(1, n_steps)]
    return sum(parts) + lam ** (n_steps - 1) * n_step_return(rewards, values_then, t, n_steps, gamma)


def online_lambda_return(xs, rewards, terminal: bool, w0, alpha: float, gamma: float, lam: float) -> list[np.ndarray]:
    """Section 12.4: after each step, all updates of the episode are recomputed from `w0` up to the present horizon.

    `xs` are x_0..x_T, each [F] (of a state and action [A, F]; then `w0` too). Returns the weights after 1..T steps.
    """
    weights, last = [np.array(w0, float)], len(rewards)  # weights[h] is w^h_h

    def then(at: int) -> float:
        return 0.0 if terminal and at == last else float((weights[at - 1] * xs[at]).sum())

    for horizon in range(1, last + 1):
        w = np.array(w0, float)
        for t in range(horizon):
            goal = truncated_lambda_return(rewards, then, t, horizon, gamma, lam)
            w = w + alpha * (goal - (w * xs[t]).sum()) * xs[t]
        weights.append(w)
    return weights[1:]


def offline_lambda_return(
    xs, rewards, terminal: bool, w0, alpha: float, gamma: float, lam: float, sums: bool = False
) -> np.ndarray:
    """Equation 12.4, at the end of an episode: updates from the first state to the last towards lambda-returns.

    These are returns by the values of `w0`. `sums`: every error too, so the updates are only added up.
    """
    w0, last = np.array(w0, float), len(rewards)
    w = w0.copy()

    def then(at: int) -> float:
        return 0.0 if terminal and at == last else float((w0 * xs[at]).sum())

    for t in range(last):
        goal = truncated_lambda_return(rewards, then, t, last, gamma, lam)
        w = w + alpha * (goal - ((w0 if sums else w) * xs[t]).sum()) * xs[t]
    return w


# Whole algorithms. `act(q, rng)` chooses among action values [A]; it uses random numbers in the package's order.

Act = Callable[[np.ndarray, np.random.Generator], int]


def taken(actions: int, action: int, x: np.ndarray) -> np.ndarray:
    """The feature vector of a state and action: x in the action's row, 0 elsewhere [A, F]."""
    out = np.zeros((actions, len(x)))
    out[action] = x
    return out


def play_sarsa(game, phi, act: Act, learner, rng, weights, max_steps: int = 0) -> int:
    """One episode, on-policy: `learner(t, x, action, reward, x_next, next_action, terminal, last)` sets weights.

    The next action is chosen before the update; at a cut end there is a next action, at a true one there is none.
    """
    state, t = game.start(rng), 0
    x = phi(state)
    action = act(weights @ x, rng)
    while True:
        state, reward, terminal = game.step(state, action, rng)
        t += 1
        cut = not terminal and t == max_steps
        x_next = phi(state)
        following = -1 if terminal else act(weights @ x_next, rng)
        learner(t - 1, x, action, reward, x_next, following, terminal, terminal or cut)
        if terminal or cut:
            return t
        x, action = x_next, following


class NStepSarsa:
    """Section 10.2 with everything of the episode kept."""

    def __init__(self, weights, n: int, alpha: float, gamma: float) -> None:
        self.w, self.n, self.alpha, self.gamma = weights, n, alpha, gamma

    def __call__(self, t, x, action, reward, x_next, following, terminal, last) -> None:
        if t == 0:
            self.seen, self.rewards = [(x, action)], []
        self.rewards.append(reward)
        self.seen.append((x_next, following))
        first = t + 1 - self.n
        for tau in range(first, t + 1) if last else [first]:
            if tau >= 0:
                self._update(tau, terminal)

    def _update(self, tau: int, terminal: bool) -> None:
        steps = len(self.rewards)
        end = min(tau + self.n, steps)
        goal = sum(self.gamma ** (i - tau) * self.rewards[i] for i in range(tau, end))
        if not (terminal and end == steps):
            x, action = self.seen[end]
            goal += self.gamma ** (end - tau) * (self.w[action] @ x)
        x, action = self.seen[tau]
        self.w[action] += self.alpha * (goal - self.w[action] @ x) * x


class SarsaLambda:
    """Section 12.7; traces `accumulating`, `replacing` (binary features) or `dutch` (true online)."""

    def __init__(self, weights, lam: float, alpha: float, gamma: float, trace: str) -> None:
        self.w, self.lam, self.alpha, self.gamma, self.trace = weights, lam, alpha, gamma, trace

    def __call__(self, t, x, action, reward, x_next, following, terminal, last) -> None:
        here = taken(len(self.w), action, x)
        there = np.zeros_like(here) if terminal else taken(len(self.w), following, x_next)
        if t == 0:
            self.z, self.old = np.zeros_like(self.w), 0.0
        value, value_next = (self.w * here).sum(), (self.w * there).sum()
        delta = reward + self.gamma * value_next - value
        fade, alpha = self.gamma * self.lam, self.alpha
        if self.trace == "dutch":
            self.z = fade * self.z + (1 - alpha * fade * (self.z * here).sum()) * here
            self.w += alpha * (delta + value - self.old) * self.z - alpha * (value - self.old) * here
            self.old = value_next
            return
        self.z = fade * self.z
        self.z = self.z + here if self.trace == "accumulating" else np.where(here != 0, here, self.z)
        self.w += alpha * delta * self.z


class Watkins:
    """Q-learning with traces, which are reset where the next action is not greedy (section 12.10)."""

    def __init__(self, weights, lam: float, alpha: float, gamma: float, trace: str = "accumulating") -> None:
        self.w, self.lam, self.alpha, self.gamma, self.trace = weights, lam, alpha, gamma, trace

    def __call__(self, t, x, action, reward, x_next, following, terminal, last) -> None:
        if t == 0:
            self.z = np.zeros_like(self.w)
        here, q_next = taken(len(self.w), action, x), self.w @ x_next
        self.z = self.z + here if self.trace == "accumulating" else np.where(here != 0, here, self.z)
        delta = reward + (0.0 if terminal else self.gamma * q_next.max()) - self.w[action] @ x
        self.w += self.alpha * delta * self.z
        if not last:
            greedy = q_next[following] == q_next.max()
            self.z = self.gamma * self.lam * self.z if greedy else np.zeros_like(self.z)


def td_lambda(xs, rewards, terminal: bool, w, alpha: float, gamma: float, lam: float) -> None:
    """Semi-gradient TD(lambda), section 12.2: one episode, the weights changed in place."""
    z = np.zeros_like(w)
    for t, reward in enumerate(rewards):
        over = terminal and t + 1 == len(rewards)
        delta = reward + (0.0 if over else gamma * (w @ xs[t + 1])) - w @ xs[t]
        z = gamma * lam * z + xs[t]
        w += alpha * delta * z
