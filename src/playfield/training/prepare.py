"""What a training needs, told to be wrong before anything is made: names, options, device, workers, memory."""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield import options as opts
from playfield.errors import DataError, UsageError, unknown
from playfield.nets import names
from playfield.runs import encoder
from playfield.training.plan import Request, has_cuda, presets_for

EMULATOR = 1_700_000  # bytes of an Atari game, with its screens and its stack of pictures


@dataclass(frozen=True)
class Need:
    """Bytes of memory and of the disk that a training takes beside its program, and the words that say so."""

    memory: float
    disk: float = 0.0
    line: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A request whose every part is known to fit: algorithm module, its Config, spec, how it computes, its need."""

    request: Request
    module: Any
    cfg: Any
    spec: Any
    compute: Any
    need: Need


def configure(request: Request) -> tuple[Any, Any, Any]:
    """(algorithm module, its Config, one environment's spec) for a request. Raises UsageError."""
    from playfield.envs import make_envs

    opts.check(request.algo, request.config)
    if "net" in request.config:
        names.net(request.config["net"])
    env = make_envs(request.env, 1, protocol=request.protocol, view=request.view, **request.parts)
    spec = env.spec
    env.close()
    if "features" in request.config:  # before torch is loaded, which takes longer than all else
        from playfield.linear.observe import Sight

        Sight(request.config["features"], spec)
    module = importlib.import_module(f"playfield.algos.{request.algo}")
    table = presets_for(module, spec)
    if request.preset not in table and request.preset in opts.presets(request.algo):
        raise UsageError(f"{request.algo} preset {request.preset} is not for {spec.id}: use {' or '.join(table)}")
    if request.preset not in table:
        raise unknown(f"{request.algo} preset for {spec.kind} environments", request.preset, table)
    known = {f.name for f in dataclasses.fields(module.Config)}
    chosen = {name: value for name, value in opts.agree(request.config).items() if name in known}
    cfg = dataclasses.replace(table[request.preset], **chosen)
    if hasattr(cfg, "net") and cfg.net == "nips" and not spec.pixels and "net" not in request.config:
        cfg = dataclasses.replace(cfg, net="mlp")  # RAM bytes
    cfg.check()
    if hasattr(cfg, "net"):
        from playfield.nets import bodies

        bodies.check(cfg.net, spec.obs_shape)
    if "policy" in known:
        # Refused before anything is made where it plays another game; kept with the hash of its weights.
        cfg = dataclasses.replace(cfg, policy=module.Fixed(cfg.policy, spec).pinned)
    if "features" in known:
        from playfield.linear.coders import settled
        from playfield.linear.observe import Sight

        cfg = settled(cfg, Sight(cfg.features, spec).coder)
    return module, cfg, spec


def prepare(request: Request) -> Prepared:
    """All that a training needs. Raises UsageError, or StorageError for a disk that is too full; makes nothing."""
    module, cfg, spec = configure(request)
    if request.workers:
        cfg.check(request.workers)
    from playfield import compute

    workers = request.workers or int(hasattr(cfg, "features"))  # linear methods have one
    chosen = compute.choose(request.device, request.precision, workers, pixels=spec.pixels, num_envs=cfg.num_envs)
    cfg.check(chosen.workers)
    if cfg.batch % (getattr(cfg, "minibatches", 1) * chosen.workers):
        raise UsageError(f"a rollout of {cfg.batch} steps must divide by minibatches x workers ({chosen.workers})")
    if "policy" in request.config:  # the command that repeats this run means those weights too
        request = dataclasses.replace(request, config={**request.config, "policy": cfg.policy})
    return Prepared(request, module, cfg, spec, chosen, need_of(cfg, spec, request.run or Path("runs")))


def reopen(directory: Path, info: dict[str, Any]) -> tuple[Any, Any, Any, Need]:
    """(algorithm module, its Config, spec, need) of a run that is to go on. Raises as `prepare`, DataError for
    a `run.json` that does not fit this playfield."""
    from playfield.runs.info import spec_from

    if info["algo"] not in opts.algorithms():
        raise DataError(f"{directory} was made by an algorithm that is not here: {info['algo']!r}")
    module = importlib.import_module(f"playfield.algos.{info['algo']}")
    known = {f.name for f in dataclasses.fields(module.Config)}
    if set(info["config"]) != known:
        raise DataError(f"{directory} was made with other options of {info['algo']}: {set(info['config']) ^ known}")
    try:
        opts.check(info["algo"], info["config"])
    except UsageError as error:
        raise DataError(f"{directory} cannot go on as it was made: {error}") from None
    if info["compute"]["device"] == "cuda" and not has_cuda():
        raise UsageError(f"{directory} was trained on a CUDA device, and torch finds none here")
    cfg, spec = module.Config(**info["config"]), spec_from(info)
    if "policy" in known:
        module.Fixed(cfg.policy, spec)
    if "features" in known:
        cfg = dataclasses.replace(cfg, features=encoder.kept(cfg.features, directory))
    return module, cfg, spec, need_of(cfg, spec, directory)


def need_of(cfg: Any, spec: Any, where: Path) -> Need:
    """What a training with `cfg` on environments of `spec` takes; `where` is on the disk of a mapped replay memory.

    Raises UsageError where its replay memory, its linear weights, or else a rollout, does not fit into what is free,
    or its emulators beside them.
    """
    from playfield.compute import free_memory

    need = _need_of_learning(cfg, spec, where)
    emulators = EMULATOR * cfg.num_envs if spec.kind == "atari" else 0
    if (free := free_memory()) is not None and need.memory + emulators > 0.9 * free:
        raise UsageError(
            f"{cfg.num_envs:,} emulators take {emulators / 1e9:.2f} GB, what is learnt from "
            f"{need.memory / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free: lower --num-envs"
        )
    return dataclasses.replace(need, memory=need.memory + emulators)


def _need_of_learning(cfg: Any, spec: Any, where: Path) -> Need:
    """All but the environments."""
    known = {f.name for f in dataclasses.fields(cfg)}
    if "features" in known:
        from playfield.linear import budget as linear_need
        from playfield.linear.observe import Sight

        return Need(linear_need.of_training(cfg, spec.num_actions, Sight(cfg.features, spec).coder))
    import numpy as np

    if "capacity" not in known:
        from playfield.compute import free_memory

        need = cfg.batch * (math.prod(spec.obs_shape) * np.dtype(spec.obs_dtype).itemsize + 40)
        if (free := free_memory()) is not None and need > 0.9 * free:
            raise UsageError(
                f"a rollout of {cfg.batch:,} steps takes {need / 1e9:,.1f} GB, and {free / 1e9:.1f} GB are free: "
                "lower --rollout-steps or --num-envs"
            )
        return Need(need)
    from playfield.envs import make_from
    from playfield.replay.budget import drawn_bytes, memory_need

    env = make_from(spec, 1)
    try:
        mapped = where if getattr(cfg, "mmap", False) else None
        drawn = drawn_bytes(spec, cfg.net, cfg.drawn)
        if getattr(
            cfg, "concurrent", False
        ):  # a round waits outside the memory: what was seen, and both that followed
            drawn += 3 * cfg.batch * math.prod(spec.obs_shape) * np.dtype(spec.obs_dtype).itemsize
        return Need(*memory_need(env, cfg.capacity, cfg.packed, cfg.alpha, mapped, drawn))
    finally:
        env.close()


def fit_together(needs: Sequence[Need], jobs: int, where: Path) -> None:
    """Raise UsageError unless any `jobs` trainings fit into the memory, and onto the disk of `where`, at once."""
    from playfield.compute import free_memory
    from playfield.runs.storage import free_disk

    memory, disk = sorted((n.memory for n in needs), reverse=True), sorted((n.disk for n in needs), reverse=True)
    jobs = min(jobs, len(needs))
    for sizes, free, kind in (
        (memory, free_memory(), "memory"),
        (disk, free_disk(where) if any(disk) else None, "disk"),
    ):
        if free is None or sum(sizes[:jobs]) <= 0.9 * free:
            continue
        fit = max((n for n in range(1, jobs) if sum(sizes[:n]) <= 0.9 * free), default=1)
        raise UsageError(
            f"{jobs} trainings at once take up to {sum(sizes[:jobs]) / 1e9:.2f} GB of {kind}, and "
            f"{free / 1e9:.2f} GB are free: use --jobs {fit}"
        )
