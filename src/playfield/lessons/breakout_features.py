"""What a linear learner makes of Breakout: an auto-encoder's latents beside bits of RAM and coarse pictures.

Lesson 18 names the plan, latents as features of true online TD(lambda), and stops before it. Here 40,000 screens are
collected from the agent that ships, and an auto-encoder is trained on 70 % of the games. Then

* prediction: true online TD(lambda) learns from the same games what states are worth under that agent, gamma 0.99 and
  signs of rewards, until a life is lost; it is judged on the games that were held out, by how much of the variance of
  the returns its values explain;
* control: true online Sarsa(lambda) plays, three trainings with each kind of features, judged by 30 games of at most
  five minutes each, beside 100 games of random play. The step size falls to zero: with one that stays, some agents
  are hardly better than random play.

One game is played at a time: eight that change the same weights together let RAM bits and pictures diverge. The step
size is a share of one over the mean squared length of the feature vectors, the same share for all.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from playfield.lessons._outcome import Ask, Budget, Outcome
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._rows import Row, mean_row
from playfield.play.statistics import difference_interval

BUDGET = Budget(runs=3, steps=200_000)
GAME = "breakout"
SCREENS = 40_000  # at most: fewer where control has fewer steps
RANDOM = 1.7  # mean score of random play in the literature; here it is measured too
SIDE = 14  # of the coarse pictures
PASSES, SHARE, CONTROL_SHARE = 5, 0.005, 0.1
GAMMA, LAM = 0.99, 0.9
GAMES, RANDOM_GAMES, EPOCHS = 30, 100, 8
DRAWS = 2_000  # of held-out games, for an interval
CAP = 18_000  # frames of a game, five minutes: an agent that never lets the ball fall can play for ever


def run(ask: Ask) -> Outcome:
    """Collect, train the auto-encoder, predict, play."""
    from playfield.datasets import dataset, train_autoencoder
    from playfield.datasets.collect import collect
    from playfield.nets.autoencoder import Config
    from playfield.runs.logger import read_monitor

    kinds = ("latents", "RAM bits", "pixels")
    ask.progress.parts(4 + len(kinds) * ask.runs)
    rows: list[Row] = []
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        ask.progress.part("collecting")
        screens = min(SCREENS, ask.steps)
        recorded = collect(GAME, steps=screens, out=Path(folder) / "data")
        ask.progress.part("auto-encoder")
        train_autoencoder.train(recorded, Config(epochs=EPOCHS), out=Path(folder) / "net")
        data = dataset.load(recorded)
        texts = (f"autoencoder:{Path(folder) / 'net'}", "bits", f"pixels:size={SIDE}")
        ask.progress.part("prediction")
        lengths = {}
        for kind, text in zip(kinds, texts, strict=True):
            start = time.perf_counter()
            explained, low, high, lengths[kind] = predicted(data, text)
            better: dict[str, Any] = {"claim": "interval above 0", "holds": low > 0, "judged": ask.as_published}
            seconds = time.perf_counter() - start
            found = Row(f"prediction, {kind}", "variance explained", None, explained, low, high, seconds_here=seconds)
            rows.append(dataclasses.replace(found, **better) if kind == kinds[0] else found)
        ask.progress.part("random play")
        chance = played(Path(folder) / "random", "random", {}, 1_000, 1, {}, min(RANDOM_GAMES, ask.steps // 100))
        rows.append(mean_row("control, random play", "score", RANDOM, chance, tolerance=0.5, judged=ask.as_published))
        for kind, text in zip(kinds, texts, strict=True):
            start, means, curves = time.perf_counter(), [], []
            config = {"features": text, "alpha": CONTROL_SHARE / lengths[kind], "lam": LAM, "anneal": True}
            for seed in range(1, ask.runs + 1):
                ask.progress.part(f"playing by {kind}, run {seed}")
                where = Path(folder) / f"{text.partition(':')[0]}-{seed}"
                parts = {"obs": "ram"} if text == "bits" else {}
                means.append(played(where, "sarsa_lambda", config, ask.steps, seed, parts, GAMES).mean())
                curves.append([(step, score) for step, score, *_ in read_monitor(where / "monitor.csv")])
            seconds = time.perf_counter() - start
            rows.append(mean_row(f"control, {kind}", "score", None, np.array(means), seconds_here=seconds))
            low, high = difference_interval(means, chance.tolist())
            margin = float(np.mean(means) - chance.mean())
            better = {"claim": "interval above 0", "holds": low > 0, "judged": ask.as_published, "few": ask.runs < 2}
            rows.append(Row(f"control, {kind}", "score less random play's", None, margin, low, high, **better))
            grid = np.linspace(0, ask.steps, 61)[1:]
            lines.append(Line(kind, grid, np.array([smoothed(games, grid) for games in curves])))
    notes = [
        f"Of {screens:,} screens. Intervals: of prediction by drawing held-out games anew, of control Student's over "
        "trainings, of differences Welch's.",
    ]
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
    where: Path, algo: str, config: dict[str, Any], steps: int, seed: int, parts: dict[str, Any], games: int
) -> np.ndarray:
    """Raw scores of so many games after a training."""
    from playfield import train
    from playfield.play.evaluate import evaluate_and_save

    quiet: dict[str, Any] = {"games": 0, "film": False, "console": False, "tensorboard": False}
    parts = {**parts, "cap": CAP}
    train(GAME, algo, steps=steps, seed=seed, run=where, workers=1, config=config, parts=parts, **quiet)
    return np.asarray(evaluate_and_save(where, "last", games).scores, float)


def smoothed(games: list[tuple[int, float]], grid: np.ndarray) -> np.ndarray:
    """Mean score of the last 100 games at each step of `grid`; NaN before the first."""
    steps, scores = np.array([s for s, _ in games]), np.array([score for _, score in games])
    ends = np.searchsorted(steps, grid, "right")
    return np.array([scores[max(end - 100, 0) : end].mean() if end else np.nan for end in ends])


def predicted(data: Any, text: str) -> tuple[float, float, float, float]:
    """(explained share of the variance of returns, its interval's ends, mean squared length of features).

    Judged are whole games that nothing was learnt from.
    """
    from playfield.algos import td_lambda
    from playfield.algos._returns import explained_variance
    from playfield.linear.episodes import entries
    from playfield.linear.features import encode
    from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED, dot

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
    explained = explained_variance(np.array(values), known) if len(known) > 1 else np.nan
    games = np.cumsum(data.starts)[judged]
    return explained, *explained_interval(np.array(values), known, games), float(np.mean(sample))


def explained_interval(values: np.ndarray, known: np.ndarray, games: np.ndarray) -> tuple[float, float]:
    """Bootstrap percentile interval (95 %) of the explained variance, drawing whole `games` [N] anew."""
    _, games = np.unique(games, return_inverse=True)
    count, error = games.max(initial=-1) + 1, known - values
    if count < 2:
        return np.nan, np.nan
    sums = np.stack([np.bincount(games, x) for x in (np.ones(len(known)), known, known**2, error, error**2)])
    picks = np.random.default_rng(0).integers(count, size=(DRAWS, count))
    total, *moments = sums[:, picks].sum(axis=-1)
    mean, square, error_mean, error_square = (m / total for m in moments)
    with np.errstate(invalid="ignore", divide="ignore"):  # a draw of games without any score
        found = 1 - (error_square - error_mean**2) / (square - mean**2)
    low, high = (
        np.nanquantile(found[np.isfinite(found)], [0.025, 0.975]) if np.isfinite(found).any() else (np.nan,) * 2
    )
    return float(low), float(high)


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
    from playfield.linear.observe import Sight

    parts: dict[str, Any] = {"obs": "ram"} if text == "bits" else {}
    env = make_envs(GAME, 1, **parts)
    sight = Sight(text, env.spec)
    env.close()
    found = []
    for at in range(0, len(data), 1024):
        rows = np.arange(at, min(at + 1024, len(data)))
        found.append(sight(data.ram[rows] if text == "bits" else data.stacks(rows, env.spec.obs_shape[2])))
    return np.concatenate(found), sight.coder
