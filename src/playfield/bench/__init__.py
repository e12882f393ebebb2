"""Benchmarks: each module here with a `run` function is a `playfield bench NAME`."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

from playfield.errors import UsageError, unknown


def names() -> list[str]:
    """Every benchmark, by file name."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def main(name: str, **options: Any) -> dict[str, Any]:
    """Run the benchmark called `name`, which prints a table (with `json`, a JSON object); returns its result.

    Args:
        options: what the benchmark's `run` takes; None means its default.

    Raises UsageError for an unknown name, or an option that this benchmark does not have.
    """
    if name not in names():
        raise unknown("benchmark", name, names())
    run = importlib.import_module(f"{__name__}.{name}").run
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(run).parameters
    for key, value in given.items():
        if key not in known and value:  # a flag left off and a count of 0 ask for nothing
            raise UsageError(f"playfield bench {name} has no option --{key}")
    return run(**{key: value for key, value in given.items() if key in known})
