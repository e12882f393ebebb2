"""Options of algorithms and network bodies: their types, ranges and defaults, and how text becomes values.

A `Config` is a frozen dataclass. The annotation of a field says which values it takes: `int`, `float`, `bool`, `str`,
a `Literal`, or one of the annotated types below. The docstring under a field is its help on the command line.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import numbers
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

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


@dataclass(frozen=True)
class Scheduled:
    """A number that a `Schedule` may stand for; its values are in the option's range, and at least 0.

    Attributes:
        quantity: what it is called in a plan, as in `learning rate`.
        replaces: options that say the same in another way: a switch that anneals it is off with a schedule, and no
            other one of them may be given beside it.
    """

    quantity: str
    replaces: tuple[str, ...] = ()


Count = Annotated[int, Range(1)]
"""A whole number, at least 1."""
Fraction = Annotated[float, Range(0, 1)]
"""A number between 0 and 1."""
LearningRate = Annotated[float | str, Scheduled("learning rate", ("anneal",))]
"""A number, or the text of a `Schedule`; `Config.at` has its value."""
PositiveFraction = Annotated[float, Range(0, 1, above=True)]
Positive = Annotated[float, Range(0, above=True)]
Signed = Annotated[float, Range(-1e38)]
"""A number that may be negative. All others are at least 0."""
EvalEpsilon = Annotated[float, Range(-1, 1)]
"""The probability of a random action in evaluation; below 0: that of the end of training."""
Epsilon = Annotated[
    float | str,
    Range(-1, 1),
    Scheduled("epsilon", ("epsilon_start", "epsilon_end", "epsilon_share", "epsilon_steps")),
]
"""The probability of a random action, or its schedule; -1: by the options that it replaces."""
NetName = Annotated[str, Names("net")]
FeaturesName = Annotated[str, Names("features")]
PolicyName = Annotated[str, Names("policy")]

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
        quantity, replaces: see `Scheduled`; without a quantity no schedule is taken.
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
    quantity: str = ""
    replaces: tuple[str, ...] = ()

    @property
    def metavar(self) -> str:
        """The kind of value, for help."""
        return "|".join(self.choices) or self.type.upper() + "|SCHEDULE" * bool(self.quantity)

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
        if text.partition(":")[0].strip() in FORMS or (self.quantity and ":" in text):
            return str(self.schedule(text, where))
        return self._number(text, where)

    def schedule(self, text: str, where: str = "") -> Schedule:
        """The schedule that `text` stands for. Raises UsageError where it is none of this option."""
        where = where or self.flag
        if not self.quantity:
            raise UsageError(f"{where} takes a number, not a schedule such as {shown(text, plain=True)}")
        of = dataclasses.replace(self, low=max(self.low, 0.0))
        return parse_schedule(text, f"{where} {shown(text, plain=True)}", of._number)

    def replaced(self, value: Any) -> tuple[str, ...]:
        """The options in whose place `value` stands, see `Scheduled`: a schedule, or a number where none is usual."""
        stands = bool(self.replaces) and (isinstance(value, str) or self.default < 0 <= value)
        return self.replaces if stands else ()

    def _number(self, text: str, where: str = "") -> Any:
        low = -MOST[self.type] if self.above else self.low
        value = number(
            where or self.flag, text, whole=self.type == "int", low=low, high=self.high, commas=self.type == "int"
        )
        if self.above and value <= self.low:
            raise UsageError(f"{where or self.flag} must be above {self.low:g}, not {text}")
        return value

    def check(self, value: Any) -> None:
        """Raise UsageError for a Python value that is of another type, or outside of what `parse` takes."""
        if self.quantity and (isinstance(value, Schedule) or (isinstance(value, str) and ":" in value)):
            self.schedule(str(value))
            return
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
        """A checked value as Python's own type: NumPy's numbers are no JSON. A schedule is its text."""
        if self.quantity and isinstance(value, str | Schedule):
            return self.parse(str(value))
        return {"int": int, "float": float, "bool": bool, "str": str}[self.type](value)


_NUMBER = re.compile(r"[+-]?(\d+(_\d+)*|[1-9]\d{0,2}(,\d{3})+)?(\.(\d+(_\d+)*)?)?(e[+-]?\d+)?[kmb]?", re.I | re.A)

_POINTS = re.compile(r"[+-]?[1-9]\d{0,2}(\.\d{3})+", re.A)  # as thousands are written in much of Europe


def number(
    flag: str, text: str, *, whole: bool, low: float = 0, high: float | None = None, commas: bool = False
) -> Any:
    """A finite number between `low` and `high` (None: `MOST`).

    Numbers may be written 1_000, 10k, 3M or 1e6. With `commas` also 1,000,000, in groups of three digits; no other
    comma is taken: whether 1,5 is a list, a decimal fraction or a slip is for the user to say; so is 10.000 steps.
    """
    if whole and _POINTS.fullmatch(text):
        raise UsageError(f"{flag} takes a whole number: write {text.replace('.', '')} if {text} means that")
    plain = text.replace("_", "").replace(",", "")
    wrong = "," in text and not (whole and commas)
    last = plain[-1:].lower() if whole else plain[-1:]  # --lr 3m could be meant as 0.003
    factor = {"k": 1e3, "m" if whole else "M": 1e6, "b" if whole else "B": 1e9}.get(last, 1)
    try:
        value = float(plain[:-1] if factor > 1 else plain) * factor
        if wrong or (math.isfinite(value) and not _NUMBER.fullmatch(text)):
            raise ValueError
    except ValueError:
        kind = "a whole number, such as 1000000, 1M or 500k" if whole else "a number, such as 0.001 or 1e-3"
        if whole and high is not None and high < 1e5:
            kind = f"a whole number from {_plain(low)} to {_plain(high)}"
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


FORMS = {
    "const": "const:A",
    "linear": "linear:A..B",
    "exp": "exp:A..B, exp:A,rate=R or exp:A,rate=R,per=STEPS",
    "cosine": "cosine:A..B",
    "steps": "steps:0=A,0.5=B",
    "piecewise": "piecewise:0=A,0.5=B",
}
"""How each kind of schedule is written."""


@dataclass(frozen=True)
class Schedule:
    """A number that changes over a training: a function of the fraction of its steps that is done.

    Attributes:
        kind: `const`; from a first value to a last `linear`, `exp` (by the same factor in equal times), `cosine`
            (half a cosine); between several values `steps` (constant until the next), `piecewise` (linear).
        points: (fraction, value), in ascending order; the first fraction is 0.
        rate: of `exp` with one value: by what it is multiplied over the whole training, or in `per` steps.
        per: steps; 0: those of the whole training. With it a longer training changes nothing.
    """

    kind: str
    points: tuple[tuple[float, float], ...]
    rate: float = 1.0
    per: int = 0

    @classmethod
    def parse(cls, text: str) -> Schedule:
        """The schedule that `text` stands for, such as `linear:6e-4..1e-4`. Raises UsageError for any other text."""
        return _schedule(text)

    def at(self, fraction: float, step: int = 0) -> float:
        """The value when `fraction` of the training is done, at this step; before 0 the first, from 1 on the last."""
        f, points = min(max(fraction, 0.0), 1.0), self.points
        (before, a), (after, b) = points[0], points[-1]
        if len(points) == 1:
            return float(a * self.rate ** (step / self.per if self.per else f))
        if f >= after:
            return b
        if self.kind in ("steps", "piecewise"):
            i = max(k for k, (x, _) in enumerate(points) if x <= f)
            (before, a), (after, b) = points[i], points[i + 1]
        f = (f - before) / (after - before)
        if self.kind == "steps" or f == 0:
            return a
        if self.kind == "exp":
            return float(a ** (1 - f) * b**f)
        value = a + (b - a) * (f if self.kind != "cosine" else (1 - math.cos(math.pi * f)) / 2)
        return min(max(value, min(a, b)), max(a, b))  # rounding may lead beyond

    def __str__(self) -> str:
        values = [repr(value).removesuffix(".0") for _, value in self.points]
        if self.kind in ("steps", "piecewise"):
            pairs = zip(self.points, values, strict=True)
            return f"{self.kind}:" + ",".join(f"{repr(x).removesuffix('.0')}={value}" for (x, _), value in pairs)
        more = f",rate={repr(self.rate).removesuffix('.0')}" if self.kind == "exp" and len(values) == 1 else ""
        return f"{self.kind}:" + "..".join(values) + more + (f",per={self.per}" if self.per else "")


def parse_schedule(text: str, where: str, value: Callable[[str, str], float]) -> Schedule:
    """The schedule that `text` stands for.

    Args:
        where: begins the message of an error.
        value: from the text of one of its values, and what it is called, to the value.

    Raises UsageError for any other text.
    """
    kind, _, rest = (part.strip() for part in text.partition(":"))
    if kind not in FORMS:
        raise UsageError(f"{where}: {unknown('schedule', kind, FORMS)}")
    wrong = UsageError(f"{where}: {kind} is written {FORMS[kind]}")
    parts = [part.strip() for part in rest.split(",")]
    if kind in ("steps", "piecewise"):
        pairs = [part.partition("=") for part in parts]
        if not 1 <= len(pairs) <= 100 or not all(sign for _, sign, _ in pairs):
            raise wrong
        xs = [number(f"{where}: a fraction", x.strip(), whole=False, high=1) for x, _, _ in pairs]
        if xs[0] != 0 or any(x >= y for x, y in itertools.pairwise(xs)):
            raise UsageError(f"{where}: fractions begin with 0 and ascend")
        points = [(x, value(v.strip(), f"{where}: its value")) for x, (_, _, v) in zip(xs, pairs, strict=True)]
        return Schedule("const" if len(points) == 1 else kind, tuple(points))
    if not rest:
        raise wrong
    first, dots, last = (part.strip() for part in parts[0].partition(".."))
    start = (0.0, value(first, f"{where}: its start"))
    given = {name.strip(): word.strip() for name, _, word in (part.partition("=") for part in parts[1:])}
    if kind != "exp" or dots:
        if given or len(parts) > 1 or bool(dots) == (kind == "const"):
            raise wrong
        if kind == "const":
            return Schedule(kind, (start,))
        end = value(last, f"{where}: its end")
        if kind == "exp" and not (start[1] > 0 and end > 0):
            raise UsageError(f"{where}: exp takes values above 0")
        return Schedule(kind, (start, (1.0, end)))
    if "rate" not in given or not given.keys() <= {"rate", "per"} or len(given) < len(parts) - 1:
        raise wrong
    rate = number(f"{where}: its rate", given["rate"], whole=False, high=1e6)
    per = number(f"{where}: per", given["per"], whole=True, low=1) if "per" in given else 0
    if not rate:
        raise UsageError(f"{where}: its rate must be above 0")
    if per and rate > 1:
        raise UsageError(f"{where}: with per its rate is at most 1, or there is no largest value")
    value(repr(start[1] * rate), f"{where}: its end")
    return Schedule(kind, (start,), rate, per)


@functools.cache
def _schedule(text: str) -> Schedule:
    return Option("schedule", "float", None, "", low=0.0, quantity="value").schedule(text)


MOST_SEED = 2**53 - 1
"""The largest seed."""


def check_value(name: str, value: Any, kind: str, low: float = 0, high: float | None = None) -> None:
    """Raise UsageError unless a Python value is an `int`, `float`, `bool` or `str` (`kind`) in its range."""
    Option(name, kind, None, "", low=low, high=high).check(value)


def shown_number(value: float | str) -> str:
    """A number or a schedule, for a message."""
    return value if isinstance(value, str) else f"{value:g}"


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
