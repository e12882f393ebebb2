"""What the PPO benchmark times, each side in its own process: `python -m playfield.bench._child_ppo SIDE ...`.

Standard output carries one JSON object on a line: `{"done": share}` while it runs, then `{"result": ...}`.
A child ends when its parent is gone.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from typing import Any

ENVS, ROLLOUT, EPOCHS, MINIBATCH = 8, 128, 4, 256


def say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


class Watch:
    """Clocks of a training: started at the end of the warm-up, read at the end of every round."""

    def __init__(self, rounds: int, parent: int) -> None:
        self.rounds, self.parent, self.seen = rounds, parent, -1
        self.start: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def tick(self, clocks: dict[str, float]) -> None:
        """End of a round: `clocks` hold the seconds that each phase has taken since the process began."""
        if os.getppid() != self.parent:
            os._exit(1)
        now = {"total": time.perf_counter(), **clocks}
        self.seen += 1
        if not self.seen:
            self.start = now
        else:
            self.seconds = {key: value - self.start.get(key, 0.0) for key, value in now.items()}
        say({"done": (self.seen + 1) / (self.rounds + 1)})


def ours(rounds: int, envs: int, rollout: int, watch: Watch) -> dict[str, Any]:
    """playfield's PPO, preset `cleanrl`, with the compute that `playfield train` would choose."""
    from playfield import compute

    compute.setup()

    import torch

    from playfield.algos import ppo
    from playfield.envs import make_envs
    from playfield.runs.run import Run

    cfg = dataclasses.replace(ppo.PRESETS["atari"]["cleanrl"], num_envs=envs, rollout_steps=rollout)
    cfg = dataclasses.replace(cfg, epochs=EPOCHS, minibatches=max(cfg.batch // MINIBATCH, 1))
    choice = compute.choose(num_envs=envs)
    probe = make_envs("breakout", 1)
    spec, protocol = probe.spec, probe.protocol.line()  # type: ignore[attr-defined]
    probe.close()

    def tick(run: Run) -> None:
        watch.tick({**run.phases, **run.parts["learner"].seconds})

    info = {
        "env": "breakout",
        "algo": "ppo",
        "spec": spec,
        "seed": 1,
        "steps": (rounds + 1) * cfg.batch,
        "compute": dataclasses.asdict(choice),
        "config": dataclasses.asdict(cfg),
        "protocol": spec.protocol,
    }
    run = Run(info, lambda n: make_envs("breakout", n), on_round=tick)
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
        "steps": rounds * cfg.batch,
        "seconds": s["total"],
        "phases": phases,
        "updates": run.updates,
        "device": choice.device,
        "precision": choice.precision,
        "workers": choice.workers,
        "torch_threads": torch.get_num_threads(),
        "protocol": protocol,
        "config": dataclasses.asdict(cfg),
    }


def sb3(rounds: int, envs: int, rollout: int, watch: Watch) -> dict[str, Any]:
    """Stable-Baselines3's PPO with the same sizes, wrappers and schedule of work."""
    import ale_py
    import gymnasium
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    spent = {"rollout": 0.0, "training": 0.0}

    class Timed(PPO):
        def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
            start = time.perf_counter()
            going = super().collect_rollouts(*args, **kwargs)
            spent["rollout"] += time.perf_counter() - start
            return going

        def train(self) -> None:
            start = time.perf_counter()
            super().train()
            spent["training"] += time.perf_counter() - start
            watch.tick(spent)

    config: dict[str, Any] = {
        "n_steps": rollout,
        "n_epochs": EPOCHS,
        "batch_size": min(MINIBATCH, envs * rollout),
        "learning_rate": 2.5e-4,
        "clip_range": 0.1,
        "ent_coef": 0.01,
        "vf_coef": 0.5,
    }
    env = VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=envs, seed=1), 4)
    model = Timed("CnnPolicy", env, seed=1, **config)
    model.learn((rounds + 1) * envs * rollout)
    env.close()
    s = watch.seconds
    rest = s["total"] - s["rollout"] - s["training"]
    return {
        "steps": rounds * envs * rollout,
        "seconds": s["total"],
        "phases": {"rollout": s["rollout"], "training": s["training"], "rest": rest},
        "updates": model._n_updates * (envs * rollout // int(config["batch_size"])),
        "device": model.device.type,
        "precision": "fp32",
        "torch_threads": torch.get_num_threads(),
        "protocol": "BreakoutNoFrameskip-v4, AtariWrapper, VecFrameStack 4",
        "config": {"num_envs": envs, "policy": "CnnPolicy", **config},
    }


def spin(parent: int) -> None:
    """Keep one core busy until killed."""
    while os.getppid() == parent:
        sum(range(1_000_000))


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("ours", "sb3", "spin"))
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--envs", type=int, default=ENVS)
    parser.add_argument("--rollout", type=int, default=ROLLOUT)
    parser.add_argument("--parent", type=int, required=True, help="process that this one must not outlive")
    args = parser.parse_args(argv)
    parent = args.parent
    if args.side == "spin":
        return spin(parent)
    side = {"ours": ours, "sb3": sb3}[args.side]
    say({"result": side(args.rounds, args.envs, args.rollout, Watch(args.rounds, parent))})


if __name__ == "__main__":
    main(sys.argv[1:])
