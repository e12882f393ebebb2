"""Hyper-parameters that the algorithms of DQN's family begin from, so that only what is their own differs."""

from __future__ import annotations

from typing import Any

ATARI: dict[str, Any] = {
    # What learnt most in an hour on two cores (docs/results.md): half the papers' samples per step, in minibatches of
    # 64 instead of 32, for a small net with LayerNorm, which stands a higher learning rate.
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
