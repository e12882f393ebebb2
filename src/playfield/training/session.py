"""One session of a run: training from where it stands, then evaluation and film."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

from playfield.compute import Compute
from playfield.errors import DivergedError, EnvError, StorageError
from playfield.runs import checkpoint, fence, goal
from playfield.runs.algorithm import Algorithm, Config
from playfield.runs.console import Say, format_scores, format_seconds
from playfield.runs.info import spec_from, write_info
from playfield.runs.logger import Sinks
from playfield.runs.run import WINDOW, Run, Stopped
from playfield.training import init_from as begins
from playfield.training.directory import kept, last_good, resuming
from playfield.training.extras import finish
from playfield.training.periodic import Periodic
from playfield.training.plan import envs_of, finite_or_none
from playfield.training.processes import Pool
from playfield.training.request import Request
from playfield.training.result import Result
from playfield.training.waiting import learn

logger = logging.getLogger(__name__)


def go(
    directory: Path,
    info: dict[str, Any],
    module: Algorithm,
    cfg: Config,
    request: Request,
    found: checkpoint.Checkpoint | None,
    say: Say,
    run_fence: fence.Fence,
    pool: Pool | None,
) -> Result:
    """Train, evaluate and film; the caller holds the directory's lock."""
    begin = begins.kept(directory, info)
    target = goal.from_info(info)
    sinks = Sinks(
        directory,
        info["env"],
        title=f"{info['algo']} on {info['env']}" + (f", until {target.words()}" if target else ""),
        total_steps=info["steps"],
        tensorboard=request.tensorboard,
        console=request.console,
    )
    spec = spec_from(info)
    make = envs_of(spec, Compute(**info["compute"]), cfg.failures)
    try:
        notes = sinks.resume(found.step if found else 0)
        whole, parts = {**info, "spec": spec}, found.tree["parts"] if found else ()
        group = None if pool is None else pool.begin(request.algo, whole, cfg, directory, request.keep, parts)
        run = Run(whole, make, directory, sinks, found, request.save_seconds, request.keep, None, begin, group)
        run.fence = run_fence
        if info.get("eval_every"):
            run.on_rollout = Periodic(directory, info, module, cfg, spec, run.step)
            run.on_close.append(run.on_rollout.close)
    except BaseException:
        sinks.close()
        raise
    for note in notes:
        logger.warning(note)
    try:
        learn(module, run, cfg, sinks)
        run.end()
        run_fence.check()
        final, seconds = run.final_hash(), run.seconds
        info["result"] = {"steps": run.step, "hash": final, "train_score": finite_or_none(run.score)}
        info["result"] |= {"games": run.games, "stop": run.stop, "seconds": round(seconds, 1)}
        write_info(directory, info)
    except Stopped as stop:
        again = resuming(directory, info["env"], request)
        stop.args = (f"stopped at step {run.step:,} and saved; go on with: {again}",)
        raise
    except DivergedError as error:
        info["diverged"] = {"step": run.step, "why": str(error)[:1000]}
        with contextlib.suppress(StorageError, fence.FencedError):  # what diverged is said in any case
            run.fence.check()
            write_info(directory, info)
        error.args = (f"{error} (at step {run.step:,}; {last_good(directory)})",)
        raise
    except EnvError as error:
        error.args = (f"{error} (at step {run.step:,}; {kept(directory, info['env'], request)})",)
        raise
    finally:
        run.close()  # what was trained is saved by then
    if pool is not None:
        pool.close()  # of what was raised above, `started` tells the other machines
    games = min(len(run.scores), WINDOW)
    mean = f"mean score of the last {games} games {format_scores(run.score)[0]}" if games else "no game ended"
    say(goal.closing(target, run.stop, run.step, run.total_steps, format_seconds(seconds), mean))
    evaluation, files, missing = finish(directory, info, request, say)
    notes += missing
    return Result(directory, run.step, seconds, run.score, final, evaluation, files, run.stop, tuple(notes))
