"""When two machines pay for one training: what travels in an update, how long it takes, from which minibatch on.

The exchange is that of `Learner.update`: gradients to the first machine, weights back, small messages between. It is
timed between two processes, over loopback and over a virtual cable that `tc` holds to 1 Gbit/s in each direction,
where this system lets a user make networks of their own. Gloo's all-reduce of as many bytes stands beside it. Times
are the shortest of all rounds, and of gradients processor time: what else runs here can only add to them.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
from rich.table import Table

from playfield.algos import ppo
from playfield.bench._progress import Progress
from playfield.bench._run import breakout_spec
from playfield.bench._sides import plain_console
from playfield.compute import Compute, bf16_is_faster, cores, setup
from playfield.errors import PlayfieldError, UsageError
from playfield.nets.learner import Learner
from playfield.nets.optimizers import Adam

NETS = ("nips", "nature")
RATES = (0, 1000)  # Mbit/s; 0: loopback
PAPER = (1000, 10_000, 100_000)  # Mbit/s, derived
SAMPLES = 256  # of a minibatch whose gradient is timed
LIMIT = 300.0  # seconds of a measurement
_LABELS = {0: "loopback", 1000: "1 Gbit/s", 10_000: "10 Gbit/s", 100_000: "100 Gbit/s"}


def run(*, rounds: int = 0, json: bool = False) -> dict[str, Any]:
    """Measure, and print a table (with `json`, one JSON object).

    Args:
        rounds: measurements of each (0: 30).

    Raises UsageError where there is no Linux, PlayfieldError where loopback cannot be measured.
    """
    if sys.platform != "linux":
        raise UsageError("bench nodes needs Linux: workers share memory as it has it")
    rounds = rounds or 30
    setup()
    formats = ("bf16", "fp32") if bf16_is_faster() else ("fp32",)
    sides = [(net, fmt) for net in NETS for fmt in formats]
    out: dict[str, Any] = {"bench": "nodes", "rounds": rounds, "cores": cores(), "sides": {}, "notes": []}
    rows = out["sides"]
    with Progress(["compute", *RATES], {"compute": "gradients", **_LABELS}) as progress:
        progress.begin()
        for net, fmt in sides:
            rows[f"{net} {fmt}"] = dict(zip(("size", "sample_ms"), _gradient(net, fmt, rounds), strict=True))
        progress.end()
        for rate in RATES:
            progress.begin()
            try:
                found = exchange(rate, [row["size"] for row in rows.values()], rounds)
            except PlayfieldError as error:
                if not rate:  # nothing can be said without
                    raise
                out["notes"].append(str(error))
                found = []
            for row, one in zip(rows.values(), found, strict=False):
                row["bytes"] = one["bytes"]
                row[f"{_LABELS[rate]} ms"] = 1e3 * min(one["seconds"])
                row[f"{_LABELS[rate]} gloo ms"] = 1e3 * min(one["gloo"])
            progress.end()
    for row in rows.values():
        for rate in PAPER:
            row[f"{_LABELS[rate]} derived ms"] = derived(row["loopback ms"], row["bytes"], rate)
        for name in [name for name in row if name.endswith(" ms") and "gloo" not in name]:
            row[f"{name.removesuffix(' ms')} pays from"] = pays_from(row[name], row["sample_ms"])
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _show(out)
    return out


def derived(loopback: float, count: float, rate: int) -> float:
    """Milliseconds of an exchange of `count` bytes at so many Mbit/s, of which loopback takes `loopback`."""
    return loopback + count * 8 / (rate * 1e3)


def pays_from(exchange: float, sample: float) -> int:
    """The minibatch from which two machines with a worker each are faster than one with one worker.

    n samples take n * `sample` there, and n / 2 * `sample` + `exchange` here (milliseconds).
    """
    return int(np.ceil(2 * exchange / sample))


def _gradient(net: str, fmt: str, rounds: int) -> tuple[int, float]:
    """Bytes of a gradient, and milliseconds of a core that a worker takes for each sample of a minibatch."""
    spec = breakout_spec()
    cfg = dataclasses.replace(ppo.PRESETS["atari"]["cleanrl"], net=net)
    learner = Learner(ppo.network(spec, cfg), lambda params: Adam(params, 0.0), Compute("cpu", fmt, 1), 0.5)
    random = np.random.default_rng(1)
    obs = torch.from_numpy(random.integers(0, 256, (SAMPLES, *spec.obs_shape), dtype=np.uint8))
    numbers = torch.zeros(SAMPLES)
    batch = {"obs": obs, "actions": torch.zeros(SAMPLES, dtype=torch.int64), "advantages": numbers}
    batch |= {"logprobs": numbers, "returns": numbers, "values": numbers}
    best = float("inf")
    for _ in range(max(3, rounds // 6)):
        begin = time.process_time()
        learner.update(lambda _, replica: ppo.ppo_loss(replica, batch, cfg, 0.1, SAMPLES), 0.0)
        best = min(best, time.process_time() - begin)
    size = learner.flat_body.nbytes + learner.flat[learner.body_size :].nbytes
    learner.close()
    return size, 1e3 * best / SAMPLES


def exchange(rate: int, sizes: list[int], rounds: int) -> list[dict[str, Any]]:
    """What `_exchange` measures at so many Mbit/s, for each size. Raises PlayfieldError where that cannot be."""
    command = [sys.executable, "-P", "-m", "playfield.bench._exchange", "lead", str(rate)]
    command.append(jsonlib.dumps({"sizes": sizes, "rounds": rounds}))
    if rate:
        command = ["unshare", "-rn", *command]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=LIMIT)
    except (OSError, subprocess.SubprocessError) as error:
        last = (getattr(error, "stderr", None) or str(error)).strip().splitlines()[-1:]
        raise PlayfieldError(f"{_LABELS[rate]} could not be measured here: {' '.join(last)}") from None
    found: list[dict[str, Any]] = jsonlib.loads(done.stdout)
    return found


def _show(out: dict[str, Any]) -> None:
    shown = Table("PPO on breakout", "bytes an update", "gradient of 256 samples", box=None)
    ways = [_LABELS[rate] for rate in RATES] + [f"{_LABELS[rate]} derived" for rate in PAPER]
    for way in ways:
        shown.add_column(way)
    for name, row in out["sides"].items():
        cells = [
            f"{row[f'{way} ms']:,.1f} ms, from {row[f'{way} pays from']:,}" if f"{way} ms" in row else "not measured"
            for way in ways
        ]
        shown.add_row(name, f"{row['bytes']:,.0f}", f"{SAMPLES * row['sample_ms']:,.1f} ms", *cells)
    console = plain_console()
    console.print(shown)
    console.print("from: the minibatch from which two machines with a worker each are faster than one with one")
    for name, row in out["sides"].items():
        gloo = [f"{way} {row[f'{way} gloo ms']:,.1f} ms" for way in ways if f"{way} gloo ms" in row]
        console.print(f"gloo's all-reduce of as many bytes, {name}: {', '.join(gloo)}")
    for note in out["notes"]:
        console.print(f"note: {note}")
