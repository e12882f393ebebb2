"""One training, from request to result: plan, create or reopen the run directory, train, evaluate, film.

`train` is the Python counterpart of `playfield train`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from functools import partial
from pathlib import Path
from typing import Any

from playfield import arguments as takes
from playfield import compute
from playfield.compute import Compute
from playfield.envs import hang
from playfield.envs.base import EnvSpec
from playfield.envs.names import default_algo, resolve
from playfield.envs.objects import named
from playfield.errors import DataError, UsageError
from playfield.replay import saved
from playfield.runs import checkpoint, fence, foreign, goal
from playfield.runs.algorithm import Algorithm, Config, Need
from playfield.runs.console import Say
from playfield.runs.info import NEEDED, is_run, read_info, run_to_resume, stored, write_info
from playfield.runs.lock import RunLock
from playfield.runs.output import lasting
from playfield.runs.preset_file import is_file, read_preset
from playfield.runs.run import Stopped
from playfield.training import init_from as begins
from playfield.training import meeting
from playfield.training.directory import make_directory, resuming, sweep
from playfield.training.plan import (
    algo_note,
    alone,
    command_line,
    info_for,
    lengthen,
    measure_speed,
    oddities,
    plan_text,
    remember,
    schedule_text,
    steps_of,
    went_on,
)
from playfield.training.prepare import Prepared, no_processes, prepare, remembered_workers, reopen
from playfield.training.processes import Pool, started, tell_threads
from playfield.training.rendezvous import meet
from playfield.training.request import Request, check_directory, check_values, sort_options
from playfield.training.result import Result as Result
from playfield.training.session import go
from playfield.training.waiting import measuring

logger = logging.getLogger(__name__)


@takes.checked(trust=takes.switch, say=takes.function, quiet=takes.switch)
def train(
    env: Any = None,
    algo: str | None = None,
    *,
    resume: str | Path | None = None,
    trust: bool = False,
    say: Say | None = None,
    quiet: bool = False,
    preset: str | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    target_score: float | None = None,
    target_games: int | None = None,
    seed: int | None = None,
    run: str | Path | None = None,
    init_from: str | Path | None = None,
    device: str | None = None,
    precision: str | None = None,
    workers: int | None = None,
    workers_as: str | None = None,
    nodes: int | None = None,
    rendezvous: str | None = None,
    protocol: str | None = None,
    view: str | None = None,
    env_kwargs: dict[str, Any] | None = None,
    env_timeout: float | None = None,
    parts: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    save_seconds: float | None = None,
    keep: int | None = None,
    eval_every: int | None = None,
    eval_games: int | None = None,
    tensorboard: bool | None = None,
    console: bool | None = None,
    games: int | None = None,
    film: bool | None = None,
    **more: Any,
) -> Result:
    """Train an agent or resume a run; ends with an evaluation over full games, a film and a learning curve.

    Args:
        env: `breakout`, `CartPole-v1`, any Gymnasium id; a class, a function that makes one environment, or an
            environment whose `spec` says how it was made. Leave out with `resume`.
        algo: name of the algorithm, such as `dqn`; None: `ppo`, on MountainCar `sarsa`, on Taxi, FrozenLake,
            CliffWalking and Blackjack `qlearning`.
        resume: a run directory to continue. Of the run's settings only `steps` (a new total), `target_score` and
            `target_games` may then change; an infinite `target_score` removes the target.
        trust: with `resume`: import the module of an environment `module:Id` that only the run's files name.
        say: called with each line of text for a person; None: silent. Where it cannot write (its file is closed or
            full, its reader gone) it is not called again, and training goes on.
        quiet: print nothing, not even progress.
        preset, steps, minutes, target_score, target_games, seed, run, init_from, device, precision, workers,
            workers_as, nodes, rendezvous, protocol, view, env_kwargs, env_timeout, parts, config, save_seconds, keep,
            eval_every, eval_games, tensorboard, console, games, film: see `Request`, which has the defaults.
        more: options of the algorithm and of the environment's protocol by their names on the command line, or by
            those of other libraries: `lr=1e-3`, `learning_rate=1e-3`, `sticky=0.25`.

    Returns:
        Directory, scores, final hash and files of the run.

    Raises:
        UsageError: an unknown name or option, or a value out of range.
        DataError: the run to resume is damaged, or another process trains it.
        DivergedError: weights, losses, observations or rewards are not finite.
        StorageError: writing failed.
        EnvError: the environment raised, or broke its contract.

    Example:
        >>> result = playfield.train("CartPole-v1", steps=100_000, lr=1e-3)
    """
    asked: dict[str, Any] = {
        "preset": preset,
        "steps": steps,
        "minutes": minutes,
        "target_score": target_score,
        "target_games": target_games,
        "seed": seed,
        "run": run,
        "init_from": init_from if init_from is None else str(init_from),
        "device": device,
        "precision": precision,
        "workers": workers,
        "workers_as": workers_as,
        "nodes": nodes,
        "rendezvous": rendezvous,
        "protocol": protocol,
        "view": view,
        "env_kwargs": env_kwargs,
        "env_timeout": env_timeout,
        "parts": parts,
        "config": config,
        "save_seconds": save_seconds,
        "keep": keep,
        "eval_every": eval_every,
        "eval_games": eval_games,
        "tensorboard": tensorboard,
        "console": False if quiet else console,
        "games": games,
        "film": film,
    }
    options = {name: value for name, value in asked.items() if value is not None}
    if env is not None:
        check_values({"env_kwargs": env_kwargs or {}})
        env, arguments = named(env, env_kwargs or {})
        options |= {"env_kwargs": arguments} if arguments else {}
    if algo is None and is_file(preset):
        algo = read_preset(Path(str(preset))).algo
    if algo is None and env is not None:
        algo = default_algo(env)
    check_values({"algo": algo or "ppo", **options})
    told = (lambda _line: None) if quiet or say is None else lasting(say)
    if resume is not None:
        check_directory("resume", resume)
        if env is not None:
            raise UsageError("the environment is part of the run and cannot be given with resume")
        with hang.limited(options.pop("env_timeout", None)):
            return _resume(Path(resume), told, trust, **options, **more)
    if env is None:
        raise UsageError("which environment? for example: playfield train breakout")
    assert algo is not None
    options = sort_options(algo, options, more)
    if "run" in options:
        options["run"] = Path(options["run"])
    request = Request(env=env, algo=algo, **options)
    goal.requested(request.target_score, request.target_games)
    with hang.limited(request.env_timeout):
        return _start(request, told)


def check_start(request: Request) -> Prepared:
    """What a new run needs. Raises as `prepare` does, and UsageError where there is a run already."""
    if request.steps is not None and request.minutes is not None:
        raise UsageError("give --steps or --minutes, not both")
    if request.run is not None and is_run(request.run):
        raise UsageError(f"{request.run} holds a run already: go on with `{resuming(request.run)}`")
    return prepare(request)


def _start(request: Request, say: Say) -> Result:
    ready = check_start(request)
    checkpoint.preflight(request.run or Path("runs"), 200_000_000)
    compute.setup()
    if note := resolve(request.env).note:
        say(note)
    tell_threads(request.workers_as, ready.workers_as, "", say)
    others = meet(meeting.asked(request.nodes, request.rendezvous), ready.compute, say)
    with started(ready.workers_as, request.algo, ready.spec, ready.cfg, ready.compute, say, others) as pool:
        return _start_with(pool, ready, say)


def _start_with(pool: Pool | None, ready: Prepared, say: Say) -> Result:
    request, module, cfg, spec, chosen = ready.request, ready.module, ready.cfg, ready.spec, ready.compute
    speed = None
    if request.minutes is not None or (request.console and (request.steps is None or request.steps > 20 * cfg.batch)):
        say("measuring the speed of this machine ...")
        try:
            with measuring(cfg, request.console):
                begin = None if pool is None else partial(pool.begin, request.algo)
                speed = measure_speed(module, cfg, spec, chosen, request.seed, begin)
        except Stopped as stop:
            stop.args = ("stopped before the training began; nothing was written",)
            raise
    steps, slow = steps_of(request, cfg, spec, speed)
    info = info_for(request, cfg, spec, chosen, steps, ready.begin)
    for odd in oddities(spec):
        logger.warning("note: %s", odd)
        if "seed" in odd:
            info["exact"] = False
    if pool is not None and pool.notes:
        info["exact"] = False
    if request.nodes > 1:
        info["nodes"] = request.nodes
    say(plan_text(info, cfg, chosen, speed, ready.need.line, pool is not None, request.nodes))
    for line in filter(None, (algo_note(request, spec), slow, *(ready.begin.notes if ready.begin else ()))):
        say(line)
    if steps < 10 * cfg.batch and cfg.learns:
        rollouts = -(-steps // cfg.batch)
        say(f"note: {steps:,} steps are only {rollouts} rollout{'s' * (rollouts > 1)}: too few to learn")
    if steps <= cfg.first_update:
        say(f"note: training ends before the first update, at step {cfg.first_update:,}: raise --steps")
    directory = make_directory(request, spec)
    with RunLock(directory):
        if is_run(directory):  # another process was faster
            raise UsageError(f"{directory} holds a run already: go on with `{resuming(directory)}`")
        run_fence = fence.enter(directory)
        cfg = cfg.keep(directory)
        if ready.begin is not None:
            begins.keep(directory, ready.begin)
        info["command"] = command_line(request, steps, chosen)
        write_info(directory, info)
        checkpoint.atomic_write(directory / "command.txt", info["command"] + "\n")
        checkpoint.atomic_write(directory / "config.json", json.dumps(info["config"], indent=2) + "\n")
        return go(directory, info, module, cfg, request, None, say, run_fence, pool)


def check_resume(
    resume: str | Path,
    trust: bool = False,
    steps: int | None = None,
    target_score: float | None = None,
    target_games: int | None = None,
    **options: Any,
) -> tuple[Compute, bool]:
    """Find what is wrong with a resume, as `train` does, and write nothing.

    Returns:
        How the run computes, and whether anything is left to train.
    """
    directory, info, _, target = _reopened(Path(resume), trust, target_score, target_games, options)
    folder, found = directory / "checkpoints", None
    if folder.is_dir() and checkpoint.checkpoints(folder):
        found = checkpoint.load(folder, ("run",), partial(foreign.check, info))
    total = _total(directory, info, steps, found.step if found else 0)
    return Compute(**info["compute"]), not _is_over(found, total, target)


def _reopened(
    directory: Path, trust: bool, target_score: float | None, target_games: int | None, options: dict[str, Any]
) -> tuple[Path, dict[str, Any], tuple[Algorithm, Config, EnvSpec, Need], goal.Goal | None]:
    """The directory, `run.json`, what `reopen` returns, and the target, of a run that is to go on."""
    fixed = {"save_seconds", "keep", "tensorboard", "console", "games", "film", "workers_as", "nodes", "rendezvous"}
    for name in options:
        if name not in fixed:
            raise UsageError(f"--{name.replace('_', '-')} is part of the run and cannot change with --resume")
    directory = run_to_resume(directory)
    # Refuse before anything is written: no lock where there is no run, no new total in a run that cannot go on.
    info = read_info(directory)
    if missing := NEEDED.difference(info):
        listed = ", ".join(sorted(missing))
        raise DataError(
            f"{directory / 'run.json'} cannot be resumed: it lacks {listed} (damaged, or of another version)"
        )
    saved.refuse_dropped(directory, info)
    meeting.asked(nodes := options.get("nodes", 1), options.get("rendezvous"))
    opened = reopen(directory, info, trust, options.get("workers_as"), nodes)
    return directory, info, opened, goal.changed(goal.from_info(info), target_score, target_games)


def _total(directory: Path, info: dict[str, Any], steps: int | None, done: int) -> int:
    """Total steps of a run that goes on. Raises UsageError where a new total is done already."""
    if steps is not None and steps != info["steps"] and steps <= done:
        raise UsageError(f"{directory} has done {done:,} steps already: --steps must be more")
    return int(info["steps"] if steps is None else steps)


def _is_over(found: checkpoint.Checkpoint | None, total: int, target: goal.Goal | None) -> bool:
    """Whether a run has nothing left to train at its last checkpoint."""
    if found is None:
        return False
    with stored("the checkpoint"):
        return found.step >= total or (target is not None and target.reached(found.tree["run"]["scores"]))


def _resume(
    directory: Path,
    say: Say,
    trust: bool,
    steps: int | None = None,
    target_score: float | None = None,
    target_games: int | None = None,
    **options: Any,
) -> Result:
    directory, _, opened, target = _reopened(directory, trust, target_score, target_games, options)
    with RunLock(directory) as lock:
        if lock.note:
            say(lock.note)
        run_fence = fence.enter(directory)
        sweep(directory)
        return _resume_locked(directory, say, opened, steps, target, options, run_fence)


def _resume_locked(
    directory: Path,
    say: Say,
    opened: tuple[Algorithm, Config, EnvSpec, Need],
    steps: int | None,
    target: goal.Goal | None,
    options: dict[str, Any],
    run_fence: fence.Fence,
) -> Result:
    compute.setup()
    info, before = read_info(directory), read_info(directory)
    found = checkpoint.take_over(directory / "checkpoints", saved.whole(directory, info))
    done = found.step if found else 0
    warnings = [f"skipped a damaged checkpoint: {reason}" for reason in found.skipped] if found else []
    if found is not None and (edits := foreign.changes(info, found)):
        warnings.append(f"no longer exact: changed by hand in {directory / 'run.json'}: {', '.join(edits)}")
        info["exact"] = False
    for line in warnings:
        logger.warning(line)
    module, cfg, spec, need = opened
    told = list[str]()
    if (total := _total(directory, info, steps, done)) != info["steps"]:
        told.append(lengthen(info, cfg, done, total))
    if line := goal.retarget(info, target, done):
        told.append(line)
    info.pop("diverged", None)  # it may do better now, with other steps
    for name in ("save_seconds", "keep"):
        if options.get(name) is None:
            options[name] = info.get(name, getattr(Request, name))
    remember(info, options)
    told += went_on(info, done)
    if need.line:
        told.append(f"replay: {need.line}")
    request = Request(env=spec.id, algo=info["algo"], seed=info["seed"], run=directory, **options)
    replayed = (
        "; the games under way are played again to where they were" if done and spec.family.replays_on_restore else ""
    )
    told.append(f"resuming {directory} at step {done:,} of {info['steps']:,}{replayed}")
    chosen, how, others = Compute(**info["compute"]), "threads", None
    if not _is_over(found, total, target):
        how = remembered_workers(info, info["algo"], cfg, chosen, request.nodes)
        others = meet(meeting.asked(request.nodes, request.rendezvous), chosen, say)
        tell_threads(request.workers_as, how, no_processes(info["algo"], cfg), say)
        if request.nodes == 1:
            told += alone(info, resuming(directory, info["env"]))
        else:
            info["nodes"] = request.nodes
    elif request.nodes > 1:
        say("nothing is left to train: no other machine is waited for")
    with started(how, info["algo"], spec, cfg, chosen, say, others) as pool:
        # Only now is anything written: where the other machines do not come the run is as it was.
        if pool is not None and pool.notes:
            info["exact"] = False
        if info != before:
            info["schedule"] = schedule_text(cfg, info["steps"])
            write_info(directory, info)
        for line in told:
            say(line)
        info |= {"schedule": schedule_text(cfg, info["steps"]), "spec": dataclasses.asdict(spec)}
        result = go(directory, info, module, cfg, request, found, say, run_fence, pool)
    return dataclasses.replace(result, warnings=(*warnings, *result.warnings))
