"""Which carries more trainings: one at a time with a worker for each core, or one for each core with one worker.

An experiment runs as many trainings at once as there are cores (`playfield compare --jobs`); this measures whether
that is right on a machine, with whole trainings in processes of their own.
"""

from __future__ import annotations

import json as jsonlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.table import Table

from playfield.bench._progress import Progress
from playfield.bench._sides import plain_console, ratio_line, spread
from playfield.compute import cores
from playfield.envs.names import resolve
from playfield.errors import PlayfieldError, UsageError
from playfield.experiments.job import Job
from playfield.experiments.places import Local
from playfield.runs import catalog


def run(
    *, env: str = "breakout", algo: str = "ppo", steps: int = 0, rounds: int = 0, seed: int = 1, json: bool = False
) -> dict[str, Any]:
    """Train both ways in turn; prints a table (with `json`, one JSON object).

    Args:
        env, algo: what is trained.
        steps: of each training (0: 24,576; 200,000 where an environment is quick).
        rounds: measurements of each way (0: 3).
        seed: of the trainings.

    `ratio` is the speed of one-worker trainings together, in steps per second of all, over that of one training with
    a worker for each core: the median over rounds. Starting a process does not count.

    Raises UsageError on a machine with one core, PlayfieldError where a training fails.
    """
    found = resolve(env)
    if algo not in catalog.algorithms():
        raise UsageError(f"no algorithm called {algo!r}: choose from {', '.join(catalog.algorithms())}")
    most = cores()
    if most < 2:
        raise UsageError("this machine has one core: one training at a time is all that it carries")
    steps = steps or (24_576 if found.family.short_training_steps < 20_000 else 200_000)
    rounds = rounds or 3
    ways = {"many": (most, 1), "one": (1, most)}
    labels = {
        "many": f"{most} trainings at once, one worker each",
        "one": f"one training, {most} workers",
    }
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    order = [way for n in range(rounds) for way in (list(ways) if n % 2 else reversed(ways))]
    with (
        tempfile.TemporaryDirectory(prefix=".playfield-bench-", dir=".") as folder,
        Progress(order, labels) as progress,
    ):
        for n, way in enumerate(order):
            progress.begin()
            speeds[way].append(_speed(env, algo, steps, seed, Path(folder) / str(n), *ways[way]))
            progress.end()
    out: dict[str, Any] = {
        "bench": "jobs",
        "env": found.id,
        "algo": algo,
        "steps": steps,
        "rounds": rounds,
        "cores": most,
        **spread("ratio", speeds["many"], speeds["one"]),
        "steps_per_second": {way: statistics.median(found) for way, found in speeds.items()},
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
        return out
    table = Table(f"{algo} on {found.id}", "steps/s of all (median)", "min", "max", box=None)
    for way, values in speeds.items():
        table.add_row(labels[way], *(f"{v:,.0f}" for v in (statistics.median(values), min(values), max(values))))
    console = plain_console()
    console.print(table)
    console.print(ratio_line("many / one", "ratio", out))
    return out


def _speed(env: str, algo: str, steps: int, seed: int, folder: Path, count: int, workers: int) -> float:
    """Steps per second of `count` trainings together."""
    words = (env, "--workers", str(workers), "--algo", algo)
    place = Local()
    started = [place.start(Job(env, algo, words, seed + n, steps, folder / str(n))) for n in range(count)]
    try:
        while any(place.look(one).running for one in started):
            time.sleep(0.1)
    except BaseException:
        for one in started:
            place.stop(one, kill=True)
        raise
    finally:
        outcomes = [place.collect(one) for one in started]
    for outcome in outcomes:
        if outcome.code or outcome.result is None:
            raise PlayfieldError(f"a training ended with exit code {outcome.code}: {outcome.line}")
    return sum(float(o.result["steps"]) / float(o.result["seconds"]) for o in outcomes if o.result)
