"""The random agent: what Breakout gives to one who does not look.

Every comparison needs a floor. A tutorial plays five games at random before anything learns; papers report 1.7
points. Every action is equally likely, also "do nothing", so the paddle trembles about where it is.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._rows import mean_row

BUDGET = Budget(episodes=100, film=True)
GAME = "breakout"
PUBLISHED = 1.7  # Wang et al. 2016, with no-ops at the start, cut after 30 minutes
ENVS = 8


def run(ask: Ask) -> Outcome:
    """Full games of random play, raw scores."""
    from playfield.envs import make_envs, protocol_line

    env = make_envs(GAME, ENVS)
    rng = np.random.default_rng(0)
    env.reset(np.arange(ENVS))
    # So many games of each environment: the first to end would be the short ones, with low scores.
    each = -(-ask.episodes // ENVS)
    scores: list[list[float]] = [[] for _ in range(ENVS)]
    ask.progress.parts(1)
    done = ask.progress.part("random play")
    while min(map(len, scores)) < each:
        for episode in env.step(rng.integers(env.spec.num_actions, size=ENVS)).episodes:
            scores[episode.env].append(episode.score)
            done(sum(min(len(s), each) for s in scores), each * ENVS)
    protocol = protocol_line(env.spec.protocol)
    env.close()
    every = np.array([score for lane in scores for score in lane[:each]])
    counts = np.bincount(every.astype(int)) / len(every)
    x = np.arange(len(counts))
    row = mean_row(f"{len(every)} games", "score", PUBLISHED, every, judged=ask.as_published)
    return Outcome(
        "random-agent",
        "Breakout at random",
        [row],
        [
            Curves(
                f"Scores of {len(every)} games, mean {every.mean():.2f}",
                "score of a game",
                "share of games",
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
    """A game on the screen, at most 400 steps."""
    from playfield.envs.atari import Atari
    from playfield.show import panels

    env, rng = Atari(GAME, 1, raw=True), np.random.default_rng(0)
    env.reset(np.array([0]))
    for _ in range(400):
        step = env.step(rng.integers(env.spec.num_actions, size=1))
        yield panels.tv(step.next_obs[0], 1)
        if step.episodes:
            break
    env.close()
