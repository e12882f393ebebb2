"""How long trainings will take: measured on this machine before they start."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from playfield import compute
from playfield.errors import UsageError
from playfield.runs.console import format_seconds
from playfield.training.plan import measure_speed, snap
from playfield.training.prepare import Prepared

DAY = 86_400.0
"""Seconds from which on one asks before starting."""


def unmeasured(ready: Prepared) -> str:
    """Why the speed of a training for other machines cannot be measured on this one; empty where it can."""
    if ready.compute.device == "cuda" and not compute.has_cuda():
        return "this machine has no GPU"
    free = compute.free_memory()
    if free is not None and ready.need.memory > compute.MEMORY_SHARE * free:
        size, left = compute.readable_size(ready.need.memory), compute.readable_size(free)
        return f"it takes {size} of memory, and {left} are free on this machine"
    return ""


def measure(ready: Prepared) -> float:
    """Steps per second of a training on this machine as it is now; takes seconds and writes nothing."""
    compute.setup()
    return measure_speed(ready.module, ready.cfg, ready.spec, ready.compute, ready.request.seed)


def steps_in(ready: Prepared, minutes: float) -> int:
    """Steps of a training that fit into so many minutes, at the speed of now."""
    return snap(measure(ready) * minutes * 60)


def seconds_for(lengths: Iterable[float], parallel: int) -> float:
    """Seconds until trainings of these lengths, in seconds, are done, `parallel` at a time, the longest first."""
    ends = [0.0] * max(parallel, 1)
    for length in sorted(lengths, reverse=True):
        ends.sort()
        ends[0] += length
    return max(ends)


def estimate(work: Sequence[tuple[Prepared, int, int]], parallel: int) -> float:
    """Seconds that trainings take, `parallel` at a time, each at the speed that is measured for its kind.

    Args:
        work: kinds of trainings, each with its steps and the number of trainings. With several at once their
            speed is that of one alone, so several workers each take longer than it says.
    """
    lengths: list[float] = []
    for ready, steps, count in work:
        lengths += [steps / measure(ready)] * count
    return seconds_for(lengths, parallel)


def confirm(seconds: float, what: str, yes: bool) -> str:
    """The line that says how long `what` takes. Raises UsageError where that is more than a day, without `yes`."""
    told = f"{what}: about {format_seconds(seconds)} at the measured speed"
    if seconds > DAY and not yes:
        raise UsageError(f"{told}, which is more than a day: add --yes to start it")
    return told
