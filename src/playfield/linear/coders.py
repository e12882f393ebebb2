"""`--features` by name: a coder and its options, as in `tilings:tilings=16,tiles=8`."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np

from playfield import options
from playfield.errors import UsageError, unknown
from playfield.linear import features


def coders() -> list[str]:
    """Names of all coders."""
    found = inspect.getmembers(features, inspect.isfunction)
    own = [name for name, f in found if f.__module__ == features.__name__ and not name.startswith("_")]
    return sorted(
        n for n in own if inspect.signature(getattr(features, n)).return_annotation == "Coder" and n != "fresh"
    )


def understand(text: str) -> tuple[str, dict[str, Any]]:
    """What a value of `--features` means. Raises UsageError for an unknown coder, option or value."""
    name, colon, rest = text.partition(":")
    if name not in coders():
        raise unknown("features", name, coders())
    known = {
        p.name: p.default
        for p in inspect.signature(getattr(features, name)).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY
    }
    chosen: dict[str, Any] = {}
    for part in rest.split(",") if colon else ():
        option, sign, value = (word.strip() for word in part.partition("="))
        if not known:
            raise UsageError(f"--features {name} has no options")
        if option not in known:
            raise unknown(f"option of --features {name}", option, known)
        if not sign or option in chosen:
            why = "is given twice" if sign else "lacks a value"
            raise UsageError(f"--features {text}: {option} {why}; options are written as in {name}:{option}=8")
        where = f"{option} of --features {name}"
        if isinstance(known[option], bool):
            chosen[option] = options.Option(option, "bool", False, "").parse(value, where)
        elif isinstance(known[option], str):
            chosen[option] = value
        else:
            chosen[option] = options.number(where, value, whole=True, low=1, high=2**20)
    return name, chosen


def coder_for(text: str, low: np.ndarray, high: np.ndarray, tiled: np.ndarray | None = None) -> features.Coder:
    """The coder that `text` names, for observations between `low` and `high` [D]; `tiled` as in `Problem`."""
    name, chosen = understand(text)
    bounds = features.Bounds(low, high, high - low if tiled is None else tiled)
    coder: features.Coder = getattr(features, name)(bounds, **chosen)
    return coder


def settled(cfg: Any, coder: features.Coder) -> Any:
    """`cfg` with step sizes: those that are 0 become a share of 1 / squared length of the features.

    With features of that length a step of 1 / length would correct an error at once. An actor's are treated alike.
    """
    shares = {"alpha": "correction", "alpha_actor": "correction_actor"}
    chosen = {
        name: getattr(cfg, of) / features.squared_length(coder)
        for name, of in shares.items()
        if getattr(cfg, name, 1) == 0
    }
    return dataclasses.replace(cfg, **chosen)
