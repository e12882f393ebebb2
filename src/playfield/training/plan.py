"""What a training is going to be: the request, the budget that fits this machine, and the words that say so."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.envs import protocol_line
from playfield.runs import goal
from playfield.runs.console import clock
from playfield.runs.info import VERSION, versions

PATIENCE = 10.0  # seconds after which 3 rounds are enough to know a training's speed


@dataclass(frozen=True)
class Request:
    """What the user asked `train` for; None means: choose."""

    env: str
    algo: str = "ppo"
    preset: str = "default"
    steps: int | None = None
    minutes: float | None = None
    target_score: float | None = None
    target_games: int | None = None
    seed: int = 1
    run: Path | None = None
    device: str = "auto"
    precision: str = "auto"
    workers: int = 0
    protocol: str | None = None
    view: str | None = None
    parts: dict[str, Any] = dataclasses.field(default_factory=dict)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    save_seconds: float = 60.0
    keep: int = 3
    tensorboard: bool = True
    console: bool = True
    games: int = 30
    film: bool = True


def presets_for(module: Any, spec: Any) -> dict[str, Any]:
    """An algorithm's presets for an environment: those of its kind, and over them more special ones.

    These are for the way it is seen (`ram`, `pixels`), or for a game that asks for values of its own (`CartPole`).
    """
    kind = "atari" if spec.kind == "atari" else "vector"
    game = spec.id.split("-v")[0]
    special = {("atari", False): "ram", ("vector", True): "pixels", ("vector", False): game}.get(
        (kind, spec.pixels), kind
    )
    return {**module.PRESETS[kind], **module.PRESETS.get(special, {})}


def snap(steps: float) -> int:
    """`steps` rounded down to two digits, so that one machine nearly always chooses the same budget."""
    power = 10 ** max(math.floor(math.log10(max(steps, 1))) - 1, 0)
    return int(max(steps, 1) // power * power)


class _Enough(Exception):
    """What was to be measured is known."""


def measure_speed(module: Any, cfg: Any, spec: Any, compute: Any, seed: int) -> float:
    """Steps per second of this training here, after rounds that warm up. Writes nothing.

    It takes 1,024 steps and at least 3 rounds; fewer steps where those take longer than `PATIENCE`.
    """
    from playfield.runs.run import Run

    rounds, before = (max(3, 1024 // cfg.batch) if cfg.batch <= 2048 else 1), 0
    if "learning_starts" in {f.name for f in dataclasses.fields(cfg)}:  # measure learning, not what comes before it
        capacity = min(cfg.capacity, max(10_000, 2 * cfg.num_envs * (cfg.n_step + 8)))
        cfg = dataclasses.replace(cfg, learning_starts=cfg.first_minibatch, capacity=capacity)
        before = -(-cfg.learning_starts // cfg.batch)
    info = {
        "spec": spec,
        "seed": seed,
        "steps": (before + rounds + 1) * cfg.batch,
        "compute": dataclasses.asdict(compute),
        "protocol": spec.protocol,
    }
    marks: list[tuple[float, int]] = []

    def mark(run: Run) -> None:
        marks.append((time.perf_counter(), run.step))
        if len(marks) > before + 3 and marks[-1][0] - marks[before][0] > PATIENCE:
            raise _Enough

    run = Run(info, envs_of(spec, compute), on_round=mark)
    try:
        with contextlib.suppress(_Enough):
            module.train(run, cfg)
    finally:
        run.close()
    marks = marks[before:]
    return (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])


def info_for(request: Request, cfg: Any, spec: Any, compute: Any, steps: int) -> dict[str, Any]:
    """What `run.json` holds."""
    return {
        "format": 1,
        "playfield": VERSION,
        "env": spec.id,
        "algo": request.algo,
        "preset": request.preset,
        "config": dataclasses.asdict(cfg),
        "spec": dataclasses.asdict(spec),
        "protocol": spec.protocol,
        "seed": request.seed,
        "steps": steps,
        "target": goal.to_info(goal.wished(request.target_score, request.target_games)),
        "schedule": schedule(dataclasses.asdict(cfg), steps),
        "save_seconds": request.save_seconds,
        "keep": request.keep,
        "extensions": [],
        "compute": dataclasses.asdict(compute),
        "log_period": max(cfg.batch, steps // 2000),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def schedule(config: dict[str, Any], steps: int) -> str:
    """What changes in the course of a training."""
    falling = {"anneal": "learning rate", "anneal_clip": "clip range", "anneal_ent": "entropy bonus"}
    names = [word for option, word in falling.items() if config.get(option)]
    end = config.get("anneal_to", 0.0)
    told = [f"{', '.join(names)}: linear to {end:.0%} at step {steps:,}"] if names else []
    if "epsilon_share" in config and not config.get("noisy"):
        last = config.get("epsilon_steps") or round(config["epsilon_share"] * steps)
        told.append(f"epsilon: {config['epsilon_start']:g} to {config['epsilon_end']:g} at step {last:,}")
    if config.get("alpha") and "beta" in config:
        told.append(f"beta: {config['beta']:g} to 1 at step {steps:,}")
    return "; ".join(told) or "constant"


def has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def envs_of(spec: Any, compute: Any) -> Callable[[int], Any]:
    from playfield.compute import cores
    from playfield.envs import make_from

    threads = 1 if compute.workers > 1 else cores()
    return lambda n: make_from(spec, n, threads=min(threads, n))


def default_minutes(spec: Any, algo: str) -> float:
    """How long a training takes unless told otherwise."""
    if algo == "random":
        return 0.25
    return 10.0 if spec.kind == "atari" else 3.0 if spec.pixels else 0.5


def command_line(request: Request, steps: int, compute: Any) -> str:
    """The command that repeats this run exactly, with what was chosen for this machine."""
    words = ["playfield", "train", request.env, "--algo", request.algo, "--steps", str(steps)]
    words += ["--seed", str(request.seed)]
    if target := goal.wished(request.target_score, request.target_games):
        words += [f"--target-score={target.score!r}", "--target-games", str(target.games)]
    if request.preset != "default":
        words += ["--preset", request.preset]
    for name in ("device", "precision", "workers"):
        words += [f"--{name}", str(getattr(compute, name))]
    for name in ("protocol", "view"):
        if getattr(request, name) is not None:
            words += [f"--{name}", str(getattr(request, name))]
    for name, value in {**request.parts, **request.config}.items():
        words += [
            f"--{name.replace('_', '-')}",
            str(value).lower() if isinstance(value, bool) else str(value),
        ]
    return shlex.join(words)


def plan_text(info: dict[str, Any], cfg: Any, compute: Any, speed: float | None, replay: str | None = None) -> str:
    """What is going to happen, in one block."""
    from playfield.compute import describe

    protocol, target = info["protocol"], goal.from_info(info)
    rows = {
        "game": info["env"],
        "protocol": protocol_line(protocol),
        "algorithm": f"{info['algo']}, preset {info['preset']}"
        + (f", net {cfg.net}" if hasattr(cfg, "net") else "")
        + f", {cfg.num_envs} environments x {cfg.rollout_steps} steps",
        **({"replay": replay} if replay else {}),
        "device": describe(compute) + (f" ({compute.note})" if compute.note else ""),
        "steps": f"{info['steps']:,}"
        + (f" ({info['steps'] * protocol['skip']:,} frames)" if "skip" in protocol else ""),
        **({"until": f"{target.words()}, or those steps"} if target else {}),
        "at most"
        if target
        else "expected": f"about {clock(info['steps'] / speed)} at the measured {speed:,.0f} steps/s"
        ", then games and film"
        if speed
        else "moments, then games and film",
        "seed": str(info["seed"]),
    }
    return "\n".join(f"{key:>10}  {value}" for key, value in rows.items())


def finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
