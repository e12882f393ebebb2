"""The metric table of a well-known Breakout how-to, beside ours measured now.

The how-to (M. Reitschuster's RLbreakout, part 1.3) trains Stable-Baselines3's PPO with its default settings
on the raw 210x160 colour screen for 10,240 steps. This runs playfield's PPO with the same settings (preset
`sb3-default`) on the closest protocol there is here.
"""

from __future__ import annotations

import dataclasses
import json as jsonlib
import sys
import time
from collections import deque
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from playfield.envs.base import EnvSpec, Step, VectorEnv
from playfield.errors import UsageError

# Printed in the how-to after 5 rollouts, that is after 4 rounds of training (SB3 logs before it trains).
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
ROUNDS = 5

# Breakout-v4: no sticky actions, no no-op starts, no FIRE pressed for the agent, at most 10,000 steps a game.
PROTOCOL: dict[str, Any] = {
    "skip": 3,
    "maxpool": False,
    "noop": 0,
    "cap": 30_000,
    "fire_reset": False,
    "stack": 1,
    "size": 0,
    "colour": "rgb",
}

NOTES = (
    "The how-to's Breakout-v4 skips 2, 3 or 4 frames at random; ours always skips 3, their mean.",
    "ep_rew_mean and ep_len_mean are of the last 100 lives, as in the how-to; a game has 5.",
    "The how-to's loss is of the last minibatch, its approx_kl of the last pass; ours are means over all.",
    "n_updates counts passes over a rollout, as SB3 does. Either column is a single seed.",
    "The how-to ran on a GPU, with the emulator of 2022; fps compares two machines, not two programs.",
)


class Lives:
    """A `VectorEnv` that books reward and length of each life, and the time of its latest step."""

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
    """Train for `steps` (0: the how-to's 10,240; a multiple of 5) and print both tables, or one JSON object.

    Raises UsageError where `steps` is not five equal rollouts of at least 2 steps.
    """
    steps = steps or int(HOWTO["time/total_timesteps"])
    if steps < 2 * ROUNDS or steps % ROUNDS:
        raise UsageError(f"--steps must be a multiple of {ROUNDS}, at least {2 * ROUNDS}, not {steps}")

    from playfield import compute

    compute.setup()

    from playfield.algos import ppo
    from playfield.envs import make_envs
    from playfield.runs.run import Run

    cfg = ppo.PRESETS["atari"]["sb3-default"]
    if steps != HOWTO["time/total_timesteps"]:
        rollout = steps // ROUNDS
        cfg = dataclasses.replace(cfg, rollout_steps=rollout, minibatches=_minibatches(rollout))
    choice = compute.choose(num_envs=cfg.num_envs)
    env = Lives(make_envs("breakout", cfg.num_envs, **PROTOCOL))
    rows: list[dict[str, Any]] = []
    info = {
        "env": "breakout",
        "algo": "ppo",
        "spec": env.spec,
        "seed": seed,
        "steps": steps,
        "compute": dataclasses.asdict(choice),
        "config": dataclasses.asdict(cfg),
        "protocol": env.spec.protocol,
    }
    start = 0.0

    def make(num_envs: int) -> VectorEnv:
        nonlocal start
        start = time.perf_counter()
        return env

    def after(run: Run) -> None:
        _tell(len(rows), time.perf_counter() - start)

    run_ = Run(info, make, sinks=_Rows(rows), on_round=after)
    try:
        ppo.train(run_, cfg)
        parameters = sum(p.numel() for p in run_.parts["learner"].net.parameters())
    finally:
        run_.close()
    elapsed = env.latest - start  # up to the end of the last rollout, where SB3 prints this table
    trained = rows[ROUNDS - 2]  # the last training that SB3's fifth table has seen
    ours = {
        "rollout/ep_len_mean": _mean(env.lengths),
        "rollout/ep_rew_mean": _mean(env.rewards),
        "time/fps": int(steps / elapsed),
        "time/iterations": ROUNDS,
        "time/time_elapsed": int(elapsed),
        "time/total_timesteps": steps,
        **{key: value for key, value in trained.items() if key in HOWTO and key.startswith("train/")},
        "train/n_updates": trained["train/n_updates"] // cfg.minibatches,
    }
    games = {"games": run_.games, "window": len(run_.scores), "score_mean": _mean(run_.scores)}
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
    """A sink that keeps the rows of metrics."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows = rows

    def begin(self) -> None: ...

    def log(self, step: int, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def episode(self, *_: Any) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


def _minibatches(rollout: int) -> int:
    """Minibatches of about 64, as many as divide the rollout."""
    return max(n for n in range(1, max(rollout // 64, 1) + 1) if rollout % n == 0)


def _mean(values: deque[Any]) -> float | None:
    return float(np.mean(values)) if values else None


def _tell(rounds: int, seconds: float) -> None:
    left = seconds / rounds * (ROUNDS - rounds)
    print(f"round {rounds} of {ROUNDS} done, about {left:.0f} s left", file=sys.stderr, flush=True)


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def _print(out: dict[str, Any], spec: EnvSpec) -> None:
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    table = Table("Breakout, 210x160 colour, SB3's defaults", "how-to", "playfield", box=None)
    for key, theirs in out["howto"].items():
        table.add_row(key, _number(theirs), _number(out["ours"][key]))
    console.print(table)
    games = out["per_game"]
    console.print(f"Measured: {out['lives']} lives in the means above.", end=" ")
    if games["games"]:
        console.print(f"Per game: mean score {games['score_mean']:.2f} of the last {games['window']} games.")
    else:
        console.print("No whole game ended.")
    for note in out["notes"]:
        console.print(note)
    parts = ", ".join(f"{k} {v}" for k, v in spec.protocol.items() if k not in ("env", "name"))
    compute = out["compute"]
    plural = "worker" if compute["workers"] == 1 else "workers"
    console.print(f"protocol: {parts}")
    console.print(f"computed on: {compute['device']} {compute['precision']}, {compute['workers']} {plural}")
