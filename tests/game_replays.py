"""Specs to play under, and an evaluated game played again by one environment."""

from __future__ import annotations

import numpy as np

from playfield.envs import make_envs, make_from
from playfield.envs.base import EnvSpec
from playfield.play.evaluate import Game


def spec_of(env: str) -> EnvSpec:
    made = make_envs(env, 1)
    made.close()
    return made.spec


CARTPOLE, BREAKOUT = spec_of("CartPole-v1"), spec_of("breakout")


def replay(spec: EnvSpec, game: Game) -> tuple[float, int, int]:
    """Score, length and number of steps left over when the game's actions are played by one env alone."""
    env = make_from(spec, 1)
    env.reset(np.array([game.seed]))
    ended = []
    total = 0.0
    for t, action in enumerate(game.actions):
        record = env.step(np.array([action]))
        total += float(record.reward[0])
        if record.episodes:
            ended.append((total, record.episodes[0], t))
            total = 0.0
    env.close()
    assert len(ended) == game.number + 1
    own, episode, at = ended[-1]
    assert own == episode.score  # the raw reward adds up to the score
    return episode.score, episode.length, len(game.actions) - 1 - at
