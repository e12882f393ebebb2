"""Does an agent play, or repeat? How alike its games are, and what is left of its score after random first steps.

Where nothing in a game is random, an agent can learn one sequence of actions by heart. Its games are then alike, and
some random actions at the start, after which the game is another, cost it its score.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from playfield.play.evaluate import Evaluation, evaluate
from playfield.play.policy import Policy
from playfield.play.protocol import under

SAME: dict[str, Any] = {"noop": 0}
"""Parts of `classic` that leave nothing random: all games begin alike, and equal actions give equal games."""


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """How many actions two games have in common before the first that differs; of actions [n] and [m]."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


def alike(games: Sequence[np.ndarray]) -> float:
    """How alike games are: the common prefix as a share of the longer game, the mean over all pairs.

    1 where all are the same, 0 where all differ from the first action on. `games`: the actions of at least two.
    """
    pairs = itertools.combinations(games, 2)
    return float(np.mean([common_prefix(a, b) / max(len(a), len(b)) for a, b in pairs]))


def equal_share(games: Sequence[np.ndarray], steps: np.ndarray) -> np.ndarray:
    """The share of pairs of games whose first k actions are equal, for each k of `steps` [P]: float64 [P]."""
    prefixes = np.array([common_prefix(a, b) for a, b in itertools.combinations(games, 2)])
    return np.asarray((prefixes[:, None] >= np.asarray(steps)).mean(axis=0))


def play(policy: Policy, games: int, cap: int, random_steps: int = 0, seed: int = 0) -> Evaluation:
    """Games of `policy`, all at once, where nothing in the game is random but what the agent does.

    Args:
        cap: frames after which a game is cut off: an agent that never loses the ball can play for ever.
        random_steps: random actions at the start of each game.
    """
    parts = {**SAME, "cap": cap}
    return evaluate(
        policy, games, seed=seed, num_envs=games, protocol="classic", parts=parts, random_steps=random_steps
    )


def deterministic(policy: Policy, cap: int) -> Policy:
    """The policy, to be filmed under the rules of `play`; its `spec` is changed."""
    policy.spec = under(policy.spec, "classic", {**SAME, "cap": cap})
    return policy
