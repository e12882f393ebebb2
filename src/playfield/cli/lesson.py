"""`playfield lesson`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from playfield import lessons
from playfield.cli.parser import NoOption, directory, make, no_option, say_line, whole
from playfield.errors import UsageError
from playfield.options import Option
from playfield.runs.output import want
from playfield.show.formats import PLOTS

EXAMPLES = """examples:
  playfield lesson                                   all lessons, one line each
  playfield lesson mountain-car-tilings              runs one: a table, a picture and a JSON file in lessons/
  playfield lesson mountain-car-tilings --about      what it teaches
  playfield lesson mountain-car-hashing --faithful   as the course's code does it, mistakes and all
  playfield lesson figure-10-3 --runs 5 --gif        fewer runs; and a film of a game played by what was learnt
  playfield lesson cartpole-sarsa --gamma 0.9 --alpha 0.01   other values of the method's options
  playfield lesson figure-10-3 --format pdf          the picture as PDF or SVG: for a paper
  playfield lesson schedules --steps 1M --runs 3     trains networks: stop it at any time, the same command goes on
  playfield lesson figure-10-1 --show                in a window, where surfaces can be turned
  playfield lesson --table lessons                   all that was run, in one table"""


def lesson(words: list[str]) -> int:
    """Run an experiment of a course or a book, its results beside yours."""
    p = make("lesson", lesson.__doc__ or "", EXAMPLES)
    p.add_argument("name", nargs="?", help="a lesson; without one, they are listed")
    p.add_argument("--about", action="store_true", help="say what the lesson teaches, and stop")
    p.add_argument(
        "--table", type=directory("--table"), metavar="DIR", help="one table, for a page, of what was run into DIR"
    )
    p.add_argument(
        "--runs",
        "--seeds",
        type=whole("--runs", 1, 10_000),
        metavar="N",
        help="runs of each setting, each with a seed of its own: 1 to N",
    )
    p.add_argument(
        "--episodes",
        type=whole("--episodes", 1, 1e6),
        help="episodes of a run (with others than the default, nothing is compared)",
    )
    p.add_argument(
        "--steps",
        type=whole("--steps", 1, 1e9),
        help="steps of a training (with fewer than the default nothing is compared, and in most lessons with more)",
    )
    p.add_argument(
        "--out",
        type=directory("--out"),
        default=Path("lessons"),
        metavar="DIR",
        help="for the files (default: lessons)",
    )
    p.add_argument("--format", choices=PLOTS, default="png", help="of the picture (default: png)")
    p.add_argument("--faithful", action="store_true", help="as the course's code does it, mistakes and all")
    p.add_argument("--gif", action="store_true", help="write a film of a game, too")
    p.add_argument("--show", action="store_true", help="open the picture in a window, too")
    p.add_argument("--quiet", action="store_true", help="no progress")
    p.add_argument("--json", action="store_true", help="JSON on standard output, nothing else")
    own = _own(words)
    group = p.add_argument_group("options of the lesson's method, instead of the published ones (no comparison then)")
    for o in own:
        group.add_argument(o.flag, type=o.parse, metavar=o.metavar, help=o.help.replace("%", "%%"))
    try:
        a = p.parse(words)
    except NoOption as error:
        raise _without(error, words) from None
    config = {o.name: getattr(a, o.name) for o in own if getattr(a, o.name) is not None}
    if a.about or a.name is None:
        want()
    from playfield.lessons import _picture, _progress, _report

    if a.table is not None:
        one = "" if a.name is None else lessons.canonical(a.name)
        sys.stdout.write(_report.collected(a.table, one) + "\n")
        return 0
    if a.name is None:
        if len(words) > 0:
            raise UsageError(f"{words[0]}: of which lesson? For example: playfield lesson mountain-car-tilings")
        _list()
        return 0
    text = lessons.about(a.name)
    if a.about:
        say_line(text)
        return 0
    _report.check_folder(a.out, lessons.canonical(a.name), a.format, a.gif)
    if a.show:
        _picture.check_display()
    if a.format != "png" and lessons.load(a.name).BUDGET.pixels:
        raise UsageError(f"lesson {a.name} shows pixels, which are written as PNG only: leave out --format")
    if a.gif and not lessons.load(a.name).BUDGET.film:
        raise UsageError(f"lesson {a.name} plays no game: leave out --gif")
    options = {"runs": a.runs, "episodes": a.episodes, "steps": a.steps, "faithful": a.faithful, **config}
    lessons.check(a.name, **options)
    progress = _progress.Silent() if a.quiet or a.json else _progress.Reporter(a.name)
    if not a.json:
        changed = lessons.requested(a.name, **options).changed(lessons.load(a.name).BUDGET)
        say_line(text.partition("\n")[0] + (f" (here: {changed})" if changed else ""))
    try:
        outcome = lessons.run(a.name, progress=progress, **options)
    finally:
        if isinstance(progress, _progress.Reporter):
            progress.close()
    files = _report.write(outcome, a.out, a.gif, a.format)
    _report.say(outcome, files, a.json)
    if a.show:
        _picture.window(outcome.heading, outcome.panels, outcome.columns)
    return 0


def _without(error: NoOption, words: list[str]) -> UsageError:
    """The error for an option that no lesson has, or that the named one has not: what that one has instead."""
    for before, word in zip(["", *words], words, strict=False):
        if before.startswith("-"):
            continue
        with contextlib.suppress(UsageError):
            name = lessons.canonical(word)
            if error.word.startswith("-") and "did you mean" not in str(error):
                count = len(lessons.options(name))
                has = lessons.load(name).BUDGET.words() + (f", and {count} of its method" if count else "")
                return no_option(
                    f"lesson {name} has no option {error.word}",
                    error.word,
                    f"{has}; see playfield lesson {name} --help",
                )
    return error


def _own(words: list[str]) -> list[Option]:
    """Options of the method of the lesson that the words name, if they name one."""
    for word in words:
        with contextlib.suppress(UsageError):
            return lessons.options(word)
    return []


def _list() -> None:
    """All lessons, one line each."""
    names = lessons.names()
    width = max(map(len, names)) + 2
    sys.stdout.write("".join(f"{name:<{width}}{lessons.about(name).partition(chr(10))[0]}\n" for name in names))
    sys.stdout.write("\nRun one: playfield lesson mountain-car-tilings   (playfield lesson --help tells more)\n")
