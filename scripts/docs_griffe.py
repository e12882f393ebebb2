"""Docstrings as mkdocstrings wants them: what one line says of several names becomes a line for each.

`files, bytes: what it takes` documents two attributes, `UsageError: no such run. DataError: it is damaged.` two
errors. A section `Example:` is one of examples.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAMES = re.compile(r"(\s+)(\w+(?:, \w+)+): (.*)")
_ERROR = re.compile(r"\. (?=\w+Error: )")


def plain(text: str) -> str:
    """A docstring with one name in each line of its sections."""
    found: list[str] = []
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        if line.strip() == "Example:":
            line = line.replace("Example:", "Examples:")
        names, more = _NAMES.fullmatch(line), []
        start = len(line) - len(line.lstrip())
        if names or re.match(r"\s+\w+Error: ", line):
            while lines and lines[0].strip() and len(lines[0]) - len(lines[0].lstrip()) > start:
                more.append(lines.pop(0))
        if names:
            for name in names[2].split(", "):
                found += [f"{names[1]}{name}: {names[3]}", *more]
        elif more or re.match(r"\s+\w+Error: ", line):
            whole = " ".join([line.strip(), *(m.strip() for m in more)])
            found += [" " * start + part for part in _ERROR.split(whole)]
        else:
            found.append(line)
    return "\n".join(found)


class Plain(griffe.Extension):
    """Changes the docstring of every object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = plain(obj.docstring.value)
