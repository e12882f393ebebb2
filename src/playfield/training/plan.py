"""The plan of a training: its speed on this machine, its number of steps, and the text that says so."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import math
import shlex
import time
from collections.abc import Callable, Mapping
from typing import Any

from playfield.compute import Compute, cores, describe, processor, versions
from playfield.envs import arguments, failures, make_from, protocol_line
from playfield.envs.base import EnvSpec, VectorEnv
from playfield.envs.family import family
from playfield.envs.make import with_failures
from playfield.runs import goal, origin, registered
from playfield.runs.algorithm import Algorithm, Config
from playfield.runs.console import format_seconds
from playfield.runs.group import Leader
from playfield.runs.info import VERSION, spec_from
from playfield.runs.run import Run
from playfield.training import init_from
from playfield.training.request import Request

FAR_OFF = 3.0  # times the planned time: from here on the plan warns
WIDE = 10_000  # numbers in an observation that is no picture
LINES = 20  # of evaluations during a training that are printed, beside the first and the last
PATIENCE = 10.0  # seconds after which 3 rollouts are enough to measure a training's speed


AFTER = ("games", "film", "tensorboard", "workers_as")
"""What is made beside the training and after it, and how. A resume does the same, unless it says otherwise."""


def remember(info: dict[str, Any], options: dict[str, Any]) -> bool:
    """Complete the options of a resume with what the run made beside and after its training so far (`AFTER`).

    What is given instead becomes part of `info`, for later; returns whether that has changed.
    """
    given = {name: options[name] for name in AFTER if options.get(name) is not None}
    after = {**{name: getattr(Request, name) for name in AFTER}, **info.get("after", {}), **given}
    options |= after
    if not given or after == info.get("after"):
        return False
    info["after"] = after
    return True


def lengthen(info: dict[str, Any], cfg: Config, done: int, steps: int) -> str:
    """Make `steps` the total of a run that has done `done` of them; returns a line that says so.

    The totals become part of `info`, and what each schedule's value at this step was and is.
    """
    before, after = cfg.in_force(done, info["steps"]), cfg.in_force(done, steps)
    values = {name: [before[name], after[name]] for name in before if before[name] != after[name]}
    extension = {"at": done, "from": info["steps"], "to": steps} | ({"values": values} if values else {})
    told = f"the total is now {steps:,} steps instead of {info['steps']:,}"
    info["extensions"].append(extension)
    info["steps"], info["schedule"] = steps, schedule_text(cfg, steps)
    if info["schedule"] == "constant":
        return told
    if values:
        listed = ", ".join(f"{name} {old:.3g} becomes {new:.3g}" for name, (old, new) in values.items())
        return f"{told}; schedules follow the new total: at step {done:,} {listed}"
    follows = "the schedules' values at this step stay" if cfg.has_schedules else "schedules follow the new total"
    return f"{told}; {follows}"


def schedule_text(cfg: Config, steps: int) -> str:
    """What changes over a training of `steps`, for `run.json`."""
    return "; ".join(cfg.schedule(steps)) or "constant"


def snap(steps: float) -> int:
    """`steps` rounded down to two digits, so that one machine nearly always chooses the same budget."""
    power = 10 ** max(math.floor(math.log10(max(steps, 1))) - 1, 0)
    return int(max(steps, 1) // power * power)


Begin = Callable[[dict[str, Any], Config], Leader]
"""Begins a training in worker processes."""


class _Enough(Exception):
    """The speed is measured."""


def measure_speed(
    module: Algorithm, cfg: Config, spec: EnvSpec, compute: Compute, seed: int, begin: Begin | None = None
) -> float:
    """Steps per second of this training on this machine, after warm-up. Writes nothing.

    `begin` begins it in worker processes, where workers are such.

    It takes 1,024 steps and at least 3 rollouts; fewer steps where those take longer than `PATIENCE`, and one rollout
    where that takes twice as long.
    """
    rounds = max(3, 1024 // cfg.batch) if cfg.batch <= 2048 else 1
    cfg, before = cfg.timing()
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
        if len(marks) < before + 2:
            return
        if marks[-1][0] - marks[before][0] > (PATIENCE if len(marks) > before + 3 else 2 * PATIENCE):
            raise _Enough

    make = envs_of(spec, compute, cfg.failures)
    run = Run(info, make, on_rollout=mark, group=begin(info, cfg) if begin else None)
    try:
        with contextlib.suppress(_Enough):
            module.train(run, cfg)
    finally:
        run.close()
    marks = marks[before:]
    return (marks[-1][1] - marks[0][1]) / (marks[-1][0] - marks[0][0])


def info_for(
    request: Request,
    cfg: Config,
    spec: EnvSpec,
    compute: Compute,
    steps: int,
    begin: init_from.Source | None = None,
) -> dict[str, Any]:
    """What `run.json` holds."""
    info: dict[str, Any] = {
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
        "target": goal.to_info(goal.requested(request.target_score, request.target_games)),
        "schedule": schedule_text(cfg, steps),
        "save_seconds": request.save_seconds,
        "keep": request.keep,
        "after": {name: getattr(request, name) for name in AFTER},
        **({"eval_every": request.eval_every, "eval_games": request.eval_games} if request.eval_every else {}),
        "extensions": [],
        "compute": dataclasses.asdict(compute),
        "log_period": max(cfg.batch, steps // 2000),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "processor": processor(),
    }
    if begin is not None:
        info["init_from"] = begin.record
    if request.preset_file is not None:
        info["preset_file"] = request.preset_file
    if module := registered.module_of(spec):
        info["registered_by"] = module
    return {**info, "fingerprint": origin.fingerprint(info)}


def went_on(info: dict[str, Any], done: int) -> list[str]:
    """What here is not as it was where the run began, or was trained last, a line each.

    It becomes part of `info`: the versions with which the run goes on from step `done`, and that it is no longer
    exact where bits may differ. Another version of playfield alone keeps them.
    """
    if done >= info["steps"]:  # nothing is trained
        return []
    trained, lines = origin.sessions({**info, "result": None}), []
    now = {"playfield": VERSION, **versions()}
    changed, since = (
        _changed({"playfield": str(info.get("playfield")), **info["versions"]}, now),
        _changed(trained[-1], now),
    )
    if since:
        entries = [e for e in info.get("went_on", []) if e["at"] < done]
        info["went_on"] = [*entries, {"at": done, "playfield": VERSION, "versions": versions()}]
    if changed.keys() - {"playfield"}:
        listed = ", ".join(changed.values())
        lines.append(f"note: no longer exact: versions differ from those at the start: {listed}")
    elif changed or since:
        where = "at the start" if changed else "before"
        lines.append(f"note: versions differ from those {where}: {', '.join((changed or since).values())}")
    inexact = bool(changed.keys() - {"playfield"})
    began, here = info.get("processor", {}), processor()
    differ = sorted(set(began.get("features", "").split()) ^ set(here["features"].split()))
    if began and began != here:
        what = f" (only one of the two has {' '.join(differ)})" if differ else ""
        lines.append(
            "note: bits may differ: the run began on another processor, "
            f"{began.get('model')} -> {here['model']}{what}"
        )
        inexact = True
    if inexact:
        info["exact"] = False
    return lines


def alone(info: Mapping[str, Any], resume: str) -> list[str]:
    """A line where a run that was trained on several machines continues on this one; `resume`: the command."""
    if (nodes := info.get("nodes", 1)) == 1:
        return []
    again = f"{resume} --nodes {nodes} --rendezvous HOST:PORT (or --on ray)"
    return [f"it was trained on {nodes} machines and continues on this one alone; on {nodes} again: {again}"]


def _changed(then: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """Of each package with another version now: `torch 2.3 -> 2.4`."""
    return {k: f"{k} {then.get(k)} -> {v}" for k, v in now.items() if then.get(k) != v}


def envs_of(spec: EnvSpec, compute: Compute, share: float = 0.0) -> Callable[[int], VectorEnv]:
    """A function that makes n environments for one worker; `share`: see `Config.failures`."""
    if share:
        return lambda n: with_failures(spec, n, share)
    threads = 1 if compute.workers > 1 else cores()
    return lambda n: make_from(spec, n, threads=min(threads, n))


def oddities(spec: EnvSpec) -> list[str]:
    """What to say of an environment that ignores its seed, or returns one array again and again."""
    if not spec.family.replays_on_restore:
        return []
    env = make_from(spec, 1)
    try:
        found: list[str] = getattr(env, "oddities", list)()
        return found
    finally:
        env.close()


def steps_of(request: Request, cfg: Config, spec: EnvSpec, speed: float | None) -> tuple[int, str | None]:
    """Total steps of a training, and a note where the default takes far longer here than it should.

    Without --steps and --minutes they depend on what is trained alone: the same command is the same training on every
    machine.
    """
    if request.steps is not None:
        return request.steps, None
    if request.minutes is not None:
        return snap((speed or 0) * request.minutes * 60), None
    usual = cfg.budget(spec.family.preset_kinds(spec.id, spec.pixels), request.preset)
    expected = usual.steps / speed if speed else 0.0
    if expected <= FAR_OFF * usual.minutes * 60:
        return usual.steps, None
    meant, here = format_seconds(usual.minutes * 60), format_seconds(expected)
    return usual.steps, (
        f"note: the default of {usual.steps:,} steps is meant for about {meant} and will take about {here}: "
        f"this machine is slow or busy. --minutes {usual.minutes:g} trains for that time, with fewer steps"
    )


def algo_note(request: Request, spec: EnvSpec) -> str | None:
    """Why the algorithm of an environment is another one than usual, or which one to use instead."""
    best = spec.family.default_algo(spec.id)
    if best == "ppo" and request.algo == "ppo" and spec.states:
        return f"note: observations of {spec.id} are named states: --algo qlearning learns a table of their values"
    if best == "ppo" or request.algo not in (best, "ppo"):
        return None
    why = spec.family.why_not_ppo(spec.id)
    return f"note: {best} is the default here: {why}" if request.algo == best else f"note: {why}: use --algo {best}"


def command_line(request: Request, steps: int, compute: Compute) -> str:
    """The command that repeats this run exactly, with what was chosen for this machine."""
    words = ["playfield", "train", request.env, "--algo", request.algo, "--steps", str(steps)]
    words += ["--seed", str(request.seed)]
    if target := goal.requested(request.target_score, request.target_games):
        words += [f"--target-score={target.score!r}", "--target-games", str(target.games)]
    if request.init_from is not None:
        words += ["--init-from", request.init_from]
    if request.eval_every:
        words += ["--eval-every", str(request.eval_every), "--eval-games", str(request.eval_games)]
    if request.preset != "default":
        words += ["--preset", request.preset]
    for name in ("device", "precision", "workers"):
        words += [f"--{name}", str(getattr(compute, name))]
    for name in ("protocol", "view"):
        if getattr(request, name) is not None:
            words += [f"--{name}", str(getattr(request, name))]
    if request.env_kwargs:
        words += ["--env-kwargs", *arguments.words(request.env_kwargs)]
    for name, value in {**request.parts, **request.config}.items():
        words += [
            f"--{name.replace('_', '-')}",
            str(value).lower() if isinstance(value, bool) else str(value),
        ]
    return shlex.join(words)


def plan_text(
    info: dict[str, Any],
    cfg: Config,
    compute: Compute,
    speed: float | None,
    replay: str | None = None,
    apart: bool = False,
    machines: int = 1,
) -> str:
    """What is going to happen, in one block; `apart`: workers are processes; `machines`: on which they are."""
    protocol, target = info["protocol"], goal.from_info(info)
    frames = family(info["spec"]["kind"]).frames_per_step(protocol)
    rows = {
        "game": info["env"],
        "protocol": protocol_line(protocol),
        **({"input": reading} if (reading := spec_from(info).reading) else {}),
        "algorithm": f"{info['algo']}, preset {info['preset']}, {cfg.summary()}",
        **({"begins": init_from.line(info["init_from"])} if "init_from" in info else {}),
        **({"end games": failures.line(cfg.failures)} if cfg.failures else {}),
        **({"replay": replay} if replay else {}),
        **({"schedule": info["schedule"]} if cfg.has_schedules else {}),
        "device": describe(compute)
        + (", processes" if apart else "")
        + (f" on {machines} machines" if machines > 1 else "")
        + (f" ({compute.note})" if compute.note else ""),
        "steps": f"{info['steps']:,}" + (f" ({info['steps'] * frames:,.0f} frames)" if frames else ""),
        **({"until": f"{target.words()}, or those steps"} if target else {}),
        "at most" if target else "expected": (
            f"about {format_seconds(info['steps'] / speed)} at the measured {speed:,.0f} steps/s"
            if speed
            else "less than a minute"
            if spec_from(info).pixels or math.prod(spec_from(info).obs_shape) <= WIDE
            else "longer than such few steps usually take: observations are very wide"
        )
        + _then(info["after"]),
        **({"evaluated": evaluated_text(info, cfg)} if info.get("eval_every") else {}),
        "seed": str(info["seed"]),
    }
    return "\n".join(f"{key:>10}  {value}" for key, value in rows.items())


def evaluated_text(info: dict[str, Any], cfg: Config) -> str:
    """How often the agent is evaluated during the training in fact: only after a rollout, or an update."""
    every, games, rollouts = info["eval_every"], info["eval_games"], -(-info["steps"] // cfg.batch)
    count = min(rollouts, rollouts * cfg.batch // every)
    if every < cfg.batch:
        often = f"every {cfg.batch:,} steps, not {every:,}: once a rollout is the most"
    else:
        after = f", after the rollout of {cfg.batch:,} steps that reaches them" if every % cfg.batch else ""
        often = f"every {every:,} steps{after}"
    listed = f"; {LINES} are printed, eval/evaluations.csv has all" if count > LINES + 2 else ""
    return f"{often}: {count:,} time{'s' * (count != 1)}, {games:,} game{'s' * (games > 1)} each{listed}"


def _then(after: dict[str, Any]) -> str:
    """What follows the training, as it was asked for."""
    return f", then games{' and film' * after['film']}" if after["games"] else ""


def finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
