"""Memory and disk that a replay buffer takes; refuse what does not fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
import torch
from torch import Tensor, nn

from playfield.compute import free_memory
from playfield.envs.base import EnvSpec, VectorEnv
from playfield.errors import StorageError, UsageError
from playfield.nets import bodies
from playfield.nets.layers import Pixels
from playfield.runs.storage import free_disk


def bytes_each(env: VectorEnv, packed: bool, alpha: float) -> tuple[float, float]:
    """Bytes that a replay memory takes for each entry: its observation, and all else.

    What compressed observations take is measured on 200 random steps of `env`, and half of it is added, since trained
    agents see more varied pictures (a very good one of Breakout needs 1.4 times as much).
    """
    rest = 6 + 32 * bool(alpha)  # action, reward, kind; the tree of priorities, at most
    if not (packed and env.spec.pixels):
        size = math.prod(env.spec.obs_shape) * np.dtype(env.spec.obs_dtype).itemsize
        return size / env.spec.stack, rest
    rng, obs, sizes = np.random.default_rng(0), env.reset(np.arange(env.num_envs)), []
    for _ in range(200):
        sizes += [len(lz4.block.compress(np.ascontiguousarray(one), store_size=False)) for one in obs]
        obs = env.step(rng.integers(env.spec.num_actions, size=env.num_envs)).obs
    return 1.5 * float(np.mean(sizes)) + 41, rest


def drawn_bytes(spec: EnvSpec, net: str, count: int) -> int:
    """Bytes that a round of learning takes for `count` transitions drawn at once, beside the replay memory.

    Those are the observation, the one that follows, and what the target network makes of that: the input of its
    largest layer, and twice the output (before and after an activation).
    """
    sizes = [0]

    def widest(_module: nn.Module, args: Any, output: Tensor) -> None:
        sizes.append(4 * (args[0].numel() + 2 * output.numel()))

    with torch.device("meta"), torch.no_grad():
        body = bodies.make(net, spec.obs_shape)
        for module in body.modules():
            if not list(module.children()) or isinstance(module, Pixels):
                module.register_forward_hook(widest)
        body(torch.empty((1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype)))
    return count * (2 * math.prod(spec.obs_shape) * np.dtype(spec.obs_dtype).itemsize + max(sizes))


def memory_line(
    env: VectorEnv, capacity: int, packed: bool, alpha: float, mapped: Path | None = None, drawn: int = 0
) -> str:
    """The words of `memory_need`."""
    return memory_need(env, capacity, packed, alpha, mapped, drawn)[2]


def memory_need(
    env: VectorEnv, capacity: int, packed: bool, alpha: float, mapped: Path | None = None, drawn: int = 0
) -> tuple[float, float, str]:
    """What a replay memory of `capacity` observations takes: bytes of memory, bytes of the disk, both in words.

    Args:
        mapped: where its observations lie in a file; None: in memory.
        drawn: bytes that a round of learning takes besides (`drawn_bytes`).

    Raises UsageError when it does not fit into the memory that is free, StorageError when not on that disk.
    """
    packed = packed and env.spec.pixels and mapped is None
    obs, rest = bytes_each(env, packed, alpha)
    each, line, disk = obs + rest, f"{capacity:,} observations", 0.0
    if mapped is not None:
        disk = capacity * obs
        line += f" in a mapped file of {disk / 1e9:.2f} GB on the disk, and"
        room = free_disk(mapped)
        if disk > 0.95 * room:
            fits = int(0.95 * room / obs) // 1000 * 1000
            hint = f"use --capacity {fits} or another disk (--run)" if fits else "use another disk (--run)"
            told = f"a replay memory of {capacity:,} observations needs {disk / 1e9:.2f} GB on the disk"
            raise StorageError(f"{told} of {mapped}: {room / 1e9:.2f} GB are free; {hint}")
        each = rest
    else:
        line += ","
    need, free = round(capacity * each), free_memory()
    line += f" about {need / 1e9:.2f} GB{' compressed' if packed else ' of memory' if mapped else ''}"
    if drawn >= 5e6:
        line += f", and {drawn / 1e9:.2f} GB for what a round draws"
    if free is not None and need + drawn > 0.9 * free:
        fits = int((0.9 * free - drawn) / each) // 1000 * 1000
        hints = [f"--capacity {fits}"] * (fits > 0)
        if need > 0.1 * free:  # else there is nothing to be gained from it
            hints += ["--packed true"] * (env.spec.pixels and not packed and mapped is None)
            hints += ["--mmap true"] * (mapped is None)
        hints += ["a smaller --batch-size or --rollout-steps"] * (drawn > 0.1 * free)
        use = f"use {' or '.join(hints)}" if hints else "end other programs"
        raise UsageError(f"a replay memory of {line} does not fit: {free / 1e9:.2f} GB are free; {use}")
    return need + drawn, disk, line
