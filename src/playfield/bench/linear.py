"""Speed of linear learning: many runs of Sarsa on MountainCar beside a plain loop over Gymnasium in NumPy.

The loop is that of a course: Gymnasium's MountainCar stepped directly, dense feature vectors, W[actions, features].
It plays a few of the runs that ours play, draw by draw the same episodes, and is compared by the step and by the
episode. Two experiments of that course are timed too, against its own seconds on its own machine.
"""

from __future__ import annotations

import json as jsonlib
import statistics
import sys
import tempfile
from typing import Any

from rich.console import Console
from rich.table import Table

from playfield.bench import _sides
from playfield.bench._progress import Progress
from playfield.bench._sides import measure, spread
from playfield.errors import PlayfieldError, UsageError

TARGETS = {"ratio": 100.0, "A": 0.2, "C": 4.0}
COURSE = {"A": 28.3, "C": 253.0}  # seconds that the course printed
NAMES = {
    "gym": "plain loop over Gymnasium",
    "ours": "playfield",
    "one-thread": "playfield, one thread",
    "A": "experiment A, 45 episodes",
    "C": "experiment C, 3 x 20 runs",
    "compiling": "experiment A with nothing compiled before",
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
        runs: of ours, at once.
        episodes: of each run, on both sides.
        loops: how many of these runs the plain loop plays in each round, others in every round.
        compiling: also time experiment A once with an empty cache of compiled code.

    `ratio` is the plain loop's seconds per step over ours, the median over rounds; `ratio_per_episode` the same per
    episode. `same_episodes` says that the loop's episodes were those of our runs with the same seeds, to the step.

    `A` and `C` have `seconds` of experiments A and C with compiled code loaded, and A those of the first call in a
    process, which loads it, and of the first call ever, which compiles it.

    Raises UsageError where the loop would have to play runs that ours do not.
    """
    rounds = rounds or 3
    if min(runs, episodes, loops) < 1 or rounds * loops > runs:
        raise UsageError(f"the loop plays {loops} other runs in each of {rounds} rounds: there must be so many runs")
    sides = ("gym", "ours", "one-thread", "A", "C")
    plan = ["compiling"] * compiling + [side for _ in range(rounds) for side in sides]
    results: dict[str, list[dict[str, Any]]] = {side: [] for side in (*sides, "compiling")}
    with Progress(plan, NAMES) as progress:
        for number, side in enumerate(plan):
            progress.begin()
            results[side].append(_measure(side, number, runs, episodes, loops, results))
            progress.end()
    out = report(results) | {"rounds": rounds, **_sides.machine()}
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _print(out)
    return out


def _measure(side: str, number: int, runs: int, episodes: int, loops: int, results: dict[str, Any]) -> dict[str, Any]:
    short = min(episodes, 45)
    if side == "compiling":
        with tempfile.TemporaryDirectory() as cache:
            return measure(["A", "--episodes", str(short), "--cache", cache], child="_child_linear")
    told = {
        "gym": ["--runs", str(loops), "--first", str(loops * len(results["gym"])), "--episodes", str(episodes)],
        "A": ["--episodes", str(short)],
        "C": ["--runs", str(max(runs // 3, 1)), "--episodes", str(episodes)],
    }
    return measure([side, *told.get(side, ["--runs", str(runs), "--episodes", str(episodes)])], child="_child_linear")


def report(results: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Sum up measurements of each side, round by round. Raises PlayfieldError where runs do not repeat."""
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
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    table = Table("Sarsa on MountainCar", "runs x episodes", "steps/s", "seconds, each round", "threads", box=None)
    for side, s in out["sides"].items():
        each = " ".join(f"{v:.2f}" for v in s["seconds"])
        table.add_row(NAMES[side], f"{s['episodes']:,}", f"{s['steps_per_second']:,.0f}", each, str(s["threads"]))
    console.print(table)
    for name, what in (("ratio", "by the step"), ("ratio_per_episode", "by the episode")):
        console.print(f"playfield / plain loop, {what}: {out[name]:,.0f} ({_range(out, name)})")
    one = "ratio_one_thread"
    console.print(f"with one thread, by the step: {out[one]:,.0f} ({_range(out, one)})")
    same = "the same to the step" if out["same_episodes"] else "NOT the same"
    console.print(f"episodes of the plain loop and of our runs with its seeds: {same}")
    a, c = out["A"], out["C"]
    extra = f" ({a['compiling_seconds']:.0f} s where it has to compile)" if "compiling_seconds" in a else ""
    console.print(
        f"experiment A, {a['episodes']} episodes: {a['seconds']:.3f} s (the course: {a['course_seconds']:g} s)"
    )
    loads = f"its first call, which loads compiled code, takes {a['first_call_seconds']:.2f} s"
    console.print(f"  a new process imports for {a['imports_seconds']:.1f} s; {loads}{extra}")
    console.print(
        f"experiment C, {c['episodes']:,} episodes: {c['seconds']:.2f} s (the course: {c['course_seconds']:g} s)"
    )
    met = ", ".join(f"{name} {'met' if t['met'] else 'NOT met'}" for name, t in out["targets"].items())
    console.print(f"targets (ratio at least 100, A below 0.2 s, C below 4 s): {met}")
    versions = ", ".join(f"{k} {v}" for k, v in out["versions"].items())
    console.print(f"{out['processor']}, {out['cores']} cores; {versions}")


def _range(out: dict[str, Any], name: str) -> str:
    return f"rounds {out[name + '_min']:,.0f} to {out[name + '_max']:,.0f}"
