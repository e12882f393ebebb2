"""What the command line knows about algorithms without importing them.

An algorithm's `Config` is read from its source as data: names, types, defaults and the docstring under each
field. So `--help` and a mistyped option answer at once, before torch is loaded.
"""

from __future__ import annotations

import ast
import math
import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.errors import UsageError, unknown

ALGOS = Path(__file__).parent / "algos"
# Options that only make sense in [0, 1].
_FRACTIONS = {
    "gamma",
    "gae_lambda",
    "q_lambda",
    "clip",
    "anneal_to",
    "correction",
    "correction_actor",
    "beta",
    "epsilon_start",
    "epsilon_end",
    "epsilon_share",
    "epsilon",
    "epsilon_decay",
    "lam",
}
_POSITIVE = {"correction", "correction_actor", "tau", "kappa"}  # 0 makes no sense
# Options that may be negative.
_SIGNED = {"v_min", "v_max", "initial"}


@dataclass(frozen=True)
class Option:
    """One field of a `Config`."""

    name: str
    type: str  # int, float, bool or str
    default: Any
    help: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str, where: str = "") -> Any:
        """The value that `text` means. Raises UsageError for what is no value of this option (`where` names it)."""
        if self.type == "bool":
            words = {
                "true": True,
                "yes": True,
                "1": True,
                "on": True,
                "false": False,
                "no": False,
                "0": False,
            }
            words["off"] = False
            if text.lower() not in words:
                raise UsageError(f"{where or self.flag} takes true or false, not {text!r}")
            return words[text.lower()]
        if self.type == "str":
            if self.choices and text not in self.choices:
                raise unknown(where or self.name.replace("_", " "), text, self.choices)
            return text
        value = number(self.flag, text, whole=self.type == "int", low=self._low(), high=self._high())
        if self.name in _POSITIVE and not value:
            raise UsageError(f"{self.flag} must be above 0, not {text}")
        return value

    def check(self, value: Any) -> None:
        """Raise UsageError for a Python value that is of another type, or outside of what `parse` takes."""
        kinds = {"int": numbers.Integral, "float": numbers.Real, "bool": bool, "str": str}
        if not isinstance(value, kinds[self.type]) or (isinstance(value, bool) and self.type != "bool"):
            words = {"int": "a whole number", "float": "a number", "bool": "True or False", "str": "a string"}
            raise UsageError(f"{self.name} takes {words[self.type]}, not {value!r}")
        self.parse(str(value))

    def _low(self) -> float:
        if self.name in _SIGNED:
            return -1e12
        return 1 if self.type == "int" and self.default >= 1 else 0

    def _high(self) -> float:
        return 1 if self.name in _FRACTIONS else 1e12


def number(flag: str, text: str, *, whole: bool, low: float = 0, high: float = 1e12) -> Any:
    """A finite number between `low` and `high`; whole numbers may be written 1_000, 1,000, 10k, 3M or 1e6."""
    plain = text.replace(",", "").replace("_", "")
    factor = {"k": 1e3, "m": 1e6, "b": 1e9}.get(plain[-1:].lower(), 1)
    try:
        value = float(plain[:-1] if factor > 1 else plain) * factor
    except ValueError:
        kind = "a whole number, such as 1000000, 1M or 500k" if whole else "a number"
        raise UsageError(f"{flag} takes {kind}, not {text!r}") from None
    if not math.isfinite(value) or not low <= value <= high:
        raise UsageError(f"{flag} must be between {low:g} and {high:g}, not {text}")
    if not whole:
        return value
    if value != int(value):
        raise UsageError(f"{flag} takes a whole number, not {text!r}")
    return int(value)


def algorithms() -> list[str]:
    """Names of all algorithms: the files in algos/."""
    return sorted(p.stem for p in ALGOS.glob("*.py") if not p.stem.startswith("_"))


def options(algo: str) -> list[Option]:
    """The options of an algorithm, in the order of its `Config`. Raises UsageError for an unknown algorithm."""
    if algo not in algorithms():
        raise unknown("algorithm", algo, algorithms())
    return list(_fields(ALGOS / f"{algo}.py", "Config").values())


def _fields(file: Path, name: str) -> dict[str, Option]:
    """The fields of a dataclass in a source file, those of its base first.

    A base is written `module.Class`, of a module of this package.
    """
    tree = ast.parse(file.read_text("utf-8"))
    config = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    found: dict[str, Option] = {}
    for base in config.bases:
        if isinstance(base, ast.Attribute):
            folder = next(
                f for f in (ALGOS, ALGOS.parent / "linear") if (f / f"{ast.unparse(base.value)}.py").exists()
            )
            found |= _fields(folder / f"{ast.unparse(base.value)}.py", base.attr)
    for node, following in zip(config.body, [*config.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            text = found[node.target.id].help if node.target.id in found else ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = " ".join(str(following.value.value).split())
            kind, choices = _type(node.annotation)
            found[node.target.id] = Option(node.target.id, kind, ast.literal_eval(node.value), text, choices)
    return found


def _type(annotation: ast.expr) -> tuple[str, tuple[str, ...]]:
    """int, float, bool or str, and the choices of a Literal, whose type is str."""
    kind = ast.unparse(annotation)
    if kind.startswith("Literal["):
        return "str", ast.literal_eval("(" + kind[8:-1] + ",)")
    return kind, ()


def check(algo: str, config: dict[str, Any]) -> None:
    """Raise UsageError for what is no option of an algorithm, or no value of it."""
    known = {o.name: o for o in options(algo)}
    for name, value in config.items():
        if name not in known:
            raise unknown(f"{algo} option", name, known)
        known[name].check(value)


def agree(config: dict[str, Any]) -> dict[str, Any]:
    """Options as they were given, with those that they switch off: --packed and --mmap are two ways to keep pixels.

    What is given wins over what a preset says. Raises UsageError where both are given.
    """
    if config.get("packed") and config.get("mmap"):
        raise UsageError(
            "--packed true compresses observations in memory, --mmap true keeps them plain in a file: leave out "
            "--packed to have more of them than memory holds, else --mmap"
        )
    switched = {"packed": False} if config.get("mmap") else {"mmap": False} if config.get("packed") else {}
    return {**switched, **config}


def presets(algo: str) -> list[str]:
    """Names of an algorithm's presets, over all kinds of environments."""
    tree = ast.parse((ALGOS / f"{algo}.py").read_text("utf-8"))
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PRESETS" and node.value is not None:
            kinds = node.value
            assert isinstance(kinds, ast.Dict)
            names = [
                k.value
                for v in kinds.values
                if isinstance(v, ast.Dict)
                for k in v.keys
                if isinstance(k, ast.Constant)
            ]
            return list(dict.fromkeys(str(n) for n in names))
    return []
