"""Linear methods on Breakout: the latents of an auto-encoder, bits of RAM, and downscaled pixels as features.

Lesson 18 names the plan, latents as features of true online TD(lambda), and stops before it. Here 40,000 screens are
collected from the agent that ships with playfield, and an auto-encoder is trained on 70 % of the games. Then

* prediction: true online TD(lambda) learns the values of states under that agent from the same games, with gamma 0.99
  and signs of rewards, until a life is lost; it is evaluated on the held-out games, by the explained variance of the
  returns;
* control: true online Sarsa(lambda), three trainings with each kind of features, evaluated over 30 games of at most
  five minutes each, beside 100 games of random play. The step size is annealed to zero: with a constant one, some
  agents are hardly better than random play.

There is one environment: with eight that update the same weights, RAM bits and pixels diverge. The step size is a
fraction of one over the mean squared length of the feature vectors, the same fraction for all.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from playfield.algos import td_lambda
from playfield.algos._returns import explained_variance
from playfield.datasets import dataset, train_autoencoder
from playfield.datasets.collect import collect
from playfield.envs import make_envs
from playfield.lessons._outcome import Outcome
from playfield.lessons._panels import Curves, Line, Mark
from playfield.lessons._request import Budget, Request
from playfield.lessons._rows import Row, mean_row
from playfield.lessons._training import train_only
from playfield.linear.episodes import entry_points
from playfield.linear.features import encode
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED, dot
from playfield.linear.observe import Observer
from playfield.nets.autoencoder import Config
from playfield.play.evaluate import evaluate_and_save
from playfield.play.statistics import difference_interval
from playfield.runs.logger import read_monitor

BUDGET = Budget(runs=3, steps=200_000)
GAME = "breakout"
SCREENS = 40_000  # at most; never more than the steps of control
RANDOM = 1.7  # mean score of random play in the literature
SIDE = 14  # of the downscaled pixels
PASSES = 5  # over the training set, in prediction
FRACTION, CONTROL_FRACTION = 0.005, 0.1  # step size times the mean squared length of the features
GAMMA, LAM = 0.99, 0.9
GAMES, RANDOM_GAMES, EPOCHS = 30, 100, 8
RESAMPLES = 2_000  # of the bootstrap over held-out games
CAP = 18_000  # frames of a game, five minutes: an agent that never loses the ball can play for ever


def run(request: Request) -> Outcome:
    """Collect, train the auto-encoder, then prediction and control."""
    kinds = ("latents", "RAM bits", "pixels")
    request.progress.parts(4 + len(kinds) * request.runs)
    rows: list[Row] = []
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        request.progress.part("collecting")
        screens = min(SCREENS, request.steps)
        recorded = collect(GAME, steps=screens, out=Path(folder) / "data")
        request.progress.part("auto-encoder")
        train_autoencoder.train(recorded, Config(epochs=EPOCHS), out=Path(folder) / "net")
        data = dataset.load(recorded)
        texts = (f"autoencoder:{Path(folder) / 'net'}", "bits", f"pixels:size={SIDE}")
        request.progress.part("prediction")
        lengths = {}
        for kind, text in zip(kinds, texts, strict=True):
            start = time.perf_counter()
            explained, low, high, lengths[kind] = predict(data, text)
            better: dict[str, Any] = {"claim": "interval above 0", "holds": low > 0, "compared": request.as_published}
            seconds = time.perf_counter() - start
            found = Row(f"prediction, {kind}", "explained variance", None, explained, low, high, seconds_here=seconds)
            rows.append(dataclasses.replace(found, **better) if kind == kinds[0] else found)
        request.progress.part("random play")
        random_scores = trained_scores(
            Path(folder) / "random", "random", {}, 1_000, 1, {}, min(RANDOM_GAMES, request.steps // 100)
        )
        rows.append(
            mean_row(
                "control, random play", "score", RANDOM, random_scores, tolerance=0.5, compared=request.as_published
            )
        )
        for kind, text in zip(kinds, texts, strict=True):
            start, means, curves = time.perf_counter(), [], []
            config = {"features": text, "alpha": CONTROL_FRACTION / lengths[kind], "lam": LAM, "anneal": True}
            for seed in range(1, request.runs + 1):
                request.progress.part(f"control, {kind}, run {seed}")
                where = Path(folder) / f"{text.partition(':')[0]}-{seed}"
                parts = {"obs": "ram"} if text == "bits" else {}
                means.append(trained_scores(where, "sarsa_lambda", config, request.steps, seed, parts, GAMES).mean())
                curves.append([(step, score) for step, score, *_ in read_monitor(where / "monitor.csv")])
            seconds = time.perf_counter() - start
            rows.append(mean_row(f"control, {kind}", "score", None, np.array(means), seconds_here=seconds))
            low, high = difference_interval(means, random_scores.tolist())
            margin = float(np.mean(means) - random_scores.mean())
            better = {
                "claim": "interval above 0",
                "holds": low > 0,
                "compared": request.as_published,
                "few": request.runs < 2,
            }
            rows.append(Row(f"control, {kind}", "score minus random play", None, margin, low, high, **better))
            grid = np.linspace(0, request.steps, 61)[1:]
            lines.append(Line(kind, grid, np.array([running_mean(games, grid) for games in curves])))
    notes = [
        f"{screens:,} screens. Intervals: prediction by bootstrap over held-out games, control Student's over "
        "trainings, differences Welch's.",
    ]
    bars = Curves(
        "Prediction on held-out games",
        "",
        "explained variance",
        [Line("", np.arange(len(kinds)), np.array([[max(np.nan_to_num(r.ours), 0.0) for r in rows[: len(kinds)]]]))],
        bars=True,
        names=kinds,
    )
    mark = [Mark(0, 0, float(request.steps), float(random_scores.mean()))]
    title = f"Control: mean of {request.runs} runs"
    panel = Curves(title, "steps", "score, last 100 games", lines, mark, marked="random play")
    return Outcome("breakout-features", "Linear methods on Breakout", rows, [bars, panel], notes, columns=2)


def trained_scores(
    where: Path, algo: str, config: dict[str, Any], steps: int, seed: int, parts: dict[str, Any], games: int
) -> np.ndarray:
    """Train into the directory `where`; returns raw scores [games] of the final agent.

    Args:
        config: fields of the algorithm's `Config`.
        parts: of the protocol, besides the cap.
    """
    parts = {**parts, "cap": CAP}
    train_only(GAME, algo, run=where, steps=steps, seed=seed, workers=1, config=config, parts=parts)
    return np.asarray(evaluate_and_save(where, "last", games).scores, float)


def running_mean(games: list[tuple[int, float]], grid: np.ndarray) -> np.ndarray:
    """Mean score of the last 100 games at each step of `grid` [P]; NaN before the first. `games`: (step, score)."""
    steps, scores = np.array([s for s, _ in games]), np.array([score for _, score in games])
    ends = np.searchsorted(steps, grid, "right")
    return np.array([scores[max(end - 100, 0) : end].mean() if end else np.nan for end in ends])


def predict(data: Any, text: str) -> tuple[float, float, float, float]:
    """Learn values from the training games of `data`, a `Dataset`, with the features `text`.

    Returns:
        (explained variance of the returns of held-out games, lower and upper end of its interval, mean squared length
        of the feature vectors).
    """
    x, coder = features(data, text)
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    train, test = data.split()
    sample = [float(np.square(value[: encode(coder, x[i], index, value)]).sum()) for i in train[::50]]
    cfg = td_lambda.Config(alpha=FRACTION / float(np.mean(sample)), gamma=GAMMA, lam=LAM)
    m, h, rng = td_lambda.memory(1, coder, cfg), td_lambda.rates(cfg), np.random.default_rng(0)
    rewards, (begin, learn) = np.sign(data.rewards), entry_points(td_lambda.begin, td_lambda.learn)
    for _ in range(PASSES):
        begun = False
        for i in train:
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
    known = [i for i in test if np.isfinite(returns[i])]
    values = [dot(m.w, 0, index, value, encode(coder, x[i], index, value)) for i in known]
    targets = returns[known]
    explained = explained_variance(np.array(values), targets) if len(targets) > 1 else np.nan
    games = np.cumsum(data.starts)[known]
    return explained, *explained_interval(np.array(values), targets, games), float(np.mean(sample))


def explained_interval(values: np.ndarray, returns: np.ndarray, games: np.ndarray) -> tuple[float, float]:
    """Bootstrap percentile interval (95 %) of the explained variance of `returns` [N] by `values` [N].

    Whole games are resampled; games int [N] is the game of each value.
    """
    _, games = np.unique(games, return_inverse=True)
    count, error = games.max(initial=-1) + 1, returns - values
    if count < 2:
        return np.nan, np.nan
    sums = np.stack([np.bincount(games, x) for x in (np.ones(len(returns)), returns, returns**2, error, error**2)])
    picks = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    total, *moments = sums[:, picks].sum(axis=-1)
    mean, square, error_mean, error_square = (m / total for m in moments)
    with np.errstate(invalid="ignore", divide="ignore"):  # resampled games without any score
        found = 1 - (error_square - error_mean**2) / (square - mean**2)
    low, high = (
        np.nanquantile(found[np.isfinite(found)], [0.025, 0.975]) if np.isfinite(found).any() else (np.nan,) * 2
    )
    return float(low), float(high)


def known_returns(rewards: np.ndarray, terminated: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Discounted returns [N] until a life is lost; NaN where the recording ends before that.

    Args:
        last: bool [N], the last screen of a recorded game.
    """
    out, after = np.full(len(rewards), np.nan), np.nan
    for i in range(len(rewards) - 1, -1, -1):
        after = np.nan if last[i] else rewards[i] + (0.0 if terminated[i] else GAMMA * after)
        out[i] = after
    return out


def features(data: Any, text: str) -> tuple[np.ndarray, Any]:
    """(inputs [rows, D] of the coder, coder) for all screens of a dataset, as `--features` has them in training."""
    parts: dict[str, Any] = {"obs": "ram"} if text == "bits" else {}
    env = make_envs(GAME, 1, **parts)
    sight = Observer(text, env.spec)
    env.close()
    found = []
    for at in range(0, len(data), 1024):
        rows = np.arange(at, min(at + 1024, len(data)))
        found.append(sight(data.ram[rows] if text == "bits" else data.stacks(rows, env.spec.obs_shape[2])))
    return np.concatenate(found), sight.coder
