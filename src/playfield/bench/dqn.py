"""Speed of DQN on Breakout, side by side with Stable-Baselines3's on the same machine.

Both sides learn with the hyper-parameters of SB3's zoo: Nature net, minibatches of 32 every 4 steps (8 samples per
step), learning rate 1e-4, target network every 1,000 steps. SB3 steps one environment, as in its zoo, and playfield
32 in parallel, one step each between two updates. Epsilon is at its final value (0.01) from the start, so that acting
costs what it costs in nearly all of a training. SB3's replay buffer holds 10,000 transitions here, since each takes
56 kB; playfield's holds 100,000.

A third side, "fused updates", learns from as many samples in fewer, larger minibatches: 128 every 16 steps. That is
another algorithm (a quarter of the updates), so it has its own ratio. A fourth, on request (`concurrent`), collects
with the target network in parallel with learning.

Sides are measured in turn, each in a new process with its own default threads. The warm-up, in which learning starts,
is not counted. The speed of a machine drifts, so the figure to quote is the ratio of two consecutive measurements.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from typing import Any

from playfield.bench import _sides
from playfield.bench._settings import BATCH, DQN_ENVS, DQN_ROLLOUT, FUSED, PART, TRAIN_PERIOD
from playfield.bench._sides import measure
from playfield.errors import UsageError

PEERS = {"sb3": "stable_baselines3"}
NAMES = {
    "ours": "playfield",
    "sb3": "Stable-Baselines3",
    "fused": "playfield, fused updates",
    "concurrent": "playfield, collecting in parallel with learning",
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

    `ratio` is playfield / the peer with the same hyper-parameters; `fused` and `concurrent` have their own ratios.

    Args:
        vs: the peer to measure as well, `sb3` or `none`.
        steps: steps of each measurement, rounded up to a multiple of `part` (0: 4,096; 2,048 with `busy`).
        busy: measure everything also while another process keeps one core busy.
        rounds: measurements of each side (0: 3; 2 with `busy`).
        fused: measure playfield with fused updates as well.
        concurrent: measure playfield collecting in parallel with learning as well.
        part: steps of the warm-up, and between two progress reports.

    Raises:
        UsageError: unknown peer, or the peer is not installed.
        PlayfieldError: a measurement failed.
    """
    sides = ["ours", *_sides.find_peers(vs, PEERS, NAMES)]
    extra = ["fused"] * fused + ["concurrent"] * concurrent
    least = 2 * BATCH * FUSED  # half of the warm-up fills the replay buffer: at least one minibatch
    if min(steps, rounds) < 0 or part < least or part % (DQN_ENVS * DQN_ROLLOUT):
        raise UsageError(
            "steps and rounds must be at least 0 (0: default), "
            f"part at least {least} and a multiple of {DQN_ENVS * DQN_ROLLOUT}, not {part}"
        )
    steps, rounds = steps or (2048 if busy else 4096), rounds or (2 if busy else 3)
    per_run = -(-steps // part)

    def one(side: str, progress: Callable[[float], None]) -> dict[str, Any]:
        sizes = ["--intervals", str(per_run), "--part", str(part)]
        if side == "sb3":
            return measure(["dqn", *sizes], progress, "_child_sb3")
        return measure([side, *sizes], progress, "_child_dqn")

    results = _sides.in_turn(one, [*sides, *extra], rounds, busy, NAMES)
    out = _sides.report("dqn", results, sides, extra)
    out |= {"steps": per_run * part, "rounds": rounds, "warmup_steps": part, **_sides.machine()}
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _sides.show(out, "DQN on Breakout", NAMES, _last(out))
    return out


def _last(out: dict[str, Any]) -> list[str]:
    """The settings of the measurements."""
    lines = [
        f"{out['rounds']} measurements of {out['steps']:,} steps per side after {out['warmup_steps']:,} of warm-up; "
        f"minibatches of {BATCH} every {TRAIN_PERIOD} steps (fused: {BATCH * FUSED} every {TRAIN_PERIOD * FUSED})"
    ]
    for side, s in out["sides"].items():
        memory = s["replay"]
        each = f" of {memory['bytes_each']:,} bytes each" if "bytes_each" in memory else ""
        lines.append(
            f"{NAMES[side]}: {s['config']['num_envs']} envs, {s['samples_per_step']:g} samples per step, "
            f"replay buffer of {memory['capacity']:,} transitions{each}; {s['protocol']}"
        )
    return lines
