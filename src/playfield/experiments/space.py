"""What a tuning searches: values of options, around those of a preset.

The values that are worth trying come from the algorithm (`Config.searches`) or from a TOML file. The preset's own
value is always among them, so that a tuning begins from it and can only do better.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playfield.errors import UsageError
from playfield.options import Option, Search
from playfield.runs import catalog
from playfield.runs.algorithm import Config
from playfield.runs.toml_file import TomlFile, read_toml

MOST_CHOICES = 1_000


def space_of(cfg: Config, file: Path | None, known: Mapping[str, Option]) -> dict[str, Search]:
    """What to search, by option; the values of `cfg` are among it.

    Args:
        cfg: what the tuning begins from, before it is fitted to an environment.
        file: a TOML file that says what to search instead; None: what is worth trying of the algorithm.
        known: the algorithm's options by name.

    Raises UsageError where there is nothing to search, or for a mistake in the file; DataError for an unusable file.
    """
    chosen = read_space(file, known) if file is not None else cfg.searches()
    found = {}
    for name, search in chosen.items():
        widened = with_value(search, getattr(cfg, name))
        if widened is not None:
            found[name] = widened
    if not found:
        raise UsageError("there is nothing to search: this algorithm has no options worth trying; use --space FILE")
    return found


def with_value(search: Search, value: Any) -> Search | None:
    """`search` with the value that a tuning begins from; None where that is a schedule, which is no single number."""
    if search.choices:
        return search if value in search.choices else dataclasses.replace(search, choices=(value, *search.choices))
    if isinstance(value, str | bool):
        return None
    low, high = min(search.low, value), max(search.high, value)
    return Search(low, high, search.log and low > 0)  # zero has no logarithm


def read_space(path: Path, known: Mapping[str, Option]) -> dict[str, Search]:
    """The values to search in a TOML file: `lr = {low = 1e-5, high = 1e-3, log = true}`, `gamma = [0.9, 0.99]`.

    Raises UsageError with file and line for a mistake, DataError for a file that cannot be used.
    """
    file = read_toml(path)
    return {name.replace("-", "_"): _search(file, name, value, known) for name, value in file.table.items()}


def _search(file: TomlFile, given: str, value: Any, known: Mapping[str, Option]) -> Search:
    name = given.replace("-", "_")
    if name not in known:
        raise file.unknown("option", given, known, hint=catalog.likely(given, known))
    option = known[name]
    if isinstance(value, list):
        if not 1 < len(value) <= MOST_CHOICES or len({repr(v) for v in value}) != len(value):
            raise file.wrong(given, f"{given} takes at least two choices, all different")
        search = Search(choices=tuple(_value(file, given, option, v) for v in value))
    elif isinstance(value, dict):
        if wrong := value.keys() - {"low", "high", "log"}:
            raise file.unknown(f"part of {given}", min(wrong), ("low", "high", "log"))
        if option.type not in ("int", "float"):
            raise file.wrong(given, f"{given} takes choices, as in {given} = {_example(option)}")
        if not {"low", "high"} <= value.keys() or not isinstance(value.get("log", False), bool):
            raise file.wrong(given, f"{given} takes low and high, and log = true or false")
        low, high = (_value(file, given, option, value[end]) for end in ("low", "high"))
        search = Search(low, high, value.get("log", False))
        if low >= high:
            raise file.wrong(given, f"low of {given} must be below high")
        if search.log and low <= 0:
            raise file.wrong(given, f"low of {given} must be above 0 where log = true")
    else:
        raise file.wrong(given, f"{given} takes choices [...] or a range {{low = ..., high = ...}}")
    return search


def _example(option: Option) -> str:
    return "[true, false]" if option.type == "bool" else str(list(option.choices or ("a", "b")))


def _value(file: TomlFile, given: str, option: Option, value: Any) -> Any:
    """A value of an option. Raises UsageError with file and line where it is none."""
    if option.type == "float" and type(value) is int:
        value = float(value)
    try:
        option.check(value)
    except UsageError as error:
        raise file.wrong(given, str(error)) from None
    return value
