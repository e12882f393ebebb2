"""The replay buffer: it stores the last transitions, overwrites the oldest, and samples uniformly.

First a buffer of size five, as in lesson 18: a ring buffer, in which each new observation overwrites the oldest. A
transition needs the next observation, so five observations are four transitions; each observation is stored once,
where the lesson's tuples (s, a, r, s') store it twice, as float64.

Then its purpose. Consecutive observations are almost the same, so a batch of consecutive transitions is highly
correlated. A batch sampled from the buffer is not: its autocorrelation is near 0.
"""

from __future__ import annotations

import numpy as np

from playfield.envs import make_envs
from playfield.envs.base import EnvSpec, Step
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Areas, Curves, Line, Mark
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row
from playfield.replay.buffer import Replay

BUDGET = Budget(steps=8)
CAPACITY = 5
SAMPLES = 20_000
PLAYED = 2_000  # steps of CartPole, for the correlation
LAGS = 20
LESSON_BYTES = 56_448  # of a frame of 84x84 float64, as the lesson stores it


def run(request: Request) -> Outcome:
    """Add more steps to a buffer of size five than it holds, and sample from it."""
    spec = EnvSpec("counting", "gymnasium", (1,), "float32", 2, ("left", "right"), {})
    buffer = Replay(spec, 1, CAPACITY, np.random.SeedSequence(0))
    steps = max(request.steps, CAPACITY)
    held = np.full((steps, CAPACITY), -1)
    for t in range(steps):
        buffer.add(np.array([[t]], np.float32), np.array([t % 2]), np.array([t], np.float32), _step_to(t + 1))
        held[t] = np.where(np.arange(CAPACITY) < buffer.entries, buffer.rewards[0], -1)  # reward t of step t
    stored = sorted(int(i) for i in held[-1])
    batch = buffer.sample(SAMPLES)
    fractions = np.bincount(batch.obs[:, 0].astype(int) - stored[0], minlength=CAPACITY) / SAMPLES
    consistent = bool((batch.next_obs[:, 0] == batch.obs[:, 0] + 1).all())
    newest = list(range(steps - CAPACITY, steps))
    uniform = 1 / (CAPACITY - 1)
    rows = [
        Row("buffer of 5", "oldest step stored", newest[0], stored[0], rule="same"),
        Row("buffer of 5", "newest step stored", newest[-1], stored[-1], rule="same"),
        Row("buffer of 5", "transitions", CAPACITY - 1, len(buffer), rule="same"),
        Row("buffer of 5", "largest fraction of samples", uniform, float(fractions.max()), tolerance=0.05),
        Row("buffer of 5", "smallest fraction of samples", uniform, float(fractions[:-1].min()), tolerance=0.05),
        Row(
            "buffer of 5",
            "next_obs is that of the next step",
            None,
            float(consistent),
            claim="for every sample",
            holds=consistent,
        ),
        Row("a transition of Breakout", "bytes", 2 * LESSON_BYTES, _bytes_each(), rule="at most"),
    ]
    consecutive, sampled = _correlations()
    rows.append(Row("CartPole, consecutive", "autocorrelation, lag 1", None, float(consecutive[1])))
    near = abs(float(sampled[1])) < 0.1
    rows.append(
        Row("CartPole, sampled", "autocorrelation, lag 1", None, float(sampled[1]), claim="near 0", holds=near)
    )
    lags = np.arange(LAGS + 1)
    line = Line("fraction of samples", np.array(stored[:-1]), fractions[None, :-1])
    return Outcome(
        "replay-memory",
        "The replay buffer",
        rows,
        [
            Areas(
                "A ring buffer of size five: which step is in which slot",
                np.arange(CAPACITY),
                np.arange(1, steps + 1),
                np.where(held < 0, 0, 1 + (held + 1 == np.arange(1, steps + 1)[:, None])),
                ("empty", "stored", "just added"),
                ("slot", "steps added"),
                text=held,
            ),
            Curves(
                f"{SAMPLES:,} samples: every transition is equally likely",
                "step of the transition",
                "fraction of samples",
                [line],
                [Mark(0, stored[0] - 0.5, stored[-2] + 0.5, uniform)],
                bars=True,
                marked="expected",
            ),
            Curves(
                "Purpose: consecutive observations are correlated",
                "lag in the batch",
                "autocorrelation of the pole's angle",
                [Line("consecutive", lags, consecutive[None]), Line("sampled", lags, sampled[None])],
                ylim=(-0.6, 1.05),
            ),
        ],
        notes=["The newest observation is no transition yet: that needs the next observation."],
    )


def _step_to(state: int) -> Step:
    """A step to `state`, with reward 0, that does not end the episode."""
    obs, no = np.array([[state]], np.float32), np.zeros(1, bool)
    return Step(obs, obs, np.zeros(1, np.float32), no, no)


def _correlations() -> tuple[np.ndarray, np.ndarray]:
    """Autocorrelation of the pole's angle, lags 0 to LAGS: of consecutive steps, and of samples from a buffer."""
    env, rng = make_envs("CartPole-v1", 1), np.random.default_rng(0)
    buffer = Replay(env.spec, 1, 2 * PLAYED, np.random.SeedSequence(0))
    obs, angles = env.reset(np.array([0])), []
    for _ in range(PLAYED):
        angles.append(float(obs[0, 2]))
        actions = rng.integers(2, size=1)
        step = env.step(actions)
        buffer.add(obs.copy(), actions, step.reward, step)
        obs = step.obs
    env.close()
    return _autocorrelation(np.array(angles)), _autocorrelation(buffer.sample(PLAYED).obs[:, 2].astype(float))


def _autocorrelation(x: np.ndarray) -> np.ndarray:
    x = x - x.mean()
    return np.array([float((x[: len(x) - k] * x[k:]).sum() / (x * x).sum()) for k in range(LAGS + 1)])


def _bytes_each() -> float:
    """Bytes per observation of a buffer for 1,000 observations of 84x84, uncompressed."""
    spec = EnvSpec("screens", "atari", (84, 84, 4), "uint8", 2, ("left", "right"), {})
    buffer = Replay(spec, 1, 1_000, np.random.SeedSequence(0), stack=4)
    return buffer.nbytes / 1_000
