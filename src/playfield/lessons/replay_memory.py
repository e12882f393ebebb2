"""What a replay memory does: it keeps the last transitions, overwrites the oldest, and draws from all alike.

First a memory of five, as in lesson 18: a ring, in which each new observation takes the place of the oldest. A
transition needs the observation that followed, so five observations are four transitions; each is kept once, where
the lesson's tuples (s, a, r, s') keep it twice, as float64.

Then why it is there. What an agent sees changes little from one step to the next, so a batch of neighbours says the
same thing many times over. A batch drawn from the memory does not: its correlation is near 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Areas, Curves, Line, Mark
from playfield.lessons._rows import Row

BUDGET = Budget(steps=8)
CAPACITY = 5
DRAWS = 20_000
PLAYED = 2_000  # steps of CartPole, for the correlation
LAGS = 20
LESSON_BYTES = 56_448  # of a frame of 84x84 float64, as the lesson keeps it


def run(ask: Ask) -> Outcome:
    """Fill a memory of five with more steps than it holds, and draw from it."""
    from playfield.envs.base import EnvSpec
    from playfield.replay.buffer import Replay

    spec = EnvSpec("counting", "gymnasium", (1,), "float32", 2, ("left", "right"), {})
    memory = Replay(spec, 1, CAPACITY, np.random.SeedSequence(0))
    steps = max(ask.steps, CAPACITY)
    held = np.full((steps, CAPACITY), -1)
    for t in range(steps):
        memory.add(np.array([[t]], np.float32), np.array([t % 2]), np.array([t], np.float32), _went_on(t + 1))
        held[t] = np.where(np.arange(CAPACITY) < memory.entries, memory.rewards[0], -1)  # reward t says which
    kept = sorted(int(i) for i in held[-1])
    batch = memory.sample(DRAWS)
    drawn = np.bincount(batch.obs[:, 0].astype(int) - kept[0], minlength=CAPACITY) / DRAWS
    follows = bool((batch.next_obs[:, 0] == batch.obs[:, 0] + 1).all())
    newest = list(range(steps - CAPACITY, steps))
    even = 1 / (CAPACITY - 1)
    rows = [
        Row("memory of 5", "oldest step held", newest[0], kept[0], rule="same"),
        Row("memory of 5", "newest step held", newest[-1], kept[-1], rule="same"),
        Row("memory of 5", "transitions", CAPACITY - 1, len(memory), rule="same"),
        Row("memory of 5", "largest share of draws", even, float(drawn.max()), tolerance=0.05),
        Row("memory of 5", "smallest share of draws", even, float(drawn[:-1].min()), tolerance=0.05),
        Row("memory of 5", "next is the one after", None, float(follows), claim="for every draw", holds=follows),
        Row("a transition of Breakout", "bytes", 2 * LESSON_BYTES, _bytes_each(), rule="at most"),
    ]
    order, shuffled = _correlations()
    rows.append(Row("CartPole, neighbours", "correlation one step on", None, float(order[1])))
    near = abs(float(shuffled[1])) < 0.1
    rows.append(
        Row("CartPole, drawn", "correlation one draw on", None, float(shuffled[1]), claim="near 0", holds=near)
    )
    lags = np.arange(LAGS + 1)
    shares = Line("share of draws", np.array(kept[:-1]), drawn[None, :-1])
    return Outcome(
        "replay-memory",
        "What a replay memory does",
        rows,
        [
            Areas(
                "A ring of five: which step lies where",
                np.arange(CAPACITY),
                np.arange(1, steps + 1),
                np.where(held < 0, 0, 1 + (held + 1 == np.arange(1, steps + 1)[:, None])),
                ("empty", "held", "just written"),
                ("slot", "after so many steps"),
                text=held,
            ),
            Curves(
                f"{DRAWS:,} draws: every transition alike",
                "step whose transition was drawn",
                "share of draws",
                [shares],
                [Mark(0, kept[0] - 0.5, kept[-2] + 0.5, even)],
                bars=True,
                marked="expected",
            ),
            Curves(
                "Why: neighbours say the same",
                "distance in the batch",
                "correlation of the pole's angle",
                [Line("in order", lags, order[None]), Line("drawn", lags, shuffled[None])],
                ylim=(-0.6, 1.05),
            ),
        ],
        notes=["The newest observation waits for the next: only then is it a transition."],
    )


def _went_on(following: int) -> Any:
    from playfield.envs.base import Step

    obs, no = np.array([[following]], np.float32), np.zeros(1, bool)
    return Step(obs, obs, np.zeros(1, np.float32), no, no)


def _correlations() -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation of the pole's angle, lags 0 to LAGS: in the order of play, and as drawn from a memory."""
    from playfield.envs import make_envs
    from playfield.replay.buffer import Replay

    env, rng = make_envs("CartPole-v1", 1), np.random.default_rng(0)
    memory = Replay(env.spec, 1, 2 * PLAYED, np.random.SeedSequence(0))
    obs, seen = env.reset(np.array([0])), []
    for _ in range(PLAYED):
        seen.append(float(obs[0, 2]))
        actions = rng.integers(2, size=1)
        step = env.step(actions)
        memory.add(obs.copy(), actions, step.reward, step)
        obs = step.obs
    env.close()
    return _autocorrelation(np.array(seen)), _autocorrelation(memory.sample(PLAYED).obs[:, 2].astype(float))


def _autocorrelation(x: np.ndarray) -> np.ndarray:
    x = x - x.mean()
    return np.array([float((x[: len(x) - k] * x[k:]).sum() / (x * x).sum()) for k in range(LAGS + 1)])


def _bytes_each() -> float:
    """What a memory of 1,000 screens of 84x84 takes for each, without compressing them."""
    from playfield.envs.base import EnvSpec
    from playfield.replay.buffer import Replay

    spec = EnvSpec("screens", "atari", (84, 84, 4), "uint8", 2, ("left", "right"), {})
    memory = Replay(spec, 1, 1_000, np.random.SeedSequence(0), stack=4)
    return memory.nbytes / 1_000
