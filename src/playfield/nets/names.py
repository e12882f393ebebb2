"""Network bodies by name, with their options, as in `impala:width=2,norm=layer`; torch is not imported."""

from __future__ import annotations

import ast
from typing import Any

from playfield import options
from playfield.errors import UsageError, unknown
from playfield.options import Option, _type, number


def nets() -> list[str]:
    """Names of all network bodies: the public functions of nets.py that take a shape and return a Body."""
    return sorted(_bodies())


def _bodies() -> dict[str, ast.FunctionDef]:
    tree = ast.parse((options.ALGOS.parent / "nets" / "bodies.py").read_text("utf-8"))
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")]
    return {n.name: n for n in functions if len(n.args.args) == 1 and n.returns and ast.unparse(n.returns) == "Body"}


def net_help(name: str) -> str:
    """The first line of a network body's docstring."""
    if name == "auto":
        return "nature for pixels, mlp otherwise."
    return (ast.get_docstring(_bodies()[name]) or "").partition("\n")[0]


def net_options(name: str) -> list[Option]:
    """The options of a network body: its keyword-only arguments. `auto` has none."""
    if name == "auto":
        return []
    args, found = _bodies()[name].args, []
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        assert arg.annotation is not None
        assert default is not None
        kind, choices = _type(arg.annotation)
        found.append(Option(arg.arg, kind, ast.literal_eval(default), "", choices))
    return found


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
        chosen[option] = _net_value(name, known[option], value)
    return name, chosen


def _net_value(net: str, option: Option, text: str) -> Any:
    where = f"{option.name} of --net {net}"
    if option.type in ("bool", "str"):
        return option.parse(text, where)
    low, high = (0.25, 8) if option.name == "width" else (0, 1e12)
    return number(where, text, whole=option.type == "int", low=low, high=high)
