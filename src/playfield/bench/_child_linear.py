"""Sides of the benchmark of linear methods, each in its own process: `python -m playfield.bench._child_linear SIDE`.

`gym` is what our runs are compared with: a plain loop over Gymnasium's MountainCar with dense features in NumPy, as
in a course. It samples the same random numbers as our runs, so both play the same episodes.

`playfield.experiment` is loaded on first use: the folder for compiled code must be set before numba is imported, and
experiment A measures the time of the imports.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import sys
import time
from typing import Any

import numpy as np
from gymnasium.envs.classic_control import MountainCarEnv

import playfield
from playfield.bench._child import parser, send

TILES = 8
FEATURES = f"onehot:tiles={TILES}"
ALPHA = 0.5 / TILES
STEP_SIZES = (0.1, 0.2, 0.5)  # of experiment C, times 8


def gym(seeds: list[int], episodes: int) -> dict[str, Any]:
    """Semi-gradient Sarsa in a plain loop, one run after another."""
    _sarsa(MountainCarEnv(), np.random.default_rng(0), 1)
    start, lengths = time.perf_counter(), []
    for seed in seeds:
        lengths.append(_sarsa(MountainCarEnv(), np.random.default_rng(seed), episodes))
    return _result(np.array(lengths), time.perf_counter() - start) | {"seeds": seeds, "threads": 1}


def _sarsa(env: Any, rng: np.random.Generator, episodes: int) -> list[int]:
    env.np_random = rng
    w, lengths = np.zeros((3, 2 * (TILES + 1))), []
    for _ in range(episodes):
        phi = _dense(env.reset()[0])
        action, over, t = _choose(w @ phi, rng), False, 0
        while not over:
            obs, reward, over, _, _ = env.step(action)
            next_phi, target, next_action = _dense(obs), reward, 0
            if not over:
                q = w @ next_phi
                next_action = _choose(q, rng)
                target += q[next_action]
            w[action] += ALPHA * (target - w[action] @ phi) * phi
            phi, action, t = next_phi, next_action, t + 1
        lengths.append(t)
    return lengths


def _dense(obs: np.ndarray) -> np.ndarray:
    x, v = obs.tolist()
    phi = np.zeros(2 * (TILES + 1))
    phi[int(TILES * (x + 1.2) / 1.7)] = 1
    phi[int(TILES * (v + 0.07) / 0.14) + TILES + 1] = 1
    return phi


def _choose(values: np.ndarray, rng: np.random.Generator) -> int:
    """The greedy action; ties are broken at random."""
    chosen, ties, top = 0, 0, -float("inf")
    for a, q in enumerate(values.tolist()):
        if q > top:
            chosen, ties, top = a, 1, q
        elif q == top:
            ties += 1
            if rng.random() * ties < 1.0:
                chosen = a
    return chosen


def ours(runs: int, episodes: int, threads: int) -> dict[str, Any]:
    """The same runs in parallel, after a short one that loads the compiled code."""

    def go(runs: int, episodes: int) -> Any:
        seeds = range(runs)
        return playfield.experiment(
            "sarsa", "mountain-car-gym", FEATURES, seeds=seeds, episodes=episodes, threads=threads, alpha=ALPHA
        )

    go(1, 1)
    start = time.perf_counter()
    out = go(runs, episodes)
    seconds = time.perf_counter() - start
    return _result(out.steps, seconds) | {"threads": threads or (os.cpu_count() or 1)}


def lesson_a(episodes: int) -> dict[str, Any]:
    """Experiment A: one epsilon-greedy run of 45 episodes, twice: the first call also loads compiled code."""
    begun = time.perf_counter()
    experiment = playfield.experiment
    importlib.import_module("playfield.algos.sarsa").Config().check()
    clock = [time.perf_counter()]
    for _ in range(2):
        out = experiment(
            "sarsa", "mountain-car-gym", FEATURES, seeds=[1], episodes=episodes, alpha=0.1 / 8, epsilon=0.1
        )
        clock.append(time.perf_counter())
    return _result(out.steps, clock[2] - clock[1]) | {"first_call": clock[1] - clock[0], "imports": clock[0] - begun}


def lesson_c(runs: int, episodes: int) -> dict[str, Any]:
    """Experiment C: three step sizes, 20 runs of 500 episodes each, on the course's own MountainCar."""

    def go(alpha: float, runs: int, episodes: int) -> Any:
        seeds = range(runs)
        return playfield.experiment(
            "sarsa", "mountain-car", FEATURES, seeds=seeds, episodes=episodes, alpha=alpha / 8
        )

    go(0.5, 1, 1)
    start = time.perf_counter()
    outs = [go(alpha, runs, episodes) for alpha in STEP_SIZES]
    seconds = time.perf_counter() - start
    last = [float(out.steps[:, -50:].mean()) for out in outs]
    return _result(np.concatenate([out.steps for out in outs]), seconds) | {"last_steps": last}


def _result(steps: np.ndarray, seconds: float) -> dict[str, Any]:
    digests = [hashlib.sha256(run.astype("<i8").tobytes()).hexdigest()[:16] for run in steps]
    return {"steps": int(steps.sum()), "episodes": int(steps.size), "seconds": seconds, "runs": digests}


def main(argv: list[str]) -> None:
    """Measure one side, and send the result to the parent."""
    p = parser()
    p.add_argument("side", choices=("gym", "ours", "one-thread", "A", "C"))
    p.add_argument("--runs", type=int, default=60)
    p.add_argument("--first", type=int, default=0, help="seed of the first run of gym")
    p.add_argument("--episodes", type=int, default=500)
    p.add_argument("--cache", help="folder for compiled code instead of the default one")
    a = p.parse_args(argv)
    if a.cache:
        os.environ["NUMBA_CACHE_DIR"] = a.cache
    result = {
        "gym": lambda: gym(list(range(a.first, a.first + a.runs)), a.episodes),
        "ours": lambda: ours(a.runs, a.episodes, 0),
        "one-thread": lambda: ours(a.runs, a.episodes, 1),
        "A": lambda: lesson_a(a.episodes),
        "C": lambda: lesson_c(a.runs, a.episodes),
    }[a.side]()
    send({"result": result})


if __name__ == "__main__":
    main(sys.argv[1:])
