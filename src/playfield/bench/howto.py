"""The metrics of a well-known Breakout how-to, beside the same metrics measured here.

The how-to (M. Reitschuster's RLbreakout, part 1.3) trains Stable-Baselines3's PPO with its default settings on the
raw 210x160 colour screen for 10,240 steps. This trains playfield's PPO with the same settings (preset `sb3-default`)
and the same protocol.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
import time
from collections import deque
from typing import Any

import numpy as np
from rich.table import Table

from playfield import compute
from playfield.algos import ppo
from playfield.bench._run import measured_run
from playfield.bench._sides import plain_console
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec, Step, VectorEnv
from playfield.errors import UsageError
from playfield.runs.run import Run

# Printed in the how-to after 5 rollouts and 4 updates (SB3 logs before it trains).
HOWTO: dict[str, float] = {
    "rollout/ep_len_mean": 58.2,
    "rollout/ep_rew_mean": 0.42,
    "time/fps": 359,
    "time/iterations": 5,
    "time/time_elapsed": 28,
    "time/total_timesteps": 10_240,
    "train/approx_kl": 0.09496141,
    "train/clip_fraction": 0.584,
    "train/clip_range": 0.2,
    "train/entropy_loss": -1.27,
    "train/explained_variance": 0.536,
    "train/learning_rate": 0.0003,
    "train/loss": -0.115,
    "train/n_updates": 40,
    "train/policy_gradient_loss": -0.105,
    "train/value_loss": 0.0103,
}
HOWTO_PARAMETERS = 11_613_349
ROLLOUTS = 5

# Breakout-v4: each action is held for 2, 3 or 4 frames at random; no sticky actions, no no-op starts, no FIRE on
# reset, at most 10,000 steps per game.
PROTOCOL: dict[str, Any] = {
    "skip": 4,
    "skip_min": 2,
    "maxpool": False,
    "noop": 0,
    "cap": 30_000,
    "fire_reset": False,
    "stack": 1,
    "size": 0,
    "colour": "rgb",
}

NOTES = (
    "Each action is held for 2, 3 or 4 frames at random, as in the how-to's Breakout-v4.",
    "ep_rew_mean and ep_len_mean are over the last 100 lives, as in the how-to; a game has 5 lives.",
    "The how-to's loss is that of the last minibatch, its approx_kl that of the last epoch; ours are means.",
    "n_updates counts epochs, as in SB3. Each column is a single seed.",
    "The how-to ran on a GPU with the emulator of 2022: fps compares two machines, not two programs.",
)


class Lives:
    """A `VectorEnv` that records the return and length of each life, and the time of its latest step.

    Args:
        env: the environments to wrap; they end an episode at the loss of a life.
        window: lives that `rewards` and `lengths` keep.
    """

    def __init__(self, env: VectorEnv, window: int = 100) -> None:
        self.env, self.spec, self.num_envs = env, env.spec, env.num_envs
        self.rewards: deque[float] = deque(maxlen=window)
        self.lengths: deque[int] = deque(maxlen=window)
        self.latest = 0.0
        self._reward = np.zeros(self.num_envs)
        self._length = np.zeros(self.num_envs, np.int64)

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self._reward[:] = self._length[:] = 0
        return self.env.reset(seeds)

    def step(self, actions: np.ndarray) -> Step:
        step = self.env.step(actions)
        self._reward += step.reward
        self._length += 1
        for i in np.flatnonzero(step.terminated | step.truncated).tolist():
            self.rewards.append(float(self._reward[i]))
            self.lengths.append(int(self._length[i]))
            self._reward[i] = self._length[i] = 0
        self.latest = time.perf_counter()
        return step

    def state(self) -> dict[str, Any]:
        return self.env.state()

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        return self.env.restore(state)

    def close(self) -> None:
        self.env.close()


def run(*, steps: int = 0, seed: int = 1, json: bool = False) -> dict[str, Any]:
    """Train for `steps` steps and print both columns (with `json`, one JSON object).

    Args:
        steps: a multiple of 5, for 5 rollouts (0: the how-to's 10,240).
        seed: of the training.

    Raises UsageError where `steps` is not 5 equal rollouts of at least 2 steps.
    """
    steps = steps or int(HOWTO["time/total_timesteps"])
    if steps < 2 * ROLLOUTS or steps % ROLLOUTS:
        raise UsageError(f"--steps must be a multiple of {ROLLOUTS}, at least {2 * ROLLOUTS}, not {steps}")
    compute.setup()
    cfg = ppo.PRESETS["atari"]["sb3-default"]
    if steps != HOWTO["time/total_timesteps"]:
        rollout = steps // ROLLOUTS
        cfg = dataclasses.replace(cfg, rollout_steps=rollout, minibatches=_minibatches(rollout))
    choice = compute.choose(num_envs=cfg.num_envs)
    env = Lives(make_envs("breakout", cfg.num_envs, **PROTOCOL))
    rows: list[dict[str, Any]] = []
    start = 0.0

    def make(num_envs: int) -> VectorEnv:
        nonlocal start
        start = time.perf_counter()
        return env

    def after(run: Run) -> None:
        _print_progress(len(rows), time.perf_counter() - start)

    sinks = _Rows(rows)
    trained = measured_run("ppo", cfg, env.spec, choice, steps, make=make, seed=seed, sinks=sinks, on_rollout=after)
    try:
        ppo.train(trained, cfg)
        parameters = sum(p.numel() for p in trained.parts["learner"].net.parameters())
    finally:
        trained.close()
    elapsed = env.latest - start  # up to the end of the last rollout, where SB3 prints this table
    metrics = rows[ROLLOUTS - 2]  # of the last update before SB3 logs its fifth table
    ours = {
        "rollout/ep_len_mean": _mean(env.lengths),
        "rollout/ep_rew_mean": _mean(env.rewards),
        "time/fps": int(steps / elapsed),
        "time/iterations": ROLLOUTS,
        "time/time_elapsed": int(elapsed),
        "time/total_timesteps": steps,
        **{key: value for key, value in metrics.items() if key in HOWTO and key.startswith("train/")},
        "train/n_updates": metrics["train/n_updates"] // cfg.minibatches,
    }
    games = {"games": trained.games, "window": len(trained.scores), "score_mean": _mean(trained.scores)}
    out = {
        "bench": "howto",
        "howto": HOWTO | {"parameters": HOWTO_PARAMETERS},
        "ours": {key: ours[key] for key in HOWTO} | {"parameters": parameters},
        "per_game": games,
        "lives": len(env.lengths),
        "protocol": env.spec.protocol,
        "config": dataclasses.asdict(cfg),
        "compute": dataclasses.asdict(choice),
        "notes": list(NOTES),
    }
    if json:
        print(jsonlib.dumps(out, indent=1))
    else:
        _print(out, env.spec)
    return out


class _Rows:
    """A logger that keeps the rows of metrics in a list."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def begin(self) -> None: ...

    def log(self, step: int, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def episode(self, *_: Any) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _minibatches(rollout: int) -> int:
    """The number of minibatches: of about 64 steps each, a divisor of the rollout."""
    return max(n for n in range(1, max(rollout // 64, 1) + 1) if rollout % n == 0)


def _mean(values: deque[Any]) -> float | None:
    return float(np.mean(values)) if values else None


def _print_progress(updates: int, seconds: float) -> None:
    left = seconds / updates * (ROLLOUTS - updates)
    print(f"update {updates} of {ROLLOUTS} done, about {left:.0f} s left", file=sys.stderr, flush=True)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _print(out: dict[str, Any], spec: EnvSpec) -> None:
    console = plain_console(110)
    table = Table("Breakout, 210x160 RGB, SB3's defaults", "how-to", "playfield", box=None)
    for key, theirs in out["howto"].items():
        table.add_row(key, _number(theirs), _number(out["ours"][key]))
    console.print(table)
    games = out["per_game"]
    console.print(f"The means above are over {out['lives']} lives.", end=" ")
    if games["games"]:
        console.print(f"Full games: mean score {games['score_mean']:.2f} of the last {games['window']}.")
    else:
        console.print("No game was finished.")
    for note in out["notes"]:
        console.print(note)
    parts = ", ".join(f"{k} {v}" for k, v in spec.protocol.items() if k not in ("env", "name"))
    used = out["compute"]
    plural = "worker" if used["workers"] == 1 else "workers"
    console.print(f"protocol: {parts}")
    console.print(f"computed on: {used['device']} {used['precision']}, {used['workers']} {plural}")
