"""The replay memory: bytes for a transition, and how fast minibatches are drawn, plain and compressed.

Both memories hold the same games of Breakout, played by the agent that ships with playfield, and are drawn from in
turn: minibatches of 32 with stacks of 4 pictures before and after. With `fill` one compressed memory is filled to the
last slot, and what the process holds before and after says what it takes.
"""

from __future__ import annotations

import gc
import json as jsonlib
import statistics
import sys
import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from playfield.bench._progress import Progress
from playfield.errors import UsageError, unknown

BATCH, ENVS, FILL_ENVS = 32, 8, 16


def run(
    *,
    steps: int = 0,
    rounds: int = 0,
    capacity: int = 0,
    fill: bool = False,
    slots: int = 0,
    agent: str = "shipped",
    json: bool = False,
) -> dict[str, Any]:
    """Fill both memories and draw from them; prints a table (with `json`, one JSON object).

    Args:
        steps: minibatches drawn in each round (0: 500).
        rounds: rounds of each memory (0: 5).
        capacity: observations in each (0: 20,000). The peak memory of the process is reported.
        fill: instead, fill one compressed memory to the last slot and measure what it takes.
        slots: of that memory (0: 1,000,000).
        agent: who plays then: shipped, or random.

    `ratio` is the speed of the compressed memory over the plain one, the median over neighbouring rounds.
    """
    if fill:
        if steps or rounds or capacity:
            raise UsageError("--fill goes with --slots and --agent, not with --steps, --rounds or --capacity")
        return _full(slots or 1_000_000, agent, json)
    if slots or agent != "shipped":
        raise UsageError("--slots and --agent go with --fill")
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
    from playfield.replay.buffer import Replay

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


def _full(slots: int, agent: str, json: bool) -> dict[str, Any]:
    """Fill a compressed memory of `slots` observations by real play; the process's memory before and after."""
    from playfield import load_policy, make_envs
    from playfield.compute import cores, keep_memory, setup
    from playfield.play.policy import RandomPolicy
    from playfield.replay.budget import bytes_per_entry
    from playfield.replay.buffer import Replay

    if slots < 1000:
        raise UsageError("--slots must be at least 1000")
    if agent not in ("shipped", "random"):
        raise unknown("agent", agent, ("shipped", "random"))
    setup() if agent == "shipped" else keep_memory()  # the allocator as trainings have it, and torch on one thread
    env = make_envs("breakout", FILL_ENVS, threads=cores())
    told = sum(bytes_per_entry(env, True, 0.0))  # it plays a little
    policy = load_policy("breakout") if agent == "shipped" else RandomPolicy(env.spec)
    obs, rng = env.reset(np.arange(FILL_ENVS)), np.random.default_rng(0)
    for _ in range(20):  # what playing itself takes must not be counted
        obs = env.step(policy.act(obs, rng.random(FILL_ENVS))).obs
    before, start = _resident(), time.perf_counter()
    memory = Replay(env.spec, FILL_ENVS, slots, np.random.SeedSequence(1), stack=4, packed=True)
    with Progress(["fill"], {"fill": f"filling {slots:,} slots"}) as progress:
        progress.begin()
        while (memory.count < memory.size).any():
            actions = policy.act(obs, rng.random(FILL_ENVS))
            step = env.step(actions)
            memory.add(obs, actions, np.sign(step.reward), step)
            obs = step.obs
            if memory.count[0] % 100 == 0:
                progress.done(float(memory.count.min() / memory.size))
        progress.end()
    after, seconds = _resident(), time.perf_counter() - start
    env.close()
    slots = memory.entries
    out = {
        "bench": "replay",
        "env": "breakout",
        "fill": True,
        "agent": agent,
        "slots": slots,
        "rss_before": before,
        "rss_after": after,
        "bytes_per_slot": (after - before) / slots,
        "counted_bytes_per_slot": memory.nbytes / slots,
        "estimated_bytes_per_slot": told,
        "seconds": seconds,
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        took = after - before
        print(f"{slots:,} slots of Breakout, compressed, filled by the {agent} agent in {seconds:,.0f} s")
        print(f"memory of the process: {before / 1e9:.2f} GB before, {after / 1e9:.2f} GB after: {took / 1e9:.2f} GB")
        print(
            f"a slot: {took / slots:,.0f} bytes measured, {memory.nbytes / slots:,.0f} counted, {told:,.0f} estimated"
        )
    return out


def _resident() -> int:
    """Bytes of memory that this process holds now; where the system does not say, the most it has held."""
    gc.collect()
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return _peak()


def _peak() -> int:
    """Most bytes that this process has held; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
