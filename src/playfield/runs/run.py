"""A training run: its directory, lock, seeds, clocks, signals, and the loop that an algorithm trains in.

An algorithm calls `track` for everything that a checkpoint must hold, then loops over `steps`. Saving, resuming,
logging, stopping and progress happen between two iterations of that loop, so no algorithm mentions them.
Checkpoints are taken by the clock, at every tenth of the steps and at the end. They never touch what they save:
training is the same with and without them.
"""

from __future__ import annotations

import contextlib
import operator
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import torch

from playfield.compute import Compute
from playfield.envs.base import EnvSpec, VectorEnv
from playfield.errors import DataError, DivergedError, PlayfieldError, StorageError
from playfield.runs import checkpoint, divergence, goal, origin
from playfield.runs.fence import Fence
from playfield.runs.group import Elsewhere, Group, Leader
from playfield.runs.info import stored
from playfield.runs.logger import WINDOW
from playfield.runs.part import Begins
from playfield.runs.part import Part as Part
from playfield.runs.seeding import seeded
from playfield.runs.signals import caught
from playfield.runs.tree import number, without
from playfield.runs.weights import begin_from, restore

P = TypeVar("P", bound=Part)


REPLAYED = "rollout/replayed_games"


class Stopped(PlayfieldError):
    """SIGINT, SIGTERM or SIGHUP ended the run after it saved; `exit_code` is 130, 143 or 129."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


class Run:
    """One training run.

    Args:
        info: what `run.json` holds: env, algo, config, protocol, seed, steps, target, compute.
        make_envs: makes `n` environments; called once for each worker.
        directory: where everything is written; None writes nothing (for measuring and for inline use).
        sinks: where metrics and games go; None drops the metrics, and `history` then holds (step, score) of every
            game of this session. With sinks it stays empty: monitor.csv has them, and memory does not grow.
        resume: the checkpoint to go on from.
        begin: weights that the part `learner` starts from, by parameter name; None: random ones.
        group: the processes of the workers; None: they are threads of this one.
    """

    def __init__(
        self,
        info: dict[str, Any],
        make_envs: Any,
        directory: Path | None = None,
        sinks: Any = None,
        resume: checkpoint.Checkpoint | None = None,
        save_seconds: float = 60.0,
        keep: int = 3,
        on_rollout: Any = None,
        begin: Mapping[str, Any] | None = None,
        group: Leader | None = None,
    ) -> None:
        self._leader = group
        self.group: Group | None = group
        self.info, self.directory, self.sinks = info, directory, sinks
        self.make_envs, self.on_rollout = make_envs, on_rollout
        self.fence = Fence(Path(), 0)  # asked before anything is written; this one lets everything through
        self.compute = Compute(**info["compute"])
        self.seed, self.total_steps = int(info["seed"]), int(info["steps"])
        self.save_seconds, self.keep = save_seconds, keep
        self.spec: EnvSpec = info["spec"]
        self.step = self.updates = self.games = 0
        self.best = float("-inf")
        self.goal = goal.from_info(info)
        self.scores: deque[float] = deque(maxlen=max(WINDOW, self.goal.games if self.goal else 0))
        self.lengths: deque[int] = deque(maxlen=WINDOW)
        self.history: list[tuple[int, float]] = []
        self.phases: dict[str, float] = {}
        self._parts: dict[str, Part] = {}
        self._finite: list[Callable[[], bool]] = []
        self._growth: list[Callable[[], float]] = []
        self._metrics: dict[str, float] = {}
        self._signal = self._taken = 0
        self._seconds_before = 0.0
        self._saved: dict[str, Any] = {}
        self._begin = begin
        self._envs: list[VectorEnv] = []
        self.after_save: list[Callable[[], None]] = []  # called when a checkpoint lies on the disk
        self.on_close: list[Callable[[], None]] = []
        if resume is not None:
            with stored("the checkpoint"):
                self._saved = dict(resume.tree["parts"])
                self._restore_counters(resume.tree["run"])
            if directory is not None:
                with contextlib.suppress(DataError, OSError):  # no best yet
                    self.best = checkpoint.read_best(directory / "checkpoints")["score"]
        self._start = self._last_save = time.monotonic()

    # What an algorithm calls -------------------------------------------------------------------------

    def seeded(self) -> contextlib.AbstractContextManager[Any]:
        """Weights made inside come from the run's seed; torch's own generator is left as it was."""
        return seeded(self.seed)

    def track(
        self,
        name: str,
        part: P,
        *,
        finite: Callable[[], bool] | None = None,
        growth: Callable[[], float] | None = None,
        close: Callable[[], None] | None = None,
    ) -> P:
        """Save `part` with every checkpoint under `name`; restore it now if resuming.

        Args:
            finite: whether the part's weights are finite; asked before each save, which raises where they are not.
            growth: how many times as large as at the start the weights are; asked before each row of metrics and each
                save, see `divergence`.
            close: ends what the part holds (threads); called when the run closes.

        Returns:
            `part`.
        """
        self._parts[name] = part
        if finite is not None:
            self._finite.append(finite)
        if growth is not None:
            self._growth.append(growth)
        if close is not None:
            self.on_close.append(close)
        if name == "learner" and self._begin is not None:
            begin_from(part, self._begin)
        if name in self._saved:
            restore(name, part, self._saved[name])
            if self._leader is not None:
                self._leader.ask_all("restore", self._saved[name])
        elif self._leader is not None and isinstance(part, Begins):
            self._leader.begin_elsewhere(part.state()["weights"])
        return part

    @property
    def parts(self) -> Mapping[str, Any]:
        """What was tracked so far, by name; a view that cannot be changed."""
        return MappingProxyType(self._parts)

    def workers(
        self, name: str, num_envs: int, make: Callable[[VectorEnv, np.random.SeedSequence, int], P]
    ) -> list[P]:
        """A tracked part for each worker, which `make` makes of its environments, its seed and its number."""
        count, leader = self.compute.workers, self._leader
        seeds = np.random.SeedSequence(self.seed).spawn(count)
        saved = [self._saved.get(f"{name}-{k}") for k in range(count)]
        made: list[Any] = [Elsewhere(num_envs // count) for _ in range(count)]
        if leader is not None:
            self._parts |= leader.remote_parts(name, saved)
        for k in range(count if leader is None else 1):
            env = self.make_envs(num_envs // count)
            self._envs.append(env)
            made[k] = self._parts[f"{name}-{k}"] = make(env, seeds[k], k)
            if saved[k] is not None:
                restore(f"{name}-{k}", made[k], saved[k])
        if leader is not None:
            leader.receive([k for k in range(1, count) if saved[k] is not None])
        return made

    def steps(self, per_rollout: int) -> Iterator[float]:
        """One iteration for each rollout of `per_rollout` steps, until the total or the target is reached.

        Yields the progress in [0, 1).
        """
        if self._saved and (differ := self._saved.keys() ^ self._parts.keys()):
            raise DataError(f"the checkpoint is for another run: only one of the two has {', '.join(sorted(differ))}")
        self._saved = {}
        self._start = self._last_save = time.monotonic()
        if self.sinks is not None:
            self.sinks.begin()
        if self._leader is not None:
            self._leader.on_stop = self._stop
        with caught(self._stop, "finishing this update, then saving"):
            while not self.stop:
                self._taken = per_rollout
                if self._leader is not None:
                    self._leader.order("go", self.step)
                yield self.step / self.total_steps
                self.step += self._taken
                self._after_rollout(self._taken)
            if self.directory is not None:
                self.save()
            if self._signal:  # it came during the last save
                raise Stopped(self._signal)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time inside to the phase table."""
        start = time.perf_counter()
        yield
        self.phases[name] = self.phases.get(name, 0.0) + time.perf_counter() - start

    def record(self, rollouts: list[Any], taken: int | None = None) -> None:
        """Record the games that ended in a rollout, in the order in which they ended, and its steps.

        `taken`: the rollout's steps, where it may be shorter than `per_rollout`.
        """
        if taken is not None:
            self._taken = taken
        total = sum(r.env.num_envs for r in rollouts)
        ended = [(t, k, e) for k, r in enumerate(rollouts) for t, e in r.episodes]
        ended.sort(key=lambda item: (item[0], item[1], item[2].env))
        self.fence.look()
        for t, _, episode in ended:
            if episode.replayed:  # its score is none
                self._metrics[REPLAYED] = self._metrics.get(REPLAYED, 0) + 1
                continue
            self.scores.append(episode.score)
            self.lengths.append(episode.length)
            self.games += 1
            at = self.step + (t + 1) * total
            if self.sinks is None:
                self.history.append((at, episode.score))
            else:
                self.sinks.episode(at, episode.score, episode.length)
        for r in rollouts:
            r.episodes.clear()
            for phase, seconds in r.seconds.items():
                self.phases[phase] = self.phases.get(phase, 0.0) + seconds / len(rollouts)
                r.seconds[phase] = 0.0

    def log(self, metrics: dict[str, float], updates: int) -> None:
        """Log metrics of the last rollout, and the number of updates since the last call."""
        self.updates += updates
        self._metrics.update(metrics)
        loss = metrics.get("train/loss", 0.0)
        if loss != loss or loss in (float("inf"), float("-inf")):
            raise DivergedError("the loss is not finite: lower the learning rate (--lr)")

    # Between rollouts ----------------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Training time so far, over all sessions of this run."""
        return self._seconds_before + time.monotonic() - self._start

    @property
    def score(self) -> float:
        """Mean raw score of the last 100 training games; NaN before the first."""
        return float(np.mean(list(self.scores)[-WINDOW:])) if self.scores else float("nan")

    @property
    def stop(self) -> str:
        """Why training is over: `target`, `steps`; empty while it is not."""
        if self.goal is not None and self.goal.reached(self.scores):
            return "target"
        return "steps" if self.step >= self.total_steps else ""

    def _after_rollout(self, per_rollout: int) -> None:
        period = int(self.info.get("log_period") or per_rollout)
        last = bool(self.stop)
        if self.sinks is not None and (last or self.step // period != (self.step - per_rollout) // period):
            self.sinks.log(self.step, self._row())
            self._check_growth()
        if self.on_rollout is not None:
            self.on_rollout(self)
        if self.directory is None:
            if self._signal:
                raise Stopped(self._signal)
            return
        if self._signal:
            self.save()
            raise Stopped(self._signal)
        tenth = 10 * self.step // self.total_steps > 10 * (self.step - per_rollout) // self.total_steps
        if not last and (tenth or time.monotonic() - self._last_save >= self.save_seconds):
            try:
                self.save()
            except StorageError as error:  # older checkpoints are intact; there may be room again by the next one
                print(f"playfield: checkpoint not saved, training goes on: {error}", file=sys.stderr, flush=True)
            self._last_save = time.monotonic()

    def _check_growth(self) -> None:
        for growth in self._growth:
            divergence.check(growth(), self.scores, self.info["config"])

    def _row(self) -> dict[str, float]:
        """One row of metrics under SB3's names; the sinks add moving means, speed and time."""
        row: dict[str, float] = {
            "rollout/games": self.games,
            "time/total_timesteps": self.step,
            **self._metrics,
            "train/n_updates": self.updates,
        }
        if self.goal is not None and self.goal.games != WINDOW and len(self.scores) >= self.goal.games:
            row["rollout/target_mean"] = self.goal.mean(self.scores)
        if frames := self.spec.family.frames_per_step(self.spec.protocol):
            row["rollout/frames"] = int(self.step * frames)
        if self.compute.device == "cuda":
            row["time/gpu_memory_mb"] = torch.cuda.max_memory_allocated() // 2**20
        return row

    # Saving ------------------------------------------------------------------------------------------

    def tree(self) -> dict[str, Any]:
        """Everything that decides how training goes on."""
        return {"parts": {name: part.state() for name, part in self._parts.items()}, "run": self._counters()}

    def final_hash(self, tree: dict[str, Any] | None = None) -> str:
        """sha256 over weights, optimizer, random numbers, environments and games so far; no times."""
        tree = dict(tree or self.tree())
        # Runs of earlier versions have no metrics in their checkpoints.
        tree["run"] = {k: v for k, v in tree["run"].items() if k not in ("seconds", "metrics")}
        tree["parts"] = without(tree["parts"], "files")  # how saves cut the data depends on the clock
        return checkpoint.tree_hash(tree)

    def save(self) -> Path:
        """Write a checkpoint now. Raises DivergedError rather than save weights that are not finite, or too large."""
        assert self.directory is not None
        self.fence.check()
        if not all(finite() for finite in self._finite):
            raise DivergedError("the weights are not finite: lower the learning rate (--lr)")
        self._check_growth()
        if self.sinks is not None:
            self.sinks.flush()
        tree = self.tree()
        meta = origin.meta_of(self.info, self.spec)
        meta |= {"score": self.score, "games": self.games, "hash": self.final_hash(tree)}
        path = checkpoint.save(self.directory / "checkpoints", self.step, tree, meta, self.keep, self.fence.check)
        for notify in self.after_save:
            notify()
        if len(self.scores) >= min(WINDOW, 20) and self.score > self.best:
            self.best = self.score
            checkpoint.mark_best(self.directory / "checkpoints", path, self.score, {"step": self.step})
        return path

    def _counters(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "updates": self.updates,
            "games": self.games,
            "scores": list(self.scores),
            "lengths": list(self.lengths),
            "seconds": self.seconds,
            "metrics": dict(self._metrics),  # some are computed only now and then, and stand in every row since
        }

    def _restore_counters(self, counters: dict[str, Any]) -> None:
        self.step, self.updates, self.games = (operator.index(counters[k]) for k in ("step", "updates", "games"))
        self.scores.extend(map(number, counters["scores"]))
        self.lengths.extend(map(operator.index, counters["lengths"]))
        self._seconds_before = float(number(counters["seconds"]))
        self._metrics.update({str(k): number(v) for k, v in counters.get("metrics", {}).items()})
        if min(self.step, self.updates, self.games, self._seconds_before) < 0 or not self._seconds_before < 1e12:
            raise DataError("the checkpoint's counters are out of range")

    def _stop(self, signum: int) -> None:
        self._signal = signum
        if self._leader is not None:
            self._leader.forward(signum)

    def end(self) -> None:
        """Stop the workers and close the sinks; training is over."""
        while self.on_close:
            self.on_close.pop(0)()
        if self.sinks is not None:
            self.sinks.close()
            self.sinks = None

    def close(self) -> None:
        """`end`, and close the environments: the last thing, since those are code of users."""
        try:
            self.end()
        finally:
            while self._envs:
                self._envs.pop(0).close()
            if self._leader is not None:
                self._leader.end()
                self._leader = None
