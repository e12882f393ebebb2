"""Checks of the arguments of public functions: a wrong value is a UsageError that names its argument.

Numbers, names and switches are checked as those of the command line are, by `options.Option`.

>>> from playfield import arguments as takes
>>> @takes.checked(seed=takes.seed, games=takes.whole(1))
... def play(seed: int = 0, games: int = 30) -> None: ...
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from playfield.errors import UsageError, shown
from playfield.options import MOST_SEED, Option, check_value, number

P = ParamSpec("P")
R = TypeVar("R")

# Names that other libraries, papers and courses have for options: the first that a command or algorithm has is meant.
ALIASES = {
    "learning-rate": ("lr", "alpha"),  # the first one that an algorithm has
    "lr": ("alpha",),
    "total-timesteps": ("steps",),
    "n-timesteps": ("steps",),
    "timesteps": ("steps",),
    "n-envs": ("num-envs",),
    "n-steps": ("rollout-steps",),
    "num-steps": ("rollout-steps",),
    "n-epochs": ("epochs",),
    "update-epochs": ("epochs",),
    "num-minibatches": ("minibatches",),
    "clip-range": ("clip",),
    "clip-coef": ("clip",),
    "buffer-size": ("capacity",),
    "train-freq": ("train-period",),
    "train-frequency": ("train-period",),
    "target-update-interval": ("target-period",),
    "target-network-frequency": ("target-period",),
    "exploration-fraction": ("epsilon-share",),
    "exploration-initial-eps": ("epsilon-start",),
    "exploration-final-eps": ("epsilon-end",),
    "start-e": ("epsilon-start",),
    "end-e": ("epsilon-end",),
    "lambda": ("gae-lambda", "q-lambda", "lam"),
    "step-size": ("alpha", "lr"),
    "priority-exponent": ("alpha",),
    "importance-exponent": ("beta",),
    "nnodes": ("nodes",),
    "rdzv-endpoint": ("rendezvous",),
    "optimizer-epsilon": ("adam-eps", "eps"),
}

Check = Callable[[str, Any], None]
"""Raises UsageError where the argument of this name does not take this value."""


def whole(low: float = 0, high: float | None = None) -> Check:
    """Whole numbers."""
    return lambda name, value: check_value(name, value, "int", low, high)


def real(low: float = 0, high: float | None = None) -> Check:
    """Numbers."""
    return lambda name, value: check_value(name, value, "float", low, high)


def text(*choices: str) -> Check:
    """Strings that are not empty; one of `choices` if there are any."""

    def check(name: str, value: Any) -> None:
        Option(name, "str", None, "", choices).check(value)
        if not value.strip():
            raise UsageError(f"{name} takes a name, not {shown(value)}")

    return check


def switch(name: str, value: Any) -> None:
    """True and False."""
    check_value(name, value, "bool")


def function(name: str, value: Any) -> None:
    """What can be called."""
    if not callable(value):
        raise UsageError(f"{name} takes a function, not {shown(value)}")


def table(name: str, value: Any) -> None:
    """Dictionaries by name."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{name} takes a dictionary of options, not {shown(value)}")


def path(name: str, value: Any) -> None:
    """Paths that a file system can have; an empty one would be the current folder."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str) or not str(value).strip():
        raise UsageError(f"{name} takes a path, not {shown(value)}")
    try:
        parts = [os.fsencode(part) for part in Path(value).parts]
    except UnicodeEncodeError:
        parts = [b"\0"]
    if any(b"\0" in part for part in parts):
        raise UsageError(f"{name}: no file can be called {shown(os.fspath(value))}")
    if any(len(part) > 255 for part in parts) or len(os.fsencode(value)) > 4000:
        raise UsageError(f"{name} has a name that is longer than 255 bytes: {shown(os.fspath(value))}")


seed = whole(0, MOST_SEED)
"""Seeds."""


def as_python(value: Any) -> Any:
    """NumPy's scalars as Python's own, also as values of a dictionary: JSON takes no others; and paths as `Path`."""
    if isinstance(value, os.PathLike) and not isinstance(value, Path):
        return Path(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return value.item()
    return {key: as_python(item) for key, item in value.items()} if type(value) is dict else value


def checked(**checks: Check) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: checks arguments before the function is called. The default of an argument is always taken.

    The function gets NumPy's scalars as Python's own, and what stands for a path, such as a `Result`, as a `Path`.
    """

    def wrap(call: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(call)
        assert checks.keys() <= signature.parameters.keys()

        @functools.wraps(call)
        def inner(*args: P.args, **kwargs: P.kwargs) -> R:
            bound = signature.bind(*args, **kwargs)
            given = bound.arguments
            for name, value in given.items():
                kind = signature.parameters[name].kind
                given[name] = (
                    tuple(map(as_python, value)) if kind is inspect.Parameter.VAR_POSITIONAL else as_python(value)
                )
            for name, check in checks.items():
                if name in given and given[name] is not signature.parameters[name].default:
                    check(name, given[name])
            return call(*bound.args, **bound.kwargs)

        return inner

    return wrap


def seeds(flag: str, text: str) -> list[int]:
    """Seeds: 1 to N for a count such as `5`, or those of a list such as `3,7,9`. 1,000 and 0,1 are neither."""
    if "," not in text:
        return list(range(1, number(flag, text, whole=True, low=1, high=1000) + 1))
    if any(len(part) > 1 and part.startswith("0") for part in text.split(",")):
        raise UsageError(f"{flag} takes a number of seeds, or a list such as 1,2,3, not {shown(text)}")
    listed = [number(flag, part.strip(), whole=True, high=MOST_SEED) for part in text.rstrip(",").split(",")]
    if twice := [seed for seed in listed if listed.count(seed) > 1]:
        raise UsageError(f"{flag} has seed {twice[0]} twice")
    return listed
