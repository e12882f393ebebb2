"""Network bodies by name, with their options, as in `impala:width=2,norm=layer`. Nothing here imports torch."""

from __future__ import annotations

from typing import Any

from playfield.errors import UsageError, unknown
from playfield.options import Option
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
    name, colon, rest = text.partition(":")
    if name != "auto" and name not in nets():
        raise unknown("net", name, nets())
    known = {o.name: o for o in net_options(name)} if colon else {}
    chosen: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        option, sign, value = (word.strip() for word in part.partition("="))
        if not known:
            raise UsageError(f"--net {name} has no options")
        if option not in known:
            raise unknown(f"option of --net {name}", option, known)
        if not sign or option in chosen:
            why = "is given twice" if sign else "lacks a value"
            raise UsageError(f"--net {text}: {option} {why}; options are written as in {name}:width=2,norm=layer")
        chosen[option] = known[option].parse(value, f"{option} of --net {name}")
    return name, chosen
