"""Hyper-parameters and sizes that all sides of a benchmark share. Imports nothing: mistakes are reported fast."""

from __future__ import annotations

# PPO: as CleanRL's Atari script has them.
PPO_ENVS, PPO_ROLLOUT, PPO_EPOCHS, PPO_MINIBATCH = 8, 128, 4, 256

# DQN: as SB3's zoo has them for Atari.
DQN_ENVS, DQN_ROLLOUT = 32, 1  # ours; SB3 has one environment
BATCH, TRAIN_PERIOD, TARGET_PERIOD = 32, 4, 1_000
LR, ADAM_EPS, MAX_GRAD_NORM, GAMMA, EPSILON = 1e-4, 1e-8, 10.0, 0.99, 0.01
FUSED = 4  # minibatches that the side `fused` merges into one
CAPACITY, SB3_CAPACITY = 100_000, 10_000  # SB3 stores two whole stacks for each transition: 56 kB
PART = 1024  # steps of the warm-up, and of each interval after it
