"""TOML that a person has written, or a stranger: bounded, and every mistake named with its file and line."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.errors import DataError, UsageError, nearest, shown
from playfield.runs.storage import read_bytes

MOST = 1 << 20  # bytes


@dataclass(frozen=True)
class TomlFile:
    """A file of TOML: its path, its text, and the table that it is."""

    path: Path
    text: str
    table: dict[str, Any]

    def where(self, key: str, after: int = 0) -> str:
        """`FILE, line 3` of the first line that sets a key or begins a table of that name, else the file.

        Only what comes after that many lines is looked at: see `start`.
        """
        pattern = re.compile(rf"""\s*(\[[^\]=]*?)?["']?{re.escape(key)}["']?\s*(=|\.|\])""")
        for number, line in enumerate(self.text.splitlines(), 1):
            if number > after and pattern.match(line):
                return f"{self.path}, line {number}"
        return f"{self.path}, line {after}" if after else str(self.path)

    def start(self, name: str, n: int) -> int:
        """The line of the header `[[name]]` of table `n`, counted from 0; 0 where it is written inline."""
        pattern = re.compile(rf"\s*\[\[\s*{re.escape(name)}\s*\]\]")
        lines = [number for number, line in enumerate(self.text.splitlines(), 1) if pattern.match(line)]
        return lines[n] if n < len(lines) else 0

    def wrong(self, key: str, why: str, after: int = 0) -> UsageError:
        """An error about a key, with file and line."""
        return UsageError(f"{self.where(key, after)}: {why}")

    def unknown(self, kind: str, key: str, known: Iterable[str], after: int = 0, hint: str = "") -> UsageError:
        """An error for a key that is none of `known`, with file, line, and `hint` or the nearest right names."""
        if hint:
            return self.wrong(key, f"no {kind} called {shown(key)}: {hint}", after)
        listed = list(known)
        close = nearest(key, listed)
        hint = f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(listed[:12])}"
        return self.wrong(key, f"no {kind} called {shown(key)}: {hint}", after)


def read_toml(path: Path) -> TomlFile:
    """The TOML in a regular file of at most 1 MB.

    Raises UsageError where there is no such file, DataError for a link, a pipe, a larger file, or what is no TOML.
    """
    if not path.exists() and not path.is_symlink():
        raise UsageError(f"there is no file {path}")
    try:
        text = read_bytes(path, MOST).decode()
    except DataError as error:
        raise DataError(f"cannot read {path}: {error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no TOML: it is not UTF-8 text") from None
    try:
        return TomlFile(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DataError(f"{path} is no TOML: {error}") from None
    except (RecursionError, ValueError) as error:  # nested too deep; a number of 5,000 digits
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        raise DataError(f"{path} cannot be used: {reason}") from None


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    match value:
        case bool():
            return str(value).lower()
        case float() if not math.isfinite(value):
            return {"inf": "inf", "-inf": "-inf"}.get(str(value), "nan")
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case Mapping():
            return "{" + ", ".join(f"{toml_key(str(k))} = {toml_value(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(toml_value(v) for v in value) + "]"
    raise TypeError(f"{type(value).__name__} has no counterpart in TOML")


def toml_key(name: str) -> str:
    """A key as TOML writes it."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else toml_value(name)
