"""Network bodies by name, with their options, as in `impala:width=2,norm=layer`. Nothing here imports torch."""

from __future__ import annotations

from typing import Any

from playfield.errors import UsageError
from playfield.options import Option, parse_spec
from playfield.runs import catalog


def nets() -> list[str]:
    """Names of all network bodies."""
    return sorted(catalog.bodies())


def net_help(name: str) -> str:
    """The first line of a network body's docstring."""
    return "nature for pixels, mlp otherwise." if name == "auto" else catalog.bodies()[name].about


def net_options(name: str) -> list[Option]:
    """The options of a network body. `auto` has none."""
    return [] if name == "auto" else list(catalog.bodies()[name].options)


def net(text: str) -> tuple[str, dict[str, Any]]:
    """What a value of `--net` means: `impala:width=2,norm=layer` is ("impala", {"width": 2.0, "norm": "layer"}).

    Raises UsageError for an unknown body, option or value.
    """
    if not isinstance(text, str):
        raise UsageError(f"--net takes a name, such as nature, not {text!r}")
    name, words = parse_spec(text, "net", {"auto": [], **{n: net_options(n) for n in nets()}})
    known = {option.name: option for option in net_options(name)}
    return name, {key: known[key].parse(word, f"{key} of --net {name}") for key, word in words.items()}
