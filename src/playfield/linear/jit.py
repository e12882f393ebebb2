"""Compile the scalar loops of the linear methods with numba.

Compiled code is cached on disk beside the source (or in the user's cache directory), so only the first use on a
machine waits for it. It computes what the same function computes in plain Python (`fn.py_func`), bit for bit: no fast
mathematics, no fused operations. Functions as arguments could not be cached, so problems, coders and traces are
integer codes (and `episodes.episode_loop` copies a function).

A cached loop contains the functions that it calls, but numba would not notice a change of those in other files. So
the whole cache is dropped whenever one of the sources changes.

A cache is code. Only the environment variable NUMBA_CACHE_DIR says where one is: numba also reads the file
`.numba_config.yaml` of the current folder, which may have come with somebody else's run.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba.core import event

F = TypeVar("F", bound=Callable[..., Any])
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
PACKAGE = Path(__file__).parent.parent
OURS = "playfield."  # the notice is for functions of modules whose names begin with this


class _Notice(event.Listener):
    """Log once that code of this package is being compiled, which takes seconds without any other output."""

    said = False
    cached = True

    def on_start(self, started: event.Event) -> None:
        ours = started.data["dispatcher"].py_func.__module__.startswith(OURS)
        if ours and not self.said:
            self.said = True
            kept = "cached for later runs"
            if not self.cached:
                kept = "every time: no cache can be written here, NUMBA_CACHE_DIR may name a folder where one can"
            logging.getLogger(__name__).info("compiling for this machine (%s)", kept)

    def on_end(self, ended: event.Event) -> None:
        pass


NOTICE = _Notice()
event.register("numba:compile", NOTICE)


def jit(function: F) -> F:
    """Compile `function`; it releases the interpreter lock while it runs."""
    return _compiled(function, _nrt=True)


def kernel(function: F) -> F:
    """Compile a `function` that allocates no arrays, to be called by compiled code at every step.

    It does not count references to arrays: in small functions of tuples of arrays that took most of the time.
    """
    return _compiled(function, _nrt=False)


def _compiled(function: F, **options: Any) -> F:
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy", "forceinline": True, **options}
    for name in ("CACHE_DIR", "CACHE_LOCATOR_CLASSES"):
        setattr(numba.config, name, os.environ.get(f"NUMBA_{name}", ""))
    try:
        compiled = numba.njit(cache=True, **settings)(function)
    except (RuntimeError, OSError):  # neither the package's folder nor the user's can be written
        NOTICE.cached = False
        return cast(F, numba.njit(**settings)(function))
    if hasattr(compiled, "stats"):  # not with NUMBA_DISABLE_JIT=1, which leaves functions as they are
        drop_stale(Path(str(compiled.stats.cache_path)), sources())
        _forgive(compiled)
    return cast(F, compiled)


def _forgive(compiled: Any) -> None:
    """Go on where a cache cannot be read or written, or is damaged: then a function is compiled again."""
    cache = compiled._cache
    for name in ("save_overload", "load_overload"):
        setattr(cache, name, _unless_cache_fails(getattr(cache, name), cache.flush))


def _unless_cache_fails(function: Callable[..., Any], empty: Callable[[], None]) -> Callable[..., Any]:
    def attempt(*args: Any) -> Any:
        with contextlib.suppress(OSError):  # a disk that is full
            try:
                return function(*args)
            except OSError:
                raise
            except Exception:  # a file that a power failure left empty: whatever unpickling it raises
                empty()
                return function(*args)
        NOTICE.cached = False
        return None

    return attempt


@functools.cache
def sources(package: Path = PACKAGE) -> str:
    """sha256 over all files that have compiled functions: those that import this module."""
    files = [path for room in ("linear", "algos", "lessons") for path in package.glob(f"{room}/*.py")]
    digest = hashlib.sha256()
    for path in sorted(files):
        text = path.read_bytes()
        if b"linear.jit" in text:
            digest.update(text)
    return digest.hexdigest()


@functools.cache
def drop_stale(folder: Path, version: str) -> None:
    """Remove the compiled code in `folder`, unless it was made from the sources of this `version`."""
    stamp = folder / "playfield-linear.sha256"
    with contextlib.suppress(OSError):
        if stamp.read_text("utf-8") == version:
            return
    with contextlib.suppress(OSError):  # a folder that cannot be written caches nothing either
        folder.mkdir(parents=True, exist_ok=True)
        for index in folder.glob("*.nbi"):  # without its index, numba compiles a function again
            index.unlink(missing_ok=True)
        stamp.write_text(version, "utf-8")
