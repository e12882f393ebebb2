"""The replay memory: bytes for a transition, and how fast minibatches are drawn, plain and compressed.

Both memories hold the same games of Breakout, played by the agent that ships with playfield, and are drawn from in
turn: minibatches of 32 with stacks of 4 pictures before and after.
"""

from __future__ import annotations

import json as jsonlib
import statistics
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from playfield.bench._progress import Progress
from playfield.errors import UsageError

BATCH, ENVS = 32, 8


def run(*, steps: int = 0, rounds: int = 0, capacity: int = 0, json: bool = False) -> dict[str, Any]:
    """Fill both memories and draw from them; prints a table (with `json`, one JSON object).

    Args:
        steps: minibatches drawn in each round (0: 500).
        rounds: rounds of each memory (0: 5).
        capacity: observations in each (0: 20,000). The peak memory of the process is reported.

    `ratio` is the speed of the compressed memory over the plain one, the median over neighbouring rounds.
    """
    draws, rounds, capacity = steps or 500, rounds or 5, capacity or 20_000
    if capacity < 1000:
        raise UsageError("--capacity must be at least 1000")
    names = {"plain": "plain, each picture once", "packed": "compressed (LZ4)"}
    speeds: dict[str, list[float]] = {name: [] for name in names}
    plan = ["fill", *[name for _ in range(rounds) for name in names]]
    with Progress(plan, {"fill": f"playing {capacity:,} steps", **names}) as progress:
        progress.begin()
        memories = _fill(capacity, progress)
        progress.end()
        for _ in range(rounds):
            for name, memory in memories.items():
                progress.begin()
                start = time.perf_counter()
                for _ in range(draws):
                    memory.sample(BATCH)
                speeds[name].append(draws * BATCH / (time.perf_counter() - start))
                progress.end()
    pairs = [b / a for a, b in zip(speeds["plain"], speeds["packed"], strict=True)]
    out = {
        "bench": "replay",
        "env": "breakout",
        "capacity": capacity,
        "ratio": statistics.median(pairs),
        "ratio_min": min(pairs),
        "ratio_max": max(pairs),
        "bytes_per_transition": memories["plain"].nbytes / memories["plain"].entries,
        "compressed_bytes_per_transition": memories["packed"].nbytes / memories["packed"].entries,
        "transitions_per_second": {name: statistics.median(speed) for name, speed in speeds.items()},
        "peak_rss": _peak(),
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        table = Table("replay memory, Breakout", "bytes a transition", "1,000,000 take", "drawn a second", box=None)
        for name, memory in memories.items():
            each = memory.nbytes / memory.entries
            speed = f"{statistics.median(speeds[name]):,.0f}"
            table.add_row(names[name], f"{each:,.0f}", f"{each / 1000:.2f} GB", speed)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
        console.print(table)
        spread = f"pairs {min(pairs):.2f} to {max(pairs):.2f}"
        console.print(f"compressed / plain: {out['ratio']:.2f} of the speed ({spread})")
        console.print(
            f"peak memory of this process with both: {_peak() / 1e9:.2f} GB; {capacity:,} observations each"
        )
    return out


def _fill(capacity: int, progress: Progress) -> dict[str, Any]:
    """The same games in both memories, until both are full."""
    from playfield import load_policy, make_envs
    from playfield.replay import Replay

    env = make_envs("breakout", ENVS)
    policy = load_policy("breakout")
    memories = {
        name: Replay(env.spec, ENVS, capacity, np.random.SeedSequence(1), stack=4, packed=name == "packed")
        for name in ("plain", "packed")
    }
    obs, rng = env.reset(np.arange(ENVS)), np.random.default_rng(0)
    total = -(-capacity // ENVS)
    for t in range(total):
        actions = policy.act(obs, rng.random(ENVS))
        step = env.step(actions)
        for memory in memories.values():
            memory.add(obs, actions, np.sign(step.reward), step)
        obs = step.obs
        if t % 100 == 99:
            progress.done((t + 1) / total)
    env.close()
    return memories


def _peak() -> int:
    """Most bytes that this process has held; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
