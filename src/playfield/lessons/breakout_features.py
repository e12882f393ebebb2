"""What a linear learner makes of Breakout: an auto-encoder's latents beside bits of RAM and coarse pictures.

Lesson 18 names the plan, latents as features of true online TD(lambda), and stops before it. Here 40,000 screens are
collected from the agent that ships, and an auto-encoder is trained on 70 % of the games. Then

* prediction: true online TD(lambda) learns from the same games what states are worth under that agent, gamma 0.99 and
  signs of rewards, until a life is lost; it is judged on the games that were held out, by how much of the variance of
  the returns its values explain;
* control: true online Sarsa(lambda) plays, three trainings with each kind of features, judged by 30 games of at most
  five minutes each. The step size falls to zero: with one that stays, some agents are hardly better than random play.
  By pictures eight games are played at once, which a net sees in little more time than one. By RAM bits it is one:
  eight games that change the weights of the same bits together let them diverge.

The step size is a share of one over the mean squared length of the feature vectors, the same share for all.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Curves, Line, Mark, Outcome, Row, mean_row

BUDGET = Budget(runs=3, steps=200_000)
GAME = "breakout"
SCREENS = 40_000  # at most: fewer where control has fewer steps
RANDOM = 1.7  # mean score of random play in the literature; here it is measured too
SIDE = 14  # of the coarse pictures
PASSES, SHARE, CONTROL_SHARE = 5, 0.005, 0.1
GAMMA, LAM = 0.99, 0.9
GAMES, EPOCHS = 30, 8
ENVS, ROUND = 8, 800  # games at once, and steps of all between two changes of the step size
CAP = 18_000  # frames of a game, five minutes: an agent that never lets the ball fall can play for ever


def run(ask: Ask) -> Outcome:
    """Collect, train the auto-encoder, predict, play."""
    from playfield import dataset, reconstruction
    from playfield.autoencoder import Config
    from playfield.collect import collect
    from playfield.plots import read_monitor

    kinds = ("latents", "RAM bits", "pixels")
    ask.progress.parts(4 + len(kinds) * ask.runs)
    rows: list[Row] = []
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        ask.progress.part("collecting")
        screens = min(SCREENS, ask.steps)
        recorded = collect(GAME, steps=screens, out=Path(folder) / "data")
        ask.progress.part("auto-encoder")
        reconstruction.train(recorded, Config(epochs=EPOCHS), out=Path(folder) / "net")
        data = dataset.load(recorded)
        texts = (f"autoencoder:{Path(folder) / 'net'}", "bits", f"pixels:size={SIDE}")
        ask.progress.part("prediction")
        lengths = {}
        for kind, text in zip(kinds, texts, strict=True):
            start = time.perf_counter()
            explained, lengths[kind] = predicted(data, text)
            words: dict[str, Any] = (
                {"claim": "above 0", "holds": explained > 0, "judged": ask.as_published} if kind == kinds[0] else {}
            )
            seconds = time.perf_counter() - start
            rows.append(
                Row(f"prediction, {kind}", "variance explained", None, explained, seconds_here=seconds, **words)
            )
        ask.progress.part("random play")
        chance = played(Path(folder) / "random", "random", {}, min(ask.steps, 20_000), 1, {})
        rows.append(mean_row("control, random play", "score", RANDOM, chance, tolerance=0.5, judged=ask.as_published))
        for kind, text in zip(kinds, texts, strict=True):
            start, means, curves = time.perf_counter(), [], []
            for seed in range(1, ask.runs + 1):
                ask.progress.part(f"playing by {kind}, run {seed}")
                where = Path(folder) / f"{text.partition(':')[0]}-{seed}"
                config = {"features": text, "alpha": CONTROL_SHARE / lengths[kind], "lam": LAM, "anneal": True}
                envs = 1 if text == "bits" else ENVS
                config |= {"num_envs": envs, "rollout_steps": ROUND // envs}
                parts = {"obs": "ram"} if text == "bits" else {}
                means.append(float(played(where, "sarsa_lambda", config, ask.steps, seed, parts).mean()))
                curves.append([(step, score) for step, score, *_ in read_monitor(where / "monitor.csv")])
            row = mean_row(f"control, {kind}", "score", None, np.array(means))
            better = {"claim": "interval above random", "holds": row.low > chance.mean(), "judged": ask.as_published}
            seconds = time.perf_counter() - start
            rows.append(mean_row(row.setting, "score", None, np.array(means), seconds_here=seconds, **better))
            grid = np.linspace(0, ask.steps, 61)[1:]
            lines.append(Line(kind, grid, np.array([smoothed(games, grid) for games in curves])))
    notes = [f"Of {screens:,} screens; the random player's mean of {GAMES} games here is {chance.mean():.2f}."]
    bars = Curves(
        "Prediction on held-out games",
        "",
        "share of variance explained",
        [Line("", np.arange(len(kinds)), np.array([[max(np.nan_to_num(r.ours), 0.0) for r in rows[: len(kinds)]]]))],
        bars=True,
        names=kinds,
    )
    mark = [Mark(0, 0, float(ask.steps), float(chance.mean()))]
    title = f"Control: mean of {ask.runs} runs"
    panel = Curves(title, "steps", "score, last 100 games", lines, mark, marked="random play")
    return Outcome("breakout-features", "Breakout by linear methods", rows, [bars, panel], notes, columns=2)


def played(
    where: Path, algo: str, config: dict[str, Any], steps: int, seed: int, parts: dict[str, Any]
) -> np.ndarray:
    """Raw scores of 30 games after a training."""
    from playfield import train
    from playfield.show import evaluate_and_save

    quiet: dict[str, Any] = {"games": 0, "film": False, "console": False, "tensorboard": False}
    parts = {**parts, "cap": CAP}
    train(GAME, algo, steps=steps, seed=seed, run=where, workers=1, config=config, parts=parts, **quiet)
    return np.asarray(evaluate_and_save(where, "last", GAMES).scores, float)


def smoothed(games: list[tuple[int, float]], grid: np.ndarray) -> np.ndarray:
    """Mean score of the last 100 games at each step of `grid`; NaN before the first."""
    steps, scores = np.array([s for s, _ in games]), np.array([score for _, score in games])
    ends = np.searchsorted(steps, grid, "right")
    return np.array([scores[max(end - 100, 0) : end].mean() if end else np.nan for end in ends])


def predicted(data: Any, text: str) -> tuple[float, float]:
    """(share of the variance of held-out returns that TD(lambda) explains, mean squared length of features)."""
    from playfield.algos import td_lambda
    from playfield.linear.features import encode
    from playfield.linear.loop import entries
    from playfield.linear.maths import ONGOING, TERMINATED, TRUNCATED, dot
    from playfield.returns import explained_variance

    x, coder = features(data, text)
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    learnt, held = data.split()
    sample = [float(np.square(value[: encode(coder, x[i], index, value)]).sum()) for i in learnt[::50]]
    cfg = td_lambda.Config(alpha=SHARE / float(np.mean(sample)), gamma=GAMMA, lam=LAM)
    m, h, rng = td_lambda.memory(1, coder, cfg), td_lambda.rates(cfg), np.random.default_rng(0)
    rewards, (begin, learn) = np.sign(data.rewards), entries(td_lambda.begin, td_lambda.learn)
    for _ in range(PASSES):
        begun = False
        for i in learnt:
            if not begun:
                begin(m, h, rng, index, value, encode(coder, x[i], index, value))
                begun = True
            if data.actions[i] < 0:  # the last screen of a game
                begun = False
                continue
            ended = TERMINATED if data.terminated[i] else TRUNCATED if data.truncated[i] else ONGOING
            learn(m, h, rng, rewards[i], index, value, encode(coder, x[i + 1], index, value), ended)
            begun = ended == ONGOING
    returns = known_returns(rewards, data.terminated, data.actions < 0)
    judged = [i for i in held if np.isfinite(returns[i])]
    values = [dot(m.w, 0, index, value, encode(coder, x[i], index, value)) for i in judged]
    known = returns[judged]
    explained = explained_variance(np.array(values), known) if len(known) > 1 and known.std() else np.nan
    return explained, float(np.mean(sample))


def known_returns(rewards: np.ndarray, terminated: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Discounted returns until a life is lost; NaN where the recording does not tell."""
    out, after = np.full(len(rewards), np.nan), np.nan
    for i in range(len(rewards) - 1, -1, -1):
        after = np.nan if last[i] else rewards[i] + (0.0 if terminated[i] else GAMMA * after)
        out[i] = after
    return out


def features(data: Any, text: str) -> tuple[np.ndarray, Any]:
    """(prepared observations [rows, D], coder) of a dataset, as `--features` has them of an environment."""
    from playfield.envs import make_envs
    from playfield.linear.sight import Sight

    parts: dict[str, Any] = {"obs": "ram"} if text == "bits" else {}
    env = make_envs(GAME, 1, **parts)
    sight = Sight(text, env.spec)
    env.close()
    found = []
    for at in range(0, len(data), 1024):
        rows = np.arange(at, min(at + 1024, len(data)))
        found.append(sight(data.ram[rows] if text == "bits" else data.stacks(rows, env.spec.obs_shape[2])))
    return np.concatenate(found), sight.coder
