"""Policies: `act(obs)` gives actions, `explain(obs)` the probabilities and values behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, cast

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.runs.algorithm import Network

GREEDY = 1e-6  # temperatures below this take the likeliest action: dividing logits by them would overflow


class Policy(Protocol):
    """Acts in environments of one `spec`.

    `act` takes observations [N, ...] and, where it samples, uniform numbers in [0, 1) [N]; by default it uses random
    numbers of its own. `explain` gives named arrays for the same observations: `probs` [N, A], with which `act`
    chooses, `value` [N], `q` [N, A]; and `net_probs` [N, A] where the network's differ, because of a temperature.
    """

    spec: EnvSpec
    label: str
    temperature: float

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray: ...

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]: ...


class ProbabilityPolicy:
    """A policy given by logits and a value: samples at a temperature, or takes the likeliest action.

    `explain` gives the probabilities that it acts with; those of the network, at temperature 1, are `net_probs`.

    Args:
        network: see `Network`.
        temperature: 1 samples as in training, less is greedier, 0 is greedy.
        seed: of its own random numbers.
        warnings: what was wrong with the files that it was loaded from.
    """

    def __init__(
        self,
        spec: EnvSpec,
        network: Network,
        label: str,
        temperature: float = 1.0,
        seed: int = 0,
        warnings: tuple[str, ...] = (),
    ) -> None:
        if not 0 <= temperature <= 100:
            raise UsageError(f"the temperature must be between 0 (greedy) and 100, not {temperature}")
        self.spec, self.network, self.temperature, self.warnings = spec, network, temperature, warnings
        how = f"{network.policy} at temperature {temperature:g} (training: 1)"
        if temperature == 0:
            how = "greedy"
        elif temperature == 1:
            how = network.policy
        self.label = f"{label}, {how}"
        self._random = np.random.default_rng(seed)

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        single = np.ndim(obs) == len(self.spec.obs_shape)
        logits = self.network(np.asarray(obs)[None] if single else obs)[0]
        if self.temperature < GREEDY:
            actions = logits.argmax(axis=-1)
        else:
            if uniform is None:
                uniform = self._random.random(len(logits))
            actions = sample(log_softmax(logits / self.temperature), uniform)
        return _unbatched(actions, single)

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        logits, value, *q = self.network(obs)
        outputs = {"value": value} | ({"q": q[0]} if q else {})
        net_probs = np.exp(log_softmax(logits))
        if self.temperature == 1:
            return {"probs": net_probs, **outputs}
        if self.temperature < GREEDY:
            probs = np.eye(self.spec.num_actions, dtype=net_probs.dtype)[logits.argmax(axis=-1)]
        else:
            probs = np.exp(log_softmax(logits / self.temperature))
        return {"probs": probs, "net_probs": net_probs, **outputs}


class RandomPolicy:
    """Every action equally likely."""

    def __init__(self, spec: EnvSpec, seed: int = 0) -> None:
        self.spec, self.label, self.temperature = spec, "random", 1.0
        self._random = np.random.default_rng(seed)

    def act(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        single = np.ndim(obs) == len(self.spec.obs_shape)
        if uniform is None:
            uniform = self._random.random(1 if single else len(obs))
        actions = (uniform * self.spec.num_actions).astype(np.int64)
        return _unbatched(actions, single)

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        return {"probs": np.full((len(obs), self.spec.num_actions), 1 / self.spec.num_actions)}


def _unbatched(actions: np.ndarray, single: bool) -> np.ndarray:
    """Actions [N], or the only one of them as a NumPy integer, which `env.step` of any environment takes."""
    return cast(np.ndarray, actions[0]) if single else actions


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities over the last axis."""
    shifted: np.ndarray = logits - logits.max(axis=-1, keepdims=True)
    out: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return out


def sample(logprobs: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Actions [N] from log-probabilities [N, A] and uniform numbers in [0, 1) [N], by inversion."""
    cumulative = np.cumsum(np.exp(logprobs.astype(np.float64)), axis=-1)
    chosen = (uniform[:, None] * cumulative[:, -1:] >= cumulative).sum(axis=-1)
    return np.asarray(np.minimum(chosen, logprobs.shape[-1] - 1))


def epsilon_greedy(q_values: Callable[[np.ndarray], np.ndarray], epsilon: float) -> Network:
    """The epsilon-greedy policy of action values [N, A]: (logits [N, A], value [N], action values [N, A]).

    A temperature below 1 makes random actions rarer, 0 is greedy.
    """
    share = min(max(epsilon, 1e-6), 1 - 1e-6)  # logits are finite

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q = q_values(obs)
        probs = np.full(q.shape, share / q.shape[1], np.float32)
        probs[np.arange(len(q)), q.argmax(-1)] += 1 - share
        return np.log(probs), q.max(-1), q

    return Network(forward, policy=f"epsilon-greedy, epsilon {epsilon:g}" if epsilon else "greedy")
