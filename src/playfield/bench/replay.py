"""The replay buffer: bytes per transition and sampling speed, plain and compressed.

Both buffers hold the same games of Breakout, played by the agent that ships with playfield, and are sampled in turn:
minibatches of 32 transitions with stacks of 4 frames (obs and next_obs). With `fill`, one compressed buffer is filled
completely, and the memory of the process is measured before and after.
"""

from __future__ import annotations

import gc
import json as jsonlib
import statistics
import sys
import time
from typing import Any

import numpy as np
from rich.table import Table

from playfield.bench._progress import Progress
from playfield.bench._sides import plain_console, ratio_line, spread
from playfield.compute import cores, keep_memory, setup
from playfield.envs import make_envs
from playfield.errors import UsageError, unknown
from playfield.play.agent import load_policy
from playfield.play.policy import RandomPolicy
from playfield.replay.budget import bytes_per_entry
from playfield.replay.buffer import Replay

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

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
    """Fill both buffers and sample from them; prints a table (with `json`, one JSON object).

    Args:
        steps: minibatches per measurement (0: 500).
        rounds: measurements of each buffer (0: 5).
        capacity: size of each buffer, observations (0: 20,000). The peak memory of the process is reported.
        fill: instead, fill one compressed buffer completely and measure the memory of the process.
        slots: size of that buffer, observations (0: 1,000,000).
        agent: which agent plays for it: `shipped` or `random`.

    `ratio` is the speed of the compressed buffer over the plain one, the median over consecutive measurements.

    Raises UsageError for options that do not go together, or a buffer that is too small.
    """
    if fill:
        if steps or rounds or capacity:
            raise UsageError("--fill goes with --slots and --agent, not with --steps, --rounds or --capacity")
        return _full(slots or 1_000_000, agent, json)
    if slots or agent != "shipped":
        raise UsageError("--slots and --agent go with --fill")
    minibatches, rounds, capacity = steps or 500, rounds or 5, capacity or 20_000
    if capacity < 1000:
        raise UsageError("--capacity must be at least 1000")
    names = {"plain": "plain, each frame stored once", "packed": "compressed (LZ4)"}
    speeds: dict[str, list[float]] = {name: [] for name in names}
    plan = ["fill", *[name for _ in range(rounds) for name in names]]
    with Progress(plan, {"fill": f"playing {capacity:,} steps", **names}) as progress:
        progress.begin()
        buffers = _fill(capacity, progress)
        progress.end()
        for _ in range(rounds):
            for name, buffer in buffers.items():
                progress.begin()
                start = time.perf_counter()
                for _ in range(minibatches):
                    buffer.sample(BATCH)
                speeds[name].append(minibatches * BATCH / (time.perf_counter() - start))
                progress.end()
    out: dict[str, Any] = {
        "bench": "replay",
        "env": "breakout",
        "capacity": capacity,
        **spread("ratio", speeds["packed"], speeds["plain"]),
        "bytes_per_transition": buffers["plain"].nbytes / buffers["plain"].entries,
        "compressed_bytes_per_transition": buffers["packed"].nbytes / buffers["packed"].entries,
        "transitions_per_second": {name: statistics.median(speed) for name, speed in speeds.items()},
        "peak_rss": _peak(),
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        table = Table("replay buffer, Breakout", "bytes/transition", "size of 1,000,000", "transitions/s", box=None)
        for name, buffer in buffers.items():
            each = buffer.nbytes / buffer.entries
            speed = f"{statistics.median(speeds[name]):,.0f}"
            table.add_row(names[name], f"{each:,.0f}", f"{each / 1000:.2f} GB", speed)
        console = plain_console()
        console.print(table)
        console.print(ratio_line("sampling speed, compressed / plain", "ratio", out))
        console.print(
            f"peak memory of this process with both: {_peak() / 1e9:.2f} GB; {capacity:,} observations each"
        )
    return out


def _fill(capacity: int, progress: Progress) -> dict[str, Replay]:
    """A plain and a compressed buffer, filled with the same games."""
    env = make_envs("breakout", ENVS)
    policy = load_policy("breakout")
    buffers = {
        name: Replay(env.spec, ENVS, capacity, np.random.SeedSequence(1), stack=4, packed=name == "packed")
        for name in ("plain", "packed")
    }
    obs, rng = env.reset(np.arange(ENVS)), np.random.default_rng(0)
    total = -(-capacity // ENVS)
    for t in range(total):
        actions = policy.choose(obs, rng.random(ENVS))
        step = env.step(actions)
        for buffer in buffers.values():
            buffer.add(obs, actions, np.sign(step.reward), step)
        obs = step.obs
        if t % 100 == 99:
            progress.done((t + 1) / total)
    env.close()
    return buffers


def _full(slots: int, agent: str, json: bool) -> dict[str, Any]:
    """Fill a compressed buffer of `slots` observations by playing; measure the process's memory before and after."""
    if slots < 1000:
        raise UsageError("--slots must be at least 1000")
    if agent not in ("shipped", "random"):
        raise unknown("agent", agent, ("shipped", "random"))
    setup() if agent == "shipped" else keep_memory()  # the same allocator settings as in training
    env = make_envs("breakout", FILL_ENVS, threads=cores())
    estimated = sum(bytes_per_entry(env, True, 0.0))  # plays some steps
    policy = load_policy("breakout") if agent == "shipped" else RandomPolicy(env.spec)
    obs, rng = env.reset(np.arange(FILL_ENVS)), np.random.default_rng(0)
    for _ in range(20):  # memory that playing itself takes is not counted
        obs = env.step(policy.choose(obs, rng.random(FILL_ENVS))).obs
    before, start = _resident(), time.perf_counter()
    buffer = Replay(env.spec, FILL_ENVS, slots, np.random.SeedSequence(1), stack=4, packed=True)
    with Progress(["fill"], {"fill": f"filling {slots:,} slots"}) as progress:
        progress.begin()
        while (buffer.count < buffer.size).any():
            actions = policy.choose(obs, rng.random(FILL_ENVS))
            step = env.step(actions)
            buffer.add(obs, actions, np.sign(step.reward), step)
            obs = step.obs
            if buffer.count[0] % 100 == 0:
                progress.done(float(buffer.count.min() / buffer.size))
        progress.end()
    after, seconds = _resident(), time.perf_counter() - start
    env.close()
    slots = buffer.entries
    out = {
        "bench": "replay",
        "env": "breakout",
        "fill": True,
        "agent": agent,
        "slots": slots,
        "rss_before": before,
        "rss_after": after,
        "bytes_per_slot": (after - before) / slots,
        "counted_bytes_per_slot": buffer.nbytes / slots,
        "estimated_bytes_per_slot": estimated,
        "seconds": seconds,
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        took = after - before
        print(f"{slots:,} slots of Breakout, compressed, filled by the {agent} agent in {seconds:,.0f} s")
        print(f"memory of the process: {before / 1e9:.2f} GB before, {after / 1e9:.2f} GB after: {took / 1e9:.2f} GB")
        print(
            f"bytes per slot: {took / slots:,.0f} measured, {buffer.nbytes / slots:,.0f} counted, "
            f"{estimated:,.0f} estimated"
        )
    return out


def _resident() -> int:
    """Resident memory of this process, bytes; its peak where the system does not report the current value."""
    gc.collect()
    try:
        with open("/proc/self/status", encoding="utf-8") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))
    except (OSError, StopIteration):
        return _peak()


def _peak() -> int:
    """Peak resident memory of this process, bytes; 0 where the system does not report it."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
