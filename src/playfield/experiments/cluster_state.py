"""What is known of the nodes of a cluster and of the trainings on them, for `cluster`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playfield.experiments.job import Job
from playfield.runs.lock import RunLock


@dataclass(frozen=True)
class Pins:
    """What decides the bits of a training besides its words, and what it takes.

    Attributes:
        device, precision, workers: see `compute.Compute`.
        memory: bytes.
    """

    device: str
    precision: str
    workers: int
    memory: float = 0.0

    def words(self) -> list[str]:
        """As words of `playfield train`; of a word that is given twice the last one counts."""
        return ["--device", self.device, "--precision", self.precision, "--workers", str(self.workers)]


@dataclass
class Node:
    """A node that is there.

    Attributes:
        id, name: as the cluster knows it, and for a person.
        cpus, gpus: that it has for tasks.
        facts: see `node.facts`; None before they are known.
        probe: the task that asks for them; 0 while none does.
        since: when it was seen first, or when it last refused a training, by the monotonic clock.
        refused: why nothing runs on it; empty where it is used.
        away: whether files reach it through the store; it does not see the directory of the experiment.
        taken: cores and GPUs that others use now.
    """

    id: str
    name: str
    cpus: int
    gpus: int
    facts: dict[str, Any] | None = None
    probe: int = 0
    since: float = field(default_factory=time.monotonic)
    refused: str = ""
    away: bool = False
    taken: Sequence[int] = (0, 0)

    @property
    def usable(self) -> bool:
        """Whether trainings run on it."""
        return self.facts is not None and not self.refused and not self.probe


@dataclass
class Task:
    """A job that was started, wherever it is.

    Attributes:
        job, pins, log: what runs, and the file of its standard error.
        node, number: where, as the cluster knows it; None and 0 while it waits for a node.
        code, line: how it ended.
        asked, killed: whether it was asked to end, and when it was ended, by the monotonic clock; 0 where not.
        waits: whether it was said that there is no node.
        losses, saved: how often it was lost since the last checkpoint, whose step this is.
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
    waits: bool = False
    losses: int = 0
    saved: int = -1
    news: list[str] = field(default_factory=list)
    lock: RunLock | None = None

    def hold(self) -> None:
        """Lock the run directory on this machine, in which no process trains: the run is in use all the same.

        Raises DataError where another process has it.
        """
        lock = RunLock(self.job.directory)
        lock.acquire()
        self.lock = lock

    def release(self) -> None:
        """Give the lock back, if there is one."""
        if self.lock is not None:
            self.lock.release()
            self.lock = None
