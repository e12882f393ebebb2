"""Speed of linear methods: many runs of Sarsa on MountainCar beside a plain loop over Gymnasium in NumPy.

The loop is that of a course: Gymnasium's MountainCar stepped directly, dense feature vectors, W[actions, features].
It plays a few of our runs, the same episodes step by step, and is compared per step and per episode. Two experiments
of that course are timed too, beside the seconds that the course printed on its own machine.
"""

from __future__ import annotations

import json as jsonlib
import statistics
import tempfile
from typing import Any

from rich.table import Table

from playfield.bench import _sides
from playfield.bench._progress import Progress
from playfield.bench._sides import machine_line, measure, plain_console, spread
from playfield.errors import PlayfieldError, UsageError

TARGETS = {"ratio": 100.0, "A": 0.2, "C": 4.0}
COURSE = {"A": 28.3, "C": 253.0}  # seconds that the course printed
NAMES = {
    "gym": "plain loop over Gymnasium",
    "ours": "playfield",
    "one-thread": "playfield, one thread",
    "A": "experiment A, 45 episodes",
    "C": "experiment C, 3 x 20 runs",
    "compiling": "experiment A with an empty cache of compiled code",
}


def run(
    *,
    rounds: int = 0,
    runs: int = 60,
    episodes: int = 500,
    loops: int = 1,
    compiling: bool = True,
    json: bool = False,
) -> dict[str, Any]:
    """Measure all sides in turn; prints a table (with `json`, one JSON object).

    Args:
        rounds: measurements of each side (0: 3).
        runs: of ours, in parallel.
        episodes: of each run, on both sides.
        loops: how many of these runs the plain loop plays per measurement, each time others.
        compiling: also time experiment A once with an empty cache of compiled code.

    `ratio` is the plain loop's seconds per step over ours, the median over measurements; `ratio_per_episode` the same
    per episode. `same_episodes`: the loop's episodes had the same lengths as those of our runs with the same seeds.

    `A` and `C` have the `seconds` of experiments A and C with compiled code loaded. `A` also has those of the first
    call in a process, which loads the code, and of the first call ever, which compiles it.

    Raises UsageError where the loop would need more runs than there are.
    """
    rounds = rounds or 3
    if min(runs, episodes, loops) < 1 or rounds * loops > runs:
        raise UsageError(
            f"the loop plays {loops} other runs in each of {rounds} rounds: runs must be at least {rounds * loops}"
        )
    sides = ("gym", "ours", "one-thread", "A", "C")
    plan = ["compiling"] * compiling + [side for _ in range(rounds) for side in sides]
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in (*sides, "compiling")}
    with Progress(plan, NAMES) as progress:
        for side in plan:
            progress.begin()
            results[side].append(_measure(side, runs, episodes, loops, len(results["gym"])))
            progress.end()
    out = report(results) | {"rounds": rounds, **_sides.machine()}
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _print(out)
    return out


def _measure(side: str, runs: int, episodes: int, loops: int, before: int) -> dict[str, Any]:
    """Measure one side; the plain loop was measured `before` times already."""
    short = min(episodes, 45)
    if side == "compiling":
        with tempfile.TemporaryDirectory() as cache:
            return measure(["A", "--episodes", str(short), "--cache", cache], child="_child_linear")
    words = {
        "gym": ["--runs", str(loops), "--first", str(loops * before), "--episodes", str(episodes)],
        "A": ["--episodes", str(short)],
        "C": ["--runs", str(max(runs // 3, 1)), "--episodes", str(episodes)],
    }
    return measure(
        [side, *words.get(side, ["--runs", str(runs), "--episodes", str(episodes)])], child="_child_linear"
    )


def report(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Sum up the measurements of each side, in order. Raises PlayfieldError where runs were not reproduced."""
    digests = results["ours"][0]["runs"]
    if any(again["runs"] != digests for again in (*results["ours"], *results["one-thread"])):
        raise PlayfieldError("runs with the same seeds played other episodes in another process")
    each = {side: [r["seconds"] / r["steps"] for r in rs] for side, rs in results.items()}
    per_episode = {side: [r["seconds"] / r["episodes"] for r in rs] for side, rs in results.items()}
    out: dict[str, Any] = {"bench": "linear", "env": "MountainCar", "vs": "gymnasium and numpy"}
    out |= spread("ratio", each["gym"], each["ours"])
    out |= spread("ratio_per_episode", per_episode["gym"], per_episode["ours"])
    out |= spread("ratio_one_thread", each["gym"], each["one-thread"])
    out["same_episodes"] = all(
        digest == digests[seed] for r in results["gym"] for seed, digest in zip(r["seeds"], r["runs"], strict=True)
    )
    out["sides"] = {
        side: {
            "episodes": results[side][0]["episodes"],
            "steps": [r["steps"] for r in results[side]],
            "seconds": [r["seconds"] for r in results[side]],
            "steps_per_second": statistics.median(r["steps"] / r["seconds"] for r in results[side]),
            "threads": results[side][0]["threads"],
        }
        for side in ("gym", "ours", "one-thread")
    }
    for name in "AC":
        seconds = [r["seconds"] for r in results[name]]
        more = {"last_steps": results[name][0]["last_steps"]} if name == "C" else {}
        out[name] = {"seconds": statistics.median(seconds), "each": seconds, "course_seconds": COURSE[name], **more}
        out[name] |= {"steps": results[name][0]["steps"], "episodes": results[name][0]["episodes"]}
    for key in ("imports", "first_call"):
        out["A"][f"{key}_seconds"] = statistics.median(r[key] for r in results["A"])
    if results.get("compiling"):
        out["A"]["compiling_seconds"] = results["compiling"][0]["first_call"]
    found = {"ratio": min(out["ratio"], out["ratio_per_episode"]), "A": out["A"]["seconds"], "C": out["C"]["seconds"]}
    out["targets"] = {
        name: {
            "target": target,
            "found": found[name],
            "met": found[name] >= target if name == "ratio" else found[name] < target,
        }
        for name, target in TARGETS.items()
    }
    return out


def _print(out: dict[str, Any]) -> None:
    console = plain_console()
    table = Table("Sarsa on MountainCar", "runs x episodes", "steps/s", "seconds, each time", "threads", box=None)
    for side, s in out["sides"].items():
        each = " ".join(f"{v:.2f}" for v in s["seconds"])
        table.add_row(NAMES[side], f"{s['episodes']:,}", f"{s['steps_per_second']:,.0f}", each, str(s["threads"]))
    console.print(table)
    for name, what in (("ratio", "per step"), ("ratio_per_episode", "per episode")):
        console.print(f"playfield / plain loop, {what}: {out[name]:,.0f} ({_range(out, name)})")
    one = "ratio_one_thread"
    console.print(f"with one thread, per step: {out[one]:,.0f} ({_range(out, one)})")
    same = "the same lengths" if out["same_episodes"] else "NOT the same lengths"
    console.print(f"episodes of the plain loop and of our runs with the same seeds: {same}")
    a, c = out["A"], out["C"]
    extra = f" ({a['compiling_seconds']:.0f} s if it must compile)" if "compiling_seconds" in a else ""
    console.print(
        f"experiment A, {a['episodes']} episodes: {a['seconds']:.3f} s (the course: {a['course_seconds']:g} s)"
    )
    loads = f"its first call, which loads compiled code, takes {a['first_call_seconds']:.2f} s"
    console.print(f"  imports take {a['imports_seconds']:.1f} s in a new process; {loads}{extra}")
    console.print(
        f"experiment C, {c['episodes']:,} episodes: {c['seconds']:.2f} s (the course: {c['course_seconds']:g} s)"
    )
    met = ", ".join(f"{name} {'met' if t['met'] else 'NOT met'}" for name, t in out["targets"].items())
    console.print(f"targets (ratio at least 100, A below 0.2 s, C below 4 s): {met}")
    console.print(machine_line(out))


def _range(out: dict[str, Any], name: str) -> str:
    return f"measurements {out[name + '_min']:,.0f} to {out[name + '_max']:,.0f}"
