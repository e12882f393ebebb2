"""`playfield autoencoder`: train an auto-encoder on a dataset and evaluate it on held-out frames.

Dataset and config determine everything: on the same CPU they give the same bytes, also when the training was
stopped and resumed in between.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from playfield import compute
from playfield.datasets import ball, dataset
from playfield.datasets.dataset import Dataset
from playfield.errors import DataError, DivergedError, UsageError
from playfield.nets.autoencoder import (
    AutoEncoder,
    Config,
    Encoder,
    divergence,
    initialised,
    inputs,
    load,
    rarity,
    reconstructed,
    squared_error,
)
from playfield.runs.console import Say, format_seconds
from playfield.runs.encoder import FILE
from playfield.runs.lock import RunLock
from playfield.runs.run import Stopped
from playfield.runs.signals import caught
from playfield.runs.storage import as_storage_error, atomic_write
from playfield.runs.weights import export_weights
from playfield.show import panels
from playfield.show.panels import write_png

REPORT, PICTURE = "autoencoder.json", "reconstructions.png"
EVAL_FRAMES = 2000  # held-out frames in an evaluation
COLUMNS = 6  # frames in a row of the picture
PERIOD = 5.0  # seconds between two lines of progress
SAVE = 60.0  # seconds between two saves


@dataclass
class Training:
    """The state of a training.

    Attributes:
        config: hyperparameters.
        data: the dataset.
        train, test: rows of the dataset, int64.
        net: the auto-encoder.
        adam: its optimizer.
        arrays: `back` (background), `weights` (of the loss), and `mean`, `std` of the latents.
        step: number of updates so far.
    """

    config: Config
    data: Dataset
    train: np.ndarray
    test: np.ndarray
    net: AutoEncoder
    adam: torch.optim.Adam
    arrays: dict[str, np.ndarray]
    step: int = 0

    @classmethod
    def new(cls, data: Dataset, config: Config) -> Training:
        """The state before the first update. Raises UsageError for a wrong config."""
        config.check()
        train, test = data.split(config.split, test=config.test, seed=config.split_seed)
        back = ball.background(data.frames[train[:: max(1, len(train) // 2000)]])
        weights = rarity(data.frames[train], back, config.most)  # the evaluation uses them with either loss
        net = initialised(config)
        arrays = {"back": back, "weights": weights, **_initial_scaling(config)}
        return cls(config, data, train, test, net, _adam(net), arrays)

    @classmethod
    def resumed(cls, data: Dataset, path: Path) -> Training:
        """The state that `save` wrote. Raises DataError where it belongs to another dataset."""
        net, config, arrays, meta, moments = load(path)
        if meta["data"] != data.meta["files"]:
            raise DataError(f"{path} was trained on other data than {data.path}")
        train, test = data.split(config.split, test=config.test, seed=config.split_seed)
        adam = _adam(net)
        if meta["step"]:
            for name, p in net.named_parameters():
                adam.state[p] = {
                    "step": torch.tensor(float(meta["step"])),
                    "exp_avg": moments[f"{name}.mean"],
                    "exp_avg_sq": moments[f"{name}.square"],
                }
        return cls(config, data, train, test, net, adam, arrays | _initial_scaling(config), int(meta["step"]))

    @property
    def per_epoch(self) -> int:
        """Updates per epoch."""
        return -(-len(self.train) // self.config.batch_size)

    @property
    def steps(self) -> int:
        """Updates in total."""
        return self.per_epoch * self.config.epochs

    @property
    def back(self) -> Tensor:
        """The background, float32 [84, 84]."""
        return torch.from_numpy(self.arrays["back"]).float()

    @property
    def weights(self) -> Tensor:
        """The weights of the loss, float32 [84, 84]."""
        return torch.from_numpy(self.arrays["weights"])

    def rows(self) -> np.ndarray:
        """The minibatch of the next update as rows of the dataset; each epoch has another permutation."""
        epoch, k = divmod(self.step, self.per_epoch)
        order = np.random.default_rng([self.config.seed, 21, epoch]).permutation(self.train)
        size = self.config.batch_size
        return np.asarray(order[k * size : (k + 1) * size])

    def update(self) -> float:
        """One gradient step; returns the loss before it. Raises DivergedError for a loss that is not finite."""
        c = self.config
        for group in self.adam.param_groups:
            group["lr"] = c.lr * 0.5 * (1 + np.cos(np.pi * self.step / self.steps))
        x = inputs(self.data.frames[self.rows()], self.back)
        noise = None
        if c.variational:
            generator = torch.Generator().manual_seed(c.seed * 1_000_003 + self.step)
            noise = torch.randn(len(x), c.latent, generator=generator)
        out, mean, log_variance = self.net(x, noise)
        loss = squared_error(x, out, self.weights if c.loss == "weighted" else None)
        if c.variational:
            loss = loss + c.kl_weight * divergence(mean, log_variance)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise DivergedError(f"the loss is {value} after {self.step:,} updates: lower --lr")
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.step += 1
        return value

    def finish(self) -> None:
        """Compute mean and standard deviation of the latents over training frames."""
        encoder = Encoder(self.net, self.config, self.arrays)
        codes = encoder.encode(self.data.frames[self.train[:: max(1, len(self.train) // 4000)]], scaled=False)
        self.net.train()
        self.arrays["mean"] = codes.mean(axis=0)
        self.arrays["std"] = np.maximum(codes.std(axis=0), 1e-3)

    def save(self, path: Path) -> None:
        """Write the auto-encoder and the state of the training to one file in the directory `path`."""
        tensors: dict[str, Any] = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= dict(sorted(self.arrays.items()))
        for name, p in self.net.named_parameters():
            if state := self.adam.state.get(p):
                tensors |= {f"adam.{name}.mean": state["exp_avg"], f"adam.{name}.square": state["exp_avg_sq"]}
        meta = {
            "kind": "autoencoder",
            "config": self.config.stored(),
            "env": self.data.meta["env"],
            "data": self.data.meta["files"],
            "step": self.step,
        }
        export_weights(path / FILE, tensors, meta)


def _initial_scaling(config: Config) -> dict[str, np.ndarray]:
    """Placeholders for mean and standard deviation of the latents, which `finish` computes."""
    return {"mean": np.zeros(config.latent, np.float32), "std": np.ones(config.latent, np.float32)}


def _adam(net: AutoEncoder) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters())


@dataclass(frozen=True)
class Evaluator:
    """The held-out frames that auto-encoders are evaluated on.

    Attributes:
        frames: uint8 [N, 84, 84].
        balls: those found in `frames`.
        back: background, uint8 [84, 84].
        weights: of the weighted loss, float32 [84, 84].
    """

    frames: np.ndarray
    balls: ball.Balls
    back: np.ndarray
    weights: Tensor

    @classmethod
    def of(cls, t: Training) -> Evaluator:
        """Evenly spaced test frames of a training."""
        starts = t.data.starts[t.test]
        rows = t.test[~starts] if not starts.all() else t.test
        rows = rows[np.linspace(0, len(rows) - 1, min(EVAL_FRAMES, len(rows))).astype(int)]
        frames = t.data.frames[rows]
        balls = ball.find(frames, t.data.frames[np.maximum(rows - 1, 0)], t.arrays["back"])
        return cls(frames, balls, t.arrays["back"], t.weights)

    def errors(self, net: AutoEncoder) -> dict[str, float]:
        """Reconstruction errors over `frames`, and rates over those with a ball.

        `mse` is the mean squared error of pixels in [0, 1], `weighted` the weighted loss, `ball_shown` and
        `ball_invented` are the means of `ball.shown` and `ball.invented`.
        """
        back = torch.from_numpy(self.back).float()
        pictures = reconstructed(net, self.frames, back)
        x, out = inputs(self.frames, back), inputs(pictures, back)
        found = {"mse": float(squared_error(x, out)), "weighted": float(squared_error(x, out, self.weights))}
        if len(self.balls):
            seen, true = pictures[self.balls.rows], self.frames[self.balls.rows]
            found["ball_shown"] = float(ball.shown(seen, self.balls, self.back).mean())
            wrong = ball.invented(seen, true, self.balls, self.back)
            found["ball_invented"] = float(wrong.mean()) if len(wrong) else 0.0
        return found

    def picture(self, nets: dict[str, AutoEncoder]) -> np.ndarray:
        """Held-out frames above their reconstructions by each network, uint8 [h, w, 3]; balls are boxed."""
        chosen, marks = self.balls.rows, {}
        if len(chosen):
            marks = dict(zip(chosen.tolist(), self.balls.places.tolist(), strict=True))
        else:
            chosen = np.arange(len(self.frames))
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(COLUMNS, len(chosen))).astype(int)]
        back = torch.from_numpy(self.back).float()
        rows = [("held-out frames", self.frames[chosen])]
        rows += [(title, reconstructed(net, self.frames[chosen], back)) for title, net in nets.items()]
        shown = []
        for title, frames in rows:
            tiles = [_tile(f, marks.get(int(k))) for k, f in zip(chosen, frames, strict=True)]
            shown.append(panels.caption(panels.beside(*tiles), title))
        gap = np.full((8, shown[0].shape[1], 3), panels.BACKGROUND, np.uint8)
        return np.concatenate([part for row in shown for part in (row, gap)][:-1])


def _tile(frame: np.ndarray, place: list[int] | None, scale: int = 3) -> np.ndarray:
    """A frame uint8 [H, W], enlarged `scale` times, with a box around a position (row, column)."""
    picture = panels.upscale(np.repeat(frame[..., None], 3, axis=2), scale)
    if place is not None:
        top, left = (max(0, (p - 4) * scale) for p in place)
        bottom, right = (min(picture.shape[0], (p + 5) * scale) - 1 for p in place)
        picture[[top, bottom], left : right + 1] = panels.ORANGE
        picture[top : bottom + 1, [left, right]] = panels.ORANGE
    return picture


def train(
    source: str | Path,
    config: Config | None = None,
    *,
    out: Path | str | None = None,
    resume: bool = False,
    say: Say | None = None,
) -> dict[str, Any]:
    """Train an auto-encoder on a dataset.

    Args:
        source: the directory of a dataset.
        config: see `Config`; a resumed training keeps its own.
        out: directory (default `autoencoders/NAME`, with the name of the dataset); it must not exist.
        resume: resume the training in `out`; the result is the same as without the interruption.
        say: called with each line of progress.

    Returns:
        The contents of `autoencoder.json`.

    Raises:
        Stopped: by Ctrl-C, SIGTERM or SIGHUP, after saving and evaluating.
        UsageError: no such dataset, a wrong value, or a directory that exists.
        DataError: damaged files, or another dataset than the one of the training that is resumed.
        DivergedError: the loss is not finite.
    """
    path = Path(out) if out is not None else Path("autoencoders") / dataset.locate(source).resolve().name
    if not resume:
        dataset.refuse_existing(path)
    elif not (path / FILE).exists():
        raise UsageError(f"{path} holds no training to resume: leave out --resume")
    compute.keep_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of summation, and so all bytes, depends on the number of threads
    try:
        data = dataset.load(source)
        t = Training.resumed(data, path) if resume else Training.new(data, config or Config())
        with as_storage_error(f"cannot write {path}"):
            path.mkdir(parents=True, exist_ok=True)
        with RunLock(path):
            return _train(t, path, say)
    finally:
        torch.set_num_threads(threads)


def _train(t: Training, path: Path, say: Say | None) -> dict[str, Any]:
    evaluator = Evaluator.of(t)
    first = initialised(t.config)
    before = evaluator.errors(first)
    if say is not None:
        how = "whole episodes" if t.config.split == "episodes" else "single frames: leaks neighbouring frames"
        say(
            f"{t.data.path}: {len(t.train):,} training frames, {len(t.test):,} held out ({how}); "
            f"{sum(p.numel() for p in t.net.parameters()):,} parameters, {t.steps:,} updates"
        )
    begun, used = time.monotonic(), time.process_time()
    signals: list[int] = []  # handled between updates
    with caught(signals.append, "saving"):
        _run_updates(t, path, say, signals)
    t.finish()
    t.save(path)
    after = evaluator.errors(t.net)
    write_png(path / PICTURE, evaluator.picture({"before training": first, "after training": t.net}))
    report = {
        "dataset": str(t.data.path),
        "env": t.data.meta["env"],
        "config": t.config.stored(),
        "done": t.step == t.steps,
        "updates": t.step,
        "frames": {
            "train": len(t.train),
            "test": len(t.test),
            "evaluated": len(evaluator.frames),
            "ball": len(evaluator.balls),
        },
        "before": before,
        "after": after,
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "torch": torch.__version__,
    }
    atomic_write(path / REPORT, json.dumps(report, indent=2) + "\n")
    if say is not None:
        say(summary(report, path))
    if signals and not report["done"]:
        raise Stopped(signals[0])
    return report


def _run_updates(t: Training, path: Path, say: Say | None, signals: list[int]) -> None:
    """Run the remaining updates, or until a signal arrives; saves and reports progress in between."""
    begun = shown = time.monotonic()
    saved = -np.inf  # save at once, so that a killed training can be resumed
    start, losses = t.step, []
    while t.step < t.steps and not signals:
        now = time.monotonic()
        if now - saved >= SAVE:
            t.save(path)
            saved = now
        losses.append(t.update())
        if say is not None and now - shown >= PERIOD and t.step < t.steps:
            shown = now
            left = format_seconds((now - begun) * (t.steps - t.step) / (t.step - start))
            epoch = t.step // t.per_epoch + 1
            say(
                f"epoch {epoch} of {t.config.epochs}, {t.step / t.steps:.0%}, loss {np.mean(losses):.5f}, {left} left"
            )
            losses = []


def summary(report: dict[str, Any], path: Path) -> str:
    """A report of `train` as a few lines of text; `path` is the directory of the training."""
    before, after = report["before"], report["after"]
    state = "" if report["done"] else f"stopped after {report['updates']:,} updates; continue with --resume\n"
    lines = [f"{state}mean squared error on held-out frames: {before['mse']:.5f} before, {after['mse']:.5f} after"]
    if "ball_shown" in after:
        lines.append(
            f"the ball is reconstructed in {after['ball_shown']:.1%} of the {report['frames']['ball']:,} held-out "
            f"frames with a clearly visible one; false positives: {after['ball_invented']:.1%}"
        )
    return "\n".join([*lines, f"pictures: {path / PICTURE}"])
