"""A convolutional auto-encoder of game screens, whose latents are features for linear methods.

Its input and output are differences from the background, the dataset's median of each pixel, so that what never
changes need not be learnt. Variational auto-encoder: Kingma and Welling 2014, arXiv:1312.6114.
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
from playfield.runs.encoder import SIDE, SPLITS, locate
from playfield.runs.weights import import_weights

LOSSES = ("weighted", "plain")
STRONG = 30 / 255  # pixels that differ from the background by more belong to an object


@dataclass(frozen=True)
class Config:
    """Hyper-parameters of an auto-encoder and its training."""

    latent: int = 64
    """Latent dimensions."""
    variational: bool = False
    """Variational: encode a frame as a normal distribution, sampled in training, with a KL penalty."""
    kl_weight: float = 3e-5
    """Weight of the KL divergence from a standard normal distribution (variational)."""
    loss: str = "weighted"
    """`weighted`: pixels of objects that are rare at their position weigh more; `plain`: mean squared error."""
    most: float = 100.0
    """Maximum weight of a pixel (weighted)."""
    epochs: int = 8
    """Epochs over the training frames."""
    batch_size: int = 64
    """Frames in a minibatch."""
    lr: float = 2e-3
    """Initial learning rate of Adam; cosine annealing to 0."""
    split: str = "episodes"
    """`episodes`: holds out whole episodes; `frames`: single frames, with neighbours in the training set."""
    test: float = 0.3
    """Fraction of the frames that is held out."""
    split_seed: int = 42
    """Seed of the split."""
    seed: int = 1
    """Seed of the initial weights and of the order of frames."""

    def check(self) -> None:
        """Raise UsageError for a value out of range."""
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
        """The config stored in a file. Raises DataError where it is not one."""
        try:
            known = cls()
            return cls(**{f.name: type(getattr(known, f.name))(stored[f.name]) for f in fields(cls)})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"its config is not one of an auto-encoder ({error!r})") from None

    def stored(self) -> dict[str, Any]:
        """The config as JSON values, for a file."""
        return asdict(self)


class AutoEncoder(nn.Module):
    """Frames to latents and back, for frames of 84x84.

    Blocks of 4x4 pixels first become 16 channels of 21x21 positions (space to depth), and the decoder ends with the
    inverse, so that it can place a ball to the pixel without overlapping strides.
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
        if not self.variational:
            return code, torch.zeros_like(code)
        return code[:, : self.latent], code[:, self.latent :]

    def forward(self, x: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstructed differences [N, 1, 84, 84], mean and log variance; `noise` is standard normal [N, latent]."""
        mean, log_variance = self.encode(x)
        code = mean if noise is None else mean + noise * torch.exp(0.5 * log_variance)
        return self.decoder(code), mean, log_variance


def initialised(config: Config) -> AutoEncoder:
    """A network with the initial weights of the config's seed.

    Each layer of the decoder starts with the transposed weights of the encoder's layer, so that inputs are faintly
    reconstructed at their position from the first update on: balls are learnt in a tenth of the time.
    """
    generator = torch.Generator().manual_seed(config.seed)
    net = AutoEncoder(config.latent, config.variational)
    encoder = [m for m in net.encoder if isinstance(m, nn.Conv2d | nn.Linear)]
    decoder = [m for m in net.decoder if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    with torch.no_grad():
        for layer, mirror in zip(encoder, reversed(decoder), strict=True):
            fan = layer.weight[0].numel()
            layer.weight.normal_(0, math.sqrt(2 / fan), generator=generator)
            transposed = layer.weight[: config.latent].T if isinstance(layer, nn.Linear) else layer.weight
            if isinstance(mirror, nn.Conv2d):  # unlike ConvTranspose2d, it does not transpose its weights itself
                transposed = transposed.transpose(0, 1).flip(2, 3)
            mirror.weight.copy_(transposed)
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
    """Weight of objects at each pixel: one over the fraction of frames with an object there, float32 [84, 84].

    Between 1 and `most`. A brick that is there in half of the frames weighs 2; a ball, at a given pixel in a few of a
    thousand frames, weighs `most`.
    """
    count = np.zeros(back.shape, np.int64)
    for at in range(0, len(frames), 4096):
        apart = np.abs(frames[at : at + 4096].astype(np.int16) - back.astype(np.int16))
        count += (apart > 255 * STRONG).sum(axis=0)
    return np.clip(len(frames) / np.maximum(count, 1), 1, most).astype(np.float32)


def squared_error(x: Tensor, out: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error over frames and pixels; pixels of objects in `x` are weighted by `weights` [84, 84]."""
    error = (out - x) ** 2
    if weights is None:
        return error.mean()
    return (error * torch.where(x.abs() > STRONG, weights, 1.0)).mean()


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Mean Kullback-Leibler divergence from a standard normal distribution, in nats per latent."""
    return 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).mean()


class Encoder:
    """A trained auto-encoder as features: `encode(frames)`.

    Attributes:
        latent: latent dimensions.
        net, config: the auto-encoder and its hyper-parameters.
        back: uint8 [84, 84], the background.
        mean, std: float32 [latent], of the training frames' latents.
    """

    def __init__(self, net: AutoEncoder, config: Config, arrays: dict[str, np.ndarray]) -> None:
        self.net, self.config, self.latent = net.eval(), config, net.latent
        self.back, self.mean, self.std = arrays["back"], arrays["mean"], arrays["std"]
        self._back = torch.from_numpy(self.back).float()

    @classmethod
    def load(cls, path: str | Path) -> Encoder:
        """Load the auto-encoder from its directory or its file.

        Raises:
            UsageError: there is none, or its training is not finished. DataError: the file is damaged, or no
                auto-encoder.
        """
        net, config, arrays, meta, _ = load(path)
        if not arrays["mean"].any() and (arrays["std"] == 1).all():  # they are computed at the end of training
            raise UsageError(
                f"{path} is still being trained, or was killed after {meta['step']:,} updates: "
                "finish it with playfield autoencoder DATASET --resume"
            )
        return cls(net, config, arrays)

    def encode(self, frames: np.ndarray, *, velocity: bool = False, scaled: bool = True) -> np.ndarray:
        """Latents of frames, float32.

        Args:
            frames: uint8 [N, 84, 84], or stacks of k frames [N, 84, 84, k], oldest first.
            velocity: of stacks: only the newest frame's latents, and their differences from the previous frame's.
            scaled: standardise latents to mean 0 and variance 1 over the training frames (differences then have mean
                0 and a variance below 2), so that one step size suits all.

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
        if scaled:
            codes = (codes - self.mean) / self.std
        return codes

    def reconstruct(self, frames: np.ndarray) -> np.ndarray:
        """Frames encoded and decoded: uint8 [N, 84, 84] to uint8 [N, 84, 84]."""
        return reconstructed(self.net, frames, self._back)


def reconstructed(net: AutoEncoder, frames: np.ndarray, back: Tensor) -> np.ndarray:
    """Frames encoded and decoded by the network, uint8 [N, 84, 84] to uint8 [N, 84, 84]."""
    out = np.empty(frames.shape, np.uint8)
    with torch.inference_mode():
        for at in range(0, len(frames), 256):
            apart = net(inputs(frames[at : at + 256], back))[0][:, 0]
            out[at : at + 256] = (apart * 255 + back).round().clamp(0, 255).numpy().astype(np.uint8)
    return out


def load(path: str | Path) -> tuple[AutoEncoder, Config, dict[str, np.ndarray], dict[str, Any], dict[str, Tensor]]:
    """A saved training: network, config, arrays (back, mean, std, weights), metadata, and the optimizer's tensors."""
    file = locate(path)
    tensors, meta = import_weights(file)
    try:
        if meta.get("kind") != "autoencoder" or not isinstance(meta.get("config"), dict):
            raise DataError("it is not an auto-encoder")
        config = Config.of(meta["config"])
        net = AutoEncoder(config.latent, config.variational)
        net.load_state_dict({k[4:]: v for k, v in tensors.items() if k.startswith("net.")})
        arrays = {k: tensors[k] for k in ("back", "mean", "std", "weights")}
    except (DataError, KeyError, RuntimeError, ValueError) as error:
        raise DataError(f"not loaded: {file}: {str(error).splitlines()[0]}") from None
    return net, config, arrays, meta, {k[5:]: v for k, v in tensors.items() if k.startswith("adam.")}
