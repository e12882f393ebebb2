"""Speed of PPO on Breakout, side by side with Stable-Baselines3 and CleanRL on the same machine.

All sides train with the same sizes (8 envs x 128 steps, 4 epochs, minibatches of 256), in turn, each in a new process
with its own default threads. The first rollout and its updates are a warm-up, not counted. The speed of a machine
drifts, so the figure to quote is the ratio of two consecutive measurements.
"""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable
from typing import Any

from playfield.bench import _sides
from playfield.bench._cleanrl import Script
from playfield.bench._settings import PPO_ENVS, PPO_MINIBATCH, PPO_ROLLOUT
from playfield.bench._sides import measure, phase_table
from playfield.errors import UsageError

__all__ = ["measure", "phase_table", "report", "run"]

PEERS = {"sb3": "stable_baselines3"}
NAMES = {"ours": "playfield", "sb3": "Stable-Baselines3", "cleanrl": "CleanRL (EnvPool)"}


def run(
    *,
    vs: str | None = "sb3",
    steps: int = 0,
    json: bool = False,
    busy: bool = False,
    rounds: int = 0,
    envs: int = PPO_ENVS,
    rollout: int = PPO_ROLLOUT,
    script: str | None = None,
    python: str | None = None,
) -> dict[str, Any]:
    """Measure steps per second of PPO on Breakout, and print a table (with `json`, one JSON object).

    Args:
        vs: the peers to measure as well: `sb3`, `cleanrl`, `sb3,cleanrl` or `none`.
        steps: steps of each measurement, rounded up to whole rollouts (0: 8,192; 4,096 with `busy`).
        busy: measure everything also while another process keeps one core busy.
        rounds: measurements of each side (0: 3; 2 with `busy`).
        envs: parallel environments of every side.
        rollout: steps per environment per rollout, of every side.
        script: path of CleanRL's `ppo_atari_envpool.py`, for `cleanrl`.
        python: interpreter with the script's requirements (None: this one).

    Raises:
        UsageError: unknown peer, or the peer is not installed.
        PlayfieldError: a measurement failed.
    """
    sides = ["ours", *_sides.find_peers(vs, PEERS, NAMES, ["cleanrl"])]
    if "cleanrl" in sides:
        outside = Script.find(script, python)
    elif script or python:
        raise UsageError("--script and --python are for --vs cleanrl")
    if min(steps, rounds) < 0 or envs < 1 or rollout < 2:
        raise UsageError("steps and rounds must be at least 0 (0: default), envs at least 1, rollout at least 2")
    steps, rounds = steps or (4096 if busy else 8192), rounds or (2 if busy else 3)
    batch = envs * rollout
    if batch > PPO_MINIBATCH and batch % PPO_MINIBATCH:
        raise UsageError(f"envs x rollout must be a multiple of {PPO_MINIBATCH}, or less than that, not {batch}")
    per_run = -(-steps // batch)

    def one(side: str, progress: Callable[[float], None]) -> dict[str, Any]:
        if side == "cleanrl":
            return outside.measure(per_run, envs, rollout, progress)
        sizes = ["--rollouts", str(per_run), "--envs", str(envs), "--rollout", str(rollout)]
        if side == "sb3":
            return measure(["ppo", *sizes], progress, "_child_sb3")
        return measure([side, *sizes], progress, "_child_ppo")

    results = _sides.in_turn(one, sides, rounds, busy, NAMES)
    out = report(results, sides)
    out |= {"steps": per_run * batch, "rounds": rounds, "warmup_steps": batch, **_sides.machine()}
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _print(out)
    return out


def report(results: _sides.Results, sides: list[str]) -> dict[str, Any]:
    """Sum up measurements (see `_sides.report`)."""
    return _sides.report("ppo", results, sides)


def _print(out: dict[str, Any]) -> None:
    ours = out["sides"]["ours"]
    last = (
        f"{out['rounds']} measurements of {out['steps']:,} steps per side after {out['warmup_steps']:,} of warm-up; "
        f"{ours['config']['num_envs']} envs x {ours['config']['rollout_steps']}; {ours['protocol']}"
    )
    _sides.show(out, "PPO on Breakout", NAMES, [last])
