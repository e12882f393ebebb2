"""Measures the sides of a benchmark in turn, each in its own process; sums up as JSON and as tables."""

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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from playfield.bench._progress import Progress
from playfield.compute import cores
from playfield.errors import PlayfieldError, UsageError, unknown
from playfield.runs.console import console

PACKAGES = ("torch", "numpy", "ale-py", "gymnasium", "stable-baselines3")
Results = dict[tuple[str, bool], list[dict[str, Any]]]
"""Measurements by (side, whether another process kept one core busy)."""


def find_peers(
    vs: str | None, packages: Mapping[str, str], names: Mapping[str, str], others: Sequence[str] = ()
) -> list[str]:
    """The peers in `vs`, separated by commas.

    Args:
        packages: peer -> the package that must be installed.
        names: peer -> its name for people.
        others: peers that need no package.

    Raises UsageError for an unknown peer, one that is not installed, or one named twice.
    """
    if vs is None or vs == "none":
        return []
    peers = vs.split(",")
    for peer in peers:
        if peer not in (*packages, *others):
            raise unknown("peer", peer, [*packages, *others, "none"])
        if peer in packages and importlib.util.find_spec(packages[peer]) is None:
            raise UsageError(f"--vs {peer} needs {names[peer]}: pip install 'playfield[bench]'")
    if len(set(peers)) < len(peers):
        raise UsageError(f"--vs {vs} names a peer twice")
    return peers


def in_turn(
    one: Callable[[str, Callable[[float], None]], dict[str, Any]],
    sides: Sequence[str],
    rounds: int,
    busy: bool,
    names: Mapping[str, str],
) -> Results:
    """Measure every side `rounds` times in turn; with `busy` each time also while another process keeps a core busy.

    `one` measures a side, and calls its second argument with the fraction done so far.
    """
    settings = (False, True) if busy else (False,)
    plan = [(side, beside) for _ in range(rounds) for side in sides for beside in settings]
    labels = {(s, b): names[s] + (" with one core kept busy" if b else "") for s, b in plan}
    results: Results = {}
    with Progress(plan, labels) as progress:
        for side, beside in plan:
            progress.begin()
            with _burner(beside):
                results.setdefault((side, beside), []).append(one(side, progress.done))
            progress.end()
    return results


def report(name: str, results: Results, sides: Sequence[str], extra: Sequence[str] = ()) -> dict[str, Any]:
    """Sum up what `in_turn` measured of `sides` (`ours`, then the peers) and of `extra` sides of ours.

    `speeds` are medians in steps per second. `ratios` has, for each peer, the median of ours / theirs
    over pairs of consecutive measurements; `ratio` is the first peer's. An extra side has a ratio to the first
    peer under its own name. `kept` is the median fraction of its speed that a side keeps while one core is busy.
    """
    speeds = {key: [r["steps"] / r["seconds"] for r in runs] for key, runs in results.items()}
    everyone, peer = [*sides, *extra], sides[1] if len(sides) > 1 else None
    out: dict[str, Any] = {"bench": name, "env": "breakout", "vs": peer}
    out["speeds"] = {side: statistics.median(speeds[side, False]) for side in everyone}
    if peer:
        out |= spread("ratio", speeds["ours", False], speeds[peer, False])
        out["ratios"] = {side: spread("ratio", speeds["ours", False], speeds[side, False]) for side in sides[1:]}
        out |= {side: spread("ratio", speeds[side, False], speeds[peer, False]) for side in extra}
    out["sides"] = {
        side: {
            "steps_per_second": speeds[side, False],
            "phases": phase_table(results[side, False]),
            **{k: v for k, v in results[side, False][0].items() if k not in ("steps", "seconds", "phases")},
        }
        for side in everyone
    }
    if ("ours", True) in speeds:
        out["busy"] = {
            side: {
                "alone": out["speeds"][side],
                "beside": statistics.median(speeds[side, True]),
                **spread("kept", speeds[side, True], speeds[side, False]),
            }
            for side in everyone
        }
        if peer:
            out["busy"] |= spread("ratio", speeds["ours", True], speeds[peer, True])
        out["busy"]["target"] = 0.5
        out["busy"]["target_met"] = out["busy"]["ours"]["kept"] >= 0.5
    return out


def phase_table(runs: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Each phase's seconds per 1,000 steps and percent of the time over `runs`; `total` is the wall time."""
    steps, total = sum(r["steps"] for r in runs), sum(r["seconds"] for r in runs)
    seconds = {name: sum(r["phases"][name] for r in runs) for name in runs[0]["phases"]} | {"total": total}
    return {
        name: {"seconds_per_1000_steps": 1000 * s / steps, "percent": 100 * s / total} for name, s in seconds.items()
    }


def spread(name: str, above: list[float], below: list[float]) -> dict[str, float]:
    """Median, minimum and maximum of above / below, pair by pair, as `name`, `name_min` and `name_max`."""
    pairs = [a / b for a, b in zip(above, below, strict=True)]
    return {name: statistics.median(pairs), f"{name}_min": min(pairs), f"{name}_max": max(pairs)}


@contextmanager
def child_process(command: list[str], errors: Any, cwd: str | None = None) -> Iterator[subprocess.Popen[str]]:
    """`command` with its output on a pipe; killed at the end of the block."""
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": errors}
    # Its own session: Ctrl-C reaches only this process, which then kills the child.
    child = subprocess.Popen(command, encoding="utf-8", start_new_session=True, cwd=cwd, **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


def measure(
    arguments: list[str], progress: Callable[[float], None] = lambda fraction: None, child: str = "_child_ppo"
) -> dict[str, Any]:
    """Run a child, a module of bench/, and return its result. It is killed when this process is interrupted.

    Raises PlayfieldError with the child's last line on standard error when it fails.
    """
    with tempfile.TemporaryFile("w+") as errors, child_process(_command(child, *arguments), errors) as process:
        assert process.stdout is not None
        result: dict[str, Any] | None = None
        for line in process.stdout:
            try:
                message = jsonlib.loads(line)
            except ValueError:
                continue  # a line that a library printed
            if "done" in message:
                progress(message["done"])
            result = message.get("result", result)
        code = process.wait()
        errors.seek(0)
        lines = errors.read().strip().splitlines()
    if code or result is None:
        why = lines[-1] if lines else f"exit status {code}"
        what = " ".join([child.removeprefix("_child_"), *arguments[:1]])
        raise PlayfieldError(f"the measurement of {what} failed: {why}")
    return result


def _command(child: str, *arguments: str) -> list[str]:
    # A child that looked up its parent itself would miss one that was killed while it started.
    return [sys.executable, "-P", "-m", f"playfield.bench.{child}", *arguments, "--parent", str(os.getpid())]


@contextmanager
def _burner(wanted: bool) -> Iterator[None]:
    """With `wanted`, another process keeps one core busy during the block."""
    if not wanted:
        yield
        return
    with child_process(_command("_child_busy"), subprocess.DEVNULL):
        time.sleep(0.5)  # until it has started
        yield


def machine() -> dict[str, Any]:
    """Cores, processor, system and versions of packages."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text("utf-8", "replace").splitlines() if line.startswith("model name")]
        processor = lines[0].split(":", 1)[1].strip() if lines else processor
    versions = {"playfield": importlib.metadata.version("playfield"), "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {"cores": cores(), "processor": processor, "system": platform.platform(), "versions": versions}


def show(out: dict[str, Any], title: str, names: Mapping[str, str], last: Sequence[str]) -> None:
    """Print a report and what `machine` returned, then the lines in `last`."""
    console = plain_console()
    sides = list(out["sides"])
    table = Table(title, "steps/s", "each round", "computes with", title_justify="left", box=None)
    for side in sides:
        s = out["sides"][side]
        kind = "workers" if "workers" in s else "torch_threads"
        with_what = f"{s['device']} {s['precision']}, {s[kind]} {kind.split('_')[-1]}" if kind in s else s["protocol"]
        each = " ".join(f"{v:,.0f}" for v in s["steps_per_second"])
        table.add_row(names[side], f"{out['speeds'][side]:,.0f}", each, with_what)
    console.print(table)
    for side, ratio in out.get("ratios", {}).items():
        console.print(ratio_line("playfield / " + names[side], "ratio", ratio))
    for side in sides:
        if side in out:
            console.print(ratio_line(f"{names[side]} / {names[out['vs']]}", "ratio", out[side]))
    for side in sides:
        console.print()
        table = Table(f"{names[side]}: where the time goes", "s per 1,000 steps", "%", box=None)
        for name, row in out["sides"][side]["phases"].items():
            table.add_row(name, f"{row['seconds_per_1000_steps']:.3f}", f"{row['percent']:.1f}")
        console.print(table)
    if "busy" in out:
        console.print()
        table = Table("with one core kept busy", "idle, steps/s", "busy, steps/s", "busy / idle", box=None)
        for side in sides:
            b = out["busy"][side]
            table.add_row(names[side], f"{b['alone']:,.0f}", f"{b['beside']:,.0f}", f"{b['kept']:.2f}")
        console.print(table)
        met = "met" if out["busy"]["target_met"] else "NOT met"
        console.print(f"target: playfield keeps at least {out['busy']['target']:g} of its speed: {met}")
        if out["vs"]:
            console.print(ratio_line("one core busy, playfield / " + names[out["vs"]], "ratio", out["busy"]))
    console.print()
    console.print(machine_line(out))
    for line in last:
        console.print(line)


def plain_console(width: int = 100) -> Console:
    """A console without highlighting; `width` characters wide where the output is not a terminal."""
    return console(width, markup=True)


def machine_line(out: dict[str, Any]) -> str:
    """What `machine` returned, in one line."""
    versions = ", ".join(f"{k} {v}" for k, v in out["versions"].items())
    return f"{out['processor']}, {out['cores']} cores; {versions}"


def ratio_line(what: str, name: str, out: dict[str, Any]) -> str:
    """What `spread` made, in one line."""
    return f"{what}: {out[name]:.2f} (pairs {out[name + '_min']:.2f} to {out[name + '_max']:.2f})"
