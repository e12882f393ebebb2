"""The network of DQN and its family: one body, a head of action values, dueling and noisy variants."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield.envs.base import EnvSpec
from playfield.nets import bodies

Expect = Callable[[Tensor], Tensor]
"""What a network puts out [N, A, ...] to values [N, A]."""


def identity(outputs: Tensor) -> Tensor:
    """`expect` of networks that put out values."""
    return outputs


class Noisy(nn.Module):
    """A dense layer whose weights are mean + std * noise, factorised (Fortunato et al. 2018).

    `noise` is a pair of arrays ([N, in], [N, out]): every sample has weights of its own. Without it, means count.
    """

    def __init__(self, inputs: int, outputs: int, std: float) -> None:
        super().__init__()
        edge = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(outputs, inputs).uniform_(-edge, edge))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-edge, edge))
        self.weight_std = nn.Parameter(torch.full((outputs, inputs), std * edge))
        self.bias_std = nn.Parameter(torch.full((outputs,), std * edge))

    def forward(self, x: Tensor, noise: tuple[Tensor, Tensor] | None = None) -> Tensor:
        mean = F.linear(x, self.weight, self.bias)
        if noise is None:
            return mean
        # (std * (out in^T)) x = out * (std (in * x)): no weight matrix of its own for each sample.
        return mean + noise[1] * F.linear(noise[0] * x, self.weight_std, self.bias_std)


Noise = list[tuple[Tensor, Tensor]]


class QNetwork(nn.Module):
    """Values of all actions on one body, or `outputs` numbers for each action.

    With `dueling` they are the state's value plus each action's advantage. Heads compute in float32 whatever the
    body's number format. Weights start as the layers' own defaults, like those of the reference implementations.
    """

    def __init__(
        self,
        spec: EnvSpec,
        net: str,
        dueling: bool = False,
        outputs: int = 1,
        noise_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.body = bodies.make(net, spec.obs_shape)
        self.outputs, self.num_actions, features = outputs, spec.num_actions, self.body.out_features

        def layer(size: int) -> nn.Module:
            return Noisy(features, size, noise_std) if noise_std else nn.Linear(features, size)

        self.advantage = layer(outputs * spec.num_actions)
        self.value = layer(outputs) if dueling else None

    @property
    def noisy(self) -> list[nn.Module]:
        """The layers that take noise."""
        return [layer for layer in (self.advantage, self.value) if isinstance(layer, Noisy)]

    def forward(self, obs: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, ...] observations to float32 [N, A], or [N, A, outputs] with more than one."""
        features = self.body(obs).float()
        each = iter(noise or ())
        advantage = self.advantage(features, next(each)) if noise else self.advantage(features)
        if self.outputs > 1:
            advantage = advantage.unflatten(1, (self.num_actions, self.outputs))
        if self.value is None:
            return advantage
        value = self.value(features, next(each)) if noise else self.value(features)
        if self.outputs > 1:
            value = value[:, None]
        return value + advantage - advantage.mean(1, keepdim=True)


def noise_for(net: nn.Module, random: np.random.Generator, size: int) -> Noise | None:
    """Factorised noise for `size` samples: f(x) = sign(x) sqrt|x| of normal x; None for a net without noise."""
    layers = getattr(net, "noisy", [])
    device = next(net.parameters()).device if layers else None

    def draw(width: int) -> Tensor:
        x = random.standard_normal((size, width), np.float32)
        return torch.from_numpy(np.sign(x) * np.sqrt(np.abs(x))).to(device)

    return [(draw(layer.weight.shape[1]), draw(layer.weight.shape[0])) for layer in layers] or None
