"""A preset in a file of TOML, as `playfield tune` writes it and `playfield train --preset FILE.toml` takes it.

algo = "ppo"
preset = "default"     # what it begins from; may be left out

[options]
lr = 0.0008
gamma = 0.98
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.errors import UsageError, unknown
from playfield.runs import catalog
from playfield.runs.toml_file import TomlFile, read_toml, toml_value

KEYS = ("algo", "preset", "options")


@dataclass(frozen=True)
class PresetFile:
    """What a file of hyper-parameters says: the algorithm, the preset that it begins from, and the options."""

    path: Path
    algo: str
    preset: str
    options: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """What `run.json` keeps of it, so that the run does not need the file."""
        return {"file": self.path.name, "algo": self.algo, "preset": self.preset, "options": self.options}


def is_file(preset: Any) -> bool:
    """Whether the value of `--preset` names a file, not a preset of the algorithm; what is no text does neither."""
    return isinstance(preset, str) and preset.lower().endswith(".toml")


def file_hint(preset: Any) -> str:
    """What to say of a name that is no preset and looks like that of a file."""
    if isinstance(preset, str) and ("." in preset or os.sep in preset or os.path.isfile(preset)):
        return "(the name of a preset's file must end in .toml)"
    return ""


def read_preset(path: Path, algo: str | None = None) -> PresetFile:
    """The preset in a file, for `algo` if that is given.

    Raises UsageError with file and line for a mistake, and where it is of another algorithm; DataError for a
    file that cannot be used.
    """
    file = read_toml(path)
    for key in file.table:
        if key not in KEYS:
            raise file.unknown("part of a preset", key, KEYS)
    of, preset = file.table.get("algo", ""), file.table.get("preset", "default")
    options = file.table.get("options", {})
    if not isinstance(of, str) or not of:
        raise file.wrong("algo", 'it lacks the algorithm, as in algo = "ppo"')
    if of not in catalog.algorithms():
        raise file.wrong("algo", str(unknown("algorithm", of, catalog.algorithms())))
    if algo is not None and of != algo:
        raise UsageError(f"{path} is a preset of {of}, not of {algo}: use --algo {of}")
    if not isinstance(preset, str) or preset not in catalog.presets(of):
        raise file.wrong("preset", f"preset must be one of {', '.join(catalog.presets(of))}")
    if not isinstance(options, dict):
        raise file.wrong("options", "options must be a table, [options]")
    return PresetFile(path, of, preset, _options(file, of, options))


def _options(file: TomlFile, algo: str, given: Mapping[str, Any]) -> dict[str, Any]:
    known = {o.name: o for o in catalog.options(algo)}
    found = {}
    for key, value in given.items():
        name = key.replace("-", "_")
        if name not in known:
            raise file.unknown(f"{algo} option", key, known, hint=catalog.why_not(algo, name, known))
        if name in found:
            raise file.wrong(key, f"{name} is given twice")
        option = known[name]
        try:
            option.check(value)
        except UsageError as error:
            raise file.wrong(key, str(error)) from None
        found[name] = option.plain(value)
    return found


def preset_text(algo: str, preset: str, options: Mapping[str, Any], notes: list[str]) -> str:
    """The TOML of a preset; `notes` stand on top as comments."""
    lines = [f"# {line}" for note in notes for line in note.splitlines()]
    lines += ["", f"algo = {toml_value(algo)}", f"preset = {toml_value(preset)}", "", "[options]"]
    return "\n".join([*lines, *(f"{name} = {toml_value(value)}" for name, value in options.items())]) + "\n"
