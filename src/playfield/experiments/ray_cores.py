"""Which cores of a cluster others use, and which tasks of this process wait for such cores; for `ray_bridge`.

Ray starts a task on its node as soon as there are cores for it, however long that takes, and says how many are free
only some moments later. So a task says itself when it begins, and one that does not begin is taken back: meanwhile
another node may have become free.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

BEGIN = 20.0  # seconds after which a task that has not begun is taken back; its process may take some to start
LONGEST = 160.0  # seconds after which one is taken back on any node, however slow it is to start processes
LAG = 3.0  # seconds after which Ray surely says that the cores of a task are free again


@dataclass
class _Placed:
    """A task on a node.

    Attributes:
        node, takes: where, and how many cores and GPUs it takes.
        since: when it was submitted.
        begun: whether it runs.
        back: whether it was taken back.
        ended: when it ended; infinity while it has not.
    """

    node: str
    takes: tuple[int, int]
    since: float
    begun: bool = False
    back: bool = False
    ended: float = math.inf


class Cores:
    """The tasks of this process that take cores, by their numbers."""

    def __init__(self) -> None:
        self._tasks: dict[int, _Placed] = {}
        self._patience: dict[str, float] = {}

    def submitted(self, number: int, node: str, cores: int, gpus: int) -> None:
        """A task was sent to a node."""
        if cores:
            self._tasks[number] = _Placed(node, (cores, gpus), time.monotonic())

    def begun(self, number: int) -> None:
        """A task has begun."""
        if task := self._tasks.get(number):
            task.begun = True
            self._patience.pop(task.node, None)

    def ended(self, number: int) -> bool:
        """A task has ended; returns whether it had been taken back."""
        if task := self._tasks.get(number):
            task.ended = time.monotonic()
        return task is not None and task.back

    def taken(self, node: str, has: Sequence[int], free: Sequence[float]) -> list[int]:
        """Cores and GPUs that others use on a node which has so many, and of which so many are free, as Ray says."""
        now = time.monotonic()
        self._tasks = {number: task for number, task in self._tasks.items() if now < task.ended + LAG}
        own = [task.takes for task in self._tasks.values() if task.node == node and not task.back]
        return [max(0, has[k] - math.floor(free[k]) - sum(takes[k] for takes in own)) for k in (0, 1)]

    def late(self, heard: float) -> list[int]:
        """Tasks to be taken back; `heard`: until when it is known which have begun.

        On a node that is slow to start processes, the next one is waited for twice as long.
        """
        found = []
        for number, task in self._tasks.items():
            patience = self._patience.get(task.node, BEGIN)
            if not (task.begun or task.back or task.ended < math.inf) and heard > task.since + patience:
                task.back = True
                found.append(number)
        for node in {self._tasks[number].node for number in found}:
            self._patience[node] = min(2 * self._patience.get(node, BEGIN), LONGEST)
        return found
