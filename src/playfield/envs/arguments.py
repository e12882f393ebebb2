"""Arguments of an environment, as `gymnasium.make` takes them: `is_slippery=false`, in words and in Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from playfield.errors import UsageError

PYTHON = {"True": True, "False": False, "None": None}


def parse(words: Iterable[str]) -> dict[str, Any]:
    """Words `NAME=VALUE`, or one JSON object, as arguments.

    A value is what JSON or Python makes of it (`8`, `0.5`, `true`, `None`, `[1, 2]`, `"8"`), else text (`8x8`).

    Raises UsageError for other words, and for a name that is given twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        if word.lstrip().startswith("{"):
            given = _json(word)
            if not isinstance(given, dict):
                raise UsageError(f"--env-kwargs takes NAME=VALUE or one JSON object, and {word!r:.80} is no JSON")
        else:
            name, sign, value = word.partition("=")
            if not sign:
                raise UsageError(f"--env-kwargs takes NAME=VALUE, such as is_slippery=false, not {word!r:.80}")
            given = {name: value if (read := _json(value)) is _NOTHING else read}
        for name in given:
            if name in found:
                raise UsageError(f"--env-kwargs {name} is given twice")
        found |= given
    return checked(found)


_NOTHING = object()


def _json(text: str) -> Any:
    if text in PYTHON:
        return PYTHON[text]
    try:
        return json.loads(text, parse_constant=lambda _: _NOTHING)
    except (ValueError, RecursionError):
        return _NOTHING


def checked(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as a run can store them: numbers, text, lists and dictionaries; NumPy's as Python's.

    Raises UsageError for anything else: a run that resumes must make the same environment again.
    """
    if not isinstance(arguments, Mapping):
        raise UsageError(f"env_kwargs takes a dictionary of arguments, not {arguments!r:.60}")
    out = {}
    for name, value in arguments.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise UsageError(f"an argument of an environment has a name such as is_slippery, not {name!r:.60}")
        if name == "render_mode":
            raise UsageError("render_mode is chosen by playfield: `playfield watch` shows games")
        try:
            out[name] = json.loads(json.dumps(value, default=_plain, allow_nan=False))
        except (TypeError, ValueError, RecursionError):
            raise UsageError(
                f"the argument {name} is a {type(value).__name__}, which a run cannot store: numbers, text, lists "
                "and dictionaries can be; give the rest in a function that makes the environment"
            ) from None
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError


def words(arguments: Mapping[str, Any]) -> list[str]:
    """Arguments as words that `parse` reads back."""
    found = []
    for name, value in arguments.items():
        bare = isinstance(value, str) and value and "=" not in value and _json(value) is _NOTHING
        found.append(f"{name}={value}" if bare and value[0] not in " -{" else f"{name}={json.dumps(value)}")
    return found


def line(arguments: Mapping[str, Any]) -> str:
    """Arguments for a person: `is_slippery false, map_name 8x8`."""
    return ", ".join(f"{k} {v if isinstance(v, str) else json.dumps(v, default=repr)}" for k, v in arguments.items())
