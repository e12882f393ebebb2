"""The time of a checkpoint with a replay memory in it, and without.

Two runs save the same network, target network and optimizer (Nature net: 20 MB of weights and moments, and 7 of the
target's). One of them has a replay memory too, which the agent that ships with playfield fills with Breakout; a save
writes what came into it since the save before. Both are saved in turn, on the disk of the current folder.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from playfield.bench._progress import Progress
from playfield.errors import UsageError

ENVS, NAMES = 16, {"without": "networks and optimizer", "with": "the same and a replay memory"}


def run(*, steps: int = 0, rounds: int = 0, capacity: int = 0, json: bool = False) -> dict[str, Any]:
    """Save both runs in turn; prints a table (with `json`, one JSON object).

    Args:
        steps: played between two saves (0: 12,000, which is a minute at 200 steps a second).
        rounds: saves of each run that count, after one that does not (0: 7).
        capacity: observations in the memory (0: 100,000).

    `ratio` is the time of a save with the memory over that without, the median over neighbouring saves.
    """
    from playfield import load_policy, make_envs
    from playfield.compute import choose, cores, setup
    from playfield.replay.buffer import Replay

    steps, rounds, capacity = steps or 12_000, rounds or 7, capacity or 100_000
    if steps % ENVS or capacity < 2 * steps:
        raise UsageError(f"--steps must be a multiple of {ENVS}, and --capacity at least twice as many")
    setup()
    env = make_envs("breakout", ENVS, threads=cores())
    compute = choose(num_envs=ENVS)
    policy, rng = load_policy("breakout"), np.random.default_rng(0)
    obs, written = env.reset(np.arange(ENVS)), 0
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    plan = {"play": f"playing {steps:,} steps and saving"}
    with tempfile.TemporaryDirectory(prefix=".playfield-bench-", dir=".") as folder:
        runs = {name: _networks(env.spec, Path(folder) / name, compute) for name in NAMES}
        lanes = Path(folder) / "with" / "replay"
        files: set[Path] = set()
        memory = Replay(env.spec, ENVS, capacity, np.random.SeedSequence(1), stack=4, packed=True, save_to=lanes)
        runs["with"].track("replay", memory)
        runs["with"].after_save.append(memory.saved)
        with Progress(["play"] * (rounds + 1), plan) as progress:
            for saved in range(rounds + 1):
                progress.begin()
                for _ in range(steps // ENVS):
                    actions = policy.act(obs, rng.random(ENVS))
                    step = env.step(actions)
                    memory.add(obs, actions, np.sign(step.reward), step)
                    obs = step.obs
                for name in list(NAMES) if saved % 2 else reversed(NAMES):
                    runs[name].step += steps
                    start = time.perf_counter()
                    runs[name].save()
                    seconds[name] += [time.perf_counter() - start] * (saved > 0)  # the first makes directories
                new = set(lanes.iterdir()) - files
                written, files = sum(file.stat().st_size for file in new), files | new
                progress.end()
        for each in runs.values():
            each.close()
    env.close()
    pairs = [b / a for a, b in zip(seconds["without"], seconds["with"], strict=True)]
    out = {
        "bench": "save",
        "env": "breakout",
        "steps": steps,
        "rounds": rounds,
        "capacity": capacity,
        "ratio": statistics.median(pairs),
        "ratio_min": min(pairs),
        "ratio_max": max(pairs),
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "replay_bytes": written,
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
        return out
    table = Table("a checkpoint of DQN on Breakout", "seconds (median)", "from", "to", box=None)
    for name, times in seconds.items():
        table.add_row(NAMES[name], *(f"{value:.3f}" for value in (statistics.median(times), min(times), max(times))))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    console.print(table)
    console.print(f"with / without: {out['ratio']:.2f} (pairs {min(pairs):.2f} to {max(pairs):.2f})")
    console.print(f"{steps:,} steps between two saves: {written / 1e6:.1f} MB of observations are written")
    return out


def _networks(spec: Any, directory: Path, compute: Any) -> Any:
    """A run that holds DQN's networks and optimizer, after one update."""
    import torch

    from playfield.algos import dqn
    from playfield.algos._actor import Target
    from playfield.nets.learner import Learner
    from playfield.runs.run import Run

    cfg = dqn.PRESETS["atari"]["nature"]
    info = {"env": "breakout", "algo": "dqn", "spec": spec, "seed": 1, "steps": 10**9, "protocol": spec.protocol}
    info |= {"compute": dataclasses.asdict(compute), "config": dataclasses.asdict(cfg)}
    run = Run(info, lambda n: None, directory)
    with run.seeded():
        net = dqn.network(spec, cfg)
    learner = Learner(net, lambda params: torch.optim.Adam(params, fused=True), compute, 0.0)
    run.track("learner", learner)
    run.track("target", Target(learner.replicas[0]))
    obs = torch.zeros((2, *spec.obs_shape), dtype=torch.uint8)
    learner.update(lambda k, replica: (replica(obs, None).sum(), None), 1e-4)
    return run
