"""Lessons: experiments of a course and a book, one command each, with the published numbers beside ours.

A file in this folder is a lesson; its name with dashes is the lesson's name. It has

* a docstring: the first line is shown in the list, all of it by `--about`,
* `BUDGET`, a `Budget`: the published budget, and the options that the lesson has,
* `run(request) -> Outcome`: runs the experiment.

Files that begin with an underscore are shared by lessons. To add a lesson, add a file. Nothing outside this folder
and the command line imports it.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from playfield.errors import UsageError, shown, unknown
from playfield.lessons._progress import Silent
from playfield.lessons._request import Budget, Progress, Request
from playfield.linear.unused import unused
from playfield.options import Option
from playfield.runs import catalog

if TYPE_CHECKING:  # needs matplotlib, which a list of lessons does not
    from playfield.lessons._outcome import Outcome

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of all lessons, in order."""
    return sorted(path.stem.replace("_", "-") for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def canonical(name: str) -> str:
    """The listed name of a lesson: `Figure 10.3` -> `figure-10-3`. Raises UsageError for an unknown one."""
    return _file(name).stem.replace("_", "-")


def about(name: str) -> str:
    """The docstring of a lesson, read without importing it. Raises UsageError for an unknown name."""
    return ast.get_docstring(ast.parse(_file(name).read_text("utf-8"))) or ""


def options(name: str) -> list[Option]:
    """The options of a lesson's methods that it takes; read without importing it.

    Raises UsageError for an unknown name.
    """
    tree = ast.parse(_file(name).read_text("utf-8"))
    made = next(
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "BUDGET"
    )
    assert isinstance(made, ast.Call)
    given = {k.arg: ast.literal_eval(k.value) for k in made.keywords if k.arg in ("methods", "own")}
    methods = given.get("methods", ())
    known = [{o.name: o for o in catalog.options(method)} for method in methods]
    shared = set.intersection(*map(set, known)) - set(given.get("own", ())) - {"features"} if known else set()
    for method in methods:
        if "features" in {o.name for o in catalog.options(method)}:  # linear: its lessons are experiments
            shared -= unused(method)
    for size in given.get("own", ()):  # a step size that is given has no correction
        shared.discard(size.replace("alpha", "correction"))
    return [option for option in (known[0].values() if known else ()) if option.name in shared]


def load(name: str) -> ModuleType:
    """The module of a lesson. Raises UsageError for an unknown name."""
    return importlib.import_module(f"playfield.lessons.{_file(name).stem}")


def _file(name: str) -> Path:
    plain = name.strip().lower().replace("_", "-").replace(".", "-").replace(" ", "-")
    if plain not in names():
        number = re.fullmatch(r"(?:figures?-|fig-|examples?-)?(\d+)-(\d+)", plain)
        shows = rf"(?<![\d.]){number[1]}\.{number[2]}(?!\d)" if number else "(?!)"
        if found := [one for one in names() if re.search(shows, about(one).partition("\n")[0])]:
            raise UsageError(f"no lesson called {shown(name)}: try playfield lesson {' or '.join(found)}")
        raise unknown("lesson", name, names(), "(playfield lesson lists all)")
    return FOLDER / f"{plain.replace('-', '_')}.py"


def run(
    name: str,
    *,
    runs: int | None = None,
    episodes: int | None = None,
    steps: int | None = None,
    faithful: bool = False,
    progress: Progress | None = None,
    **config: Any,
) -> Outcome:
    """Run a lesson and return its `Outcome`, which a notebook shows as a picture.

    Args:
        name: of a lesson, see `names`.
        runs, episodes, steps: instead of the published budget. With other episodes or steps, or fewer
            than half the runs, numbers are not compared with the published ones.
        faithful: reproduce the mistakes of the course's code.
        progress: where to report progress; None: nowhere.
        config: options of the lesson's method (see `options`) instead of the published ones; numbers are then not
            compared with the published ones.

    Raises:
        UsageError: no such lesson, or it has no such option.

    Example:
        >>> outcome = playfield.lessons.run("mountain-car-tilings", runs=5)
        >>> print(outcome.table())
    """
    asked = {"runs": runs, "episodes": episodes, "steps": steps, "faithful": faithful, **config}
    check(name, **asked)
    module, request = load(name), dataclasses.replace(requested(name, **asked), progress=progress or Silent())
    outcome: Outcome = module.run(request)
    if changed := request.changed(module.BUDGET):
        outcome = dataclasses.replace(outcome, changed=changed)
    if 2 * request.runs >= module.BUDGET.runs:
        return outcome
    # The mean of far fewer runs than were published, or a single one, proves nothing.
    return dataclasses.replace(outcome, rows=[dataclasses.replace(row, few=True) for row in outcome.rows])


def requested(
    name: str,
    *,
    runs: int | None = None,
    episodes: int | None = None,
    steps: int | None = None,
    faithful: bool = False,
    **config: Any,
) -> Request:
    """What these arguments of `run` ask of a lesson, without progress."""
    budget: Budget = load(name).BUDGET
    return Request(
        runs=runs or budget.runs,
        episodes=episodes or budget.episodes,
        steps=steps or budget.steps,
        faithful=faithful,
        as_published=not config and episodes in (None, budget.episodes) and steps in (None, budget.steps),
        progress=Silent(),
        options=config,
    )


def check(
    name: str,
    *,
    runs: int | None = None,
    episodes: int | None = None,
    steps: int | None = None,
    faithful: bool = False,
    **config: Any,
) -> None:
    """Raise UsageError where a lesson has no such option, or an option no such value. See `run`."""
    budget: Budget = load(name).BUDGET
    plain = name.replace("_", "-")
    for what, given, own in (
        ("runs", runs, budget.runs),
        ("episodes", episodes, budget.episodes),
        ("steps", steps, budget.steps),
    ):
        if given is not None and not own:
            raise UsageError(f"lesson {plain} has no --{what}: {budget.words()}")
        if given is not None and given < 1:
            raise UsageError(f"--{what} must be at least 1, not {given}")
    if faithful and not budget.faithful:
        raise UsageError(f"lesson {plain} has no --faithful: the course's code has no mistake to reproduce there")
    for key, value in config.items():
        known = {o.name: o for o in options(name)}
        if key not in known:
            raise unknown(f"option of lesson {plain}", key, [*known, "runs", "episodes", "steps", "faithful"])
        known[key].check(value)
