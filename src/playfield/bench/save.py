"""The time of a checkpoint with a replay buffer and without.

Two runs save the same network, target network and optimizer (Nature net: 20 MB of weights and moments, and 7 MB of
the target network). One of them also has a replay buffer, filled with Breakout played by the agent that ships with
playfield; a save writes what was added since the previous one. Both are saved in turn, on the disk of the current
directory.
"""

from __future__ import annotations

import json as jsonlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from playfield.algos import dqn
from playfield.algos._actor import Target
from playfield.bench._progress import Progress
from playfield.bench._run import measured_run
from playfield.bench._sides import plain_console, ratio_line, spread
from playfield.compute import Compute, choose, cores, setup
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets.learner import Learner
from playfield.nets.optimizers import Adam
from playfield.play.agent import load_policy
from playfield.replay.buffer import Replay
from playfield.runs.run import Run

ENVS, NAMES = 16, {"without": "networks and optimizer", "with": "networks, optimizer and replay buffer"}


def run(*, steps: int = 0, rounds: int = 0, capacity: int = 0, json: bool = False) -> dict[str, Any]:
    """Save both runs in turn; prints a table (with `json`, one JSON object).

    Args:
        steps: environment steps between two saves (0: 12,000, which is a minute at 200 steps per second).
        rounds: saves of each run that are measured, after one of warm-up (0: 7).
        capacity: size of the replay buffer, observations (0: 100,000).

    `ratio` is the time of a save with the replay buffer over that without, the median over consecutive saves.

    Raises UsageError for sizes that do not fit together.
    """
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
        segments = Path(folder) / "with" / "replay"
        files: set[Path] = set()
        replay = Replay(env.spec, ENVS, capacity, np.random.SeedSequence(1), stack=4, packed=True, save_to=segments)
        runs["with"].track("replay", replay)
        runs["with"].after_save.append(replay.saved)
        with Progress(["play"] * (rounds + 1), plan) as progress:
            for saved in range(rounds + 1):
                progress.begin()
                for _ in range(steps // ENVS):
                    actions = policy.choose(obs, rng.random(ENVS))
                    step = env.step(actions)
                    replay.add(obs, actions, np.sign(step.reward), step)
                    obs = step.obs
                for name in list(NAMES) if saved % 2 else reversed(NAMES):
                    runs[name].step += steps
                    start = time.perf_counter()
                    runs[name].save()
                    seconds[name] += [time.perf_counter() - start] * (saved > 0)  # the first one creates directories
                new = set(segments.iterdir()) - files
                written, files = sum(file.stat().st_size for file in new), files | new
                progress.end()
        for each in runs.values():
            each.close()
    env.close()
    out: dict[str, Any] = {
        "bench": "save",
        "env": "breakout",
        "steps": steps,
        "rounds": rounds,
        "capacity": capacity,
        **spread("ratio", seconds["with"], seconds["without"]),
        "seconds": {name: statistics.median(times) for name, times in seconds.items()},
        "replay_bytes": written,
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
        return out
    table = Table("checkpoint of DQN on Breakout", "seconds (median)", "min", "max", box=None)
    for name, times in seconds.items():
        table.add_row(NAMES[name], *(f"{value:.3f}" for value in (statistics.median(times), min(times), max(times))))
    console = plain_console()
    console.print(table)
    console.print(ratio_line("with / without the replay buffer", "ratio", out))
    console.print(f"{steps:,} steps between two saves: {written / 1e6:.1f} MB of observations written per save")
    return out


def _networks(spec: EnvSpec, directory: Path, compute: Compute) -> Run:
    """A run with DQN's networks and optimizer, after one update."""
    cfg = dqn.PRESETS["atari"]["nature"]
    run = measured_run("dqn", cfg, spec, compute, 10**9, directory=directory)
    with run.seeded():
        net = dqn.network(spec, cfg)
    learner = Learner(net, lambda params: Adam(params, 1e-3), compute, 0.0)
    run.track("learner", learner)
    run.track("target", Target(learner.replicas[0]))
    obs = torch.zeros((2, *spec.obs_shape), dtype=torch.uint8)
    learner.update(lambda k, replica: (replica(obs, None).sum(), None), 1e-4)
    return run
