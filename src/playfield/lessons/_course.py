"""Sarsa on Gymnasium's MountainCar as the course's code runs it, with its two mistakes at the start of an episode.

1. It seeds the environment again in every episode, so all episodes start in the same state.
2. Its `reset` stores the whole observation as the position, so the first state has the features of two states: of the
   position, and of the velocity (0) taken as a position.

Everything else is `playfield.algos.sarsa` and `playfield.linear`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from playfield.algos import sarsa
from playfield.linear.coders import coder_for
from playfield.linear.features import Coder, encode, fresh
from playfield.linear.jit import jit
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED
from playfield.linear.many import Outcome, configured, spread
from playfield.linear.problems import CAR_GYM, STATE, observe, problem, step

START = -0.47260777  # position at which Gymnasium's car starts with seed 0
MOST = 100_000  # steps after which an episode is truncated


@jit
def first(coder: Coder, index: np.ndarray, value: np.ndarray) -> int:
    """The active features of the first state, written into index and value [2 K]; returns how many there are."""
    obs, more, ones = np.zeros(2), np.zeros(coder.active, np.int64), np.zeros(coder.active)
    obs[0] = np.float32(START)
    on: int = encode(coder, obs, index, value)
    obs[0] = 0.0
    for j in range(encode(coder, obs, more, ones)):
        if not (index[:on] == more[j]).any():
            index[on], value[on] = more[j], 1.0
            on += 1
    return on


@jit
def _play(coder: Coder, m: Any, h: Any, rng: np.random.Generator, stop: np.ndarray, steps: np.ndarray) -> None:
    state, obs = np.zeros(STATE), np.zeros(2)
    index, value = np.zeros(2 * coder.active, np.int64), np.zeros(2 * coder.active)
    for episode in range(len(steps)):
        state[0], state[1] = START, 0.0
        action = sarsa.begin(m, h, rng, index, value, first(coder, index, value))
        ended, t = ONGOING, 0
        while ended == ONGOING:
            reward, over = step(CAR_GYM, rng, state, action)
            observe(CAR_GYM, state, obs)
            t += 1
            if stop[0]:
                return
            ended = TERMINATED if over else TRUNCATED if t == MOST else ONGOING
            action = sarsa.learn(m, h, rng, reward, index, value, encode(coder, obs, index, value), ended)
        steps[episode] = t


def experiment(
    features: str, *, seeds: range, episodes: int, progress: Callable[[int, int], None], **options: Any
) -> Outcome:
    """Run it once per seed; the result is that of `playfield.experiment`."""
    spec = problem("mountain-car-gym")
    _, cfg = configured("sarsa", {**options, "features": features})
    coder = coder_for(features, *(np.array(bound, np.float64) for bound in (spec.low, spec.high, spec.tiled)))

    def one(seed: int, stop: np.ndarray) -> Any:
        own, m, steps = fresh(coder), sarsa.memory(spec.actions, coder, cfg), np.zeros(episodes, np.int64)
        ring = len(m.active)  # room for the features of two states
        m = m._replace(indices=np.zeros((ring, 2 * own.active), np.int64), values=np.zeros((ring, 2 * own.active)))
        _play(own, m, sarsa.rates(cfg), np.random.default_rng(seed), stop, steps)
        return m.w, own, steps

    begun = time.perf_counter()
    runs = spread(one, seeds, 1, progress)  # one thread, as in the course
    none = np.zeros(len(runs), np.int64)
    steps = np.stack([r[2] for r in runs])
    return Outcome(
        steps=steps,
        returns=-steps.astype(float),
        weights=np.stack([r[0] for r in runs]),
        critic=None,
        errors=None,
        collisions=none,
        numbered=none,
        coders=[r[1] for r in runs],
        seconds=time.perf_counter() - begun,
    )
