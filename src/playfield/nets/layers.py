"""Layers of the bodies in `bodies.py`. None of them depends on the other observations of a batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_SILU_GAIN = 1.68  # 1 / sqrt(E[silu(z)^2]) for a standard normal z


def init_orthogonal(layer: nn.Module, gain: float = math.sqrt(2)) -> nn.Module:
    """Orthogonal weights and zero bias, in place (Saxe et al. 2014; what PPO's reference code uses)."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.orthogonal_(layer.weight, gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


def init_scaled(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    """Normal weights that scale the input's standard deviation by `gain` (He et al. 2015), zero bias; in place.

    Unlike orthogonal weights they do so in layers with more outputs than inputs, and in depthwise convolutions.
    """
    with torch.no_grad():
        layer.weight.copy_(torch.randn(layer.weight.shape)).mul_(gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def init_uniform(layer: nn.Module) -> None:
    """Weights and bias uniform in +-1/sqrt(fan in), in place: what DQN's Torch code used, and PyTorch's default.

    Their standard deviation is 1/sqrt(3 fan in); that of `init_orthogonal` is sqrt(6) = 2.45 times larger.
    """
    if isinstance(layer, nn.Linear | nn.Conv2d):
        edge = 1 / math.sqrt(layer.weight[0].numel())
        nn.init.uniform_(layer.weight, -edge, edge)
        if layer.bias is not None:
            nn.init.uniform_(layer.bias, -edge, edge)


def init_glorot(layer: nn.Module) -> None:
    """Uniform weights with variance 2/(fan in + fan out) and zero bias (Glorot and Bengio 2010), in place.

    The default of Keras, and what Dopamine's networks in JAX use.
    """
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


class Scaled(nn.Module):
    """Base of first layers: observations from `low` to `high` are scaled to 0..1 where `scale` was called."""

    low: Tensor
    width: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scaled = False

    def scale(self, low: Sequence[float], high: Sequence[float]) -> None:
        """Scale by these bounds, one for all or one for each index of the last axis; equal ones give 0."""
        ends = [torch.tensor(side, dtype=torch.float64) for side in (low, high)]
        width = torch.where(ends[1] > ends[0], ends[1] - ends[0], 1.0)
        # No part of the weights: they are the environment's, and stored with its spec.
        self.register_buffer("low", ends[0].float(), persistent=False)
        self.register_buffer("width", width.float(), persistent=False)
        self.scaled = True

    def to_unit(self, obs: Tensor) -> Tensor:
        """Observations [N, ...] as float32, scaled."""
        return (obs.float() - self.low) / self.width


class Pixels(Scaled):
    """First layer of every pixel body: converts uint8 [N, H, W, C] to the weight's dtype, then a convolution.

    0..255 are exact in bfloat16, so the division by 255 is applied to the (small) weight instead of the (large)
    batch. Returns [N, width, H', W'], channels-last in memory.

    With `motion` above 0 the weights are for other channels: the newest frame, and `motion` times the difference
    between it and each earlier one. What moves then stands out from the first update on. The differences are taken
    of the weights, since both are linear: no other picture is made. The layer can
    represent the same functions as before; only its initial weights and the effect of a step differ.

    Attributes:
        frames: frames in the channels of an observation, the newest last (0: each channel is one).
    """

    frames = 0

    def __init__(
        self, channels: int, width: int, kernel: int, stride: int, padding: int = 0, motion: float = 0.0
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding)
        self.motion = motion

    def weight(self) -> Tensor:
        """The convolution's weights [width, C, kernel, kernel] for the pixels as they are."""
        w = self.conv.weight
        planes = w.shape[1] // (self.frames or w.shape[1])
        if not self.motion or planes == w.shape[1]:
            return w
        past = self.motion * w[:, :-planes].float()
        newest = w[:, -planes:].float() + past.unflatten(1, (-1, planes)).sum(1)
        return torch.cat([-past, newest], 1).to(w.dtype)

    def forward(self, obs: Tensor) -> Tensor:
        w = self.weight()
        if self.scaled:
            x = self.to_unit(obs).to(w.dtype).permute(0, 3, 1, 2)
            return F.conv2d(x, w, self.conv.bias, self.conv.stride, self.conv.padding)
        x = obs.to(w.dtype).permute(0, 3, 1, 2)  # a channels-last view, no copy
        return F.conv2d(x, w * (1 / 255), self.conv.bias, self.conv.stride, self.conv.padding)


class Spread(Scaled):
    """Bytes between their bounds to bytes 0..255."""

    def forward(self, obs: Tensor) -> Tensor:
        return (255 * self.to_unit(obs)).round().clamp(0, 255).to(torch.uint8)


class Flatten(nn.Module):
    """[N, C, H, W] in channels-last memory to [N, H*W*C] without a copy."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Vector(Scaled):
    """Any observation to float [N, size]; bytes are divided by 255, or scaled by their bounds.

    `bytes` says that observations are bytes also where they come as floats, as they do for gradients.
    """

    bytes = False

    def forward(self, obs: Tensor) -> Tensor:
        if self.scaled:
            return self.to_unit(obs).flatten(1)
        x = obs.flatten(1)
        return x.float() / 255 if self.bytes or x.dtype == torch.uint8 else x


class First(nn.Linear):
    """First dense layer: converts its input [N, in] to the weight's dtype, which may be bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def norm2d(norm: str, channels: int) -> list[nn.Module]:
    """The normalisation after a convolution: for `layer` a LayerNorm (Ba et al. 2016), else none.

    It normalises over all channels and positions of an observation, with a gain and a bias for each channel.
    """
    return [nn.GroupNorm(1, channels)] if norm == "layer" else []


def norm1d(norm: str, size: int) -> list[nn.Module]:
    """The normalisation after a dense layer: a LayerNorm for `dense` and `layer`, else none."""
    return [nn.LayerNorm(size)] if norm in ("dense", "layer") else []


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3, same width; with `norm` after each convolution."""

    def __init__(self, width: int, norm: str = "none") -> None:
        super().__init__()
        self.conv0 = init_orthogonal(nn.Conv2d(width, width, 3, padding=1))
        self.conv1 = init_orthogonal(nn.Conv2d(width, width, 3, padding=1))
        self.norm0 = nn.Sequential(*norm2d(norm, width))
        self.norm1 = nn.Sequential(*norm2d(norm, width))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm1(self.conv1(F.relu(self.norm0(self.conv0(F.relu(x))))))
        return x + y


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate in (0, 2) computed from the means of all channels (Hu et al. 2018).

    gate = 2 sigmoid(W2 silu(W1 mean(x))). The factor 2 (Brock et al. 2021) makes it about 1 at initialisation, which
    networks without normalisation need.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, squeezed)
        self.excite = nn.Linear(squeezed, channels)
        init_scaled(self.squeeze, _SILU_GAIN)
        init_scaled(self.excite, _SILU_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        gate = 2 * torch.sigmoid(self.excite(F.silu(self.squeeze(x.mean((2, 3))))))
        return x * gate[:, :, None, None]


class MBConv(nn.Module):
    """Inverted residual block of EfficientNetV2 (Tan and Le 2021): expand, 3x3 convolution, project.

    `fused` (Fused-MBConv) expands in the 3x3 convolution. Otherwise a 1x1 convolution expands, the 3x3 convolution is
    depthwise, and squeeze-and-excitation gates the channels. The input is added where shapes are equal.
    """

    def __init__(
        self, inputs: int, outputs: int, stride: int = 1, *, expand: int = 4, fused: bool = False, norm: str = "none"
    ) -> None:
        super().__init__()
        hidden = expand * inputs
        self.adds = stride == 1 and inputs == outputs
        narrow = nn.Conv2d(hidden, outputs, 1)
        init_scaled(narrow, _SILU_GAIN)
        if fused:
            wide = nn.Conv2d(inputs, hidden, 3, stride, padding=1)
            init_scaled(wide, 1.0)
            layers = [wide, *norm2d(norm, hidden), nn.SiLU()]
        else:
            wide = nn.Conv2d(inputs, hidden, 1)
            depthwise = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden)
            init_scaled(wide, 1.0)
            init_scaled(depthwise, _SILU_GAIN)
            layers = [wide, *norm2d(norm, hidden), nn.SiLU()]
            layers += [depthwise, *norm2d(norm, hidden), nn.SiLU(), SqueezeExcite(hidden, max(inputs // 4, 1))]
        self.layers = nn.Sequential(*layers, narrow, *norm2d(norm, outputs))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.adds else y
