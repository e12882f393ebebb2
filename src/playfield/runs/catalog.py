"""Options and presets of every algorithm and network body, known without importing torch.

`index.json` holds what importing them gives: `python -m playfield.runs.catalog` writes it, and a test compares it
with the code. It is used only while no source that it was made from has changed; otherwise, and for algorithms and
bodies of other packages, the module itself is imported. So `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import importlib
import importlib.metadata
import inspect
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.arguments import ALIASES
from playfield.envs.traces import told
from playfield.envs.user_code import PASSED, RAISED
from playfield.errors import PlayfieldError, UsageError, nearest, shown, unknown
from playfield.options import Option
from playfield.runs import algorithm
from playfield.runs.declared import option, options_of

PACKAGE = Path(__file__).parent.parent
INDEX = Path(__file__).with_name("index.json")
READ = ("algorithm", "catalog", "declared")
SOURCES = ("algos/*.py", "nets/bodies.py", "linear/online.py", "options.py", *(f"runs/{name}.py" for name in READ))
NETS = "playfield.nets"  # the group of entry points that name a body's function

Presets = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""{kind of environment: {preset: {option: value}}}, with every option."""


@dataclass(frozen=True)
class Entry:
    """An algorithm as the command line needs it; see `runs.algorithm.Config` for the flags."""

    options: tuple[Option, ...]
    presets: Presets
    learns: bool
    uses_replay: bool

    def preset_names(self) -> list[str]:
        """Names of all presets, over all kinds of environments."""
        return list(dict.fromkeys(name for table in self.presets.values() for name in table))


@dataclass(frozen=True)
class Body:
    """A network body: the first line of its docstring, and its options."""

    about: str
    options: tuple[Option, ...]


def algorithms() -> list[str]:
    """Names of all algorithms."""
    return algorithm.names()


def entry(name: str) -> Entry:
    """What is known of an algorithm. Raises UsageError for an unknown one."""
    stored = _index()["algorithms"].get(name)
    return _entry_from(stored) if stored else describe(algorithm.load(name))


def options(name: str) -> list[Option]:
    """The options of an algorithm, in the order of its `Config`. Raises UsageError for an unknown algorithm."""
    return list(entry(name).options)


def presets(name: str) -> list[str]:
    """Names of an algorithm's presets, over all kinds of environments."""
    return entry(name).preset_names()


def presets_for(name: str, kinds: tuple[str, str]) -> dict[str, dict[str, Any]]:
    """{preset: {option: value}} of an algorithm for an environment of these kinds: (general, more special).

    The special kind's presets replace general ones of the same name. Presets of an Atari game seen as pixels name a
    convolutional body; for its RAM they get `mlp`.
    """
    general, special = kinds
    known = entry(name)
    table = {**known.presets.get(general, {}), **known.presets.get(special, {})}
    nets = [o.name for o in known.options if o.names == "net"] if special == "ram" else []

    def seen(values: Mapping[str, Any]) -> dict[str, Any]:
        return {**values, **{n: "mlp" for n in nets if values[n].partition(":")[0] == "nips"}}

    return {preset: seen(values) for preset, values in table.items()}


def check(name: str, config: Mapping[str, Any]) -> None:
    """Raise UsageError for what is no option of an algorithm, or no value of it."""
    known = {o.name: o for o in options(name)}
    for key, value in config.items():
        if key not in known:
            raise UsageError(f"no {name} option called {shown(key)}: {why_not(name, str(key), known)}")
        known[key].check(value)


def why_not(algo: str, name: str, known: Iterable[str]) -> str:
    """What to say of a name that is no option of an algorithm, after a colon.

    The other algorithms that have it; or else the nearest of `known`, also by what other libraries call them.
    """
    meant = {kebab(name), *ALIASES.get(kebab(name), ())}
    have = []
    for other in sorted({*algorithms()} - {algo}):
        with contextlib.suppress(PlayfieldError):  # of another package, and broken
            have += [other] * bool(meant & {kebab(o.name) for o in options(other)})
    if have:
        listed = have[0] if len(have) == 1 else f"{', '.join(have[:-1])} and {have[-1]}"
        return f"it is one of {listed}, not of {algo}"
    return likely(name, known)


def likely(name: str, known: Iterable[str]) -> str:
    """Which of `known` may be meant by a name that is none, also by what other libraries call them."""
    own = {kebab(one): one for one in known}
    others = {alias: own[n] for alias, names in ALIASES.items() for n in reversed(names) if n in own}
    close = dict.fromkeys((others | own)[found] for found in nearest(kebab(name), [*own, *others]))
    return f"did you mean {', '.join(close)}?" if close else f"choose from {', '.join(list(own.values())[:12])}"


def kebab(name: str) -> str:
    """`clip_value` as options are written in words: `clip-value`."""
    return name.replace("_", "-")


def agree(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given, with those that they switch off (see `options.Excludes` and `Scheduled`).

    What is given wins over what a preset says. Raises UsageError where two are given that exclude each other.
    """
    known = {o.name: o for o in options(name)}
    off = {}
    for key, value in config.items():
        other = known[key].excludes if key in known and value is True else ""
        if other and config.get(other) is True:
            a, b = known[key], known[other]
            both = f"{a.flag}: {a.help} {b.flag}: {b.help}"
            raise UsageError(f"{a.flag} and {b.flag} exclude each other, leave one out. {both}")
        if other:
            off[other] = False
        for other in known[key].replaced(value) if key in known else ():
            if other not in known:
                continue
            switch = known[other].type == "bool"
            if config.get(other, False) is not False:
                flags = f"{known[key].flag} {value} and {known[other].flag}"
                raise UsageError(f"{flags} exclude each other, leave one out: both say how it changes")
            if switch:
                off[other] = False
    return {**off, **config}


def body_names() -> list[str]:
    """Names of all network bodies: those of `nets/bodies.py`, and of the entry points `playfield.nets`."""
    own = _index()["nets"] or own_bodies()
    return sorted({*own, *importlib.metadata.entry_points(group=NETS).names})


def providers(algo: str, cfg: algorithm.Config) -> dict[str, str]:
    """Other packages from which an algorithm and its network body come, by name with their versions."""
    nets = [str(getattr(cfg, o.name)).partition(":")[0].strip() for o in options(algo) if o.names == "net"]
    asked = [(algorithm.GROUP, algo)] * (algo not in algorithm.own_names())
    asked += [(NETS, net) for net in nets if net != "auto" and net not in (_index()["nets"] or own_bodies())]
    found = [point for group, name in asked for point in importlib.metadata.entry_points(group=group, name=name)]
    return {point.dist.name.lower(): point.dist.version for point in found if point.dist is not None}


def body(name: str) -> Body:
    """What is known of a network body. Raises UsageError for an unknown one, or one that cannot be imported."""
    stored = _index()["nets"].get(name)
    return Body(stored["about"], _options_from(stored["options"])) if stored else describe_body(body_function(name))


def body_function(name: str) -> Callable[..., Any]:
    """The function that makes a body. Raises UsageError for an unknown one."""
    module = importlib.import_module("playfield.nets.bodies")
    if name in _own_functions():
        return typing.cast(Callable[..., Any], getattr(module, name))
    for point in importlib.metadata.entry_points(group=NETS, name=name):
        try:
            return typing.cast(Callable[..., Any], point.load())
        except PASSED:
            raise
        except RAISED as error:
            raise UsageError(f"net {name} ({point.value}) cannot be imported: {told(error)}") from error
    raise unknown("net", name, body_names())


def _own_functions() -> dict[str, Callable[..., Any]]:
    module = importlib.import_module("playfield.nets.bodies")
    public = {n: f for n, f in vars(module).items() if inspect.isfunction(f) and not n.startswith("_")}
    return {n: f for n, f in public.items() if f.__module__ == module.__name__ and _is_body(f)}


def _is_body(function: Callable[..., Any]) -> bool:
    """Whether a function takes a shape and returns a `Body`."""
    parameters = inspect.signature(function).parameters.values()
    positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    return len(positional) == 1 and inspect.signature(function).return_annotation in ("Body", "bodies.Body")


def own_bodies() -> dict[str, Body]:
    """The bodies of `nets/bodies.py`, read from the code."""
    return {name: describe_body(function) for name, function in _own_functions().items()}


def describe_body(function: Callable[..., Any]) -> Body:
    """A body function's first line of help, and its keyword-only arguments as options."""
    hints = typing.get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters.values()
    own = tuple(option(p.name, hints[p.name], p.default) for p in parameters if p.kind is p.KEYWORD_ONLY)
    return Body((function.__doc__ or "").strip().partition("\n")[0], own)


def describe(module: algorithm.Algorithm) -> Entry:
    """What an algorithm's module says of itself."""
    presets = {
        kind: {name: dataclasses.asdict(cfg) for name, cfg in table.items()} for kind, table in module.PRESETS.items()
    }
    return Entry(options_of(module.Config), presets, module.Config.learns, module.Config.uses_replay)


def _options_from(stored: list[dict[str, Any]]) -> tuple[Option, ...]:
    lists = ("choices", "replaces")
    return tuple(Option(**{**o, **{name: tuple(o[name]) for name in lists if name in o}}) for o in stored)


def _entry_from(stored: dict[str, Any]) -> Entry:
    """An Entry from JSON, where a preset holds only what differs from the defaults."""
    known = _options_from(stored["options"])
    default = {o.name: o.default for o in known}
    presets = {
        kind: {name: {**default, **values} for name, values in table.items()}
        for kind, table in stored["presets"].items()
    }
    return Entry(known, presets, stored["learns"], stored["uses_replay"])


def _options_to(options: tuple[Option, ...]) -> list[dict[str, Any]]:
    defaults = {f.name: f.default for f in dataclasses.fields(Option)}
    return [{k: v for k, v in dataclasses.asdict(o).items() if v != defaults.get(k, ...)} for o in options]


def build_index() -> dict[str, Any]:
    """The index, made by importing every algorithm and body of this package."""
    entries = {}
    for name in sorted(p.stem for p in algorithm.ALGORITHMS.glob("*.py") if not p.stem.startswith("_")):
        found = describe(algorithm.load(name))
        default = {o.name: o.default for o in found.options}
        presets = {
            kind: {n: {k: v for k, v in values.items() if v != default[k]} for n, values in table.items()}
            for kind, table in found.presets.items()
        }
        entries[name] = {
            "learns": found.learns,
            "uses_replay": found.uses_replay,
            "options": _options_to(found.options),
            "presets": presets,
        }
    nets = {n: {"about": b.about, "options": _options_to(b.options)} for n, b in sorted(own_bodies().items())}
    return {"sources": sources(), "algorithms": entries, "nets": nets}


def sources(package: Path = PACKAGE) -> str:
    """sha256 over the sources that the index is made from."""
    found = hashlib.sha256()
    for path in sorted(path for pattern in SOURCES for path in package.glob(pattern)):
        found.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()


@functools.cache
def _index() -> dict[str, Any]:
    """`index.json`; empty where it is missing or a source has changed since."""
    empty: dict[str, Any] = {"algorithms": {}, "nets": {}}
    try:
        index = json.loads(INDEX.read_text("utf-8"))
        current = index["sources"] == sources() and all(isinstance(index[part], dict) for part in empty)
        return index if current else empty
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return empty


def write_index() -> None:
    """Write `index.json`."""
    INDEX.write_text(json.dumps(build_index(), indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    write_index()
