"""What compiles the scalar loops of the linear methods.

Compiled code is kept on disk beside the source (or in the user's cache), so only the first use on a machine waits for
it. It computes what the same function computes in plain Python (`fn.py_func`), bit for bit: no fast mathematics, no
fused operations. Functions as arguments would not be kept on disk, so problems, coders and traces are integer codes
(and `linear.loop` copies a function).

A kept loop contains the functions that it called, but would outlive a change of those in other files. So all that was
kept is dropped whenever one of the sources changes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event

F = TypeVar("F", bound=Callable[..., Any])
PACKAGE = Path(__file__).parent.parent
OURS = "playfield."  # what names of modules begin with whose compiling is told


class _Notice(event.Listener):
    """Says once that code of this package is compiled: that takes seconds in which nothing else is to be seen."""

    said = False

    def on_start(self, started: event.Event) -> None:
        ours = started.data["dispatcher"].py_func.__module__.startswith(OURS)
        if ours and not self.said:
            self.said = True
            logging.getLogger(__name__).info("compiling for this machine; it is kept, so this happens once")

    def on_end(self, ended: event.Event) -> None:
        pass


event.register("numba:compile", _Notice())


def jit(function: F) -> F:
    """Compile `function`; it releases the interpreter lock while it runs."""
    return _compiled(function, _nrt=True)


def piece(function: F) -> F:
    """Compile a `function` that makes no arrays, for use at every step.

    References to arrays are not counted in it: in small functions of tuples of arrays that took most of the time.
    """
    return _compiled(function, _nrt=False)


def _compiled(function: F, **options: Any) -> F:
    wished: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "forceinline": True}
    compiled = numba.njit(**wished, **options)(function)
    drop_stale(Path(str(compiled.stats.cache_path)), sources())
    return cast(F, compiled)


@functools.cache
def sources(package: Path = PACKAGE) -> str:
    """sha256 over all files that have compiled functions."""
    files = [*package.glob("linear/*.py"), *package.glob("algos/*.py")]
    texts = {path.name: path.read_bytes() for path in files}
    found = hashlib.sha256()
    for name in sorted(texts):
        if b"linear.jit" in texts[name]:
            found.update(texts[name])
    return found.hexdigest()


@functools.cache
def drop_stale(folder: Path, version: str) -> None:
    """Remove the compiled code in `folder`, unless it was made from the sources of this `version`."""
    stamp = folder / "playfield-linear.sha256"
    with contextlib.suppress(OSError):
        if stamp.read_text("utf-8") == version:
            return
    with contextlib.suppress(OSError):  # a folder that cannot be written keeps nothing either
        folder.mkdir(parents=True, exist_ok=True)
        for kept in folder.glob("*.nbi"):  # the index: without it, what it lists is compiled again
            kept.unlink(missing_ok=True)
        stamp.write_text(version, "utf-8")
