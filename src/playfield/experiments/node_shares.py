"""What each node of a cluster has done of an experiment or a tuning since the command began."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.table import Table
from rich.text import Text

from playfield.errors import visible
from playfield.experiments.job import Job
from playfield.experiments.terminal import columns

HEADERS = ("node", "running", "done", "steps", "share")
MOST_NODES = 5  # lines about nodes; of more the last one is about all others together


class Share(NamedTuple):
    """Of a node, or of several together: trainings that it runs, that it has done, and its steps."""

    name: str
    running: int
    done: int
    steps: int


class Shares:
    """Which training is where, and what was done there.

    Attributes:
        where: the node of each job that was on one; empty: it waits, or another process runs it.
    """

    def __init__(self) -> None:
        self.where: dict[Job, str] = {}
        self._done, self._steps = Counter[str](), Counter[str]()

    def at(self, job: Job, node: str) -> None:
        """A job is on this node; empty: there is only one, or it waits for one."""
        if node or job in self.where:
            self.where[job] = node

    def elsewhere(self, job: Job) -> None:
        """Another process runs the job."""
        if job in self.where:
            self.where[job] = ""

    def came(self, job: Job, before: int, now: int) -> None:
        """A job has come from one step to another. A smaller one counts nothing: its node was lost."""
        self._steps[self.where.get(job, "")] += max(0, now - before)

    def ended(self, job: Job, code: int) -> None:
        """A job has ended with this exit code."""
        self._done[self.where.get(job, "")] += not code

    def rows(self, running: Iterable[Job]) -> list[Share]:
        """That of each node, most steps first; none where there is one node."""
        now = Counter(self.where.get(job, "") for job in running)
        known = {*self.where.values(), *self._steps, *self._done} - {""}  # some are lost by now
        names = sorted(known, key=lambda name: (-self._steps[name], name))
        found = [Share(name, now[name], self._done[name], self._steps[name]) for name in names]
        if len(found) > MOST_NODES:
            shown, others = found[: MOST_NODES - 1], found[MOST_NODES - 1 :]
            sums = [sum(numbers) for numbers in zip(*(other[1:] for other in others), strict=True)]
            found = [*shown, Share(f"{len(others)} others", *sums)]
        return found if len(names) > 1 else []


def table(shares: Sequence[Share]) -> Table:
    """A line for each."""
    lines = columns(Table(box=None, padding=(0, 1), pad_edge=False), *HEADERS, right=HEADERS[1:], style="bold")
    total = sum(one.steps for one in shares)
    for one in shares:
        share = f"{one.steps / total:.0%}" if total else ""
        name = Text(visible(one.name), no_wrap=True)
        lines.add_row(name, str(one.running), str(one.done), f"{one.steps:,}", share)
    return lines
