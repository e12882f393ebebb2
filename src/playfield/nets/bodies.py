"""Network bodies by name: each public function here that takes a shape and returns a `Body` is a value of `--net`.

A body maps a batch of observations to features [N, body.out_features]. Observations have the environment's dtype:
pixels uint8 [N, height, width, channels], vectors float32 [N, size]. Heads are defined by the algorithms.
To add a body, write one public function here that takes the observation shape and returns a `Body`; another package
names such a function in the entry-point group `playfield.nets`. Its keyword-only arguments are its options, each with
a type (float, int, bool or Literal) and a default: `--net impala:width=2,norm=layer` calls
impala(shape, width=2.0, norm="layer").

`width` multiplies the channels of all convolutions, whose dense layers keep their size, and the layers of `mlp`.
`norm` is `none`, `dense` (LayerNorm after the dense layer) or `layer` (after every convolution as well).
`motion` above 0 lets the first layer see the differences between the newest frame and each earlier one, times this
factor, in place of the earlier ones (`layers.Pixels`): the ball, not the bricks.
`init` gives the initial weights, of the algorithm's heads as well: `orthogonal` with gain sqrt(2) (heads then have
the algorithm's own), `uniform` in +-1/sqrt(fan in) (DQN's code), or `glorot` (Keras).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import torch
from torch import nn

from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets.layers import (
    First,
    Flatten,
    MBConv,
    Pixels,
    Residual,
    Scaled,
    Spread,
    Vector,
    init_glorot,
    init_orthogonal,
    init_scaled,
    init_uniform,
    norm1d,
    norm2d,
)
from playfield.nets.names import net
from playfield.options import Range
from playfield.runs import catalog

Width = Annotated[float, Range(0.25, 8)]
"""A factor on the sizes of a body's layers."""
Motion = Annotated[float, Range(0, 16)]
"""The factor on differences of frames, or 0 for the frames themselves."""
Init = Literal["orthogonal", "uniform", "glorot"]
"""Initial weights, see above."""
_INITS = {"orthogonal": None, "uniform": init_uniform, "glorot": init_glorot}


class Body(nn.Sequential):
    """A sequence of layers; `out_features` is the number of features it returns.

    `init`, where given, draws the initial weights of all layers anew.
    """

    def __init__(
        self, *layers: nn.Module, out_features: int, init: Callable[[nn.Module], None] | None = None
    ) -> None:
        super().__init__(*layers)
        self.out_features = out_features
        self.init = init
        self.init_heads(*layers)

    def init_heads(self, *heads: nn.Module) -> None:
        """Give heads on this body its kind of initial weights; those without `init` keep theirs."""
        if self.init:
            for head in heads:
                head.apply(self.init)


def _need_pixels(shape: tuple[int, ...], net: str, least: int) -> tuple[int, int, int]:
    if len(shape) == 2 and min(shape) >= least:
        height, width = shape
        raise UsageError(f"images need channels: with one channel, {height}x{width} is {height}x{width}x1")
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


def _wide(channels: int, width: float) -> int:
    return max(round(channels * width), 1)


def _first(channels: int, width: int, kernel: int, stride: int, padding: int = 0, motion: float = 0.0) -> Pixels:
    layer = Pixels(channels, width, kernel, stride, padding, motion)
    init_orthogonal(layer.conv)
    return layer


def mlp(
    shape: tuple[int, ...],
    *,
    width: Width = 1.0,
    act: Literal["tanh", "relu"] = "tanh",
    norm: Literal["none", "dense"] = "none",
) -> Body:
    """Two layers of 64 (times `width`), for vectors and RAM bytes (which are scaled to [0, 1])."""
    size, wide = math.prod(shape), _wide(64, width)

    def after() -> list[nn.Module]:
        return [*norm1d(norm, wide), nn.ReLU() if act == "relu" else nn.Tanh()]

    return Body(
        Vector(),
        init_orthogonal(First(size, wide)),
        *after(),
        init_orthogonal(nn.Linear(wide, wide)),
        *after(),
        out_features=wide,
    )


def relu128(shape: tuple[int, ...], *, init: Literal["uniform", "glorot"] = "uniform") -> Body:
    """One ReLU layer of 128: the body of the Keras actor-critic tutorial (with `init=glorot`)."""
    layers = Vector(), First(math.prod(shape), 128), nn.ReLU()  # PyTorch's own initial weights are uniform
    return Body(*layers, out_features=128, init=init_glorot if init == "glorot" else None)


def nips(
    shape: tuple[int, ...],
    *,
    width: Width = 1.0,
    norm: Literal["none", "dense", "layer"] = "dense",
    init: Init = "orthogonal",
    motion: Motion = 0.0,
) -> Body:
    """The small net of Mnih et al. 2013: conv 16/8/4, 32/4/2, dense 256; LayerNorm before the last ReLU."""
    h, w, channels = _need_pixels(shape, "nips", 36)
    layers = ((8, 4), (4, 2))
    a, b = _wide(16, width), _wide(32, width)
    flat = b * _out(h, *layers) * _out(w, *layers)
    return Body(
        _first(channels, a, 8, 4, motion=motion),
        *norm2d(norm, a),
        nn.ReLU(),
        init_orthogonal(nn.Conv2d(a, b, 4, 2)),
        *norm2d(norm, b),
        nn.ReLU(),
        Flatten(),
        init_orthogonal(nn.Linear(flat, 256)),
        *norm1d(norm, 256),
        nn.ReLU(),
        out_features=256,
        init=_INITS[init],
    )


def nature(
    shape: tuple[int, ...],
    *,
    width: Width = 1.0,
    norm: Literal["none", "dense", "layer"] = "none",
    init: Init = "orthogonal",
    motion: Motion = 0.0,
) -> Body:
    """The net of Mnih et al. 2015: conv 32/8/4, 64/4/2, 64/3/1, dense 512."""
    h, w, channels = _need_pixels(shape, "nature", 36)
    layers = ((8, 4), (4, 2), (3, 1))
    a, b = _wide(32, width), _wide(64, width)
    flat = b * _out(h, *layers) * _out(w, *layers)
    return Body(
        _first(channels, a, 8, 4, motion=motion),
        *norm2d(norm, a),
        nn.ReLU(),
        init_orthogonal(nn.Conv2d(a, b, 4, 2)),
        *norm2d(norm, b),
        nn.ReLU(),
        init_orthogonal(nn.Conv2d(b, b, 3, 1)),
        *norm2d(norm, b),
        nn.ReLU(),
        Flatten(),
        init_orthogonal(nn.Linear(flat, 512)),
        *norm1d(norm, 512),
        nn.ReLU(),
        out_features=512,
        init=_INITS[init],
    )


def impala(shape: tuple[int, ...], *, width: Width = 1.0, norm: Literal["none", "dense", "layer"] = "none") -> Body:
    """The residual net of Espeholt et al. 2018: 16, 32, 32 wide, two residual blocks each, dense 256."""
    h, w, channels = _need_pixels(shape, "impala", 16)
    body: list[nn.Module] = []
    inputs = channels
    for i, wide in enumerate(_wide(c, width) for c in (16, 32, 32)):
        conv = init_orthogonal(nn.Conv2d(inputs, wide, 3, padding=1)) if i else _first(channels, wide, 3, 1, 1)
        # LayerNorm after the pooling: a quarter of the work.
        body += [conv, nn.MaxPool2d(3, 2, 1), *norm2d(norm, wide), Residual(wide, norm), Residual(wide, norm)]
        h, w, inputs = (h + 1) // 2, (w + 1) // 2, wide
    dense = init_orthogonal(nn.Linear(inputs * h * w, 256))
    return Body(*body, nn.ReLU(), Flatten(), dense, *norm1d(norm, 256), nn.ReLU(), out_features=256)


def efficientnet(
    shape: tuple[int, ...], *, width: Width = 1.0, norm: Literal["none", "dense", "layer"] = "none"
) -> Body:
    """A small EfficientNetV2 (Tan and Le 2021): Fused-MBConv 48, 64, gated MBConv 64, 64, dense 256.

    Sized for 84x84 inputs on a CPU: 21, 11 and 6 positions across. The stem is 6x6 with stride 4, and only
    Fused-MBConv has strides (the gradient of a strided depthwise convolution is slow in bfloat16). Positions are
    flattened, not averaged, since the position of objects matters. No batch normalisation, unlike the paper: no layer
    depends on the batch.
    """
    h, w, channels = _need_pixels(shape, "efficientnet", 16)
    stem, one, two = (_wide(c, width) for c in (32, 48, 64))
    first = Pixels(channels, stem, 6, 4, 1)
    init_scaled(first.conv, math.sqrt(2))
    h, w = ((size // 4 + 3) // 4 for size in (h, w))  # the stem, then halved twice, rounded up
    return Body(
        first,
        *norm2d(norm, stem),
        nn.SiLU(),
        MBConv(stem, one, 2, expand=2, fused=True, norm=norm),
        MBConv(one, two, 2, expand=4, fused=True, norm=norm),
        MBConv(two, two, expand=4, norm=norm),
        MBConv(two, two, expand=4, norm=norm),
        Flatten(),
        init_orthogonal(nn.Linear(two * h * w, 256)),
        *norm1d(norm, 256),
        nn.ReLU(),
        out_features=256,
    )


def make(name: str, shape: tuple[int, ...]) -> Body:
    """The body called `name` for observations of `shape`; `auto` is `nature` for pixels, `impala` for
    those too small for it, and `mlp` for smaller ones and vectors.

    `name` may carry options, as in `impala:width=2`. Raises UsageError where there is no such body or option, or
    where the shape does not fit.
    """
    name, chosen = net(name)
    if name == "auto":
        least = min(shape[:2]) if len(shape) == 3 else 0
        name = "nature" if least >= 36 else "impala" if least >= 16 else "mlp"
    body: Body = catalog.body_function(name)(shape, **chosen)
    return body


def for_spec(name: str, spec: EnvSpec) -> Body:
    """The body called `name` for observations of an environment, scaled by their declared bounds where it has any.

    A body without a layer of this package that could scale them gets bytes spread over 0..255, as those of pictures.
    """
    body = make(name, spec.obs_shape)
    for layer in body.modules():
        if isinstance(layer, Pixels):
            layer.frames = spec.frames
    if spec.obs_bounds is None:
        for layer in body.modules():
            if isinstance(layer, Vector):
                layer.bytes = spec.obs_dtype == "uint8"
        return body
    first = [layer for layer in body.modules() if isinstance(layer, Scaled)]
    for layer in first:
        layer.scale(*spec.obs_bounds)
    if first or spec.obs_dtype != "uint8":
        return body
    spread = Spread()
    spread.scale(*spec.obs_bounds)
    return Body(spread, body, out_features=body.out_features)


def check(name: str, shape: tuple[int, ...]) -> None:
    """Raise UsageError where `make(name, shape)` would; allocates no weights."""
    with torch.device("meta"):
        make(name, shape)
