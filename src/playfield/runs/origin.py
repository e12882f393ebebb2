"""What a run is made of, as its `run.json` and each of its checkpoints hold it: see `foreign`."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

MADE = ("env", "algo", "seed", "protocol", "config", "compute")
SHAPES = ("id", "kind", "obs_shape", "obs_dtype", "num_actions")  # of the spec: what networks are made for
READING = ("first_action", "obs_bounds", "states", "states_shape")  # and how observations and actions are read
LABELS = ("action_names",)  # and what actions are called: nothing is computed of it
MACHINE = ("device", "precision", "workers")  # of compute: other ones round differently


def fingerprint(info: Mapping[str, Any]) -> str:
    """sha256 of what a new run is made of. It stays in `run.json` and in every checkpoint of the run."""
    made = {key: info[key] for key in MADE} | _began(info)
    return hashlib.sha256(json.dumps(made, sort_keys=True, default=str).encode()).hexdigest()


def meta_of(info: Mapping[str, Any], spec: Any) -> dict[str, Any]:
    """What a checkpoint says of its run, as plain values."""
    meta = {k: info[k] for k in ("env", "algo", "seed", "protocol", "config")}
    meta |= {"steps": info["steps"], "shapes": {k: getattr(spec, k) for k in (*SHAPES, *READING, *LABELS)}}
    meta["compute"] = {k: info["compute"][k] for k in MACHINE}
    meta |= _began(info)
    if "fingerprint" in info:
        meta["fingerprint"] = info["fingerprint"]
    plain: dict[str, Any] = json.loads(json.dumps(meta, default=str))
    return plain


def _began(info: Mapping[str, Any]) -> dict[str, Any]:
    """The hash of the weights that the run began from, where those are another run's."""
    return {"init_from": info["init_from"]["hash"]} if "init_from" in info else {}


@cache
def packages() -> dict[str, str]:
    """The versions of the packages that a checkpoint was made with, of those that are installed."""
    found = {}
    for name in ("playfield", "torch", "numpy", "gymnasium", "ale-py"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def sessions(info: Mapping[str, Any]) -> list[dict[str, str]]:
    """The versions that trained a run, one after the other: of playfield, and what else `versions` of `run.json` has.

    Those with which no step was trained are not among them.
    """
    marks: dict[int, dict[str, str]] = {}
    for one in (info, *info.get("went_on", ())):
        own = {"playfield": str(one["playfield"])} if "playfield" in one else {}
        marks[one.get("at", 0)] = {**own, **one.get("versions", {})}
    done = (info.get("result") or {}).get("steps")
    found: list[dict[str, str]] = []
    for at, made_with in sorted(marks.items()):
        if (at == 0 or done is None or at < done) and made_with not in found[-1:]:
            found.append(made_with)
    return found


def made_with(info: Mapping[str, Any], package: str) -> str | None:
    """The version of a package that trained a run, `1.0 then 1.1` where it was resumed with another one."""
    found = [one[package] for one in sessions(info) if one.get(package)]
    return " then ".join(v for i, v in enumerate(found) if v not in found[max(0, i - 1) : i]) or None
