"""Training an auto-encoder on a dataset, judging it on frames that were held out, and showing what it sees.

Everything follows from the dataset and the config: the same on the same processor gives the same bytes, also when
the training was stopped between two updates and went on from what was saved.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
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
from playfield.runs.console import format_seconds
from playfield.runs.encoder import FILE
from playfield.runs.lock import RunLock
from playfield.runs.run import Stopped
from playfield.runs.signals import caught
from playfield.runs.storage import as_storage_error, atomic_write
from playfield.runs.weights import export_weights
from playfield.show import panels
from playfield.show.panels import write_png

REPORT, PICTURE = "autoencoder.json", "reconstructions.png"
JUDGED = 2000  # held-out frames that are looked at for balls
SHOWN = 6  # columns of the picture
PERIOD = 5.0  # seconds between two lines of progress
SAVE = 60.0  # seconds between two saves

Say = Callable[[str], None]


@dataclass
class Training:
    """A training under way: all that the next update needs.

    Attributes:
        step: updates done.
        arrays: `back`, `weights` (of the loss), and `mean`, `std` of the latents.
        train, test: rows of the dataset.
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
        config.check()
        train, test = data.split(config.split, test=config.test, seed=config.split_seed)
        back = ball.background(data.frames[train[:: max(1, len(train) // 2000)]])
        weights = rarity(data.frames[train], back, config.most)  # the plain loss is judged by them too
        net = initialised(config)
        arrays = {"back": back, "weights": weights, **_unmeasured(config)}
        return cls(config, data, train, test, net, _adam(net), arrays)

    @classmethod
    def resumed(cls, data: Dataset, path: Path) -> Training:
        """Go on from what `save` wrote. Raises DataError where it was trained on other data."""
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
        return cls(config, data, train, test, net, adam, arrays | _unmeasured(config), int(meta["step"]))

    @property
    def per_epoch(self) -> int:
        return -(-len(self.train) // self.config.batch_size)

    @property
    def steps(self) -> int:
        return self.per_epoch * self.config.epochs

    @property
    def back(self) -> Tensor:
        return torch.from_numpy(self.arrays["back"]).float()

    @property
    def weights(self) -> Tensor:
        return torch.from_numpy(self.arrays["weights"])

    def rows(self) -> np.ndarray:
        """The rows of the next update: each epoch passes over all in another order."""
        epoch, k = divmod(self.step, self.per_epoch)
        order = np.random.default_rng([self.config.seed, 21, epoch]).permutation(self.train)
        size = self.config.batch_size
        return np.asarray(order[k * size : (k + 1) * size])

    def update(self) -> float:
        """One update of the weights; returns the loss before it. Raises DivergedError."""
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
            raise DivergedError(f"the loss is {value} after {self.step:,} updates: give a smaller --lr")
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        self.step += 1
        return value

    def finish(self) -> None:
        """Take mean and spread of the latents over the frames that were learnt from."""
        encoder = Encoder(self.net, self.config, self.arrays)
        codes = encoder.encode(self.data.frames[self.train[:: max(1, len(self.train) // 4000)]], scaled=False)
        self.net.train()
        self.arrays["mean"] = codes.mean(axis=0)
        self.arrays["std"] = np.maximum(codes.std(axis=0), 1e-3)

    def save(self, path: Path) -> None:
        """Write the auto-encoder and all that a resumed training needs as one file."""
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


def _unmeasured(config: Config) -> dict[str, np.ndarray]:
    """Mean and spread of the latents until a training is over: `Encoder.load` knows them."""
    return {"mean": np.zeros(config.latent, np.float32), "std": np.ones(config.latent, np.float32)}


def _adam(net: AutoEncoder) -> torch.optim.Adam:
    return torch.optim.Adam(net.parameters())


@dataclass(frozen=True)
class Judge:
    """Held-out frames, those with a ball that was found, and what they are compared by."""

    frames: np.ndarray
    balls: ball.Balls
    back: np.ndarray
    weights: Tensor

    @classmethod
    def of(cls, t: Training) -> Judge:
        starts = t.data.starts[t.test]
        rows = t.test[~starts] if not starts.all() else t.test
        rows = rows[np.linspace(0, len(rows) - 1, min(JUDGED, len(rows))).astype(int)]
        frames = t.data.frames[rows]
        balls = ball.find(frames, t.data.frames[np.maximum(rows - 1, 0)], t.arrays["back"])
        return cls(frames, balls, t.arrays["back"], t.weights)

    def errors(self, net: AutoEncoder) -> dict[str, float]:
        """Errors over all held-out frames looked at, and shares of those with a ball.

        `mse` is the mean squared error of pixels in 0..1, `weighted` the same as the weighted loss counts it,
        `ball_shown` and `ball_invented` as in `playfield.datasets.ball`.
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
        """True frames above what each net makes of them, uint8 [h, w, 3]; balls are framed."""
        chosen, marks = self.balls.rows, {}
        if len(chosen):
            marks = dict(zip(chosen.tolist(), self.balls.places.tolist(), strict=True))
        else:
            chosen = np.arange(len(self.frames))
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(SHOWN, len(chosen))).astype(int)]
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
    """A frame, `scale` times as large, with a box around a place."""
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
    """Train an auto-encoder on a dataset; returns what `autoencoder.json` says.

    Args:
        source: the directory of a dataset.
        config: see `Config`; a resumed training has that which it began with.
        out: directory (default `autoencoders/NAME`, with the name of the dataset); it must not exist.
        resume: go on with the training in `out`, exactly.

    Raises:
        Stopped: Ctrl-C or SIGTERM; what was learnt until then is saved and judged.
        UsageError: no such dataset, a wrong value, a directory that exists. DataError: damaged files.
    """
    path = Path(out) if out is not None else Path("autoencoders") / dataset.locate(source).resolve().name
    if not resume:
        dataset.refuse_existing(path)
    elif not (path / FILE).exists():
        raise UsageError(f"{path} holds no training to go on with: leave out --resume")
    compute.keep_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums, and so all bytes, must not depend on the caller's setting
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
    judge = Judge.of(t)
    first = initialised(t.config)
    before = judge.errors(first)
    if say is not None:
        how = (
            "whole episodes" if t.config.split == "episodes" else "single frames, which leaks: neighbours are learnt"
        )
        say(
            f"{t.data.path}: {len(t.train):,} frames to learn from, {len(t.test):,} held out ({how}); "
            f"{sum(p.numel() for p in t.net.parameters()):,} weights, {t.steps:,} updates"
        )
    begun, used = time.monotonic(), time.process_time()
    came: list[int] = []  # signals: no update is cut in two
    with caught(came.append, "saving"):
        _updates(t, path, say, came)
    t.finish()
    t.save(path)
    after = judge.errors(t.net)
    write_png(path / PICTURE, judge.picture({"before training": first, "after training": t.net}))
    report = {
        "dataset": str(t.data.path),
        "env": t.data.meta["env"],
        "config": t.config.stored(),
        "done": t.step == t.steps,
        "updates": t.step,
        "frames": {"train": len(t.train), "test": len(t.test), "judged": len(judge.frames), "ball": len(judge.balls)},
        "before": before,
        "after": after,
        "seconds": round(time.monotonic() - begun, 1),
        "cpu_seconds": round(time.process_time() - used, 1),
        "torch": torch.__version__,
    }
    atomic_write(path / REPORT, json.dumps(report, indent=2) + "\n")
    if say is not None:
        say(summary(report, path))
    if came and not report["done"]:
        raise Stopped(came[0])
    return report


def _updates(t: Training, path: Path, say: Say | None, came: list[int]) -> None:
    """Update to the end, or until a signal came, with lines of progress and saves in between."""
    begun = shown = time.monotonic()
    saved = -np.inf  # the first save is at once: a training that dies can go on
    start, losses = t.step, []
    while t.step < t.steps and not came:
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
    """The result in a few lines."""
    before, after = report["before"], report["after"]
    state = "" if report["done"] else f"stopped after {report['updates']:,} updates; go on with --resume\n"
    lines = [f"{state}error on held-out frames: {before['mse']:.5f} before, {after['mse']:.5f} after (mean square)"]
    if "ball_shown" in after:
        lines.append(
            f"the ball is shown in {after['ball_shown']:.1%} of {report['frames']['ball']:,} held-out frames that "
            f"have one for certain, and invented in {after['ball_invented']:.1%}"
        )
    return "\n".join([*lines, f"pictures: {path / PICTURE}"])
