"""playfield's side of the PPO benchmark, in a process of its own: `python -m playfield.bench._child_ppo ours ...`."""

from __future__ import annotations

import dataclasses
import sys
from typing import Any

import torch

from playfield import compute
from playfield.algos import ppo
from playfield.bench._child import Stopwatch, parser, send
from playfield.bench._run import breakout_spec, measured_run
from playfield.bench._settings import PPO_ENVS, PPO_EPOCHS, PPO_MINIBATCH, PPO_ROLLOUT
from playfield.envs import protocol_line
from playfield.runs.run import Run


def ours(rollouts: int, envs: int, rollout: int, watch: Stopwatch) -> dict[str, Any]:
    """playfield's PPO, preset `cleanrl`, with the compute that `playfield train` would choose."""
    compute.setup()
    cfg = dataclasses.replace(ppo.PRESETS["atari"]["cleanrl"], num_envs=envs, rollout_steps=rollout)
    cfg = dataclasses.replace(cfg, epochs=PPO_EPOCHS, minibatches=max(cfg.batch // PPO_MINIBATCH, 1))
    choice, spec = compute.choose(num_envs=envs), breakout_spec()

    def tick(run: Run) -> None:
        watch.tick({**run.phases, **run.parts["learner"].seconds})

    run = measured_run("ppo", cfg, spec, choice, (rollouts + 1) * cfg.batch, on_rollout=tick)
    ppo.train(run, cfg)
    run.close()
    s = watch.seconds
    inner = {key: s[key] for key in ("emulation", "inference", "gradient", "optimizer")}
    phases = {
        "emulation": inner["emulation"],
        "inference": inner["inference"],
        "rollout rest": s["rollout"] - inner["emulation"] - inner["inference"],
        "gradients": inner["gradient"],
        "optimizer": inner["optimizer"],
        "training rest": s["training"] - inner["gradient"] - inner["optimizer"],
        "rest": s["total"] - s["rollout"] - s["training"],
    }
    return {
        "steps": rollouts * cfg.batch,
        "seconds": s["total"],
        "phases": phases,
        "updates": run.updates,
        "device": choice.device,
        "precision": choice.precision,
        "workers": choice.workers,
        "torch_threads": torch.get_num_threads(),
        "protocol": protocol_line(spec.protocol),
        "config": dataclasses.asdict(cfg),
    }


def main(argv: list[str]) -> None:
    """Measure, and send the result to the parent."""
    p = parser()
    p.add_argument("side", choices=("ours",))
    p.add_argument("--rollouts", type=int, default=8, help="rollouts to measure after one of warm-up")
    p.add_argument("--envs", type=int, default=PPO_ENVS)
    p.add_argument("--rollout", type=int, default=PPO_ROLLOUT, help="steps of each environment in a rollout")
    a = p.parse_args(argv)
    send({"result": ours(a.rollouts, a.envs, a.rollout, Stopwatch(a.rollouts, a.parent))})


if __name__ == "__main__":
    main(sys.argv[1:])
