"""The files of a lesson, each written completely or not at all, and its table in the terminal."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from playfield.errors import DataError, UsageError
from playfield.lessons._outcome import Outcome
from playfield.lessons._rows import FEW, HEADINGS, Row, cells, markdown, table
from playfield.runs.storage import atomic_write, folder_for, preflight, read_json
from playfield.show.film import Film


def collected(folder: Path, name: str = "") -> str:
    """The rows of all lessons in `folder`, or of the one called `name`, as a Markdown table.

    Raises UsageError where there are none, DataError for a damaged file.
    """
    lines = []
    for path in sorted(folder.glob(f"{name or '*'}.json")):
        stored = read_json(folder, path.name)[1]
        try:
            how = f" (here: {stored['changed']})" if stored.get("changed") else ""
            for row in stored["rows"]:
                lines.append([f"`{stored['lesson']}`{how}", *cells(_row(row))])
        except (KeyError, TypeError, AttributeError):
            raise DataError(f"{path} was not written by a lesson") from None
    if not lines:
        what, run = (f"lesson {name}", name) if name else ("no lesson", "mountain-car-tilings")
        how = f"was {'not ' * bool(name)}run into {folder}"
        raise UsageError(f"{what} {how}: try playfield lesson {run} --out {folder}")
    # A lesson's name is in its first row only.
    named = [[row[0] if i == 0 or lines[i - 1][0] != row[0] else "", *row[1:]] for i, row in enumerate(lines)]
    return markdown(("lesson", *HEADINGS), named)


def _row(stored: dict[str, Any]) -> Row:
    """The row of a JSON file, with the verdict that it has there."""
    numbers: dict[str, Any] = {
        k: math.nan if stored[k] is None else float(stored[k]) for k in ("ours", "low", "high")
    }
    own: dict[str, Any] = {k: stored[k] for k in ("setting", "measure", "published", "seconds_there", "seconds_here")}
    holds = {"pass": True, "differs": False}.get(stored["verdict"])
    few = stored["verdict"] == FEW
    compared = few or holds is not None
    return Row(**own, **numbers, claim=stored["rule"], holds=few or holds, compared=compared, few=few)


def check_folder(folder: Path, name: str, kind: str = "png", gif: bool = False) -> None:
    """Called before the lesson `name` runs: `write` can write into `folder`, as far as that is known then.

    Raises UsageError where `folder`, or what it lies in, is a file, or one of the files is a directory; StorageError
    where nothing can be written there.
    """
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out names a directory, and {path} is a file")
    for path in [folder / f"{name}.{end}" for end in (kind, "json", *["gif"] * gif)]:
        if path.is_dir():
            raise UsageError(f"{path} is a directory: choose another one with --out")
    preflight(folder, 10_000_000 if gif else 2_000_000)


def write(outcome: Outcome, folder: Path, gif: bool, kind: str = "png") -> dict[str, Path]:
    """Write picture, JSON file and with `gif` a film into `folder`; returns their paths. Raises StorageError.

    `kind` is the format of the picture: `png`, `svg` or `pdf`. There is no film of a lesson that has none to play.
    """
    picture = outcome.picture(kind)  # rendered before anything is written
    data = json.dumps(outcome.plain(), indent=1, allow_nan=False)
    files = {"picture": folder / f"{outcome.name}.{kind}", "table": folder / f"{outcome.name}.json"}
    if gif and outcome.film is not None:
        files["film"] = folder / f"{outcome.name}.gif"
    with folder_for(folder, [path.name for path in files.values()]):
        if gif and outcome.film is not None:
            with Film(files["film"], outcome.fps) as film:
                for frame in outcome.film():
                    film.add(frame)
        atomic_write(files["picture"], picture)
        atomic_write(files["table"], data + "\n")
    return files


def say(outcome: Outcome, files: dict[str, Path], as_json: bool) -> None:
    """Print the table and the paths of the files; with `as_json`, one JSON object."""
    if as_json:
        plain: dict[str, Any] = outcome.plain() | {"files": {name: str(path) for name, path in files.items()}}
        print(json.dumps(plain, allow_nan=False))
        return
    if outcome.rows:
        print(table(outcome.rows, sys.stdout.isatty()))
    for note in outcome.notes:
        print(note)
    for name, path in files.items():
        print(f"{name}: {path}")
