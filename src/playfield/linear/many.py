"""Many runs of a linear method at once: each has weights, tables and random numbers of its own.

Runs are spread over threads; what a run computes does not depend on which others there are.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from playfield.compute import cores
from playfield.errors import DivergedError, UsageError, unknown
from playfield.linear import budget, features, problems
from playfield.linear.coders import coder_for, settled
from playfield.linear.kernels import ENDLESS
from playfield.runs import algorithm, catalog

METHODS = ("sarsa", "sarsa_lambda", "qlearning", "td_lambda", "linear_ac")


@dataclass(frozen=True)
class Outcome:
    """What R runs of E episodes did.

    Attributes:
        steps, returns: [R, E] length and undiscounted return of every episode.
        weights: [R, A, F]; of a prediction [R, F].
        critic: [R, F] of an actor-critic, else None.
        errors: [R, E] RMS error over all states after each episode, where true values are known; else None.
        collisions: [R] how often a cell of `iht` had to share its number.
        numbered: [R] cells that `iht` numbered.
        seconds: wall time of the runs.
    """

    steps: np.ndarray
    returns: np.ndarray
    weights: np.ndarray
    critic: np.ndarray | None
    errors: np.ndarray | None
    collisions: np.ndarray
    numbered: np.ndarray
    coders: list[features.Coder]
    seconds: float


def configured(method: str, wishes: dict[str, Any]) -> tuple[Any, Any]:
    """(module, Config) of a linear method with `wishes` as fields. Raises UsageError for unknown ones."""
    if method not in METHODS:
        raise unknown("linear method", method, METHODS)
    module: Any = algorithm.load(method)
    catalog.check(method, wishes)
    cfg = dataclasses.replace(module.Config(gamma=1.0, epsilon=0.0), **wishes)
    cfg.check()
    return module, cfg


def experiment(
    method: str,
    problem: str,
    features: str,
    *,
    seeds: Iterable[int],
    episodes: int,
    max_steps: int = 0,
    threads: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **wishes: Any,
) -> Outcome:
    """Run a linear method on a small problem, once for each seed.

    Args:
        method: one of `METHODS`.
        problem: a name of `problems.PROBLEMS`.
        features: a coder and its options, as in "tilings:tilings=8,tiles=8".
        seeds: one for each run.
        episodes: of each run.
        max_steps: after which an episode is truncated (0: never); less than a million.
        threads: 0 takes all cores.
        progress: told (runs done, runs in all) whenever one is done.
        wishes: fields of the method's `Config`. Here gamma is 1 and epsilon 0 unless told.

    Raises:
        UsageError: an unknown name or value, or more than the memory that is free. DivergedError: weights or values
            are no longer finite, or an episode took a million steps.
    """
    seeds, spec = seeds if isinstance(seeds, Sequence) else list(seeds), problems.problem(problem)
    if not len(seeds) or episodes < 1 or not 0 <= max_steps < ENDLESS:
        raise UsageError("an experiment needs a seed, an episode, and a limit from 0 to below a million steps")
    module, cfg = configured(method, {**wishes, "features": features})
    coder = coder_for(features, *(np.array(b, np.float64) for b in (spec.low, spec.high, spec.tiled)))
    cfg = settled(cfg, coder)
    truth = problems.walk_values() if problem == "random-walk" and method == "td_lambda" else np.zeros(0)
    workers = min(threads or cores(), len(seeds))
    budget.of_runs(cfg, spec.actions, coder, len(seeds), episodes, workers)
    seeds = [int(s) for s in seeds]

    def one(seed: int, stop: np.ndarray) -> Run:
        own = _fresh(coder)
        m = module.memory(spec.actions, own, cfg)
        if len(truth):
            m = m._replace(truth=truth, errors=np.zeros(episodes))
        steps, returns = np.zeros(episodes, np.int64), np.zeros(episodes)
        rng = np.random.default_rng(seed)
        limit = max_steps or ENDLESS
        module.play(spec.code, own, m, module.rates(cfg), rng, cfg.epsilon_decay, limit, stop, steps, returns)
        finite = np.isfinite(m.w).all() and (method != "linear_ac" or np.isfinite(m.critic).all())
        if not finite or (steps == ENDLESS).any():
            raise DivergedError(f"{method} on {problem} diverged (seed {seed}): lower alpha, now {cfg.alpha:g}")
        # Not all of `m`: traces of a run that is over would only take memory.
        critic = m.critic[0] if method == "linear_ac" else None
        return Run(m.w, critic, m.errors if len(truth) else None, own, steps, returns)

    start = time.perf_counter()
    done = spread(one, seeds, workers, progress)
    weights = np.stack([d.weights for d in done])
    return Outcome(
        steps=np.stack([d.steps for d in done]),
        returns=np.stack([d.returns for d in done]),
        weights=weights[:, 0] if method == "td_lambda" else weights,
        critic=np.stack([d.critic for d in done]) if method == "linear_ac" else None,
        errors=np.stack([d.errors for d in done]) if len(truth) else None,
        collisions=np.array([d.coder.told[1] for d in done]),
        numbered=np.array([d.coder.told[0] for d in done]),
        coders=[d.coder for d in done],
        seconds=time.perf_counter() - start,
    )


def spread(
    one: Callable[[int, np.ndarray], Any],
    seeds: Sequence[int],
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> list[Any]:
    """`one(seed, stop)` of each seed, on so many threads. Once one fails, or at an interrupt, stop[0] is set."""
    done: list[Any] = [None] * len(seeds)
    stop = np.zeros(1, np.bool_)

    def unless_stopped(seed: int) -> Any:
        if stop[0]:
            return None
        try:
            return one(seed, stop)
        except BaseException:
            stop[0] = True  # at once: the main thread may hear of it later
            raise

    with ThreadPoolExecutor(threads) as pool:
        jobs = {pool.submit(unless_stopped, seed): k for k, seed in enumerate(seeds)}
        try:
            for n, job in enumerate(as_completed(jobs), 1):
                done[jobs[job]] = job.result()
                if progress is not None:
                    progress(n, len(seeds))
        except BaseException:
            stop[0] = True  # compiled code does not hear of an interrupt
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return done


class Run(NamedTuple):
    """What is kept of a run: weights [A, F], critic [F], errors, steps and returns [E], and its coder."""

    weights: np.ndarray
    critic: np.ndarray | None
    errors: np.ndarray | None
    coder: features.Coder
    steps: np.ndarray
    returns: np.ndarray


_fresh = features.fresh


def values(coder: features.Coder, weights: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Values [N, A] of actions in `states` [N, D], by weights [A, F] (`Outcome.weights[run]`, `coders[run]`)."""
    coder = _fresh(coder)
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    out = np.zeros((len(states), len(weights)))
    for n, state in enumerate(np.asarray(states, np.float64)):
        on = features.encode(coder, state, index, value)
        out[n] = weights[:, index[:on]] @ value[:on]
    return out
