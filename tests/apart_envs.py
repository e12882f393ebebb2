"""CartPole for workers that have copies of weights and gradients of their own, as those on a GPU have."""

import sys

import gymnasium

from playfield.nets import learner

if "pytest" not in sys.modules:  # a test decides that for its own process
    learner._shareable = lambda device: False

gymnasium.register("Apart-v0", entry_point="gymnasium.envs.classic_control:CartPoleEnv", max_episode_steps=50)
