"""Device, precision, threads, free memory and the allocator.

On a CPU, playfield runs one worker per core, up to some ten, with one intra-op thread each. More intra-op threads are
faster only on an idle machine: while another program is busy, they wait for each other at every barrier.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from playfield.errors import EnvError, UsageError

if TYPE_CHECKING:  # importing torch takes seconds: a user's mistake is reported before
    import torch

MEMORY_SHARE = 0.9  # of the free memory that may be planned with
PROCESSOR_MS = {
    "bf16": {
        "threads": {1: 1285, 2: 1320, 4: 1686, 8: 1781, 16: 2219},
        "processes": {1: 1285, 2: 1341, 4: 1720, 8: 2277, 16: 3321},
    },
    "fp32": {  # on a processor without bf16
        "threads": {1: 5615, 2: 6360, 4: 7166, 8: 8895, 16: 12307},
        "processes": {1: 5615, 2: 6448, 4: 7325, 8: 7827, 16: 9806},
    },
}
"""Of all workers together, by their number, for 1,000 steps of PPO on Breakout: see docs/design/workers.md."""
LOCK_MS = {2: 50, 8: 135}  # of it, for which so many threads hold the interpreter's lock
_ELSEWHERE = ContextVar("elsewhere", default=False)  # whether what is prepared runs on other machines
_MALLOPT = {"trim_threshold": (-1, 2**31 - 1), "mmap_max": (-4, 0), "arena_max": (-8, 1)}


@dataclass(frozen=True)
class Compute:
    """Device, precision and workers of a training.

    Attributes:
        device: `cpu` or `cuda`.
        precision: `bf16` or `fp32`, of network bodies (heads, losses and the optimizer are always fp32).
        workers: each with its own environments and a share of every minibatch. Another number of workers
            gives other (equally good) weights for the same seed.
        note: why these were chosen, for the log.
    """

    device: str
    precision: str
    workers: int
    note: str = ""

    @property
    def dtype(self) -> torch.dtype:
        """The torch dtype of `precision`."""
        dtype: torch.dtype = _torch().bfloat16 if self.precision == "bf16" else _torch().float32
        return dtype


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Inside, trainings are prepared for other machines: neither this one's memory nor its lack of a GPU matters."""
    token = _ELSEWHERE.set(True)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


def keep_memory() -> bool:
    """Make glibc keep freed pages: returning them costs a page fault per 4 KiB in every update.

    All threads share one arena, since glibc's per-thread arenas return large blocks whatever the threshold.
    Returns whether it was done (False with other C libraries).
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all(libc.mallopt(option, value) == 1 for option, value in _MALLOPT.values())


def cores() -> int:
    """CPU cores available to this process: its affinity, or less where a container has a quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        with open("/sys/fs/cgroup/cpu.max", encoding="utf-8") as file:
            quota, period = file.read().split()
        return count if quota == "max" else max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):
        return count


def free_memory() -> int | None:
    """Bytes of memory available to this process: of the system, or less where a container has a limit.

    None where the system does not report it.
    """
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="utf-8") as file:
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="utf-8") as file:
            used = int(file.read())
        with open("/sys/fs/cgroup/memory.stat", encoding="utf-8") as file:  # cached files are evicted on demand
            used -= next((int(line.split()[1]) for line in file if line.startswith("inactive_file ")), 0)
        return free if limit == "max" else min(free, int(limit) - used)
    except (OSError, ValueError):
        return free


def total_memory() -> int | None:
    """Bytes of memory of this machine, or fewer where a container has a limit; None where nothing reports it."""
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            total = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemTotal"))
    except (OSError, StopIteration):
        return None
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="utf-8") as file:
            return min(total, int(file.read()))
    except (OSError, ValueError):  # no such limit, or "max"
        return total


def _torch() -> Any:
    """torch, imported on first use: it takes seconds, and a mistake is reported before."""
    import torch

    return torch


def has_cuda() -> bool:
    """Whether torch finds a CUDA device."""
    return bool(_torch().cuda.is_available())


def gpu() -> dict[str, Any]:
    """The CUDA device on which a process computes that has not chosen: its `name`, and whether it supports `bf16`.

    Empty where torch finds none, or none that it can use.
    """
    if not has_cuda():
        return {}
    try:
        return {"name": str(_torch().cuda.get_device_name()), "bf16": _gpu_has_bf16()}
    except (RuntimeError, AssertionError):  # training on the CPU needs none
        return {}


def _gpu_has_bf16() -> bool:
    """Whether the GPU computes in bfloat16 itself: emulated it is slower than float32."""
    return bool(_torch().cuda.is_bf16_supported(including_emulation=False))


def take_gpu(worker: int) -> None:
    """Let this process compute on the GPU of a worker of this machine: its number modulo that of the GPUs.

    Raises EnvError where it cannot.
    """
    torch = _torch()
    try:
        torch.cuda.set_device(worker % max(1, torch.cuda.device_count()))
        torch.zeros(1, device="cuda")  # only now is the GPU used: it may be another process's alone, or full
    except (RuntimeError, AssertionError) as error:
        raise EnvError(f"the GPU of worker {worker} cannot be used: {str(error).partition(chr(10))[0]}") from None


def versions() -> dict[str, str]:
    """Versions that exactness depends on, with the processor's kind."""
    packages = {name: importlib.metadata.version(name) for name in ("numpy", "ale-py", "gymnasium")}
    processor = _torch().backends.cpu.get_cpu_capability()
    return {
        "python": platform.python_version(),
        "torch": str(_torch().__version__),
        **packages,
        "machine": platform.machine(),
        "processor": processor,
    }


def processor() -> dict[str, str]:
    """The CPU's `model`, and of its `features` those that decide which code computes.

    Another kind may round otherwise. Both are empty where the system does not tell.
    """
    model = _about_processor("model name") or platform.processor()
    vectors = ("sse", "ssse", "avx", "fma", "f16c", "amx", "bmi", "asimd", "neon", "sve", "bf16", "i8mm")
    flags = _about_processor("flags") or _about_processor("Features")  # as x86 and as ARM call them
    features = sorted(f for f in set(flags.split()) if f.startswith(vectors))
    return {"model": " ".join(model.split()), "features": " ".join(features)}


def readable_size(count: float) -> str:
    """A number of bytes for people, in decimal units: "512 bytes", "7.1 kB", "32.5 MB", "1.20 GB"."""
    if round(count) < 1000:
        return f"{count:.0f} bytes"
    for unit, size in (("kB", 1e3), ("MB", 1e6)):
        if round(count / size, 1) < 1000:
            return f"{count / size:.1f} {unit}"
    return f"{count / 1e9:,.2f} GB" if count < 1e15 else f"{count / 1e9:.0e} GB"


def refuse_if_larger(need: float, what: str, hint: str | Callable[[int], str]) -> None:
    """Raise UsageError where `need` bytes are more than `MEMORY_SHARE` of the free memory; not within `elsewhere`.

    Args:
        need: bytes.
        what: what needs them, the subject of the message: "a rollout of 8,192 steps".
        hint: how to need less: "lower --num-envs"; or a function that makes it from the free bytes.
    """
    free = None if _ELSEWHERE.get() else free_memory()
    if free is not None and need > MEMORY_SHARE * free:
        advice = hint if isinstance(hint, str) else hint(free)
        raise UsageError(
            f"{what} needs {readable_size(need)} of memory, and {readable_size(free)} are free: {advice}"
        )


def setup(networks: bool = True) -> None:
    """Process-wide settings for training, made by the command line; library users may call it too.

    Args:
        networks: whether one computes in this process. A random agent has none: torch is not loaded for it.
    """
    keep_memory()
    if networks:
        _torch().set_num_threads(1)
    sys.setswitchinterval(0.0005)  # workers wait for the interpreter lock 0.5 ms instead of 5


def bf16_is_faster() -> bool:
    """Whether bfloat16 is faster than float32 on this CPU.

    Decided by the CPU's feature flags where it has them, so that the choice does not depend on its load; elsewhere by
    timing a few milliseconds of matrix products.
    """
    flags = set(_about_processor("flags").split())
    if flags:
        return bool(flags & {"avx512_bf16", "amx_bf16"})
    torch = _torch()
    a32, b32 = torch.ones(512, 512), torch.ones(512, 512)
    times = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = a32.to(dtype), b32.to(dtype)
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - start)
        times.append(best)
    return times[1] < 0.8 * times[0]


def _about_processor(key: str) -> str:
    """What Linux says of the first CPU under this key; empty where it says nothing."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(
                (line.partition(":")[2].strip() for line in file if line.partition(":")[0].strip() == key), ""
            )
    except OSError:
        return ""


def predicted_ms(workers: int, kind: str, cores: int, precision: str = "bf16") -> float:
    """Predicted time in ms of 1,000 steps of PPO on Breakout; docs/design/workers.md has what it is made of.

    Each worker after the first adds as much processor time as fits what was measured best, and all share it equally;
    those that outnumber the cores take turns. Threads take no less than they hold the interpreter's lock, which grows
    with their number.

    Args:
        kind: `threads` or `processes`.
        cores: all workers have together.
        precision: `bf16` or `fp32`, which was measured on a slower processor.
    """
    measured = PROCESSOR_MS[precision][kind]
    one = measured[1]
    more = sum((n - 1) * (ms - one) for n, ms in measured.items()) / sum((n - 1) ** 2 for n in measured)
    taken = (one + more * (workers - 1)) / workers * math.ceil(workers / cores)
    if kind == "processes":
        return taken
    (few, low), (many, high) = LOCK_MS.items()
    return max(taken, low + (high - low) / (many - few) * (workers - few))


def best_workers(cores: int, num_envs: int, nodes: int = 1, precision: str = "bf16") -> int:
    """The number of workers with the best predicted speed, of those that divide the environments; see `predicted_ms`.

    Workers of one machine are threads. Those of several are processes.

    Args:
        cores: that all workers have together: there are no more workers.
        nodes: machines that share the cores, and the workers, equally.
        precision: in which they compute.
    """
    counts = [n for n in range(nodes, max(nodes, min(cores, num_envs)) + 1, nodes) if num_envs % n == 0]
    kind = "threads" if nodes == 1 else "processes"
    return min(counts, key=lambda n: predicted_ms(n, kind, cores, precision), default=nodes)


def choose(
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
    *,
    pixels: bool = True,
    num_envs: int = 8,
    nodes: int = 1,
) -> Compute:
    """Choose what the user left on `auto` (or workers on 0), after this machine.

    Within `elsewhere`, a CUDA device that is asked for is taken to be there, and to support bf16 where none is here.

    Args:
        pixels: observations are images (vectors are always computed in fp32, by default on the CPU).
        num_envs: environments, which the workers share equally.
        nodes: machines with as many cores as this one, on which there are as many workers each.

    Raises:
        UsageError: an unknown name, a CUDA device that is missing, or workers that do not divide `num_envs`.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise UsageError(f"--device must be auto, cpu or cuda, not {device!r}")
    if precision not in ("auto", "bf16", "fp32"):
        raise UsageError(f"--precision must be auto, bf16 or fp32, not {precision!r}")
    cuda = has_cuda()
    if device == "cuda" and not cuda and not _ELSEWHERE.get():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    if device == "auto":
        device = "cuda" if cuda and pixels else "cpu"
    notes = []
    if precision == "auto":
        if not pixels:
            precision, why = "fp32", "bf16 is not faster for vectors"
        elif device == "cuda" and not cuda:
            precision, why = "bf16", "the GPU is taken to support bf16"
        elif device == "cuda":
            precision = "bf16" if _gpu_has_bf16() else "fp32"
            why = f"the GPU {'supports' if precision == 'bf16' else 'does not support'} bf16"
        else:
            precision = "bf16" if bf16_is_faster() else "fp32"
            why = f"bf16 is {'faster' if precision == 'bf16' else 'not faster'} on this CPU"
        notes.append(why)
    if workers < 0:
        raise UsageError(f"--workers must be 0 (automatic) or more, not {workers}")
    if workers == 0:
        workers = nodes
        if pixels and device == "cpu":
            workers = best_workers(nodes * cores(), num_envs, nodes, precision)
            if any(num_envs % n == 0 for n in range(workers + nodes, nodes * cores() + 1, nodes)):
                notes.append("more workers are predicted to be slower, see docs/design/workers.md")
    elif device == "cpu" and not _ELSEWHERE.get() and workers > nodes * cores():
        notes.append("more workers than cores: they take turns")
    if num_envs % workers:
        raise UsageError(f"--workers {workers} must divide the number of environments ({num_envs})")
    return Compute(device, precision, workers, "; ".join(notes))


def describe(compute: Compute) -> str:
    """One line for the log: the device's name, precision and workers."""
    name = _torch().cuda.get_device_name() if compute.device == "cuda" else f"CPU, {cores()} cores"
    return f"{name}; {compute.precision}; {compute.workers} worker{'s' if compute.workers > 1 else ''}"
