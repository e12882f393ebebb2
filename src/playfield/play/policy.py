"""Policies: `act(obs)` gives actions, `explain(obs)` the probabilities and values behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np

from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.play.observation import as_batch
from playfield.runs.algorithm import Network

GREEDY = 1e-6  # temperatures below this take the likeliest action: dividing logits by them would overflow


class Policy(Protocol):
    """Acts in environments of one `spec`.

    `act` takes observations [N, ...], or one, as the environment gives them, and returns the environment's own
    numbers of actions; other layouts and dtypes are converted where that is unambiguous, else a UsageError (see
    `play.observation`). `choose` is for loops of `make_envs`: observations [N, ...] of the spec's dtype, unchecked,
    to actions counted from 0. Where they sample, both take uniform numbers in [0, 1) [N], by default random numbers
    of their own. `explain` gives named arrays for the same observations: `probs` [N, A], with which `act`
    chooses, `value` [N], `q` [N, A]; and `net_probs` [N, A] where the network's differ, because of a temperature.
    """

    spec: EnvSpec
    label: str
    temperature: float

    def act(self, obs: Any, uniform: np.ndarray | None = None) -> np.ndarray: ...

    def choose(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray: ...

    def explain(self, obs: np.ndarray) -> dict[str, np.ndarray]: ...


def chooser(policy: Policy) -> Callable[[np.ndarray, np.ndarray | None], np.ndarray]:
    """`policy.choose`; of a policy that has only `act`, its actions counted from 0."""
    for cls in type(policy).__mro__:
        if "choose" in vars(cls):
            return policy.choose
        if "act" in vars(cls):  # written by a user, perhaps on top of one of ours
            break
    first = policy.spec.first_action
    return lambda obs, uniform: np.asarray(policy.act(obs, uniform)) - first


def explainer(policy: Policy) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """`policy.explain` for loops of `make_envs` and for explanations, whose observations no environment gives.

    They are of the spec's shape and dtype, and not checked; a policy that has only `explain` gets them there.
    """
    if "explain" not in vars(policy):
        for cls in type(policy).__mro__:
            if "outputs" in vars(cls):
                return cast(_Acting, policy).outputs
            if "explain" in vars(cls):
                break
    return policy.explain


class _Acting:
    """`act` and `explain` of a policy that has `choose` and `outputs`."""

    spec: EnvSpec

    def choose(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        raise NotImplementedError

    def outputs(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def explain(self, obs: Any) -> dict[str, np.ndarray]:
        """See `Policy`; one observation counts as a batch of one. Raises UsageError as `act` does."""
        return self.outputs(as_batch(self.spec, obs)[0])

    def act(self, obs: Any, uniform: np.ndarray | None = None) -> np.ndarray:
        """Actions [N] for observations [N, ...], or one for one: the environment's own numbers.

        Raises:
            UsageError: an observation of another shape, dtype or range than the policy was trained on.
        """
        batch, single = as_batch(self.spec, obs)
        actions = self.choose(batch, uniform) + self.spec.first_action
        # The only one as a NumPy integer, which `env.step` of any environment takes.
        return cast(np.ndarray, actions[0]) if single else actions


class ProbabilityPolicy(_Acting):
    """A policy given by logits and a value: samples at a temperature, or takes the likeliest action.

    `explain` gives the probabilities that it acts with; those of the network, at temperature 1, are `net_probs`.
    `rule` says how it chooses, as in `sampled` or `epsilon-greedy, epsilon 0.05 (training: 0.1)`.

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
        self.rule = f"{network.policy} at temperature {temperature:g} (training: 1)"
        if temperature == 0:
            self.rule = "greedy"
        elif temperature == 1:
            self.rule = network.policy
        self.label = f"{label}, {self.rule}"
        self._random = np.random.default_rng(seed)

    def choose(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """Actions [N], counted from 0, for observations [N, ...] of the spec's shape and dtype (not checked)."""
        logits = self.network(obs)[0]
        if self.temperature < GREEDY:
            return cast(np.ndarray, logits.argmax(axis=-1))
        if uniform is None:
            uniform = self._random.random(len(logits))
        return sample(log_softmax(logits / self.temperature), uniform)

    def outputs(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        """`explain` of observations [N, ...] of the spec's shape and dtype (not checked)."""
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


class RandomPolicy(_Acting):
    """Every action equally likely."""

    def __init__(self, spec: EnvSpec, seed: int = 0) -> None:
        self.spec, self.label, self.rule, self.temperature = spec, "random", "random", 1.0
        self._random = np.random.default_rng(seed)

    def choose(self, obs: np.ndarray, uniform: np.ndarray | None = None) -> np.ndarray:
        """Actions [N], counted from 0."""
        if uniform is None:
            uniform = self._random.random(len(obs))
        return (uniform * self.spec.num_actions).astype(np.int64)

    def outputs(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        """`explain` of observations [N, ...] of the spec's shape and dtype (not checked)."""
        return {"probs": np.full((len(obs), self.spec.num_actions), 1 / self.spec.num_actions)}


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


def epsilon_greedy(
    q_values: Callable[[np.ndarray], np.ndarray], epsilon: float, trained: float | None = None
) -> Network:
    """The epsilon-greedy policy of action values [N, A]: (logits [N, A], value [N], action values [N, A]).

    A temperature below 1 makes random actions rarer, 0 is greedy. `trained`, the epsilon at the end of training, is
    named where it is another one.
    """
    share = min(max(epsilon, 1e-6), 1 - 1e-6)  # logits are finite

    def forward(obs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        q = q_values(obs)
        probs = np.full(q.shape, share / q.shape[1], np.float32)
        probs[np.arange(len(q)), q.argmax(-1)] += 1 - share
        return np.log(probs), q.max(-1), q

    rule = f"epsilon-greedy, epsilon {epsilon:g}" if epsilon else "greedy"
    if trained is not None and trained != epsilon:
        rule += f" (training: {trained:g})"
    return Network(forward, policy=rule)
