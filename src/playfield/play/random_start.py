"""Games that begin with random actions: an agent that knows one sequence by heart cannot play them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from playfield.envs.base import Episode
from playfield.play.policy import Policy, RandomPolicy, chooser

Choose = Callable[[np.ndarray, np.ndarray], np.ndarray]


class RandomStart:
    """A policy in N environments, each of whose games begins with `steps` random actions.

    Every game counts its own steps, so games may begin at different times.
    """

    def __init__(self, policy: Policy, steps: int, num_envs: int) -> None:
        self.steps, self._choose, self._random = steps, chooser(policy), RandomPolicy(policy.spec).choose
        self._played = np.zeros(num_envs, np.int64)  # steps of the game that each environment plays now

    def choose(self, obs: np.ndarray, uniform: np.ndarray) -> np.ndarray:
        """Actions [N], counted from 0, for observations [N, ...] and uniform numbers in [0, 1) [N]."""
        first = self._played < self.steps
        self._played += 1
        if first.all():
            return self._random(obs, uniform)
        actions = self._choose(obs, uniform)
        return np.where(first, self._random(obs, uniform), actions) if first.any() else actions

    def ended(self, episodes: Sequence[Episode]) -> None:
        """These games ended with the last step: their environments play the next ones now."""
        for episode in episodes:
            self._played[episode.env] = 0
