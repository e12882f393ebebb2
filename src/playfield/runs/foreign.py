"""Whose checkpoint it is: what `run.json` says of a run against what a checkpoint says of the run that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from playfield.runs import catalog
from playfield.runs.checkpoint import Checkpoint, UnfitError
from playfield.runs.origin import SHAPES


def check(info: Mapping[str, Any], found: Checkpoint) -> None:
    """Raise UnfitError as `changes` does."""
    changes(info, found)


def changes(info: Mapping[str, Any], found: Checkpoint) -> list[str]:
    """What was changed by hand in `run.json` since the checkpoint was written, such as `lr 0.1 (it was 0.001)`.

    Checkpoints of old versions say less, so less of them can be compared.

    Raises UnfitError where the checkpoint is of another run: of another environment, algorithm, network or seed.
    """
    meta = found.meta
    here, there = _flat(info), _flat(meta)
    shared = [k for k in there if k in here]
    differ = {k: (here[k], there[k]) for k in shared if _plain(here[k]) != _plain(there[k])}
    own, its = info.get("fingerprint"), meta.get("fingerprint")
    foreign = own != its if own and its else "seed" in differ
    fixed = {"env", "algo", *(f"spec {k}" for k in SHAPES), *_networks(info)} & differ.keys()
    if foreign or fixed:
        named = [k for k in differ if k in fixed or k == "seed"] or list(differ)
        what = ", ".join(f"{k} {_short(differ[k][1])} (run.json: {_short(differ[k][0])})" for k in named)
        raise UnfitError(f"it is a checkpoint of another run: {what or 'its fingerprint differs'}")
    if "steps" in differ and differ["steps"][0] == _extended(info):
        del differ["steps"]  # the run was made longer by --steps, and has saved nothing since
    return [f"{k} {_short(now)} (it was {_short(before)})" for k, (now, before) in differ.items()]


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """What `run.json`, or the meta of a checkpoint, says of a run, by name."""
    out = {k: record[k] for k in ("env", "algo", "seed", "protocol", "steps") if k in record}
    shapes = record.get("shapes", record.get("spec"))
    out |= {f"spec {k}": shapes[k] for k in SHAPES if isinstance(shapes, Mapping) and k in shapes}
    config = record.get("config")
    return {**out, **{f"option {k}": v for k, v in config.items()}} if isinstance(config, Mapping) else out


def _networks(info: Mapping[str, Any]) -> set[str]:
    """The options that decide which tensors a checkpoint has."""
    options = catalog.options(info["algo"]) if info.get("algo") in catalog.algorithms() else []
    return {f"option {o.name}" for o in options if o.names}


def _extended(info: Mapping[str, Any]) -> Any:
    """The total steps after the last extension; None without one."""
    totals = [e.get("to") for e in info.get("extensions", ()) if e.get("what") != "target"]
    return totals[-1] if totals else None


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str, sort_keys=True))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."
