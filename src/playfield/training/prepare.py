"""Validate a request before anything is created: names, options, device, workers, memory.

Nothing at the top of this module imports torch; `check` finds most mistakes without it.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.compute import Compute, readable_size
from playfield.envs import failures, make_envs
from playfield.envs.base import EnvSpec
from playfield.envs.make import with_failures
from playfield.errors import DataError, UsageError, unknown
from playfield.nets import names as net_names
from playfield.runs import algorithm, catalog, preset_file, registered
from playfield.runs.algorithm import Algorithm, Config, Need
from playfield.runs.info import WRONG, spec_from, stored, unusable
from playfield.runs.storage import free_disk
from playfield.training import init_from, meeting
from playfield.training.request import Request

PROCESS_BYTES = 300_000_000
"""Memory of its own that a worker process takes: of PPO on Breakout 210 MB that no other process uses were measured,
and 270 MB with its share of what several use, most of it Python with torch."""
MOST_WIDE = 2**17
"""Numbers in an observation that is no picture, of which networks are made: with more, an update takes minutes."""


@dataclass(frozen=True)
class Prepared:
    """A valid request: algorithm's module, its Config, environment's spec, device, memory, workers, first weights."""

    request: Request
    module: Algorithm
    cfg: Config
    spec: EnvSpec
    compute: Compute
    need: Need
    workers_as: str
    begin: init_from.Source | None = None


def check(request: Request) -> tuple[EnvSpec, dict[str, Any]]:
    """One environment's spec, and the options of the algorithm that a request means. Raises UsageError.

    It finds most mistakes, and imports no torch.
    """
    request = with_preset_file(request)
    meeting.asked(request.nodes, request.rendezvous)
    catalog.check(request.algo, request.config)
    for option in catalog.options(request.algo):
        if option.names == "net" and option.name in request.config:
            net_names.net(request.config[option.name])
    env = make_envs(
        request.env,
        1,
        protocol=request.protocol,
        view=request.view,
        env_kwargs=request.env_kwargs,
        **request.parts,
    )
    spec = env.spec
    env.close()
    _check_width(request.algo, spec)
    for option in catalog.options(request.algo):
        if option.names == "features" and option.name in request.config:
            from playfield.linear.coders import env_coder  # it loads numba, which deep networks do without

            env_coder(request.config[option.name], spec)
    table = catalog.presets_for(request.algo, spec.family.preset_kinds(spec.id, spec.pixels, bool(spec.states)))
    if not table:
        raise UsageError(
            f"{request.algo} has no presets for environments such as {spec.id}, so it cannot be trained there"
        )
    if request.preset not in table and request.preset in catalog.presets(request.algo):
        raise UsageError(f"{request.algo} preset {request.preset} is not for {spec.id}: use {' or '.join(table)}")
    if request.preset not in table:
        what = f"{request.algo} preset for {spec.kind} environments"
        raise unknown(what, request.preset, table, preset_file.file_hint(request.preset))
    if request.init_from is not None:
        init_from.check(request.init_from, request.algo, spec)
    given = {
        o.name: o.plain(request.config[o.name]) for o in catalog.options(request.algo) if o.name in request.config
    }
    values = {**table[request.preset], **catalog.agree(request.algo, given)}
    if values.get("replay_failures"):
        failures.refuse(spec.id, spec.kind, spec.protocol)
    return spec, values


def _check_width(algo: str, spec: EnvSpec) -> None:
    """Raise UsageError where observations are too wide for a network, which has an input for each number."""
    width = math.prod(spec.obs_shape)
    if spec.pixels or width <= MOST_WIDE or all(o.names != "net" for o in catalog.options(algo)):
        return
    what = "named states" if spec.states else "numbers in an observation"
    how = (
        "--algo qlearning learns a table of their values"
        if len(spec.states) == 1
        else "let a wrapper make them fewer"
    )
    raise UsageError(f"{spec.id} has {width:,} {what}, and a network of {algo} takes at most {MOST_WIDE:,}: {how}")


def with_preset_file(request: Request) -> Request:
    """The request with what the file says that its preset names, under what is given beside it.

    Raises UsageError for a mistake in the file, DataError for a file that cannot be used.
    """
    if not preset_file.is_file(request.preset):
        return request
    file = preset_file.read_preset(Path(request.preset), request.algo)
    options = {k: v for k, v in file.options.items() if not _switched_off(request, k)}
    config = {**options, **request.config}
    return dataclasses.replace(request, preset=file.preset, config=config, preset_file=file.record())


def _switched_off(request: Request, name: str) -> bool:
    """Whether an option that was given excludes this one: it wins over the file."""
    excludes = {o.name: o.excludes for o in catalog.options(request.algo)}
    return any(value is True and excludes.get(key) == name for key, value in request.config.items())


def configure(request: Request) -> tuple[Algorithm, Config, EnvSpec]:
    """(algorithm module, its Config, one environment's spec) for a request. Raises UsageError."""
    spec, values = check(request)
    module = algorithm.load(request.algo)
    cfg = module.Config(**values)
    cfg.check()
    cfg = cfg.fit(spec)
    if cfg.failures:
        with_failures(spec, 1, cfg.failures).prove()
    return module, cfg, spec


def prepare(request: Request) -> Prepared:
    """All that a training needs. Raises UsageError, or StorageError for a disk that is too full; writes nothing."""
    request = with_preset_file(request)
    meeting.asked(request.nodes, request.rendezvous)
    module, cfg, spec = configure(request)
    if request.workers:
        cfg.check(request.workers)
    workers = request.workers or cfg.most_workers
    nodes = request.nodes
    chosen = compute.choose(
        request.device, request.precision, workers, pixels=spec.pixels, num_envs=cfg.num_envs, nodes=nodes
    )
    cfg.check(chosen.workers)
    # The command that repeats this run names policies with the hash of their weights, schedules in full.
    as_kept = [o.name for o in catalog.options(request.algo) if o.names == "policy" or o.quantity]
    pinned = {name: getattr(cfg, name) for name in as_kept if isinstance(getattr(cfg, name), str)}
    given = {**request.config, **{name: value for name, value in pinned.items() if name in request.config}}
    request = dataclasses.replace(request, config=given)
    begin = None
    if request.init_from is not None:
        begin = init_from.find(request.init_from, request.algo, module, cfg, spec)
        request = dataclasses.replace(request, init_from=begin.name)
    how = workers_as(request.workers_as, request.algo, cfg, chosen, nodes)
    processes = chosen.workers // nodes - 1 if how == "processes" else 0
    less = "lower --workers" if nodes > 1 else "lower --workers, or leave out --workers-as"
    need = need_of(cfg, spec, request.run or Path("runs"), processes, less)
    return Prepared(request, module, cfg, spec, chosen, need, how, begin)


def workers_as(asked: str, algo: str, cfg: Config, chosen: Compute, nodes: int = 1) -> str:
    """`threads` or `processes`, which end with the same bits on a CPU.

    `auto` means threads: see docs/design/workers.md for what was measured. On several machines they are processes.

    Raises UsageError where processes are asked for and cannot be.
    """
    if nodes > 1:
        if not cfg.processes:
            raise UsageError(f"--nodes {nodes}: {algo} trains on one machine; only PPO, A2C and PQN train on several")
        if why := no_processes(algo, cfg):
            raise UsageError(f"--nodes {nodes}: {why}: leave it out")
        if asked == "threads":
            raise UsageError(f"--workers-as threads: workers of {nodes} machines are processes: leave it out")
        if chosen.workers % nodes:
            raise UsageError(f"--nodes {nodes} must divide the number of workers ({chosen.workers})")
        return "processes"
    if asked != "processes":
        return "threads"
    if why := no_processes(algo, cfg):
        raise UsageError(f"--workers-as processes: {why}: leave it out")
    return "threads" if chosen.workers == 1 else "processes"


def no_processes(algo: str, cfg: Config) -> str:
    """Why the workers of a training cannot be processes; empty where they can."""
    if not cfg.processes:
        return f"{algo} trains with threads only"
    return "" if os.name == "posix" else "this system has no memory that processes share as playfield needs it"


def remembered_workers(info: Mapping[str, Any], algo: str, cfg: Config, chosen: Compute, nodes: int = 1) -> str:
    """What workers are in a run that goes on: as before, or threads where processes cannot be here."""
    if nodes > 1:
        return workers_as("auto", algo, cfg, chosen, nodes)
    asked = info.get("after", {}).get("workers_as", "auto")
    return "threads" if no_processes(algo, cfg) else workers_as(asked, algo, cfg, chosen)


def reopen(
    directory: Path, info: dict[str, Any], trust: bool = False, asked: str | None = None, nodes: int = 1
) -> tuple[Algorithm, Config, EnvSpec, Need]:
    """(algorithm module, its Config, spec, need) of a run that is to go on; with `trust` its module may be imported.

    `asked`: what workers are to be, see `workers_as`; None: what the run remembers, if that can be here. `nodes`:
    machines that are to train it together.

    Raises UsageError where that cannot be, or the run needs a CUDA device and there is none; DataError for a
    `run.json` that does not fit this version or this machine, or names a module to import without `trust`.
    """
    spec = spec_from(info)
    registered.require(info, spec, trust)
    name = algorithm.stored_name(info)
    known = {o.name for o in catalog.options(name)}
    differing = set(info["config"]) ^ known
    if differing and not differing <= known & algorithm.load(name).Config.added:
        raise DataError(f"{directory} was made with other options of {name}: {', '.join(sorted(differing))}")
    try:
        catalog.check(name, info["config"])
    except UsageError as error:
        raise DataError(f"{directory} cannot go on as it was made: {error}") from None
    if info["compute"]["device"] == "cuda" and not compute.has_cuda():
        raise UsageError(
            f"{directory} was trained on a CUDA device, and torch finds none here: go on where there is one"
        )
    init_from.kept(directory, info)
    what = f"{directory / 'run.json'}"
    with stored(what):
        module = algorithm.load(name)
        cfg = algorithm.stored_config(module, name, info["config"]).reopen(spec, directory)
        for option in catalog.options(name):
            if option.names == "net":
                net_names.net(getattr(cfg, option.name))
        cfg.check(info["compute"]["workers"])
        chosen = Compute(**info["compute"])
    if asked is None:
        how = remembered_workers(info, name, cfg, chosen, nodes)
    else:
        how = workers_as(asked, name, cfg, chosen, nodes)
    processes = chosen.workers // nodes - 1 if how == "processes" else 0
    try:
        less = "train on more machines (--nodes)" if nodes > 1 else "use --workers-as threads"
        return module, cfg, spec, need_of(cfg, spec, directory, processes, less)
    except WRONG as error:
        raise unusable(what, error) from error


def need_of(cfg: Config, spec: EnvSpec, directory: Path, processes: int = 0, less: str = "") -> Need:
    """Memory and disk that a training takes, its environments and so many worker processes besides this one included.

    `less`: how to have fewer of these processes.

    Raises UsageError where the algorithm's part, or emulators beside it, do not fit into the memory that is free.
    """
    need = cfg.need(spec, directory)
    emulators = spec.family.env_bytes * cfg.num_envs
    if cfg.failures:
        emulators += failures.memory(spec.obs_shape, cfg.num_envs, compute.cores())
    what = f"training with {cfg.num_envs:,} environments of {readable_size(emulators)}"
    compute.refuse_if_larger(need.memory + emulators, what, "lower --num-envs")
    own = processes * PROCESS_BYTES
    if processes:
        what = f"{what} and {processes:,} worker processes more"
        compute.refuse_if_larger(need.memory + emulators + own, what, less)
    return dataclasses.replace(need, memory=need.memory + emulators + own)


def fit_together(needs: Sequence[Need], jobs: int, where: Path) -> None:
    """Raise UsageError unless any `jobs` trainings fit into the memory, and onto the disk of `where`, at once."""
    memory, disk = sorted((n.memory for n in needs), reverse=True), sorted((n.disk for n in needs), reverse=True)
    jobs = min(jobs, len(needs))
    for sizes, free, kind in (
        (memory, compute.free_memory(), "memory"),
        (disk, free_disk(where) if any(disk) else None, "disk"),
    ):
        if free is None or sum(sizes[:jobs]) <= 0.9 * free:
            continue
        fit = max((n for n in range(1, jobs) if sum(sizes[:n]) <= 0.9 * free), default=1)
        raise UsageError(
            f"{jobs} trainings at once take up to {readable_size(sum(sizes[:jobs]))} of {kind}, and "
            f"{readable_size(free)} are free: use --jobs {fit}"
        )
