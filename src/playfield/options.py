"""Options of algorithms and network bodies: their types, ranges and defaults, and how text becomes values.

A `Config` is a frozen dataclass. The annotation of a field says which values it takes: `int`, `float`, `bool`, `str`,
a `Literal`, or one of the annotated types below. The docstring under a field is its help on the command line.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import math
import numbers
import re
import textwrap
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

from playfield.errors import UsageError, shown, unknown

MOST = {"int": 1e12, "float": 1e38}  # the largest number that an option takes unless it says another


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high` (None: to `MOST`); with `above`, `low` itself is excluded."""

    low: float = 0.0
    high: float | None = None
    above: bool = False


@dataclass(frozen=True)
class Names:
    """A string that names a `net` or `features`, with options, or a `policy`."""

    what: Literal["net", "features", "policy"]


@dataclass(frozen=True)
class Excludes:
    """A switch that turns another one off; both cannot be given as true."""

    other: str


@dataclass(frozen=True)
class Search:
    """Values of an option that are worth trying in a tuning: numbers from `low` to `high`, or `choices`.

    With `log` numbers are spread evenly over their logarithms: as many between 1e-4 and 1e-3 as up to 1e-2.
    """

    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[Any, ...] = ()


Count = Annotated[int, Range(1)]
"""A whole number, at least 1."""
Fraction = Annotated[float, Range(0, 1)]
"""A number between 0 and 1."""
PositiveFraction = Annotated[float, Range(0, 1, above=True)]
Positive = Annotated[float, Range(0, above=True)]
Signed = Annotated[float, Range(-1e38)]
"""A number that may be negative. All others are at least 0."""
EvalEpsilon = Annotated[float, Range(-1, 1)]
"""The probability of a random action in evaluation; below 0: that of the end of training."""
NetName = Annotated[str, Names("net")]
FeaturesName = Annotated[str, Names("features")]
PolicyName = Annotated[str, Names("policy")]

# Names that other libraries, papers and courses have for options: the first that a command or algorithm has is meant.
ALIASES = {
    "learning-rate": ("lr", "alpha"),  # the first one that an algorithm has
    "lr": ("alpha",),
    "total-timesteps": ("steps",),
    "n-timesteps": ("steps",),
    "timesteps": ("steps",),
    "n-envs": ("num-envs",),
    "n-steps": ("rollout-steps",),
    "num-steps": ("rollout-steps",),
    "n-epochs": ("epochs",),
    "update-epochs": ("epochs",),
    "num-minibatches": ("minibatches",),
    "clip-range": ("clip",),
    "clip-coef": ("clip",),
    "buffer-size": ("capacity",),
    "train-freq": ("train-period",),
    "train-frequency": ("train-period",),
    "target-update-interval": ("target-period",),
    "target-network-frequency": ("target-period",),
    "exploration-fraction": ("epsilon-share",),
    "exploration-initial-eps": ("epsilon-start",),
    "exploration-final-eps": ("epsilon-end",),
    "start-e": ("epsilon-start",),
    "end-e": ("epsilon-end",),
    "lambda": ("gae-lambda", "q-lambda", "lam"),
    "step-size": ("alpha", "lr"),
    "priority-exponent": ("alpha",),
    "importance-exponent": ("beta",),
    "optimizer-epsilon": ("adam-eps", "eps"),
}
BOOLEANS = {"true": True, "yes": True, "1": True, "on": True, "false": False, "no": False, "0": False, "off": False}


@dataclass(frozen=True)
class Option:
    """One field of a `Config`, or one keyword-only argument of a network body.

    Attributes:
        type: `int`, `float`, `bool` or `str`.
        choices: the strings that it takes; empty for any.
        low, high, above: range of a number, see `Range`.
        names: what a string names, see `Names`; empty for a plain string.
        excludes: see `Excludes`.
    """

    name: str
    type: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float | None = None
    above: bool = False
    names: str = ""
    excludes: str = ""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def parse(self, text: str, where: str = "") -> Any:
        """The value that `text` stands for. Raises UsageError for what is no value of this option.

        `where` names the option in the error; without it, its flag.
        """
        if self.type == "bool":
            if text.lower() not in BOOLEANS:
                raise UsageError(f"{where or self.flag} takes true or false, not {shown(text)}")
            return BOOLEANS[text.lower()]
        if self.type == "str":
            if self.choices and text not in self.choices:
                raise unknown(where or self.name.replace("_", " "), text, self.choices)
            return text
        low = -MOST[self.type] if self.above else self.low
        value = number(
            where or self.flag, text, whole=self.type == "int", low=low, high=self.high, commas=self.type == "int"
        )
        if self.above and value <= self.low:
            raise UsageError(f"{where or self.flag} must be above {self.low:g}, not {text}")
        return value

    def check(self, value: Any) -> None:
        """Raise UsageError for a Python value that is of another type, or outside of what `parse` takes."""
        kinds = {"int": numbers.Integral, "float": numbers.Real, "bool": bool, "str": str}
        if not isinstance(value, kinds[self.type]) or (isinstance(value, bool) and self.type != "bool"):
            words = {"int": "a whole number", "float": "a number", "bool": "True or False", "str": "a string"}
            raise UsageError(f"{self.name} takes {words[self.type]}, not {shown(value)}")
        try:
            text = str(self.plain(value))
        except OverflowError:  # an int that no float can hold
            text = "inf"
        self.parse(text)

    def plain(self, value: Any) -> Any:
        """A checked value as Python's own type: NumPy's numbers are no JSON."""
        return {"int": int, "float": float, "bool": bool, "str": str}[self.type](value)


_NUMBER = re.compile(r"[+-]?(\d+(_\d+)*|[1-9]\d{0,2}(,\d{3})+)?(\.(\d+(_\d+)*)?)?(e[+-]?\d+)?[kmb]?", re.I | re.A)


def number(
    flag: str, text: str, *, whole: bool, low: float = 0, high: float | None = None, commas: bool = False
) -> Any:
    """A finite number between `low` and `high` (None: `MOST`).

    Numbers may be written 1_000, 10k, 3M or 1e6. With `commas` also 1,000,000, in groups of three digits; no other
    comma is taken: whether 1,5 is a list, a decimal fraction or a slip is for the user to say.
    """
    plain = text.replace("_", "")
    if not whole or not commas:
        wrong = "," in text
    else:
        plain, wrong = plain.replace(",", ""), False
    last = plain[-1:].lower() if whole else plain[-1:]  # --lr 3m could be meant as 0.003
    factor = {"k": 1e3, "m" if whole else "M": 1e6, "b" if whole else "B": 1e9}.get(last, 1)
    try:
        value = float(plain[:-1] if factor > 1 else plain) * factor
        if wrong or (math.isfinite(value) and not _NUMBER.fullmatch(text)):
            raise ValueError
    except ValueError:
        kind = "a whole number, such as 1000000, 1M or 500k" if whole else "a number, such as 0.001 or 1e-3"
        raise UsageError(f"{flag} takes {kind}, not {shown(text)}") from None
    if not math.isfinite(value):
        raise UsageError(f"{flag} takes a finite number, not {shown(text, plain=True)}")
    most = MOST["int" if whole else "float"] if high is None else high
    if value < low and high is None:
        raise UsageError(f"{flag} must be at least {_plain(low)}, not {shown(text, plain=True)}")
    if not low <= value <= most:
        raise UsageError(f"{flag} must be between {_plain(low)} and {_plain(most)}, not {shown(text, plain=True)}")
    if not whole:
        return value
    if value != int(value):
        raise UsageError(f"{flag} takes a whole number, not {shown(text)}")
    return int(value)


def seeds(flag: str, text: str) -> list[int]:
    """Seeds: 1 to N for a count such as `5`, or those of a list such as `3,7,9`. 1,000 and 0,1 are neither."""
    if "," not in text:
        return list(range(1, number(flag, text, whole=True, low=1, high=1000) + 1))
    if any(len(part) > 1 and part.startswith("0") for part in text.split(",")):
        raise UsageError(f"{flag} takes a number of seeds, or a list such as 1,2,3, not {shown(text)}")
    listed = [number(flag, part.strip(), whole=True, high=MOST_SEED) for part in text.rstrip(",").split(",")]
    if twice := [seed for seed in listed if listed.count(seed) > 1]:
        raise UsageError(f"{flag} has seed {twice[0]} twice")
    return listed


MOST_SEED = 2**53 - 1
"""The largest seed."""


def check_value(name: str, value: Any, kind: str, low: float = 0, high: float | None = None) -> None:
    """Raise UsageError unless a Python value is an `int`, `float`, `bool` or `str` (`kind`) in its range."""
    Option(name, kind, None, "", low=low, high=high).check(value)


def _plain(limit: float) -> str:
    """A limit in full, not rounded: 9007199254740991, 0.99, 1e+38."""
    return str(int(limit)) if limit == int(limit) and abs(limit) < 1e18 else f"{limit:g}"


def parse_spec(text: str, what: str, known: Mapping[str, Sequence[Option]]) -> tuple[str, dict[str, str]]:
    """Split `name:option=value,...` as in `--net impala:width=2,norm=layer` into ("impala", {"width": "2", ...}).

    Args:
        text: the name, with or without options.
        what: the command-line option without its dashes, for messages: "net" or "features".
        known: the options of every name. Values are returned as text; the caller converts and checks them.

    Raises:
        UsageError: unknown name or option, an option without a value or given twice.
    """
    name, colon, rest = text.partition(":")
    if name not in known:
        raise unknown(what, name, known)
    values: dict[str, str] = {}
    if not colon:
        return name, values
    of_name = {o.name: o for o in known[name]}
    if not of_name:
        raise UsageError(f"--{what} {name} has no options")
    for part in rest.split(","):
        key, sign, value = (word.strip() for word in part.partition("="))
        if key not in of_name:
            raise unknown(f"option of --{what} {name}", key, of_name)
        if not sign or key in values:
            why = "is given twice" if sign else "lacks a value"
            example = f"{name}:{key}={of_name[key].default}"
            raise UsageError(f"--{what} {shown(text, plain=True)}: {key} {why}; options are written as in {example}")
        values[key] = value
    return name, values


def options_of(config: type) -> tuple[Option, ...]:
    """The options of a `Config` class, in the order of its fields."""
    return _options_of(cast(Hashable, config))


@functools.cache
def _options_of(config: Any) -> tuple[Option, ...]:
    hints = typing.get_type_hints(config, include_extras=True)
    helps = field_docstrings(config)
    return tuple(
        option(field.name, hints[field.name], field.default, helps.get(field.name, ""))
        for field in dataclasses.fields(config)
    )


def option(name: str, annotation: Any, default: Any, help: str = "") -> Option:
    """The option that an annotation describes. Raises TypeError for an annotation that no option can have."""
    more: dict[str, Any] = {}
    if typing.get_origin(annotation) is Annotated:
        annotation, *notes = typing.get_args(annotation)
        for note in notes:
            if isinstance(note, Range):
                more |= dataclasses.asdict(note)
            elif isinstance(note, Names):
                more["names"] = note.what
            elif isinstance(note, Excludes):
                more["excludes"] = note.other
    if typing.get_origin(annotation) is Literal:
        return Option(name, "str", default, help, typing.get_args(annotation), **more)
    if annotation not in (int, float, bool, str):
        raise TypeError(f"{name} is annotated as {annotation}: an option is int, float, bool, str or a Literal")
    return Option(name, annotation.__name__, default, help, **more)


def field_docstrings(config: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, those of its base classes included."""
    found: dict[str, str] = {}
    for cls in reversed(config.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        try:
            source = textwrap.dedent(inspect.getsource(cls))
        except OSError:  # made at a prompt: there is no file to read
            continue
        body = ast.parse(source).body[0]
        assert isinstance(body, ast.ClassDef)
        for node, following in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(node.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                found[node.target.id] = " ".join(str(following.value.value).split())
    return found
