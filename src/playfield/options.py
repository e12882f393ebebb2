"""What the command line knows about algorithms without importing them.

An algorithm's `Config` is read from its source as data: names, types, defaults and the docstring under each
field. So `--help` and a mistyped option answer at once, before torch is loaded.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.errors import UsageError, unknown

ALGOS = Path(__file__).parent / "algos"
# Options that only make sense in [0, 1].
_FRACTIONS = {
    "gamma",
    "gae_lambda",
    "clip",
    "anneal_to",
    "alpha",
    "beta",
    "epsilon_start",
    "epsilon_end",
    "epsilon_share",
}


@dataclass(frozen=True)
class Option:
    """One field of a `Config`."""

    name: str
    type: str  # int, float, bool or str
    default: Any
    help: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str) -> Any:
        """The value that `text` means. Raises UsageError for what is no value of this option."""
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
                raise UsageError(f"{self.flag} takes true or false, not {text!r}")
            return words[text.lower()]
        if self.type == "str":
            return text
        return number(self.flag, text, whole=self.type == "int", low=self._low(), high=self._high())

    def _low(self) -> float:
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
    tree = ast.parse((ALGOS / f"{algo}.py").read_text("utf-8"))
    config = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "Config")
    found: list[Option] = []
    for node, following in zip(config.body, [*config.body[1:], None], strict=True):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            text = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                text = " ".join(str(following.value.value).split())
            found.append(Option(node.target.id, ast.unparse(node.annotation), ast.literal_eval(node.value), text))
    return found


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


def nets() -> list[str]:
    """Names of all network bodies: the public functions of nets.py that take a shape and return a Body."""
    tree = ast.parse((ALGOS.parent / "nets.py").read_text("utf-8"))
    bodies = (n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))
    return sorted(n.name for n in bodies if len(n.args.args) == 1 and n.returns and ast.unparse(n.returns) == "Body")
