"""`playfield lesson`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from playfield.cli.parser import make, say_line, whole
from playfield.errors import UsageError

EXAMPLES = """examples:
  playfield lesson                                   all lessons, one line each
  playfield lesson mountain-car-tilings              runs one: a table, a picture and a JSON file in lessons/
  playfield lesson mountain-car-tilings --about      what it teaches
  playfield lesson mountain-car-hashing --faithful   as the course's code does it, mistakes and all
  playfield lesson figure-10-3 --runs 5 --gif        fewer runs; and a film of a game played by what was learnt
  playfield lesson figure-10-1 --show                in a window, where surfaces can be turned
  playfield lesson --table lessons                   all that was run, in one table"""


def lesson(words: list[str]) -> int:
    """Run an experiment of a course or a book, its results beside yours."""
    p = make("lesson", lesson.__doc__ or "", EXAMPLES)
    p.add_argument("name", nargs="?", help="a lesson; without one, they are listed")
    p.add_argument("--about", action="store_true", help="say what the lesson teaches, and stop")
    p.add_argument("--table", type=Path, metavar="DIR", help="one table, for a page, of what was run into DIR")
    p.add_argument(
        "--runs", type=whole("--runs", 1, 10_000), help="runs of each setting, each with a seed of its own"
    )
    p.add_argument("--episodes", type=whole("--episodes", 1, 1e6), help="episodes of a run (no comparison then)")
    p.add_argument("--steps", type=whole("--steps", 1, 1e9), help="steps of a training (no comparison then)")
    p.add_argument(
        "--out", type=Path, default=Path("lessons"), metavar="DIR", help="for the files (default: lessons)"
    )
    p.add_argument("--faithful", action="store_true", help="as the course's code does it, mistakes and all")
    p.add_argument("--gif", action="store_true", help="write a film of a game, too")
    p.add_argument("--show", action="store_true", help="open the picture in a window, too")
    p.add_argument("--quiet", action="store_true", help="no progress")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    a = p.parse(words)
    from playfield import lessons
    from playfield.lessons import _picture, _progress, _report

    if a.table is not None:
        one = "" if a.name is None else lessons.canonical(a.name)
        sys.stdout.write(_report.collected(a.table, one) + "\n")
        return 0
    if a.name is None:
        if len(words) > 0:
            raise UsageError(f"{words[0]}: of which lesson? For example: playfield lesson mountain-car-tilings")
        _list(lessons)
        return 0
    text = lessons.about(a.name)
    if a.about:
        say_line(text)
        return 0
    _report.check_folder(a.out)
    if a.show:
        _picture.check_display()
    if a.gif and not lessons.load(a.name).BUDGET.film:
        raise UsageError(f"lesson {a.name} plays no game: leave out --gif")
    progress = _progress.Silent() if a.quiet or a.json else _progress.Reporter(a.name)
    if not a.json:
        own = lessons.load(a.name).BUDGET.runs
        here = f" (here: {a.runs} run{'s' * (a.runs > 1)})" if a.runs and own and a.runs != own else ""
        say_line(text.partition("\n")[0] + here)
    try:
        options = {"runs": a.runs, "episodes": a.episodes, "steps": a.steps, "faithful": a.faithful}
        outcome = lessons.run(a.name, progress=progress, **options)
    finally:
        if isinstance(progress, _progress.Reporter):
            progress.close()
    files = _report.write(outcome, a.out, a.gif)
    _report.say(outcome, files, a.json)
    if a.show:
        _picture.window(outcome.title, outcome.panels, outcome.columns)
    return 0


def _list(lessons: Any) -> None:
    """All lessons, one line each."""
    names = lessons.names()
    width = max(map(len, names)) + 2
    sys.stdout.write("".join(f"{name:<{width}}{lessons.about(name).partition(chr(10))[0]}\n" for name in names))
    sys.stdout.write("\nRun one: playfield lesson mountain-car-tilings   (playfield lesson --help tells more)\n")
