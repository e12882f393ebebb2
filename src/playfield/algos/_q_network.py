"""The network of DQN and its family: one body with a head of action values, dueling and noisy variants."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from playfield.envs.base import EnvSpec
from playfield.nets import bodies
from playfield.play.policy import epsilon_greedy
from playfield.runs.algorithm import Network

QValues = Callable[[Tensor], Tensor]
"""A network's outputs [N, A, ...] to action values [N, A]."""


def identity(outputs: Tensor) -> Tensor:
    """`QValues` of networks whose outputs [N, A] are the action values."""
    return outputs


def select(outputs: Tensor, actions: Tensor) -> Tensor:
    """Outputs [N, A, ...] of all actions and actions [N] int64 to the outputs [N, ...] of these actions."""
    return outputs[torch.arange(len(actions), device=actions.device), actions]


class Noisy(nn.Module):
    """A dense layer with weights mean + std * noise, the noise factorised (Fortunato et al. 2018).

    `forward` takes the noise as a pair of tensors ([N, in], [N, out]), independent for each sample; without noise it
    uses the means.
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
        # (std * (out in^T)) x = out * (std (in * x)): needs no weight matrix for each sample.
        return mean + noise[1] * F.linear(noise[0] * x, self.weight_std, self.bias_std)


Noise = list[tuple[Tensor, Tensor]]
"""For each noisy layer: noise of its inputs [N, in] and of its outputs [N, out]."""


class QNetwork(nn.Module):
    """A body with a head that has `outputs` numbers for each action: its value, or its return distribution.

    With `dueling` they are the sum of the state's value and each action's advantage (less its mean). Heads compute in
    float32 whatever the body's precision.

    Initial weights: a body's are orthogonal with gain sqrt(2) unless its option `init` says otherwise, and the heads
    are uniform in +-1/sqrt(fan in). In DQN's code, and in those of C51, QR-DQN and Rainbow that follow it, all layers
    are uniform in +-1/sqrt(fan in): a body's weights are 2.45 times smaller than orthogonal ones. The presets named
    after papers have that (`nature:init=uniform`). Noisy heads start as in Fortunato et al. 2018.

    Args:
        spec: of the environment.
        net: name and options of the body, as in `--net`.
        dueling: a value head beside the advantage head.
        outputs: numbers for each action.
        noise_std: initial noise of the heads (NoisyNet's sigma_0); 0 for heads without noise.
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
        self.body = bodies.for_spec(net, spec)
        self.outputs, self.num_actions, features = outputs, spec.num_actions, self.body.out_features

        def layer(size: int) -> nn.Module:
            if noise_std:
                return Noisy(features, size, noise_std)
            head = nn.Linear(features, size)
            self.body.init_heads(head)
            return head

        self.advantage = layer(outputs * spec.num_actions)
        self.value = layer(outputs) if dueling else None

    @property
    def noisy(self) -> list[nn.Module]:
        """The heads that take noise, in the order of `Noise`."""
        return [layer for layer in (self.advantage, self.value) if isinstance(layer, Noisy)]

    def forward(self, obs: Tensor, noise: Noise | None = None) -> Tensor:
        """[N, ...] observations to float32 [N, A], or [N, A, outputs] with more than one."""
        features = self.body(obs).float()
        of_layer = iter(noise or ())
        advantage: Tensor = self.advantage(features, next(of_layer)) if noise else self.advantage(features)
        if self.outputs > 1:
            advantage = advantage.unflatten(1, (self.num_actions, self.outputs))
        if self.value is None:
            return advantage
        value: Tensor = self.value(features, next(of_layer)) if noise else self.value(features)
        if self.outputs > 1:
            value = value[:, None]
        return value + advantage - advantage.mean(1, keepdim=True)


def noise_for(net: nn.Module, random: np.random.Generator, size: int) -> Noise | None:
    """Factorised noise for `size` samples: f(x) = sign(x) sqrt|x| of normal x; None without noisy layers."""
    layers = getattr(net, "noisy", [])
    device = next(net.parameters()).device if layers else None

    def sample(width: int) -> Tensor:
        x = random.standard_normal((size, width), np.float32)
        return torch.from_numpy(np.sign(x) * np.sqrt(np.abs(x))).to(device)

    return [(sample(layer.weight.shape[1]), sample(layer.weight.shape[0])) for layer in layers] or None


def policy(net: nn.Module, q_values: QValues, epsilon: float, trained: float, device: str) -> Network:
    """A trained network as an agent: observations [N, ...] to (logits [N, A], value [N], action values [N, A]).

    The logits are those of its epsilon-greedy policy with the `epsilon` of evaluation; training ended with `trained`.
    Noisy networks act without noise.
    """

    def q_of(obs: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            q: np.ndarray = q_values(net(torch.from_numpy(np.ascontiguousarray(obs)).to(device))).cpu().numpy()
        return q

    return epsilon_greedy(q_of, epsilon, trained)
