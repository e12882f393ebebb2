"""What more workers cost: PPO on Breakout, CleanRL's sizes but 16 environments or more, as threads and processes.

Processor time is that of all workers together. On a machine with fewer cores than workers they take turns: what
caches lose by that is part of the processor time, and no speed is told, since it would say nothing. What a machine
with a core for each worker would do is predicted from the processor time. Both kinds end with the same bits, which
is checked. Starting the processes does not count.

What small shares cost is told apart from what taking turns costs: one worker trains alone with its part of the
environments and of each minibatch. It waits for nobody and adds no gradients of others, but it updates all weights.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import math
import os
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.table import Table

from playfield.algos import ppo
from playfield.bench._progress import Progress
from playfield.bench._run import breakout_spec, measured_run
from playfield.bench._sides import plain_console
from playfield.compute import choose, cores, setup
from playfield.errors import PlayfieldError, UsageError, unknown
from playfield.runs.run import Run
from playfield.training.processes import Pool

ENVS = 16
STEPS = 4096  # of a measurement, or somewhat more: whole rollouts
WORKERS = (1, 2, 4, 8, 16)
ALONE = "alone"  # beside the kinds of workers
ASSUMED = (
    "predicted: for a core for each worker, if nothing but processor time limits. A share alone takes no turns, adds "
    "no gradients and waits for nobody, but updates all weights. How the interpreter's lock limits threads: "
    "docs/design/workers.md"
)
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


def run(
    *, steps: int = 0, rounds: int = 0, num_envs: int = 0, preset: str = "cleanrl", json: bool = False
) -> dict[str, Any]:
    """Train with each number and kind of workers in turn; prints a table (with `json`, one JSON object).

    Args:
        steps: of each measurement, after a rollout of warm-up (0: two rollouts, or more up to some 4,096 steps).
        rounds: measurements of each (0: 3).
        num_envs: environments, which all numbers of workers share equally (0: 16). Minibatches grow with them.
        preset: one of PPO's for Atari games.

    Raises UsageError where there is no such preset or `steps` is no whole number of rollouts, PlayfieldError where
    bits differ.
    """
    if preset not in ppo.PRESETS["atari"]:
        raise unknown("preset", preset, ppo.PRESETS["atari"])
    num_envs = num_envs or ENVS
    batch = _config(preset, num_envs).batch
    steps, rounds = steps or batch * max(2, math.ceil(STEPS / batch)), rounds or 3
    if steps % batch:
        raise UsageError(f"--steps must be a multiple of {batch:,}, a rollout")
    if not Path("/proc/self/stat").exists():
        raise UsageError("this system does not tell the processor time of other processes: bench scaling needs Linux")
    setup()
    counts = [n for n in WORKERS if num_envs % n == 0]
    sides = [(n, kind) for n in counts for kind in ("threads", "processes", ALONE) if n > 1 or kind == "threads"]
    names = {f"{n} {kind}": _name(n, kind) for n, kind in sides}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    order = [side for n in range(rounds) for side in (list(reversed(sides)) if n % 2 else sides)]
    with Progress([f"{n} {kind}" for n, kind in order], names) as progress:
        for n, kind in order:
            progress.begin()
            share = (1, "threads", steps, num_envs // n) if kind == ALONE else (n, kind, steps, num_envs)
            found[f"{n} {kind}"].append(_measure(*share, preset))
            progress.end()
    for n in counts:
        if len({one["hash"] for side in (f"{n} threads", f"{n} processes") for one in found.get(side, [])}) > 1:
            raise PlayfieldError(f"{n} workers ended with other bits as threads than as processes")
    table = {
        name: {key: statistics.median(one[key] for one in values) for key in ("processor_ms", "speed")}
        for name, values in found.items()
    }
    out: dict[str, Any] = {
        "bench": "scaling",
        "steps": steps,
        "rounds": rounds,
        "num_envs": num_envs,
        "preset": preset,
        "cores": cores(),
    }
    out["assumed"] = ASSUMED
    out["sides"] = told = with_predictions(table, cores())
    if json:
        print(jsonlib.dumps(out, indent=1))
        return out
    columns = ("processor time\nof 1,000 steps", "steps/s", "efficiency", "predicted:\nsteps/s", "\nefficiency")
    what = "PPO on breakout" if preset == "default" else f"PPO on breakout (--preset {preset})"
    shown = Table(f"{what}, {num_envs} environments, {cores()} cores", *columns, box=None)
    for name, side in told.items():
        predicted = side["predicted"]
        speeds = (side["speed"], side["efficiency"], predicted["speed"], predicted["efficiency"])
        shown.add_row(names[name], f"{side['processor_ms']:,.0f} ms", *map(_cell, speeds, (",.0f", ".2f") * 2))
    console = plain_console()
    console.print(shown)
    console.print(ASSUMED, soft_wrap=True)
    return out


def with_predictions(table: Mapping[str, Mapping[str, float]], cores: int) -> dict[str, dict[str, Any]]:
    """Measurements with the speed and efficiency that a core for each worker would give, if nothing else limits.

    Args:
        table: by side, as in "2 threads": processor time of all workers together in `processor_ms` for 1,000 steps,
            `speed` in steps per second. "1 threads" is one of them.
        cores: of the machine that measured.

    Returns:
        By side `processor_ms`, `speed` and `efficiency` as they were measured, which are None where workers outnumber
        the cores and for a share alone, and `predicted` with both. The efficiency of n workers is their speed over n
        times that of one.
    """
    one = table["1 threads"]
    told: dict[str, dict[str, Any]] = {}
    for name, side in table.items():
        n, kind = int(name.split()[0]), name.split()[1]
        speed = side["speed"] if n <= cores and kind != ALONE else None
        told[name] = {
            "processor_ms": side["processor_ms"],
            "speed": speed,
            "efficiency": speed and speed / (n * one["speed"]),
            "predicted": {
                "speed": 1e6 * n / side["processor_ms"],
                "efficiency": one["processor_ms"] / side["processor_ms"],
            },
        }
    return told


def _name(workers: int, kind: str) -> str:
    if kind == ALONE:
        return f"one's share of {workers}, alone"
    return f"{workers} worker{'s' * (workers > 1)}, {kind}"


def _cell(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _config(preset: str, num_envs: int) -> ppo.Config:
    return dataclasses.replace(ppo.PRESETS["atari"][preset], num_envs=num_envs)


def _measure(workers: int, kind: str, steps: int, num_envs: int, preset: str) -> dict[str, Any]:
    """Processor time of all workers, ms for 1,000 steps; steps per second; the final hash."""
    cfg = _config(preset, num_envs)
    chosen, spec = choose("cpu", workers=workers, num_envs=num_envs), breakout_spec()
    marks: list[tuple[float, float]] = []
    pool = Pool(workers) if kind == "processes" else None
    pids = [] if pool is None else pool.pids

    def tick(_: Run) -> None:
        marks.append((time.process_time() + sum(map(_processor_seconds, pids)), time.perf_counter()))

    try:
        more: dict[str, Any] = {"on_rollout": tick}
        if pool is not None:
            pool.ready("ppo", spec)
            info = measured_run("ppo", cfg, spec, chosen, steps + cfg.batch).info
            more["group"] = pool.begin("ppo", info, cfg)
        made = measured_run("ppo", cfg, spec, chosen, steps + cfg.batch, **more)
        try:
            ppo.train(made, cfg)
            final = made.final_hash()
        finally:
            made.close()
    finally:
        if pool is not None:
            pool.close()
    (before, start), (after, end) = marks[0], marks[-1]
    return {"processor_ms": 1e6 * (after - before) / steps, "speed": steps / (end - start), "hash": final}


def _processor_seconds(pid: int) -> float:
    """Processor time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
