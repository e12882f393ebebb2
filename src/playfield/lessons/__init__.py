"""Lessons: experiments of a course and of a book, one command each, with what they published beside what we find.

A file in this folder is a lesson; its name, with dashes, is the lesson's. It holds

* a docstring: its first line is shown in the list, all of it with the lesson,
* `BUDGET`, a `Budget`: what the course or the book spent, and what it offers,
* `run(ask) -> Outcome`: curves and rows.

Files that begin with an underscore are what lessons share. To add a lesson, add a file.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from playfield.errors import UsageError, unknown

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of all lessons: the files in this folder."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def canonical(name: str) -> str:
    """A lesson's name as it is listed, of `name` in any spelling. Raises UsageError for an unknown one."""
    return _file(name).stem.replace("_", "-")


def about(name: str) -> str:
    """What a lesson teaches: its docstring, read without importing it. Raises UsageError for an unknown name."""
    return ast.get_docstring(ast.parse(_file(name).read_text("utf-8"))) or ""


def load(name: str) -> ModuleType:
    """The module of a lesson. Raises UsageError for an unknown name."""
    return importlib.import_module(f"playfield.lessons.{_file(name).stem}")


def _file(name: str) -> Path:
    plain = name.strip().lower().replace("_", "-").replace(".", "-").replace(" ", "-")
    if plain not in names():
        raise unknown("lesson", name, names(), "(playfield lesson lists all)")
    return FOLDER / f"{plain.replace('-', '_')}.py"


def run(
    name: str,
    *,
    runs: int | None = None,
    episodes: int | None = None,
    steps: int | None = None,
    faithful: bool = False,
    progress: Any = None,
) -> Any:
    """Run a lesson and return its `Outcome`, which a notebook shows as a picture.

    Args:
        name: a lesson, see `names`.
        runs, episodes, steps: other than the lesson's own; with other episodes or steps, or a single run where
            a lesson has several, nothing is judged.
        faithful: index features as the course's code does, with its mistakes.
        progress: a `Progress`; None is silent.

    Raises:
        UsageError: no such lesson, or it has no such option.

    Example:
        >>> outcome = playfield.lessons.run("mountain-car-tilings", runs=5)
        >>> print(outcome.table())
    """
    from playfield.lessons._outcome import Ask
    from playfield.lessons._progress import Silent

    module = load(name)
    budget = module.BUDGET
    shown = name.replace("_", "-")
    for what, given, own in (
        ("runs", runs, budget.runs),
        ("episodes", episodes, budget.episodes),
        ("steps", steps, budget.steps),
    ):
        if given is not None and not own:
            raise UsageError(f"lesson {shown} has no --{what}: {budget.words()}")
        if given is not None and given < 1:
            raise UsageError(f"--{what} is at least 1, not {given}")
    if faithful and not budget.faithful:
        raise UsageError(f"lesson {shown} has no --faithful: it uses no features of the course's own indexing")
    ask = Ask(
        runs=runs or budget.runs,
        episodes=episodes or budget.episodes,
        steps=steps or budget.steps,
        faithful=faithful,
        as_published=episodes in (None, budget.episodes) and steps in (None, budget.steps),
        progress=progress or Silent(),
    )
    outcome = module.run(ask)
    if budget.runs <= 1 or ask.runs > 1:
        return outcome
    # A run by itself has no interval, and no rank among others.
    return dataclasses.replace(outcome, rows=[dataclasses.replace(row, few=True) for row in outcome.rows])
