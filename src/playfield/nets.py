"""Network bodies by name: each function here that is listed by `names()` is a value of `--net`.

A body maps a batch of observations to features [N, body.out_features]. Observations arrive as the environment
stores them: pixels uint8 [N, height, width, channels], vectors float32 [N, size]. Heads live with their algorithm.
To add a body, write one public function here that takes the observation shape and returns a module.
"""

from __future__ import annotations

import inspect
import math
import sys

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield.errors import UsageError, unknown


def init_orthogonal(layer: nn.Module, gain: float = math.sqrt(2)) -> nn.Module:
    """Orthogonal weights and zero bias, in place (Saxe et al. 2014; what PPO's reference code uses)."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        nn.init.orthogonal_(layer.weight, gain)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer


class Pixels(nn.Module):
    """First layer of every pixel body: uint8 [N, H, W, C] to the weight's number format, then a convolution.

    0..255 are exact in bfloat16, so the division by 255 moves into the (small) weight instead of costing a pass
    over the (large) batch.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int, padding: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, stride, padding)

    def forward(self, obs: Tensor) -> Tensor:
        w = self.conv.weight
        x = obs.to(w.dtype).permute(0, 3, 1, 2)  # a channels-last view, no copy
        return F.conv2d(x, w * (1 / 255), self.conv.bias, self.conv.stride, self.conv.padding)


class Flatten(nn.Module):
    """[N, C, H, W] in channels-last memory to [N, H*W*C] without a copy."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


class Body(nn.Sequential):
    """A sequence of layers that knows the number of features it ends with."""

    def __init__(self, *layers: nn.Module, out_features: int) -> None:
        super().__init__(*layers)
        self.out_features = out_features


def _need_pixels(shape: tuple[int, ...], net: str, least: int) -> tuple[int, int, int]:
    if len(shape) != 3:
        raise UsageError(f"--net {net} needs pixels, but observations have shape {shape}: use --net mlp")
    height, width, channels = shape
    if min(height, width) < least:
        raise UsageError(f"--net {net} needs pixels of at least {least}x{least}, not {height}x{width}")
    return height, width, channels


def _out(size: int, *layers: tuple[int, int]) -> int:
    for kernel, stride in layers:
        size = (size - kernel) // stride + 1
    return size


def mlp(shape: tuple[int, ...]) -> Body:
    """Two tanh layers of 64, for vectors and RAM bytes (which are scaled to [0, 1])."""
    size = math.prod(shape)
    return Body(
        Vector(),
        init_orthogonal(First(size, 64)),
        nn.Tanh(),
        init_orthogonal(nn.Linear(64, 64)),
        nn.Tanh(),
        out_features=64,
    )


def relu128(shape: tuple[int, ...]) -> Body:
    """One ReLU layer of 128: the body of the Keras actor-critic tutorial."""
    size = math.prod(shape)
    return Body(Vector(), First(size, 128), nn.ReLU(), out_features=128)


class Vector(nn.Module):
    """Any observation to float [N, size]; bytes are divided by 255."""

    def forward(self, obs: Tensor) -> Tensor:
        x = obs.flatten(1)
        return x.float() / 255 if x.dtype == torch.uint8 else x


class First(nn.Linear):
    """First dense layer: takes its input to the weight's number format, which may be bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.to(self.weight.dtype), self.weight, self.bias)


def nips(shape: tuple[int, ...]) -> Body:
    """The small net of Mnih et al. 2013: conv 16/8/4, 32/4/2, dense 256; LayerNorm before the last ReLU."""
    h, w, channels = _need_pixels(shape, "nips", 36)
    layers = ((8, 4), (4, 2))
    flat = 32 * _out(h, *layers) * _out(w, *layers)
    first = Pixels(channels, 16, 8, 4)
    init_orthogonal(first.conv)
    return Body(
        first,
        nn.ReLU(),
        init_orthogonal(nn.Conv2d(16, 32, 4, 2)),
        nn.ReLU(),
        Flatten(),
        init_orthogonal(nn.Linear(flat, 256)),
        nn.LayerNorm(256),
        nn.ReLU(),
        out_features=256,
    )


def nature(shape: tuple[int, ...]) -> Body:
    """The net of Mnih et al. 2015: conv 32/8/4, 64/4/2, 64/3/1, dense 512."""
    h, w, channels = _need_pixels(shape, "nature", 36)
    layers = ((8, 4), (4, 2), (3, 1))
    flat = 64 * _out(h, *layers) * _out(w, *layers)
    first = Pixels(channels, 32, 8, 4)
    init_orthogonal(first.conv)
    return Body(
        first,
        nn.ReLU(),
        init_orthogonal(nn.Conv2d(32, 64, 4, 2)),
        nn.ReLU(),
        init_orthogonal(nn.Conv2d(64, 64, 3, 1)),
        nn.ReLU(),
        Flatten(),
        init_orthogonal(nn.Linear(flat, 512)),
        nn.ReLU(),
        out_features=512,
    )


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3, same width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = init_orthogonal(nn.Conv2d(width, width, 3, padding=1))
        self.conv1 = init_orthogonal(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv1(F.relu(self.conv0(F.relu(x))))


def impala(shape: tuple[int, ...]) -> Body:
    """The residual net of Espeholt et al. 2018: 16, 32, 32 wide, two residual blocks each, dense 256."""
    h, w, channels = _need_pixels(shape, "impala", 16)
    body: list[nn.Module] = []
    inputs = channels
    for i, width in enumerate((16, 32, 32)):
        conv: nn.Module = Pixels(channels, width, 3, 1, 1) if i == 0 else nn.Conv2d(inputs, width, 3, padding=1)
        init_orthogonal(conv.conv if isinstance(conv, Pixels) else conv)
        body += [conv, nn.MaxPool2d(3, 2, 1), Residual(width), Residual(width)]
        h, w, inputs = (h + 1) // 2, (w + 1) // 2, width
    dense = init_orthogonal(nn.Linear(inputs * h * w, 256))
    return Body(*body, nn.ReLU(), Flatten(), dense, nn.ReLU(), out_features=256)


def names() -> list[str]:
    """Every body in this file, by name."""
    module = sys.modules[__name__]
    return sorted(
        name
        for name, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == __name__ and not name.startswith("_") and name not in ("names", "make", "init_orthogonal")
    )


def make(name: str, shape: tuple[int, ...]) -> Body:
    """The body called `name` for observations of `shape`; `auto` picks `nature` for pixels, `mlp` otherwise."""
    if name == "auto":
        name = "nature" if len(shape) == 3 else "mlp"
    if name not in names():
        raise unknown("net", name, names())
    return getattr(sys.modules[__name__], name)(shape)
