"""Memory and disk that a replay buffer needs; refuses what does not fit."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lz4.block
import numpy as np
import torch
from torch import Tensor, nn

from playfield.compute import MEMORY_SHARE, readable_size, refuse_if_larger
from playfield.envs.base import EnvSpec, VectorEnv
from playfield.errors import StorageError
from playfield.nets import bodies
from playfield.nets.layers import Pixels
from playfield.runs.storage import free_disk

DISK_SHARE = 0.95  # of the free disk that a mapped replay buffer may take

SMALL_NET = 2**24
"""Below so many weights a network is made to see how large the outputs of its layers are."""


def bytes_per_entry(env: VectorEnv, packed: bool, alpha: float) -> tuple[float, float]:
    """Bytes of an entry of a replay buffer: those of its observation, and all others.

    The size of compressed observations is measured on 200 random steps of `env`, plus one half, since trained agents
    see more varied frames (a very good one of Breakout needs 1.4 times as much).
    """
    rest = 6 + 32 * bool(alpha)  # action, reward, kind; at most 32 in the sum tree of priorities
    if not (packed and env.spec.pixels):
        size = math.prod(env.spec.obs_shape) * np.dtype(env.spec.obs_dtype).itemsize
        return size / env.spec.stack, rest
    rng, obs, sizes = np.random.default_rng(0), env.reset(np.arange(env.num_envs)), []
    for _ in range(200):
        sizes += [len(lz4.block.compress(np.ascontiguousarray(one), store_size=False)) for one in obs]
        obs = env.step(rng.integers(env.spec.num_actions, size=env.num_envs)).obs
    return 1.5 * float(np.mean(sizes)) + 41, rest


def sampling_bytes(spec: EnvSpec, net: str, count: int) -> int:
    """Bytes needed beside the replay buffer to sample `count` transitions at once and compute their targets.

    Each has its observation, its next observation, and the activations of the target network: the input of the
    largest layer and twice its output (before and after the activation function).
    """
    with torch.device("meta"):
        body = bodies.make(net, spec.obs_shape)
    device = "meta"
    if sum(p.numel() for p in body.parameters()) < SMALL_NET:
        device = "cpu"  # on `meta` torch would load its compiler for a pass, which takes seconds
        with torch.random.fork_rng(devices=[]):
            body = bodies.make(net, spec.obs_shape)
    sizes = [0]

    def record(_module: nn.Module, args: Any, output: Tensor) -> None:
        sizes.append(4 * (args[0].numel() + 2 * output.numel()))

    for module in body.modules():
        if not list(module.children()) or isinstance(module, Pixels):
            module.register_forward_hook(record)
    with torch.device(device), torch.no_grad():
        body(torch.zeros((1, *spec.obs_shape), dtype=getattr(torch, spec.obs_dtype)))
    return count * (2 * math.prod(spec.obs_shape) * np.dtype(spec.obs_dtype).itemsize + max(sizes))


def replay_need(
    env: VectorEnv, capacity: int, packed: bool, alpha: float, mapped: Path | None = None, sampling: int = 0
) -> tuple[float, float, str]:
    """Bytes of memory and of disk that a replay buffer of `capacity` observations needs, and a line that says so.

    Args:
        env: whose observations are stored; it is stepped where they are compressed.
        packed, alpha: see `Replay`.
        mapped: directory of its memory-mapped file; None: observations are in memory.
        sampling: bytes that sampling needs beside it (`sampling_bytes`).

    Raises:
        UsageError: it does not fit into the free memory. StorageError: nor on the free disk.
    """
    packed = packed and env.spec.pixels and mapped is None
    obs, rest = bytes_per_entry(env, packed, alpha)
    each = obs + rest if mapped is None else rest  # bytes of memory
    need, disk = round(capacity * each), 0.0 if mapped is None else capacity * obs
    what = f"a replay buffer of {capacity:,} observations"
    if mapped is not None and disk > DISK_SHARE * (free := free_disk(mapped)):
        fits = int(DISK_SHARE * free / obs) // 1000 * 1000
        hint = f"use --capacity {fits} or another disk (--run)" if fits else "use another disk (--run)"
        raise StorageError(
            f"{what} needs {readable_size(disk)} on the disk of {mapped}: {readable_size(free)} are free; {hint}"
        )

    def hint_for(free: int) -> str:
        fits = int((MEMORY_SHARE * free - sampling) / each) // 1000 * 1000
        hints = [f"--capacity {fits}"] * (fits > 0)
        if need > 0.1 * free:  # else they would save too little
            hints += ["--packed true"] * (env.spec.pixels and not packed and mapped is None)
            hints += ["--mmap true"] * (mapped is None)
        hints += ["a smaller --batch-size or --rollout-steps"] * (sampling > 0.1 * free)
        return f"use {' or '.join(hints)}" if hints else "end other programs"

    parts = ""
    if sampling >= 5e6:
        parts = f" ({readable_size(need)}) with what is sampled at once ({readable_size(sampling)})"
    refuse_if_larger(need + sampling, what + parts, hint_for)
    kind = " compressed" if packed else " of memory" if mapped else ""
    file = f" in a mapped file of {readable_size(disk)} on the disk, and" if mapped else ","
    line = f"{capacity:,} observations{file} about {readable_size(need)}{kind}"
    if sampling >= 5e6:
        line += f", and {readable_size(sampling)} for sampling"
    return need + sampling, disk, line
