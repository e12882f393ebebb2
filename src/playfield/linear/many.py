"""Many runs of a linear method at once, each with its own weights, tables and random numbers.

Runs are spread over threads; what a run computes does not depend on the others.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np

from playfield import arguments as takes
from playfield.compute import cores
from playfield.errors import DivergedError, UsageError, unknown
from playfield.linear import budget, problems
from playfield.linear.coders import coder_for, with_step_sizes
from playfield.linear.features import Coder, encode, fresh
from playfield.linear.jit import Bools, Floats, Ints
from playfield.linear.kernels import ENDLESS
from playfield.linear.unused import unused
from playfield.options import MOST_SEED, check_value
from playfield.runs import algorithm, catalog

METHODS = ("sarsa", "sarsa_lambda", "qlearning", "td_lambda", "linear_ac")
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """Results of R runs of E episodes each.

    Attributes:
        steps, returns: [R, E] length and undiscounted return of every episode.
        weights: [R, A, F]; of a prediction method [R, F].
        critic: [R, F] of an actor-critic, else None.
        errors: [R, E] RMS error over all states after each episode, where true values are known; else None.
        collisions: [R] how often `iht` looked up a tile that shares its index.
        numbered: [R] indices that `iht` has given.
        coders: of each run, with its tables.
        seconds: wall time of all runs.
    """

    steps: Ints
    returns: Floats
    weights: Floats
    critic: Floats | None
    errors: Floats | None
    collisions: Ints
    numbered: Ints
    coders: list[Coder]
    seconds: float


class OneRun(NamedTuple):
    """Results of one run: weights [A, F], critic [F], errors, steps and returns [E], and its coder."""

    weights: Floats
    critic: Floats | None
    errors: Floats | None
    coder: Coder
    steps: Ints
    returns: Floats


def configured(method: str, config: dict[str, Any]) -> tuple[Any, Any]:
    """(module, Config) of a linear method with `config` as fields. Raises UsageError where one changes nothing."""
    if method not in METHODS:
        raise unknown("linear method", method, METHODS)
    module: Any = algorithm.load(method)
    catalog.check(method, config)
    cfg = dataclasses.replace(module.Config(gamma=1.0, epsilon=0.0), **config)
    cfg.check()
    if changing := [o.flag for o in catalog.options(method) if o.quantity and isinstance(getattr(cfg, o.name), str)]:
        raise UsageError(f"{changing[0]} is a number here: a schedule is over the steps of a training, not episodes")
    plain, flags = module.Config(), {o.name: o.flag for o in catalog.options(method)}
    for name in sorted(unused(method) & config.keys()):
        if config[name] != getattr(plain, name) and (name, config[name]) != ("epsilon", 0.0):
            raise UsageError(f"{flags[name]} changes nothing here: it is of trainings (playfield train)")
    for size, correction in cfg.step_sizes.items():
        if config.get(correction, getattr(plain, correction)) != getattr(plain, correction) and getattr(cfg, size):
            given = f"{flags[size]} is {getattr(cfg, size):g}, not 0"
            raise UsageError(f"{flags[correction]} changes nothing here: {given}")
    return module, cfg


@takes.checked(method=takes.text(), problem=takes.text(), features=takes.text(), progress=takes.function)
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
    **config: Any,
) -> Outcome:
    """Run a linear method on a small problem, once for each seed.

    Args:
        method: one of `METHODS`.
        problem: a name of `problems.PROBLEMS`.
        features: a coder and its options, as in "tilings:tilings=8,tiles=8".
        seeds: one for each run.
        episodes: per run.
        max_steps: after which an episode is truncated (0: never); less than a million.
        threads: 0 uses all cores.
        progress: called with (runs done, runs in all) after each run.
        config: fields of the method's `Config`; gamma is 1 and epsilon 0 unless given.

    Raises:
        UsageError: an unknown name or value, or more than the free memory. DivergedError: weights or values are no
            longer finite, or an episode took a million steps.
    """
    if isinstance(seeds, str | int) or not isinstance(seeds, Iterable):
        raise UsageError(f"seeds takes several whole numbers, as in range(5), not {seeds!r:.60}")
    seeds, spec = seeds if isinstance(seeds, range) else list(seeds), problems.problem(problem)
    for seed in seeds[:: max(1, len(seeds) - 1)] if isinstance(seeds, range) else seeds:
        check_value("a seed", seed, "int", 0, MOST_SEED)
    if not len(seeds):
        raise UsageError("an experiment needs at least one seed")
    if not isinstance(seeds, range) and len(set(seeds)) < len(seeds):
        raise UsageError("a seed is given twice: its two runs would be one and the same, not two trials")
    check_value("episodes", episodes, "int", 1)
    check_value("max_steps", max_steps, "int", 0, ENDLESS - 1)
    check_value("threads", threads, "int", 0, 1024)
    module, cfg = configured(method, {**config, "features": features})
    coder = coder_for(features, *(np.array(b, np.float64) for b in (spec.low, spec.high, spec.tiled)))
    cfg = with_step_sizes(cfg, coder)
    true_values = problems.walk_values() if problem == "random-walk" and method == "td_lambda" else np.zeros(0)
    workers = min(threads or cores(), len(seeds))
    budget.experiment_bytes(cfg, spec.actions, coder, len(seeds), episodes, workers)
    seeds = [int(s) for s in seeds]

    def one(seed: int, stop: Bools) -> OneRun:
        own = fresh(coder)
        m = module.memory(spec.actions, own, cfg)
        if len(true_values):
            m = m._replace(truth=true_values, errors=np.zeros(episodes))
        steps, returns = np.zeros(episodes, np.int64), np.zeros(episodes)
        rng = np.random.default_rng(seed)
        limit = max_steps or ENDLESS
        module.play(spec.code, own, m, module.rates(cfg), rng, cfg.epsilon_decay, limit, stop, steps, returns)
        finite = np.isfinite(m.w).all() and (method != "linear_ac" or np.isfinite(m.critic).all())
        if not finite or (steps == ENDLESS).any():
            raise DivergedError(f"{method} on {problem} diverged (seed {seed}): lower alpha, now {cfg.alpha:g}")
        # Not all of `m`: the traces of a run that is over would only take memory.
        critic = m.critic[0] if method == "linear_ac" else None
        return OneRun(m.w, critic, m.errors if len(true_values) else None, own, steps, returns)

    start = time.perf_counter()
    done = spread(one, seeds, workers, progress)
    weights = np.stack([d.weights for d in done])
    return Outcome(
        steps=np.stack([d.steps for d in done]),
        returns=np.stack([d.returns for d in done]),
        weights=weights[:, 0] if method == "td_lambda" else weights,
        critic=_stack([d.critic for d in done]),
        errors=_stack([d.errors for d in done]),
        collisions=np.array([d.coder.counts[1] for d in done]),
        numbered=np.array([d.coder.counts[0] for d in done]),
        coders=[d.coder for d in done],
        seconds=time.perf_counter() - start,
    )


def _stack(parts: list[Floats | None]) -> Floats | None:
    """One array of those of all runs; None where the runs have none."""
    found = [part for part in parts if part is not None]
    return np.stack(found) if found else None


def spread(
    one: Callable[[int, Bools], T],
    seeds: Sequence[int],
    threads: int,
    progress: Callable[[int, int], None] | None,
) -> list[T]:
    """`one(seed, stop)` for each seed, on `threads` threads; results in the order of the seeds.

    When one raises, or at an interrupt, stop[0] is set, those not yet started are skipped, and the error is raised.
    """
    done: list[T | None] = [None] * len(seeds)
    stop = np.zeros(1, np.bool_)

    def unless_stopped(seed: int) -> T | None:
        if stop[0]:
            return None
        try:
            return one(seed, stop)
        except BaseException:
            stop[0] = True  # at once: the main thread may be notified later
            raise

    with ThreadPoolExecutor(threads) as pool:
        jobs = {pool.submit(unless_stopped, seed): k for k, seed in enumerate(seeds)}
        try:
            for n, job in enumerate(as_completed(jobs), 1):
                done[jobs[job]] = job.result()
                if progress is not None:
                    progress(n, len(seeds))
        except BaseException:
            stop[0] = True  # an interrupt does not reach compiled code
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return cast(list[T], done)


def values(coder: Coder, weights: np.ndarray, states: np.ndarray) -> Floats:
    """Action values [N, A] of `states` [N, D] by weights [A, F] (`Outcome.weights[run]`, `coders[run]`)."""
    states = np.asarray(states, np.float64)
    if states.ndim != 2 or states.shape[1] != len(coder.low) or np.shape(weights)[1:] != (coder.size,):
        raise UsageError(f"states must be [N, {len(coder.low)}] and weights [A, {coder.size}] for these features")
    coder = fresh(coder)
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    out = np.zeros((len(states), len(weights)))
    for n, state in enumerate(states):
        active = encode(coder, state, index, value)
        out[n] = weights[:, index[:active]] @ value[:active]
    return out
