"""Run the methods of the package one step at a time, with random features, rewards and ends."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from playfield.linear import features
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED

ACTIONS, SIZE = 3, 7
CLOSE: dict[str, Any] = {"rel": 0, "abs": 1e-10}


class Episode(NamedTuple):
    xs: list[np.ndarray]  # x_0..x_T, dense [F]
    rewards: list[float]  # R_1..R_T
    terminal: bool  # else truncated after T steps

    def end(self, t: int) -> int:
        """What step t (of 0..T-1) ends with."""
        return ONGOING if t + 1 < len(self.rewards) else TERMINATED if self.terminal else TRUNCATED


def episodes(seed: int, count: int = 4, binary: bool = False) -> list[Episode]:
    """Episodes of 1 to 12 steps, half of them truncated; features are real numbers, some 0, or 0 and 1."""
    rng, out = np.random.default_rng(seed), []
    for number in range(count):
        steps = int(rng.integers(1, 13))
        on = rng.random((steps + 1, SIZE)) < 0.5
        values = on * (1.0 if binary else rng.normal(size=on.shape))
        out.append(Episode(list(values), rng.normal(size=steps).tolist(), number % 2 == 0))
    return out


def coder() -> features.Coder:
    """One that has SIZE features, all of which may be on."""
    rest = np.zeros(SIZE - 1)
    return features.identity(features.Bounds(rest, rest + 1, rest + 1))


class Driven:
    """A method of the package, one step at a time; `w` are its weights."""

    def __init__(self, algo: Any, seed: int = 0, compiled: bool = True, **config: Any) -> None:
        cfg = dataclasses.replace(algo.Config(), **config)
        self.memory = algo.memory(ACTIONS, coder(), cfg)
        self.begin_, self.learn_ = (f if compiled else f.py_func for f in (algo.begin, algo.learn))
        self.rates, self.rng, self.w = algo.rates(cfg), np.random.default_rng(seed), self.memory.w
        self.index, self.value = np.zeros(SIZE, np.int64), np.zeros(SIZE)

    def _on(self, x: np.ndarray) -> int:
        which = np.flatnonzero(x)
        self.index[: len(which)], self.value[: len(which)] = which, x[which]
        return len(which)

    def begin(self, x: np.ndarray) -> int:
        on = self._on(x)
        return self.begin_(self.memory, self.rates, self.rng, self.index, self.value, on)

    def learn(self, reward: float, x: np.ndarray, ended: int) -> int:
        on = self._on(x)
        return self.learn_(self.memory, self.rates, self.rng, reward, self.index, self.value, on, ended)

    def play(self, episode: Episode) -> tuple[list[int], list[np.ndarray]]:
        """Actions taken, and the weights after every step."""
        actions, weights = [self.begin(episode.xs[0])], []
        for t, reward in enumerate(episode.rewards):
            actions.append(self.learn(reward, episode.xs[t + 1], episode.end(t)))
            weights.append(self.w.copy())
        return actions, weights


def started(algo: Any, seed: int, **config: Any) -> tuple[Driven, np.ndarray]:
    """A method with random first weights, and a copy of them."""
    mine = Driven(algo, seed, **config)
    mine.w[:] = np.random.default_rng(seed + 1000).normal(size=mine.w.shape)
    return mine, mine.w.copy()
