"""What is known of the nodes of a cluster and of the trainings on them, for `cluster`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from playfield.errors import DataError, EnvError, StorageError, UsageError
from playfield.experiments.job import Job
from playfield.runs.info import is_run, read_info
from playfield.runs.lock import RunLock

ASIDE = 300.0  # seconds for which a node is used after others because trainings failed there


@dataclass(frozen=True)
class Pins:
    """What decides the bits of a training besides its words, and what it takes.

    Attributes:
        device, precision, workers: see `compute.Compute`.
        memory, disk: bytes.
        packages: that its environment, algorithm and network come from, by name, with their versions here.
    """

    device: str
    precision: str
    workers: int
    memory: float = 0.0
    disk: float = 0.0
    packages: Mapping[str, str] = field(default_factory=dict)

    def words(self) -> list[str]:
        """As words of `playfield train`; of a word that is given twice the last one counts."""
        return ["--device", self.device, "--precision", self.precision, "--workers", str(self.workers)]

    def of_run(self, directory: Path) -> Pins:
        """These, of a training that has not begun, as they are for the one in this directory: its run has chosen.

        Raises DataError where the run does not say what it was computed with.
        """
        if not is_run(directory):
            return self
        has = read_info(directory).get("compute")
        if not has:
            raise DataError(f"{directory / 'run.json'} does not say what it was computed with")
        return replace(self, device=has["device"], precision=has["precision"], workers=has["workers"])


@dataclass
class Node:
    """A node that is there.

    Attributes:
        id, name: as the cluster knows it, and for a person.
        cpus, gpus: that it has for tasks.
        facts: see `node.facts`; None before they are known.
        probe: the task that asks for them; 0 while none does.
        late: one that did not answer in time, and still may.
        refresh: whether it asks only for what is free now, of a node that is used.
        asked: when it was asked, by the clock; and `measured` when it answered, by the monotonic one.
        probed: when it was asked, by the monotonic clock.
        rests: whether it gets no training until it answers: one did not begin there.
        pause: seconds until it may be asked again for what is free.
        since: when it was seen first, or when it last refused a training, by the monotonic clock.
        refused: why nothing runs on it; empty where it is used.
        away: whether files reach it through the store: it does not see a directory, `blind`, or is asked to use it.
        failed: run directories of trainings that made no checkpoint here and failed, with their exit codes; the last
            of them `failed_at`, by the monotonic clock.
        taken: cores and GPUs that others use now.
    """

    id: str
    name: str
    cpus: int
    gpus: int
    facts: dict[str, Any] | None = None
    probe: int = 0
    late: int = 0
    refresh: bool = False
    asked: float = 0.0
    measured: float = 0.0
    probed: float = 0.0
    rests: bool = False
    pause: float = 0.0
    since: float = field(default_factory=time.monotonic)
    refused: str = ""
    away: bool = False
    taken: Sequence[int] = (0, 0)
    blind: str = ""
    failed: dict[Path, int] = field(default_factory=dict)
    failed_at: float = 0.0

    @property
    def usable(self) -> bool:
        """Whether trainings run on it."""
        return self.facts is not None and not self.refused and (not self.probe or self.refresh)

    @property
    def unasked(self) -> bool:
        """Whether nothing is known of it, and nobody asks."""
        return self.facts is None and not self.refused and not self.probe

    @property
    def aside(self) -> bool:
        """Whether others are used first: a training failed there as a node may make it fail, or two in any way.

        Not for ever: all others may have work for days, and the fault be the training's own.
        """
        own = (StorageError.exit_code, EnvError.exit_code)
        bad = len(self.failed) > 1 or any(code in own for code in self.failed.values())
        return bad and time.monotonic() - self.failed_at < ASIDE


class NoNodeError(UsageError):
    """No node can take a training now, which says nothing about the training."""


@dataclass
class Past:
    """What happened to a job in this session, also where it was put aside and started again.

    Attributes:
        losses, kills: how often it was lost since the last checkpoint, and of these by a signal to its process.
        saved: the step of that checkpoint; -1 without one.
        lost_on: the node that it was lost on last, which is the last choice.
        failed: the nodes that it failed on without a new checkpoint, with exit code, line and `unplaced`.
    """

    losses: int = 0
    kills: int = 0
    saved: int = -1
    lost_on: str = ""
    failed: dict[str, tuple[int, str, bool]] = field(default_factory=dict)


@dataclass
class Task:
    """A job that was started, wherever it is.

    Attributes:
        job, pins, log: what runs, and the file of its standard error.
        node, number: where, as the cluster knows it; None and 0 while it waits for a node.
        code, line: how it ended.
        asked, killed: whether it was asked to end, and when it was ended, by the monotonic clock; 0 where not.
        unplaced: see `places.Outcome`.
        waits: for what it was said to wait: `node`, `room` or `cores`.
        short: since when no idle node has had the memory or disk for it, by the monotonic clock; 0: some has.
        past: of the job.
        begun_at: the step of its last checkpoint when its node got it; None without one.
        news: lines for a person.
        lock: that of the run directory on this machine, while a node trains the run in a directory of its own.
    """

    job: Job
    pins: Pins
    log: Path
    node: Node | None = None
    number: int = 0
    code: int | None = None
    line: str = ""
    asked: bool = False
    killed: float = 0.0
    unplaced: bool = False
    waits: str = ""
    short: float = 0.0
    past: Past = field(default_factory=Past)
    begun_at: int | None = None
    news: list[str] = field(default_factory=list)
    lock: RunLock | None = None

    def hold(self) -> None:
        """Lock the run directory on this machine, in which no process trains: the run is in use all the same.

        Raises DataError where another process has it.
        """
        lock = RunLock(self.job.directory, gone=True)  # who had it on another machine is fenced from here on
        lock.acquire()
        self.lock = lock

    def release(self) -> None:
        """Give the lock back, if there is one."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None
