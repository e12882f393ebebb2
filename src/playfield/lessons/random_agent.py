"""The random agent: the score of random play on Breakout.

Every comparison needs a lower baseline. A tutorial plays five games at random before training; papers report 1.7
points. Actions are sampled uniformly, NOOP too, so the paddle stays near where it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from playfield.envs import make_envs, protocol_line
from playfield.envs.atari import Atari
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import mean_row
from playfield.show import panels

BUDGET = Budget(episodes=100, film=True)
GAME = "breakout"
PUBLISHED = 1.7  # Wang et al. 2016, no-op starts, truncated after 30 minutes
ENVS = 8


def run(request: Request) -> Outcome:
    """Raw scores of full games with random actions."""
    env = make_envs(GAME, ENVS)
    rng = np.random.default_rng(0)
    env.reset(np.arange(ENVS))
    # The same number of games in each environment: the first games to end are the short ones, with low scores.
    each = -(-request.episodes // ENVS)
    scores: list[list[float]] = [[] for _ in range(ENVS)]
    request.progress.parts(1)
    done = request.progress.part("random play")
    while min(map(len, scores)) < each:
        for episode in env.step(rng.integers(env.spec.num_actions, size=ENVS)).episodes:
            scores[episode.env].append(episode.score)
            done(sum(min(len(s), each) for s in scores), each * ENVS)
    protocol = protocol_line(env.spec.protocol)
    env.close()
    every = np.array([score for games in scores for score in games[:each]])
    counts = np.bincount(every.astype(int)) / len(every)
    x = np.arange(len(counts))
    row = mean_row(f"{len(every)} games", "score", PUBLISHED, every, compared=request.as_published)
    return Outcome(
        "random-agent",
        "Breakout, random agent",
        [row],
        [
            Curves(
                f"Scores of {len(every)} games, mean {every.mean():.2f}",
                "score of a game",
                "fraction of games",
                [Line("", x, counts[None])],
                [Mark(0, PUBLISHED, PUBLISHED, 1.1 * float(counts.max()))],
                bars=True,
                marked="published mean",
            )
        ],
        foot=protocol,
        film=_film,
        fps=15,
    )


def _film() -> Iterator[np.ndarray]:
    """The screens of one game, at most 400 steps."""
    env, rng = Atari(GAME, 1, raw=True), np.random.default_rng(0)
    env.reset(np.array([0]))
    for _ in range(400):
        step = env.step(rng.integers(env.spec.num_actions, size=1))
        yield panels.tv(step.next_obs[0], 1)
        if step.episodes:
            break
    env.close()
