"""Stable-Baselines3's sides of the benchmarks, each in its own process: `python -m playfield.bench._child_sb3 ALGO`.

The only module that imports Stable-Baselines3, an optional package; it is started by name and never imported.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import ale_py
import gymnasium
import torch
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecFrameStack

from playfield.bench import _settings
from playfield.bench._child import Stopwatch, parser, send

PROTOCOL = "BreakoutNoFrameskip-v4, AtariWrapper, VecFrameStack 4"


def ppo(rollouts: int, envs: int, rollout: int, watch: Stopwatch) -> dict[str, Any]:
    """SB3's PPO with playfield's sizes, the usual Atari wrappers and the same number of updates."""
    spent = {"rollout": 0.0, "training": 0.0, "updates": 0.0}

    class Timed(PPO):
        def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
            start = time.perf_counter()
            going = bool(super().collect_rollouts(*args, **kwargs))
            spent["rollout"] += time.perf_counter() - start
            return going

        def train(self) -> None:
            start = time.perf_counter()
            super().train()
            spent["training"] += time.perf_counter() - start
            spent["updates"] = self._n_updates  # epochs
            watch.tick(spent)

    config: dict[str, Any] = {
        "n_steps": rollout,
        "n_epochs": _settings.PPO_EPOCHS,
        "batch_size": min(_settings.PPO_MINIBATCH, envs * rollout),
        "learning_rate": 2.5e-4,
        "clip_range": 0.1,
        "ent_coef": 0.01,
        "vf_coef": 0.5,
    }
    env = _breakout(envs)
    model = Timed("CnnPolicy", env, seed=1, **config)
    model.learn((rollouts + 1) * envs * rollout)
    env.close()
    return {
        **_result(rollouts * envs * rollout, watch, model),
        "updates": int(spent["updates"]) * (envs * rollout // int(config["batch_size"])),
        "config": {"num_envs": envs, "policy": "CnnPolicy", **config},
    }


def dqn(intervals: int, part: int, watch: Stopwatch) -> dict[str, Any]:
    """SB3's DQN with the usual Atari wrappers on one environment, as in its zoo; as many samples per step as ours."""
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
        "buffer_size": _settings.SB3_CAPACITY,
        "learning_starts": part // 2,
        "train_freq": _settings.TRAIN_PERIOD,
        "gradient_steps": 1,
        "batch_size": _settings.BATCH,
        "target_update_interval": _settings.TARGET_PERIOD,
        "learning_rate": _settings.LR,
        "max_grad_norm": _settings.MAX_GRAD_NORM,
        "gamma": _settings.GAMMA,
        "exploration_initial_eps": _settings.EPSILON,
        "exploration_final_eps": _settings.EPSILON,
    }
    env = _breakout(1)
    model = Timed("CnnPolicy", env, seed=1, **config)
    model.learn((intervals + 1) * part)
    env.close()
    memory = model.replay_buffer
    assert isinstance(memory, ReplayBuffer)
    each = (memory.observations.nbytes + memory.next_observations.nbytes) // memory.buffer_size
    steps, updates = intervals * part, round(watch.seconds["updates"])
    return {
        **_result(steps, watch, model),
        "updates": updates,
        "samples_per_step": updates * _settings.BATCH / steps,
        "replay": {"capacity": memory.buffer_size, "bytes_each": each},
        "config": {"num_envs": 1, "policy": "CnnPolicy", **config},
    }


def _breakout(envs: int) -> VecFrameStack:
    gymnasium.register_envs(ale_py)
    return VecFrameStack(make_atari_env("BreakoutNoFrameskip-v4", n_envs=envs, seed=1), 4)


def _result(steps: int, watch: Stopwatch, model: Any) -> dict[str, Any]:
    s = watch.seconds
    rest = s["total"] - s["rollout"] - s["training"]
    return {
        "steps": steps,
        "seconds": s["total"],
        "phases": {"rollout": s["rollout"], "training": s["training"], "rest": rest},
        "device": model.device.type,
        "precision": "fp32",
        "torch_threads": torch.get_num_threads(),
        "protocol": PROTOCOL,
    }


def main(argv: list[str]) -> None:
    """Measure one algorithm, and send the result to the parent."""
    p = parser()
    p.add_argument("algo", choices=("ppo", "dqn"))
    p.add_argument("--rollouts", type=int, default=8, help="ppo: rollouts to measure after one of warm-up")
    p.add_argument("--envs", type=int, default=_settings.PPO_ENVS, help="ppo: parallel environments")
    p.add_argument(
        "--rollout", type=int, default=_settings.PPO_ROLLOUT, help="ppo: steps per environment per rollout"
    )
    p.add_argument("--intervals", type=int, default=4, help="dqn: intervals of --part steps to measure")
    p.add_argument("--part", type=int, default=_settings.PART, help="dqn: steps of the warm-up and of each interval")
    a = p.parse_args(argv)
    if a.algo == "ppo":
        result = ppo(a.rollouts, a.envs, a.rollout, Stopwatch(a.rollouts, a.parent))
    else:
        result = dqn(a.intervals, a.part, Stopwatch(a.intervals, a.parent))
    send({"result": result})


if __name__ == "__main__":
    main(sys.argv[1:])
