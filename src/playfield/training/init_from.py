"""Another run's weights as those that a training begins from (`--init-from`).

Only weights are taken: no optimizer, replay buffer, epsilon, environments or random numbers. They must be for the
same observations, actions and network. The new run keeps a copy of them, so it does not depend on the other one, and
`run.json` says whose they were, with their hash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.envs.base import EnvSpec
from playfield.errors import DataError, UsageError
from playfield.play.agent import find_agent, locate
from playfield.play.frozen import MARK, named
from playfield.runs import catalog
from playfield.runs.algorithm import Algorithm, Config
from playfield.runs.info import is_run, read_info, spec_from, stored
from playfield.runs.origin import READING, SHAPES
from playfield.runs.tree import tree_hash
from playfield.runs.weights import export_weights, import_weights

FILE = "init.safetensors"
"""The copy in the directory of the run that began from them."""
KEPT = ("env", "algo", "seed", "fingerprint", "playfield")
"""What `run.json` of the new run says of the other one, besides its name, the step and the hash of the weights."""
ALIKE = tuple(name for name in (*SHAPES, *READING) if name not in ("id", "kind"))


@dataclass(frozen=True)
class Source:
    """Weights to begin from.

    Attributes:
        name: of the run or shipped agent, with the hash of its weights: what `--init-from` takes again.
        weights: by parameter name.
        record: what `run.json` says of them.
        notes: a line each for a person.
    """

    name: str
    weights: dict[str, Any]
    record: dict[str, Any]
    notes: tuple[str, ...] = ()


def check(name: str, algo: str, spec: EnvSpec) -> None:
    """Raise UsageError or DataError for mistakes that can be found without torch; reads no weights."""
    home, _ = named(name)
    if not catalog.entry(algo).learns:
        raise UsageError(f"{algo} has no weights, so --init-from has no meaning with it")
    if home in ("best", "last"):
        raise UsageError(f"--init-from {home} will mean another run later: give the run directory")
    locate(home, newest=False)
    path = Path(home)
    run = path if is_run(path) else path.parent.parent if path.parent.name == "checkpoints" else None
    if run is not None:
        _check_fit(home, algo, None, spec, read_info(run))


def find(name: str, algo: str, module: Algorithm, cfg: Config, spec: EnvSpec) -> Source:
    """The weights that `--init-from` names, for a training of `algo`. No code of that run is executed.

    Raises UsageError where there is none, or it is for other observations, actions, features or another network;
    DataError where it is damaged, or its weights are not those whose hash `name` has.
    """
    home, pinned = named(name)
    agent = find_agent(home)
    _check_fit(home, algo, cfg, spec, agent.info)
    if not agent.weights:
        raise UsageError(f"--init-from {home}: {agent.info['algo']} has no weights")
    try:
        with stored(agent.label):
            module.load(spec, cfg, agent.weights, "cpu")
    except DataError as error:
        raise UsageError(f"--init-from {home} does not fit {algo} with these options: {error}") from None
    found = tree_hash(agent.weights)
    if not found.startswith(pinned):
        raise DataError(
            f"--init-from {home}: its weights are not those of before: it was trained further, or replaced"
        )
    record = {"run": home, "step": agent.step, "hash": found}
    record |= {key: agent.info[key] for key in KEPT if agent.info.get(key) is not None}
    theirs, here = agent.info["config"].get("net"), getattr(cfg, "net", None)
    notes = [
        f"note: {name} is {ours} here and was {their} in {home}: the weights fit, but stand for other returns"
        for name in ("v_min", "v_max")
        if (ours := getattr(cfg, name, None)) != (their := agent.info["config"].get(name))
        and None not in (ours, their)
    ]
    if agent.info["algo"] != algo:
        notes.append(
            f"note: these weights were learnt by {agent.info['algo']}: they fit {algo}, but may mean something else"
        )
    if theirs != here:
        notes.append(
            f"note: the network of {home} is called {theirs}, here {here}: the weights fit, what it computes may not"
        )
    if (other := spec_from(agent.info)).id != spec.id:
        names = "" if other.action_names == spec.action_names else ", whose actions mean something else"
        notes.append(f"note: these weights were learnt on {other.id}{names}")
    return Source(f"{home}{MARK}{found[:16]}", agent.weights, record, tuple(notes))


def _check_fit(home: str, algo: str, cfg: Config | None, spec: EnvSpec, info: Mapping[str, Any]) -> None:
    """Raise UsageError where a run's agent sees or does something else; its features only where `cfg` is given."""
    other = spec_from(info)
    differ = [
        f"{what} {getattr(other, what)} (here {getattr(spec, what)})"
        for what in ALIKE
        if getattr(other, what) != getattr(spec, what)
    ]
    if any(o.names == "features" for o in catalog.options(algo)):  # whose weights mean nothing elsewhere
        if info["algo"] != algo:
            differ.append(f"algorithm {info['algo']} (here {algo})")
        elif cfg is not None and info["config"].get("features") != getattr(cfg, "features", None):
            differ.append(f"features {info['config'].get('features')} (here {getattr(cfg, 'features', None)})")
    if differ:
        raise UsageError(f"--init-from {home} does not fit: it has {', '.join(differ)}")


def keep(directory: Path, source: Source) -> None:
    """Write the copy of a new run. Raises StorageError."""
    export_weights(directory / FILE, source.weights, source.record)


def kept(directory: Path, info: Mapping[str, Any]) -> dict[str, Any] | None:
    """The weights that a run began from; None where it began from random ones.

    Raises DataError where its copy is gone or damaged, or not the one that `run.json` names.
    """
    if "init_from" not in info:
        return None
    weights, _ = import_weights(directory / FILE)
    if tree_hash(weights) != info["init_from"]["hash"]:
        raise DataError(f"{directory / FILE} has not the weights that the run began from")
    return weights


def line(record: Mapping[str, Any]) -> str:
    """Whose weights they are, for the plan."""
    return f"from the weights of {record['run']}, step {record['step']:,} ({record['algo']} on {record['env']})"
