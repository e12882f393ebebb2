"""What lessons with tables of values share: the choice of actions, and many runs on all cores."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np

from playfield.compute import cores
from playfield.lessons._request import Request
from playfield.linear.jit import Bools, Floats, kernel
from playfield.linear.kernels import sample_uniform
from playfield.linear.many import spread

T = TypeVar("T")


def arrows(chosen: np.ndarray) -> np.ndarray:
    """A sign for each of `chosen`: an arrow for 0 to 3 (up, right, down, left), nothing for 4, which is no action."""
    signs: np.ndarray = np.array([*"↑→↓←", ""], dtype=object)[chosen]
    return signs


@kernel
def best(values: Floats, rng: np.random.Generator) -> int:
    """The action with the highest of `values` [A]; ties break at random."""
    chosen, ties, top = 0, 0, -math.inf
    for a in range(len(values)):
        if values[a] > top:
            chosen, ties, top = a, 1, values[a]
        elif values[a] == top:
            ties += 1
            if rng.random() * ties < 1.0:
                chosen = a
    return chosen


@kernel
def choose(values: Floats, epsilon: float, rng: np.random.Generator) -> int:
    """An action of the epsilon-greedy policy by `values` [A]."""
    if rng.random() < epsilon:
        return sample_uniform(rng, len(values))
    return best(values, rng)


def play_all(request: Request, label: str, play: Callable[[np.random.Generator, Bools], T]) -> tuple[list[T], float]:
    """`play(rng, stop)` once for each run, with the seeds 0, 1, ...; returns the results and the seconds they took.

    `play` returns as soon as stop[0] is set: so it is compiled before the time is taken, and an interrupt ends it.
    """
    done = request.progress.part(label)
    play(np.random.default_rng(0), np.ones(1, np.bool_))
    begun = time.perf_counter()
    threads = min(cores(), request.runs)
    found = spread(lambda seed, stop: play(np.random.default_rng(seed), stop), range(request.runs), threads, done)
    return found, time.perf_counter() - begun
