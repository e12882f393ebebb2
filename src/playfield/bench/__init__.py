"""Benchmarks: speed, memory and exactness, beside other libraries where there is one, in the same session.

Each module without a leading underscore is a `playfield bench NAME` and has a function `run`. Nothing outside this
folder and the command line imports it.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path
from typing import Any

from playfield.errors import UsageError, unknown


def names() -> list[str]:
    """Names of all benchmarks: the modules in this folder."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def told_of(name: str) -> tuple[str, list[str]]:
    """The docstring of a benchmark, and the arguments of its `run`; it is not imported, which takes seconds."""
    tree = ast.parse(Path(__file__).with_name(f"{name}.py").read_text("utf-8"))
    run = next(one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "run")
    return ast.get_docstring(tree) or "", [one.arg for one in run.args.kwonlyargs]


def main(name: str, **options: Any) -> dict[str, Any]:
    """Run the benchmark called `name`, which prints a table (with `json`, a JSON object); returns its result.

    Args:
        options: arguments of the benchmark's `run`; None means its default.

    Raises UsageError for an unknown name, and for an option that this benchmark does not have.
    """
    if name not in names():
        raise unknown("benchmark", name, names())
    run = importlib.import_module(f"{__name__}.{name}").run
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(run).parameters
    for key, value in given.items():
        if key not in known and value:  # a flag that is off and a count of 0 are defaults
            raise UsageError(f"playfield bench {name} has no option --{key.replace('_', '-')}")
    result: dict[str, Any] = run(**{key: value for key, value in given.items() if key in known})
    return result
