"""Speed of DQN on Breakout, side by side with Stable-Baselines3's on the same machine.

Both sides learn with the hyper-parameters of SB3's zoo: Nature net, minibatches of 32 every 4 steps (8 samples per
step), learning rate 1e-4, target network every 1,000 steps. SB3 plays one environment, as its zoo does, and playfield
32, each for one step between two rounds of learning. Exploration is at its end (0.01) from the start, so that acting
costs what it costs in nearly all of a training. SB3's replay memory holds 10,000 transitions here, since each takes
56 kB; playfield's holds 100,000.

A third side, "fused updates", learns from as many samples in fewer, larger minibatches: 128 every 16 steps. That is
another algorithm (a quarter of the updates), so it has a ratio of its own. A fourth, on request, acts by the target
network beside learning (`concurrent`).

Sides are measured in turn, each in a fresh process with its own default threads. A warm-up, which learning starts in,
is not counted. Machines drift, so the figure to quote is the ratio of two neighbouring measurements.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from typing import Any

from playfield.bench import _sides
from playfield.bench._child_dqn import BATCH, ENVS, FUSED, PART, PERIOD, ROLLOUT
from playfield.bench._sides import measure
from playfield.errors import UsageError

PEERS = {"sb3": "stable_baselines3"}
NAMES = {
    "ours": "playfield",
    "sb3": "Stable-Baselines3",
    "fused": "playfield, fused updates",
    "concurrent": "playfield, acting beside learning",
}


def run(
    *,
    vs: str | None = "sb3",
    steps: int = 0,
    json: bool = False,
    busy: bool = False,
    rounds: int = 0,
    fused: bool = True,
    concurrent: bool = False,
    part: int = PART,
) -> dict[str, Any]:
    """Measure steps per second of DQN on Breakout, and print tables (with `json`, one JSON object).

    `ratio` is playfield / the peer at the same hyper-parameters; those of `fused` and `concurrent` stand apart.

    Args:
        vs: the peer to measure as well, `sb3` or `none`.
        steps: steps of each measurement, rounded up to whole parts (0: 4,096; 2,048 with `busy`).
        busy: measure everything also beside a program that keeps one core busy.
        rounds: measurements of each side (0: 3; 2 with `busy`).
        fused: measure playfield with fused updates as well.
        concurrent: measure playfield acting beside learning as well.
        part: steps of the warm-up, and between two reports of progress.

    Raises:
        UsageError: unknown peer, or the peer is not installed.
        PlayfieldError: a measurement failed.
    """
    sides = ["ours", *_sides.find_peers(vs, PEERS, NAMES)]
    extra = ["fused"] * fused + ["concurrent"] * concurrent
    least = 2 * BATCH * FUSED  # half of the warm-up fills the memory: it must be a minibatch at least
    if min(steps, rounds) < 0 or part < least or part % (ENVS * ROLLOUT):
        raise UsageError(
            "steps and rounds must be 0 (choose) or more, "
            f"part at least {least} and a multiple of {ENVS * ROLLOUT}, not {part}"
        )
    steps, rounds = steps or (2048 if busy else 4096), rounds or (2 if busy else 3)
    per_run = -(-steps // part)

    def one(side: str, progress: Callable[[float], None]) -> dict[str, Any]:
        return measure([side, "--rounds", str(per_run), "--part", str(part)], progress, "_child_dqn")

    results = _sides.in_turn(one, [*sides, *extra], rounds, busy, NAMES)
    out = _sides.report("dqn", results, sides, extra)
    out |= {"steps": per_run * part, "rounds": rounds, "warmup_steps": part, **_sides.machine()}
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _sides.show(out, "DQN on Breakout", NAMES, _last(out))
    return out


def _last(out: dict[str, Any]) -> list[str]:
    """What was done, in words."""
    lines = [
        f"{out['rounds']} rounds of {out['steps']:,} steps a side after {out['warmup_steps']:,} of warm-up; "
        f"minibatches of {BATCH} every {PERIOD} steps (fused: {BATCH * FUSED} every {PERIOD * FUSED})"
    ]
    for side, s in out["sides"].items():
        memory = s["replay"]
        each = f" of {memory['bytes_each']:,} bytes each" if "bytes_each" in memory else ""
        lines.append(
            f"{NAMES[side]}: {s['config']['num_envs']} envs, {s['samples_per_step']:g} samples per step, "
            f"replay memory for {memory['capacity']:,} transitions{each}; {s['protocol']}"
        )
    return lines
