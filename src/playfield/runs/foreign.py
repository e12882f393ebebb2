"""Whose checkpoint it is: what `run.json` says of a run against what a checkpoint says of the run that wrote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from playfield.runs import catalog, origin
from playfield.runs.checkpoint import Checkpoint, UnfitError
from playfield.runs.origin import LABELS, MACHINE, READING, SHAPES

TABLES = {"protocol": "protocol", "config": "option"}
"""Tables of a run that are compared value by value, and what one of their values is called."""


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
    for table, name in TABLES.items():
        if isinstance(info.get(table), Mapping) and isinstance(meta.get(table), Mapping):
            one_only = here.keys() ^ there.keys()  # both come from one table, so what one lacks was taken out
            shared += sorted(k for k in one_only if k.startswith(f"{name} "))
    pairs = {k: (here.get(k), there.get(k)) for k in shared}
    differ = {k: pair for k, pair in pairs.items() if _plain(pair[0]) != _plain(pair[1])}
    own, its = info.get("fingerprint"), meta.get("fingerprint")
    foreign = own != its if own and its else "seed" in differ
    fixed = {"env", "algo", *(f"spec {k}" for k in (*SHAPES, *READING)), *_networks(info)} & differ.keys()
    if foreign or fixed:
        named = [k for k in differ if k in fixed or k == "seed"] or list(differ)
        what = ", ".join(f"{k} {_short(differ[k][1])} (run.json: {_short(differ[k][0])})" for k in named)
        raise UnfitError(f"it is a checkpoint of another run: {what or 'its fingerprint differs'}")
    if "steps" in differ and differ["steps"][0] == _extended(info):
        del differ["steps"]  # the run was made longer by --steps, and has saved nothing since
    edits = [f"{k} {_short(now)} (it was {_short(before)})" for k, (now, before) in differ.items()]
    if not edits and own and "compute" not in meta and origin.fingerprint(info) != own:
        edits = ["what its fingerprint was made of"]  # checkpoints of earlier versions do not hold all of that
    return edits


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """What `run.json`, or the meta of a checkpoint, says of a run, by name."""
    out = {k: record[k] for k in ("env", "algo", "seed", "steps") if k in record}
    if "init_from" in record:
        begun = record["init_from"]
        out["weights it began from"] = begun.get("hash") if isinstance(begun, Mapping) else begun
    shapes = record.get("shapes", record.get("spec"))
    if isinstance(shapes, Mapping):
        out |= {f"spec {k}": shapes[k] for k in (*SHAPES, *READING, *LABELS) if k in shapes}
    if isinstance(machine := record.get("compute"), Mapping):
        out |= {k: machine[k] for k in MACHINE if k in machine}
    for table, name in TABLES.items():
        if isinstance(found := record.get(table), Mapping):
            out |= {f"{name} {k}": v for k, v in found.items()}
    return out


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
