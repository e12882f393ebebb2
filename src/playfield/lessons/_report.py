"""A lesson's table, and its files: written whole or not at all."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

from playfield.errors import DataError, UsageError
from playfield.lessons._outcome import Outcome
from playfield.lessons._rows import FEW, HEADINGS, Row, _markdown, cells, table
from playfield.runs.storage import as_storage_error, atomic_write


def collected(folder: Path, name: str = "") -> str:
    """The rows of all lessons written into `folder`, or of the one called `name`, as a table for a page.

    Raises UsageError where there are none, DataError for a damaged file.
    """
    from playfield.runs.strict_json import parse_json

    lines = []
    for path in sorted(folder.glob(f"{name or '*'}.json")):
        told = parse_json(path.read_bytes(), str(path))
        try:
            for row in told["rows"]:
                lines.append([f"`{told['lesson']}`", *cells(_row(row))])
        except (KeyError, TypeError, AttributeError):
            raise DataError(f"{path} is no file of a lesson") from None
    if not lines:
        what, run = (f"lesson {name}", name) if name else ("no lesson", "mountain-car-tilings")
        how = f"was {'not ' * bool(name)}run into {folder}"
        raise UsageError(f"{what} {how}: try playfield lesson {run} --out {folder}")
    # A lesson is named once, before its first row.
    named = [[row[0] if i == 0 or lines[i - 1][0] != row[0] else "", *row[1:]] for i, row in enumerate(lines)]
    return _markdown(("lesson", *HEADINGS), named)


def _row(told: dict[str, Any]) -> Row:
    """The row that a file tells of; its verdict is the one that was given."""
    numbers: dict[str, Any] = {k: math.nan if told[k] is None else float(told[k]) for k in ("ours", "low", "high")}
    own: dict[str, Any] = {k: told[k] for k in ("setting", "measure", "published", "seconds_there", "seconds_here")}
    holds = {"pass": True, "differs": False}.get(told["verdict"])
    few = told["verdict"] == FEW
    return Row(**own, **numbers, claim=told["rule"], holds=few or holds, judged=few or holds is not None, few=few)


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be one, before anything is run. Raises UsageError."""
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise UsageError(f"--out names a directory, and {path} is a file")


def write(outcome: Outcome, folder: Path, gif: bool) -> dict[str, Path]:
    """Write picture, JSON and, if asked, a film into `folder`; each whole or not at all. Raises StorageError."""
    picture = outcome.png()  # made before anything is written
    data = json.dumps(outcome.plain(), indent=1, allow_nan=False)
    with as_storage_error(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    files = {"picture": folder / f"{outcome.name}.png", "table": folder / f"{outcome.name}.json"}
    if gif:
        from playfield.show.film import Film

        assert outcome.film is not None
        files["film"] = folder / f"{outcome.name}.gif"
        with Film(files["film"], outcome.fps) as film:
            for frame in outcome.film():
                film.add(frame)
    atomic_write(files["picture"], picture)
    atomic_write(files["table"], data + "\n")
    return files


def say(outcome: Outcome, files: dict[str, Path], as_json: bool) -> None:
    """Print the table and where the files are; with `as_json`, one JSON object."""
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
