"""The values that presets of DQN and its family begin from: an algorithm adds only what is its own."""

from __future__ import annotations

from typing import Any

from playfield.runs.algorithm import Budget

ATARI: dict[str, Any] = {
    # Half of the papers' samples per step, in minibatches of 64 instead of 32, with LayerNorm, which allows a higher
    # learning rate: a million steps of Breakout in little more than an hour on one core (docs/results.md).
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
# For rewards that single random actions hardly ever find (MountainCar): repeats of random actions, more updates and a
# larger network.
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
    # Classic control from small images.
    "capacity": 50_000,
    "packed": True,
    "lr": 5e-4,
    "anneal": True,
    "epsilon_end": 0.02,
    "net": "nips",
}
RAM: dict[str, Any] = ATARI | {
    # The 128 bytes of RAM of an Atari game. Needs LayerNorm: Breakout scores 50 with it, 3 without.
    "rollout_steps": 4,
    "packed": False,
    "learning_starts": 5_000,
    "train_period": 4,
    "lr": 1e-3,
    "net": "mlp:width=4,act=relu,norm=dense",
}
# The sizes of Mnih et al. 2015, which the papers of C51 and QR-DQN kept, with Adam. The target network changes every
# 10,000 updates (40,000 steps), as in the paper's table; in its code and DQN Zoo every 10,000 steps (40,000 frames).
NATURE: dict[str, Any] = {
    "capacity": 1_000_000,
    "learning_starts": 50_000,
    "target_period": 40_000,
    "adam_eps": 0.01 / 32,
    "max_grad_norm": 0.0,
    "epsilon_steps": 1_000_000,
    "net": "nature:init=uniform",
}

# Of distributional methods. The papers' trainings are 100 times as long.
VALUE_BUDGETS = {
    "atari": Budget(400_000, 10),
    "atari/paper": Budget(150_000, 10),
    "ram": Budget(400_000, 10),
    "vector": Budget(100_000, 1),
    "pixels": Budget(100_000, 3),
}
DQN_BUDGETS = {
    "atari": Budget(500_000, 10),
    "atari/pong": Budget(500_000, 30),  # Pong reached 18 after 422,000 steps
    "atari/nips": Budget(150_000, 10),
    "atari/nature": Budget(150_000, 10),
    "atari/cleanrl": Budget(150_000, 10),
    "atari/lesson18": Budget(50_000, 10),
    "atari/lesson18-double": Budget(50_000, 10),
    "ram": Budget(500_000, 10),
    "vector": Budget(100_000, 0.5),
    "pixels": Budget(100_000, 3),
    "vector/sparse": Budget(100_000, 2),
    "MountainCar": Budget(100_000, 2),
}
