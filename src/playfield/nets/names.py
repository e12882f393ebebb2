"""Network bodies by name, with their options, as in `impala:width=2,norm=layer`. Nothing here imports torch."""

from __future__ import annotations

from typing import Any

from playfield.errors import UsageError, unknown
from playfield.options import Option, parse_spec
from playfield.runs import catalog


def nets() -> list[str]:
    """Names of all network bodies."""
    return catalog.body_names()


def net_help(name: str) -> str:
    """The first line of a network body's docstring."""
    return "nature for pixels, mlp otherwise." if name == "auto" else catalog.body(name).about


def net_options(name: str) -> list[Option]:
    """The options of a network body. `auto` has none."""
    return [] if name == "auto" else list(catalog.body(name).options)


def net(text: str) -> tuple[str, dict[str, Any]]:
    """What a value of `--net` means: `impala:width=2,norm=layer` is ("impala", {"width": 2.0, "norm": "layer"}).

    Raises UsageError for an unknown body, option or value.
    """
    if not isinstance(text, str):
        raise UsageError(f"--net takes a name, such as nature, not {text!r}")
    name = text.partition(":")[0].strip()
    if name != "auto" and name not in nets():
        raise unknown("net", name, nets())
    known = net_options(name)
    _, words = parse_spec(text, "net", {name: known})
    types = {option.name: option for option in known}
    return name, {key: types[key].parse(word, f"{key} of --net {name}") for key, word in words.items()}
