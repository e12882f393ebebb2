"""Which runs are replicates of each other: the same settings in all but the seed. Only their scores may be pooled.

Settings are the algorithm with its resolved options, the environment with its protocol, the total steps (schedules
follow them) and what extended them, the weights that it began from, the precision, and the versions that define
results: playfield's, and Gymnasium's where the environment is from there (ale-py's is in the protocol of Atari
games). Versions of torch and NumPy, and the number of workers, change the order of sums and not the method, so they
may differ; of versions this is said.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.envs.family import family
from playfield.runs import algorithm, catalog, origin
from playfield.runs.console import format_value
from playfield.runs.info import stored

NAMED = 4  # settings in a label, at most
LONGEST = 24  # characters of one value in a label
DIGITS = 16  # of the hash of weights: as many as `--init-from` takes again

Key = tuple[str, str]  # (what it belongs to, its name): ("option", "lr")
Info = Mapping[str, Any]  # the contents of a run.json


@dataclass(frozen=True)
class LeftOut:
    """A run that is not part of a comparison.

    Attributes:
        directory, env, label: of the run.
        why: the reason.
        brief: the reason as it stands after the number of such runs.
    """

    directory: Path
    env: str
    label: str
    why: str
    brief: str


def settings(info: Info) -> dict[Key, Any]:
    """All that decides the results of a run but its seed. Raises DataError for a `run.json` that does not say it."""
    with stored("a run.json"):
        spec = info["spec"]
        found: dict[Key, Any] = {
            ("run", "algo"): info["algo"],
            ("run", "env"): info.get("env"),
            ("run", "steps"): info.get("steps"),
            ("run", "precision"): info.get("compute", {}).get("precision"),
            ("version", "playfield"): origin.made_with(info, "playfield"),
        }
        if "init_from" in info:
            found["run", "init_from"] = info["init_from"]["hash"][:DIGITS]
        totals = [e for e in info.get("extensions", ()) if e.get("what") != "target"]
        found["run", "extended"] = "; ".join(f"at {e['at']:,} to {e['to']:,}" for e in totals) or None
        if package := family(spec["kind"]).package:
            found["version", package] = origin.made_with(info, package)
        found |= {("spec", k): v for k, v in spec.items() if k not in ("id", "protocol", "action_names")}
        found |= {("protocol", k): v for k, v in info.get("protocol", {}).items() if k != "env"}
        return found | {("option", k): v for k, v in _options(info).items()}


def mixed(runs: Sequence[Info]) -> dict[str, dict[str, list[int]]]:
    """The packages of which these replicates were made with different versions: the seeds of each version."""
    found: dict[str, dict[str, list[int]]] = {}
    for package in ("torch", "numpy"):
        seeds: dict[str, list[int]] = {}
        for info in runs:
            with stored("a run.json"):
                if version := origin.made_with(info, package):
                    seeds.setdefault(version, []).append(int(info.get("seed", 0)))
        if len(seeds) > 1 or any(" then " in version for version in seeds):
            found[package] = seeds
    return found


def _options(info: Info) -> dict[str, Any]:
    """The options of a run, with those that later versions added at what earlier ones did."""
    config = dict(info.get("config", {}))
    if not config or not algorithm.exists(info["algo"]):
        return config
    missing = {o.name: o.default for o in catalog.options(info["algo"]) if o.name not in config}
    if missing and missing.keys() <= algorithm.load(info["algo"]).Config.added:
        return {**missing, **config}
    return config


def same(info: Info) -> Hashable:
    """A key that is equal for runs with the same settings."""
    return frozenset((k, _frozen(v)) for k, v in settings(info).items() if v is not None)


def _frozen(value: Any) -> Hashable:
    if isinstance(value, Mapping):
        return frozenset((k, _frozen(v)) for k, v in value.items())
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value


def edited(info: Info) -> bool:
    """Whether `run.json` was changed by hand after the run was made: it does not say then what was trained."""
    with stored("a run.json"):
        return "fingerprint" in info and info["fingerprint"] != origin.fingerprint(info)


def labels(groups: Sequence[tuple[str | None, Info]]) -> list[str]:
    """A name for each group of replicates, in which they differ.

    Args:
        groups: of each, the label that its comparison gave it (None: it was not trained by one), and a `run.json`.

    A group without a label is called by its algorithm, its preset and what its options change of that. Where two of
    one environment have the same name so far, the settings in which they differ are added.
    """
    all_settings = [settings(info) for _, info in groups]
    names = [asked or _own_name(info, groups, all_settings) for asked, info in groups]
    alike: dict[tuple[Any, str], list[int]] = {}
    for i, ((_, info), name) in enumerate(zip(groups, names, strict=True)):
        alike.setdefault((info.get("env"), name), []).append(i)
    for (_, name), members in alike.items():
        if len(members) == 1:
            continue
        differing = _differing([all_settings[i] for i in members])
        for i in members:
            preset = _preset(groups[i][1])
            told = [k for k in differing if k[0] != "option" or all_settings[i].get(k) != preset.get(k[1])]
            names[i] = _name(name, {k: all_settings[i].get(k) for k in told})
    seen: Counter[tuple[Any, str]] = Counter()
    for i, (_, info) in enumerate(groups):
        seen[info.get("env"), names[i]] += 1
        if (n := seen[info.get("env"), names[i]]) > 1:  # they differ in what the label has no room for
            names[i] = f"{names[i]} ({n})"
    return names


def _own_name(
    info: Info, groups: Sequence[tuple[str | None, Info]], all_settings: Sequence[Mapping[Key, Any]]
) -> str:
    algo, preset = info["algo"], info.get("preset", "default")
    peers = [
        s
        for (_, i), s in zip(groups, all_settings, strict=True)
        if (i["algo"], i.get("env")) == (algo, info.get("env"))
    ]
    own, usual = _options(info), _preset(info)
    # What a preset leaves open (0: chosen for the environment) is named if it was given, or makes the difference.
    given = {word.partition("=")[0] for word in shlex.split(str(info.get("command", "")))}
    told = {k for k in own if k in usual and (usual[k] or f"--{k.replace('_', '-')}" in given)}
    changed = {("option", k) for k in told if own[k] != usual[k]}
    changed |= {k for k in _differing(peers) if k[0] == "option" and k[1] in usual and own.get(k[1]) != usual[k[1]]}
    order = [*sorted(changed & set(_differing(peers))), *sorted(changed - set(_differing(peers)))]
    name = algo if preset == "default" else f"{algo}, preset {preset}"
    return _name(name, {k: own.get(k[1]) for k in order})


def _differing(found: Sequence[Mapping[Key, Any]]) -> list[Key]:
    """Names of the settings in which these differ."""
    keys = list(dict.fromkeys(k for one in found for k in one))
    found_keys = [k for k in keys if len({_frozen(one.get(k)) for one in found}) > 1]
    parts = [k for k in found_keys if k[0] == "protocol"]
    return [k for k in found_keys if k != ("protocol", "name") or len(parts) == 1]  # its parts say more


def _preset(info: Info) -> Mapping[str, Any]:
    """The options of the run's preset as it is today; empty where that is unknown."""
    if not algorithm.exists(info["algo"]):
        return {}
    spec = info["spec"]
    pixels = spec.get("obs_dtype") == "uint8" and len(spec.get("obs_shape", ())) == 3
    kinds = family(spec["kind"]).preset_kinds(str(info.get("env", "")), pixels)
    return catalog.presets_for(info["algo"], kinds).get(info.get("preset", "default"), {})


def _name(name: str, told: Mapping[Key, Any]) -> str:
    words = [f"{_word(k)} {_value(v)}" for k, v in told.items()]
    more = [f"{len(words) - NAMED} more"] if len(words) > NAMED else []
    return ", ".join([name, *words[:NAMED], *more])


def _word(key: Key) -> str:
    of, name = key
    return of if (of, name) == ("protocol", "name") else name.replace("_", "-")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    plain = value if isinstance(value, str) else None
    if isinstance(value, float):
        plain = f"{value:g}"
    text = plain or (format_value(value) if isinstance(value, int) else json.dumps(value))
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
