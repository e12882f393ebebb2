"""Hyper-parameters that the algorithms of DQN's family begin from, so that only what is their own differs."""

from __future__ import annotations

from typing import Any

ATARI: dict[str, Any] = {
    # Half the papers' samples per step, in minibatches of 64 instead of 32, for a small net with LayerNorm. It stands
    # a higher learning rate: a million steps of Breakout in little more than an hour of one core (docs/results.md).
    "rollout_steps": 8,
    "capacity": 200_000,
    "train_period": 16,
    "batch_size": 64,
    "target_period": 2_000,
    "lr": 5e-4,
    "anneal": True,
    "net": "nips",
    "double": True,
    "n_step": 3,
}
VECTOR: dict[str, Any] = {
    "capacity": 20_000,
    "packed": False,
    "learning_starts": 1_000,
    "batch_size": 64,
    "target_period": 512,
    "lr": 1e-3,
    "adam_eps": 1e-8,
    "epsilon_end": 0.04,
    "epsilon_share": 0.16,
    "double": True,
    "n_step": 3,
    "clip_reward": False,
}
# Where single random actions never find a reward, as in MountainCar: they are held for a while, and more is learnt
# from each step, by a larger net.
SPARSE: dict[str, Any] = VECTOR | {
    "train_period": 2,
    "batch_size": 128,
    "anneal": True,
    "epsilon_end": 0.01,
    "epsilon_share": 0.3,
    "epsilon_zeta": 1.5,
    "net": "mlp:width=4,act=relu",
}
PIXELS: dict[str, Any] = VECTOR | {
    # Classic control from small pictures.
    "capacity": 50_000,
    "packed": True,
    "lr": 5e-4,
    "anneal": True,
    "epsilon_end": 0.02,
    "net": "nips",
}
RAM: dict[str, Any] = ATARI | {
    # The 128 bytes of an Atari game. LayerNorm makes it learn: without, Breakout stays at 3 where this has 50.
    "rollout_steps": 4,
    "packed": False,
    "learning_starts": 5_000,
    "train_period": 4,
    "lr": 1e-3,
    "net": "mlp:width=4,act=relu,norm=dense",
}
