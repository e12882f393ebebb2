"""A convolutional auto-encoder of game screens, and its latents as features of a linear learner.

The encoder sees how a frame differs from the background, the dataset's median of each pixel, and the decoder says
how it differs: what never changes need not be learnt. Variational: Kingma and Welling 2014, arXiv:1312.6114.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from playfield.errors import DataError, UsageError, unknown
from playfield.runs.encoder import SIDE, locate
from playfield.runs.weights import import_weights

LOSSES = ("weighted", "plain")
STRONG = 30 / 255  # what differs from the background by more is a thing


@dataclass(frozen=True)
class Config:
    """What an auto-encoder is and how it is trained."""

    latent: int = 64
    """Numbers that a frame is coded in."""
    variational: bool = False
    """Code a frame as a distribution, drawn from in training, and keep it near a standard normal one."""
    kl_weight: float = 3e-5
    """Weight of the distance to that normal distribution (variational)."""
    loss: str = "weighted"
    """`weighted`: errors in things that are rare at their place count more; `plain`: mean squared error."""
    most: float = 100.0
    """The most that a pixel can count (weighted)."""
    epochs: int = 8
    """Passes over the frames to learn from."""
    batch_size: int = 64
    """Frames in an update."""
    lr: float = 2e-3
    """Step size of Adam at the start; it falls to 0 along half a cosine."""
    split: str = "episodes"
    """`episodes`: whole episodes are held out; `frames`: single frames, whose neighbours are learnt from."""
    test: float = 0.3
    """Share of the frames that is held out."""
    split_seed: int = 42
    """Of the split."""
    seed: int = 1
    """Of the first weights and the order of the frames."""

    def check(self) -> None:
        """Raise UsageError where a value cannot be."""
        from playfield.runs.encoder import SPLITS

        for name, value, known in (("loss", self.loss, LOSSES), ("split", self.split, SPLITS)):
            if value not in known:
                raise unknown(name, value, known)
        for name, low, high in (
            ("latent", 1, 4096),
            ("epochs", 1, 10_000),
            ("batch_size", 1, 65_536),
            ("most", 1, 1e6),
            ("kl_weight", 0, 1e3),
            ("lr", 1e-8, 1),
            ("test", 0.001, 0.999),
            ("seed", 0, 2**53),
            ("split_seed", 0, 2**32 - 1),
        ):
            if not low <= getattr(self, name) <= high:
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag} must be between {low:g} and {high:g}, not {getattr(self, name):g}")

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Config:
        """The config that a file says. Raises DataError."""
        try:
            known = cls()
            return cls(**{f.name: type(getattr(known, f.name))(stored[f.name]) for f in fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"its config is not one of an auto-encoder ({error!r})") from None

    def stored(self) -> dict[str, Any]:
        return asdict(self)


class AutoEncoder(nn.Module):
    """Frames to latents and back, for frames of 84x84.

    Pixels are first gathered in blocks of 4x4, so that convolutions see 21x21 places; the decoder ends by giving such
    blocks, which puts a ball on its pixel without overlapping strides.
    """

    def __init__(self, latent: int = 64, variational: bool = False) -> None:
        super().__init__()
        self.latent, self.variational = latent, variational
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(6400, 2 * latent if variational else latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(latent, 6400),
            nn.ReLU(),
            nn.Unflatten(1, (64, 10, 10)),
            nn.ConvTranspose2d(64, 32, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(32, 16, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Differences from the background [N, 1, 84, 84] to mean and log variance (else 0), each [N, latent]."""
        code = self.encoder(x)
        return (
            (code[:, : self.latent], code[:, self.latent :]) if self.variational else (code, torch.zeros_like(code))
        )

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstructed differences [N, 1, 84, 84], mean and log variance; `noise` is standard normal [N, latent]."""
        mean, log_variance = self.encode(x)
        code = mean if noise is None else mean + noise * torch.exp(0.5 * log_variance)
        return self.decoder(code), mean, log_variance


def initialised(config: Config) -> AutoEncoder:
    """A net with the first weights of its seed.

    Every layer of the decoder begins with the weights of the encoder's, turned round, so that what went in comes out
    faintly at its place from the first update on: a ball is found in a tenth of the time.
    """
    generator = torch.Generator().manual_seed(config.seed)
    net = AutoEncoder(config.latent, config.variational)
    encoder = [m for m in net.encoder if isinstance(m, nn.Conv2d | nn.Linear)]
    decoder = [m for m in net.decoder if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    with torch.no_grad():
        for layer, mirror in zip(encoder, reversed(decoder), strict=True):
            fan = layer.weight[0].numel()
            layer.weight.normal_(0, math.sqrt(2 / fan), generator=generator)
            turned = layer.weight[: config.latent].T if isinstance(layer, nn.Linear) else layer.weight
            if isinstance(mirror, nn.Conv2d):  # not transposed by itself, as the other is
                turned = turned.transpose(0, 1).flip(2, 3)
            mirror.weight.copy_(turned)
            for module in (layer, mirror):
                if module.bias is not None:
                    module.bias.zero_()
        if config.variational:
            encoder[-1].weight[config.latent :] *= 0.1
    return net


def inputs(frames: np.ndarray | Tensor, back: Tensor) -> Tensor:
    """Frames uint8 [N, 84, 84] as differences from the background [84, 84], float32 [N, 1, 84, 84] in -1..1."""
    return ((torch.as_tensor(frames).float() - back) / 255)[:, None]


def rarity(frames: np.ndarray, back: np.ndarray, most: float) -> np.ndarray:
    """How much a thing counts at each place: one over the share of frames that have one there, float32 [84, 84].

    Between 1 and `most`. A brick that is there in half of the frames counts 2; a ball, seen at one place in a few
    frames of a thousand, counts `most`.
    """
    count = np.zeros(back.shape, np.int64)
    for at in range(0, len(frames), 4096):
        apart = np.abs(frames[at : at + 4096].astype(np.int16) - back.astype(np.int16))
        count += (apart > 255 * STRONG).sum(axis=0)
    return np.clip(len(frames) / np.maximum(count, 1), 1, most).astype(np.float32)


def squared_error(x: Tensor, out: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over frames and pixels of the squared error; things in `x` count as `weights` [84, 84] say."""
    error = (out - x) ** 2
    if weights is None:
        return error.mean()
    return (error * torch.where(x.abs() > STRONG, weights, 1.0)).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """The Kullback-Leibler divergence from a standard normal distribution, in nats per latent, averaged."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


class Encoder:
    """A trained auto-encoder as features: `encode(frames)`.

    Attributes:
        latent: numbers that a frame is coded in.
        net, config: the auto-encoder and how it was trained.
        back: uint8 [84, 84], the background.
        mean, std: float32 [latent], of the latents of the frames it learnt from.
    """

    def __init__(self, net: AutoEncoder, config: Config, arrays: dict[str, np.ndarray]) -> None:
        self.net, self.config, self.latent = net.eval(), config, net.latent
        self.back, self.mean, self.std = arrays["back"], arrays["mean"], arrays["std"]
        self._back = torch.from_numpy(self.back).float()

    @classmethod
    def load(cls, path: str | Path) -> Encoder:
        """Read the auto-encoder in a directory, or its file.

        Raises:
            UsageError: there is none, or one whose training is not over. DataError: it is damaged, or something else.
        """
        net, config, arrays, meta, _ = load(path)
        if not arrays["mean"].any() and (arrays["std"] == 1).all():  # they are measured at the end
            raise UsageError(
                f"{path} is still being trained, or was killed after {meta['step']:,} updates: "
                "finish it with playfield autoencoder DATASET --resume"
            )
        return cls(net, config, arrays)

    def encode(self, frames: np.ndarray, *, velocity: bool = False, scaled: bool = True) -> np.ndarray:
        """Latents of frames, float32.

        Args:
            frames: uint8 [N, 84, 84], or stacks of k frames [N, 84, 84, k], oldest first.
            velocity: of stacks: only the latents of the newest frame, and what they differ by from the one before.
            scaled: every latent has mean 0 and variance 1 over the frames that were learnt from (differences have
                mean 0 too, and a variance below 2), so that one step size suits all.

        Returns:
            [N, latent] of frames; [N, k * latent] of stacks, oldest first; [N, 2 * latent] with `velocity`.
        """
        frames = np.asarray(frames)
        if frames.dtype != np.uint8 or frames.shape[1:3] != (SIDE, SIDE) or frames.ndim not in (3, 4):
            raise UsageError(
                f"an auto-encoder of screens takes uint8 [N, {SIDE}, {SIDE}] or stacks of them "
                f"[N, {SIDE}, {SIDE}, k], not {frames.dtype} {list(frames.shape)}"
            )
        if frames.ndim == 3:
            if velocity:
                raise UsageError("velocity needs stacks of at least two frames")
            return self._encode(frames, scaled)
        if velocity:
            if frames.shape[3] < 2:
                raise UsageError("velocity needs stacks of at least two frames")
            frames = frames[..., -2:]
        n, k = len(frames), frames.shape[3]
        codes = self._encode(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)).reshape(n * k, SIDE, SIDE), scaled)
        codes = codes.reshape(n, k, self.latent)
        if velocity:
            codes = np.stack([codes[:, 1], codes[:, 1] - codes[:, 0]], axis=1)
        return codes.reshape(n, -1)

    def _encode(self, frames: np.ndarray, scaled: bool) -> np.ndarray:
        parts = [np.zeros((0, self.latent), np.float32)]
        with torch.inference_mode():
            for at in range(0, len(frames), 256):
                parts.append(self.net.encode(inputs(frames[at : at + 256], self._back))[0].numpy())
        codes = np.concatenate(parts)
        return (codes - self.mean) / self.std if scaled else codes

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """What the decoder makes of the latents of frames: uint8 [N, 84, 84] to uint8 [N, 84, 84]."""
        return reconstructed(self.net, frames, self._back)


def reconstructed(net: AutoEncoder, frames: np.ndarray, back: Tensor) -> np.ndarray:
    """Frames through the whole net, uint8 [N, 84, 84] to the same."""
    out = np.empty(frames.shape, np.uint8)
    with torch.inference_mode():
        for at in range(0, len(frames), 256):
            apart = net(inputs(frames[at : at + 256], back))[0][:, 0]
            out[at : at + 256] = (apart * 255 + back).round().clamp(0, 255).numpy().astype(np.uint8)
    return out


def load(path: str | Path) -> tuple[AutoEncoder, Config, dict[str, np.ndarray], dict[str, Any], dict[str, Tensor]]:
    """What a training saved: net, config, arrays, the rest of what it says, and the optimizer's tensors."""
    file = locate(path)
    tensors, meta = import_weights(file)
    try:
        if meta.get("kind") != "autoencoder" or not isinstance(meta.get("config"), dict):
            raise DataError("it is not that of an auto-encoder")
        config = Config.of(meta["config"])
        net = AutoEncoder(config.latent, config.variational)
        net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        arrays = {k: tensors[k] for k in ("back", "mean", "std", "weights")}
    except (DataError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"not loaded: {file}: {str(error).splitlines()[0]}") from None
    return net, config, arrays, meta, {k[5:]: v for k, v in tensors.items() if k.startswith("adam.")}
