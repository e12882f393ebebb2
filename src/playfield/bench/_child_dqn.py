"""What the DQN benchmark times, each side in its own process: `python -m playfield.bench._child_dqn SIDE ...`.

All sides learn from the same number of samples per step with the hyper-parameters that SB3's zoo has for Atari. The
first part of `--part` steps is a warm-up: learning starts in its middle, so that all of what is measured learns.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from typing import Any

from playfield.bench._child_ppo import Watch, say

ENVS, ROLLOUT = 32, 1  # ours; SB3 has one environment
BATCH, PERIOD, TARGET_PERIOD = 32, 4, 1_000
LR, ADAM_EPS, MAX_GRAD_NORM, GAMMA, EPSILON = 1e-4, 1e-8, 10.0, 0.99, 0.01
FUSED = 4  # minibatches that the side `fused` makes one of
CAPACITY, SB3_CAPACITY = 100_000, 10_000  # SB3 keeps two whole stacks for each transition: 56 kB
PART = 1024


def ours(rounds: int, part: int, watch: Watch, fused: int = 1, concurrent: bool = False) -> dict[str, Any]:
    """playfield's DQN with the compute that `playfield train` would choose; `fused` minibatches in one."""
    from playfield import compute

    compute.setup()

    import torch

    from playfield.algos import dqn
    from playfield.envs import make_envs
    from playfield.runs.run import Run

    cfg = dqn.Config(
        num_envs=ENVS,
        rollout_steps=ROLLOUT,
        capacity=CAPACITY,
        learning_starts=part // 2,
        train_period=PERIOD * fused,
        batch_size=BATCH * fused,
        target_period=TARGET_PERIOD,
        lr=LR,
        adam_eps=ADAM_EPS,
        max_grad_norm=MAX_GRAD_NORM,
        gamma=GAMMA,
        epsilon_start=EPSILON,  # acting costs what it costs late
        epsilon_end=EPSILON,
        net="nature",
        concurrent=concurrent,
    )
    choice = compute.choose(num_envs=ENVS)
    probe = make_envs("breakout", 1)
    spec, protocol = probe.spec, probe.protocol.line()  # type: ignore[attr-defined]
    probe.close()

    def tick(run: Run) -> None:
        if run.step % part == 0:
            watch.tick({**run.phases, **run.parts["learner"].seconds, "updates": run.updates})

    info = {
        "env": "breakout",
        "algo": "dqn",
        "spec": spec,
        "seed": 1,
        "steps": (rounds + 1) * part,
        "compute": dataclasses.asdict(choice),
        "config": dataclasses.asdict(cfg),
        "protocol": spec.protocol,
    }
    run = Run(info, lambda n: make_envs("breakout", n), on_round=tick)
    dqn.train(run, cfg)
    run.close()
    return {
        **_counts(rounds * part, cfg.batch_size, watch),
        "phases": beside(watch.seconds) if concurrent else phases(watch.seconds),
        "device": choice.device,
        "precision": choice.precision,
        "workers": choice.workers,
        "torch_threads": torch.get_num_threads(),
        "protocol": protocol,
        "replay": {"capacity": cfg.capacity, "packed": cfg.packed},
        "config": dataclasses.asdict(cfg),
    }


def phases(s: dict[str, float]) -> dict[str, float]:
    """A run's clocks as parts that add up to `total`: what no clock inside a phase saw is that phase's rest."""
    return {
        "emulation": s["emulation"],
        "inference": s["inference"],
        "rollout rest": s["rollout"] - s["emulation"] - s["inference"],
        "sampling and targets": s["targets"],
        "gradients": s["gradient"],
        "optimizer": s["optimizer"],
        "training rest": s["training"] - s["gradient"] - s["optimizer"],
        "rest": s["total"] - s["rollout"] - s["targets"] - s["training"],
    }


def beside(s: dict[str, float]) -> dict[str, float]:
    """The parts of a run that acts beside learning: acting counts where learning waited for it."""
    return {
        "waiting for acting": s["rollout"],
        "sampling and targets": s["targets"],
        "gradients": s["gradient"],
        "optimizer": s["optimizer"],
        "training rest": s["training"] - s["gradient"] - s["optimizer"],
        "rest": s["total"] - s["rollout"] - s["targets"] - s["training"],
    }


def sb3(rounds: int, part: int, watch: Watch) -> dict[str, Any]:
    """Stable-Baselines3's DQN with the same wrappers and schedule of work, on one environment."""
    import ale_py
    import gymnasium
    import torch
    from stable_baselines3 import DQN
    from stable_baselines3.common.buffers import ReplayBuffer
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    gymnasium.register_envs(ale_py)
    spent = {"rollout": 0.0, "training": 0.0}

    class Timed(DQN):
        def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            rollout = super().collect_rollouts(*args, **kwargs)
            spent["rollout"] += time.perf_counter() - start
            return rollout

        def train(self, *args: Any, **kwargs: Any) -> None:
            start = time.perf_counter()
            super().train(*args, **kwargs)
            spent["training"] += time.perf_counter() - start
            if self.num_timesteps % part == 0:
                watch.tick({**spent, "updates": self._n_updates})

    config: dict[str, Any] = {
        "buffer_size": SB3_CAPACITY,
        "learning_starts": part // 2,
        "train_freq": PERIOD,
        "gradient_steps": 1,
        "batch_size": BATCH,
        "target_update_interval": TARGET_PERIOD,
        "learning_rate": LR,
        "max_grad_norm": MAX_GRAD_NORM,
        "gamma": GAMMA,
        "exploration_initial_eps": EPSILON,
        "exploration_final_eps": EPSILON,
    }
    env = VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=1, seed=1), 4)
    model = Timed("CnnPolicy", env, seed=1, **config)
    model.learn((rounds + 1) * part)
    env.close()
    s, memory = watch.seconds, model.replay_buffer
    assert isinstance(memory, ReplayBuffer)
    each = (memory.observations.nbytes + memory.next_observations.nbytes) // memory.buffer_size
    return {
        **_counts(rounds * part, BATCH, watch),
        "phases": {
            "rollout": s["rollout"],
            "training": s["training"],
            "rest": s["total"] - s["rollout"] - s["training"],
        },
        "device": model.device.type,
        "precision": "fp32",
        "torch_threads": torch.get_num_threads(),
        "protocol": "BreakoutNoFrameskip-v4, AtariWrapper, VecFrameStack 4",
        "replay": {"capacity": memory.buffer_size, "bytes_each": each},
        "config": {"num_envs": 1, "policy": "CnnPolicy", **config},
    }


def _counts(steps: int, batch: int, watch: Watch) -> dict[str, Any]:
    updates = round(watch.seconds["updates"])
    samples = updates * batch / steps
    return {"steps": steps, "seconds": watch.seconds["total"], "updates": updates, "samples_per_step": samples}


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=("ours", "fused", "concurrent", "sb3"))
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--part", type=int, default=PART, help="steps of the warm-up, and of each round after it")
    parser.add_argument("--parent", type=int, required=True, help="process that this one must not outlive")
    args = parser.parse_args(argv)
    watch = Watch(args.rounds, args.parent)
    if args.side == "sb3":
        result = sb3(args.rounds, args.part, watch)
    else:
        fused = FUSED if args.side == "fused" else 1
        result = ours(args.rounds, args.part, watch, fused, args.side == "concurrent")
    say({"result": result})


if __name__ == "__main__":
    main(sys.argv[1:])
