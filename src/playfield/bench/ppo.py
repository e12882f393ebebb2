"""Speed of PPO on Breakout, side by side with Stable-Baselines3 and CleanRL on the same machine.

All sides train with the same sizes (8 envs x 128 steps, 4 epochs, minibatches of 256), in turn, each in a
fresh process with its own default threads. The first rollout and its updates are a warm-up, not counted.
Machines drift, so the figure to quote is the ratio of two neighbouring measurements.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json as jsonlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from playfield import __version__
from playfield.bench._child import ENVS, MINIBATCH, ROLLOUT
from playfield.bench._progress import Progress
from playfield.bench._script import Script, child_process
from playfield.errors import PlayfieldError, UsageError, unknown

PEERS = {"sb3": "stable_baselines3"}
NAMES = {"ours": "playfield", "sb3": "Stable-Baselines3", "cleanrl": "CleanRL (EnvPool)"}
PACKAGES = ("torch", "numpy", "ale-py", "gymnasium", "stable-baselines3")


def run(
    *,
    vs: str | None = "sb3",
    steps: int = 0,
    json: bool = False,
    busy: bool = False,
    rounds: int = 0,
    envs: int = ENVS,
    rollout: int = ROLLOUT,
    script: str | None = None,
    python: str | None = None,
) -> dict[str, Any]:
    """Measure steps per second of PPO on Breakout, and print a table (with `json`, one JSON object).

    Args:
        vs: the peers to measure as well, `sb3`, `cleanrl`, both with a comma between, or `none`.
        steps: steps of each measurement, rounded up to whole rollouts (0: 8,192; 4,096 with `busy`).
        busy: measure everything also beside a program that keeps one core busy.
        rounds: measurements of each side (0: 3; 2 with `busy`).
        envs: environments of all sides.
        rollout: steps of each environment in a rollout, on all sides.
        script: path of CleanRL's `ppo_atari_envpool.py`, for `cleanrl`.
        python: interpreter that has what the script needs (none: this one).

    Raises:
        UsageError: unknown peer, or the peer is not installed.
        PlayfieldError: a measurement failed.
    """
    sides = ["ours", *_peers(vs)]
    if "cleanrl" in sides:
        outside = Script.find(script, python)
    elif script or python:
        raise UsageError("--script and --python are for --vs cleanrl")
    if min(steps, rounds) < 0 or envs < 1 or rollout < 2:
        raise UsageError("steps and rounds must be 0 (choose) or more, envs at least 1, rollout at least 2")
    steps, rounds = steps or (4096 if busy else 8192), rounds or (2 if busy else 3)
    batch = envs * rollout
    if batch > MINIBATCH and batch % MINIBATCH:
        raise UsageError(f"envs x rollout is {batch}; it must be a multiple of {MINIBATCH}, or less")
    per_run = -(-steps // batch)
    settings = (False, True) if busy else (False,)
    plan = [(side, beside) for _ in range(rounds) for side in sides for beside in settings]
    results: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    with Progress(plan, {(s, b): _label(s, b) for s, b in plan}) as progress:
        for side, beside in plan:
            progress.begin()
            with _burner(beside):
                if side == "cleanrl":
                    result = outside.measure(per_run, envs, rollout, progress.done)
                else:
                    arguments = ["--rounds", str(per_run), "--envs", str(envs), "--rollout", str(rollout)]
                    result = measure([side, *arguments], progress.done)
                results.setdefault((side, beside), []).append(result)
            progress.end()
    out = report(results, sides)
    out |= {"steps": per_run * batch, "rounds": rounds, "warmup_steps": batch, **_machine()}
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _print(out)
    return out


def report(results: dict[tuple[str, bool], list[dict[str, Any]]], sides: list[str]) -> dict[str, Any]:
    """Sum up measurements, keyed by side and whether a busy program ran beside it.

    `speeds` are medians in steps per second. `ratios` has, for each peer, the median of ours / theirs
    over pairs of neighbouring measurements; `ratio` is the first peer's. `kept` is the median share of
    its speed that a side keeps beside a busy program.
    """
    speeds = {key: [r["steps"] / r["seconds"] for r in runs] for key, runs in results.items()}
    out: dict[str, Any] = {"bench": "ppo", "env": "breakout", "vs": sides[1] if len(sides) > 1 else None}
    out["speeds"] = {side: statistics.median(speeds[side, False]) for side in sides}
    if len(sides) > 1:
        out |= _spread("ratio", speeds["ours", False], speeds[sides[1], False])
        out["ratios"] = {side: _spread("ratio", speeds["ours", False], speeds[side, False]) for side in sides[1:]}
    out["sides"] = {
        side: {
            "steps_per_second": speeds[side, False],
            "phases": phase_table(results[side, False]),
            **{k: v for k, v in results[side, False][0].items() if k not in ("steps", "seconds", "phases")},
        }
        for side in sides
    }
    if ("ours", True) in speeds:
        out["busy"] = {
            side: {
                "alone": out["speeds"][side],
                "beside": statistics.median(speeds[side, True]),
                **_spread("kept", speeds[side, True], speeds[side, False]),
            }
            for side in sides
        }
        if len(sides) > 1:
            out["busy"] |= _spread("ratio", speeds["ours", True], speeds[sides[1], True])
        out["busy"]["target"] = 0.5
        out["busy"]["target_met"] = out["busy"]["ours"]["kept"] >= 0.5
    return out


def phase_table(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Each phase's seconds per 1,000 steps and percent of the time, over `runs`; `total` is measured."""
    steps, total = sum(r["steps"] for r in runs), sum(r["seconds"] for r in runs)
    seconds = {name: sum(r["phases"][name] for r in runs) for name in runs[0]["phases"]} | {"total": total}
    return {
        name: {"seconds_per_1000_steps": 1000 * s / steps, "percent": 100 * s / total} for name, s in seconds.items()
    }


def measure(arguments: list[str], progress: Callable[[float], None] = lambda share: None) -> dict[str, Any]:
    """Run one child to its end; returns its result. The child is killed when this is interrupted."""
    with tempfile.TemporaryFile("w+") as errors, child_process(_command(*arguments), errors) as child:
        assert child.stdout is not None
        result = None
        for line in child.stdout:
            try:
                message = jsonlib.loads(line)
            except ValueError:
                continue  # something else that a library printed
            if "done" in message:
                progress(message["done"])
            result = message.get("result", result)
        code = child.wait()
        errors.seek(0)
        told = errors.read().strip().splitlines()
    if code or result is None:
        why = told[-1] if told else f"exit status {code}"
        raise PlayfieldError(f"the measurement of {arguments[0]} failed: {why}")
    return result


def _command(*arguments: str) -> list[str]:
    # A child that asked for its parent itself would miss one that was killed while it started.
    return [sys.executable, "-m", "playfield.bench._child", *arguments, "--parent", str(os.getpid())]


@contextmanager
def _burner(wanted: bool) -> Iterator[None]:
    """A process that keeps one core busy meanwhile."""
    if not wanted:
        yield
        return
    with child_process(_command("spin"), subprocess.DEVNULL):
        time.sleep(0.5)  # let it get going
        yield


def _peers(vs: str | None) -> list[str]:
    if vs is None or vs == "none":
        return []
    peers = vs.split(",")
    for peer in peers:
        if peer not in (*PEERS, "cleanrl"):
            raise unknown("peer", peer, [*PEERS, "cleanrl", "none"])
        if peer in PEERS and importlib.util.find_spec(PEERS[peer]) is None:
            raise UsageError(f"--vs {peer} needs {NAMES[peer]}: pip install 'playfield[bench]'")
    if len(set(peers)) < len(peers):
        raise UsageError(f"--vs {vs} names a peer twice")
    return peers


def _spread(name: str, above: list[float], below: list[float]) -> dict[str, float]:
    pairs = [a / b for a, b in zip(above, below, strict=True)]
    return {name: statistics.median(pairs), f"{name}_min": min(pairs), f"{name}_max": max(pairs)}


def _machine() -> dict[str, Any]:
    from playfield.compute import cores

    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        processor = lines[0].split(":", 1)[1].strip() if lines else processor
    versions = {"playfield": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cores": cores(), "processor": processor, "system": platform.platform(), "versions": versions}


def _label(side: str, beside: bool) -> str:
    return NAMES[side] + (" beside a busy program" if beside else "")


def _print(out: dict[str, Any]) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    sides = list(out["sides"])
    table = Table("PPO on Breakout", "steps/s", "each round", "computes with", title_justify="left", box=None)
    for side in sides:
        s = out["sides"][side]
        kind = "workers" if "workers" in s else "torch_threads"
        with_what = f"{s['device']} {s['precision']}, {s[kind]} {kind.split('_')[-1]}" if kind in s else s["protocol"]
        each = " ".join(f"{v:,.0f}" for v in s["steps_per_second"])
        table.add_row(NAMES[side], f"{out['speeds'][side]:,.0f}", each, with_what)
    console.print(table)
    for side in sides[1:]:
        console.print(_times("playfield / " + NAMES[side], "ratio", out["ratios"][side]))
    for side in sides:
        console.print()
        table = Table(f"{NAMES[side]}: where the time goes", "s per 1,000 steps", "%", box=None)
        for name, row in out["sides"][side]["phases"].items():
            table.add_row(name, f"{row['seconds_per_1000_steps']:.3f}", f"{row['percent']:.1f}")
        console.print(table)
    if "busy" in out:
        console.print()
        table = Table("with one core kept busy", "alone, steps/s", "beside it", "share kept", box=None)
        for side in sides:
            b = out["busy"][side]
            table.add_row(NAMES[side], f"{b['alone']:,.0f}", f"{b['beside']:,.0f}", f"{b['kept']:.2f}")
        console.print(table)
        met = "met" if out["busy"]["target_met"] else "NOT met"
        console.print(f"target: playfield keeps at least {out['busy']['target']:g} of its speed: {met}")
        if out["vs"]:
            console.print(_times("beside it, playfield / " + NAMES[out["vs"]], "ratio", out["busy"]))
    console.print()
    versions = ", ".join(f"{k} {v}" for k, v in out["versions"].items())
    console.print(f"{out['processor']}, {out['cores']} cores; {versions}")
    ours = out["sides"]["ours"]
    console.print(
        f"{out['rounds']} rounds of {out['steps']:,} steps a side after {out['warmup_steps']:,} of warm-up; "
        f"{ours['config']['num_envs']} envs x {ours['config']['rollout_steps']}; {ours['protocol']}"
    )


def _times(what: str, name: str, out: dict[str, Any]) -> str:
    return f"{what}: {out[name]:.2f} (pairs {out[name + '_min']:.2f} to {out[name + '_max']:.2f})"
