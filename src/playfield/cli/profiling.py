"""Where a training's time goes: the functions with the most own time, over all worker threads."""

from __future__ import annotations

import contextlib
import cProfile
import io
import pstats
import threading
from collections.abc import Iterator

TOP = 20


@contextlib.contextmanager
def profiled() -> Iterator[None]:
    """Profile everything inside, in this thread and in every thread started inside; print the top at the end."""
    profiles = [cProfile.Profile()]
    original = threading.Thread.run

    def run(self: threading.Thread) -> None:
        own = cProfile.Profile()
        try:
            own.enable()
        except ValueError:  # Python 3.12 and later: the first profile sees every thread already
            original(self)
            return
        profiles.append(own)
        try:
            original(self)
        finally:
            own.disable()

    threading.Thread.run = run  # type: ignore[method-assign]
    profiles[0].enable()
    try:
        yield
    finally:
        profiles[0].disable()
        threading.Thread.run = original  # type: ignore[method-assign]
        print(table(profiles))


def table(profiles: list[cProfile.Profile]) -> str:
    """The `TOP` functions by own time, summed over profiles."""
    text = io.StringIO()
    stats = None
    for profile in profiles:
        profile.create_stats()
        if profile.stats:
            if stats is None:
                stats = pstats.Stats(profile, stream=text)
            else:
                stats.add(profile)
    if stats is None:
        return "nothing was profiled"
    stats.strip_dirs().sort_stats("tottime").print_stats(TOP)
    return f"top {TOP} by own time, all threads\n" + text.getvalue().strip()
