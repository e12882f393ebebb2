"""PPO: the loss against a slow scalar computation, sampling, and what a configuration may not be."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from playfield.algos import ppo
from playfield.errors import UsageError
from playfield.play.policy import log_softmax, sample
from ppo_runs import SMALL

pytestmark = pytest.mark.usefixtures("one_thread")


# The loss ------------------------------------------------------------------------------------------------


class Given(nn.Module):
    """A net whose outputs are given: obs are row numbers."""

    def __init__(self, logits: np.ndarray, values: np.ndarray) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits[obs], self.values[obs]


def slow_loss(rows, logits, values, batch, cfg, clip) -> dict[str, float]:
    """Each term for one sample at a time, in Python's floats."""
    terms = dict.fromkeys(("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction"), 0.0)
    for i in rows:
        total = sum(math.exp(x) for x in logits[i])
        probs = [math.exp(x) / total for x in logits[i]]
        ratio = probs[batch["actions"][i]] / math.exp(batch["logprobs"][i])
        a = float(batch["advantages"][i])
        clipped = min(max(ratio, 1 - clip), 1 + clip)
        terms["policy_gradient_loss"] -= min(ratio * a, clipped * a)
        error = (values[i] - batch["returns"][i]) ** 2
        if cfg.clip_value:
            move = min(max(values[i] - batch["values"][i], -clip), clip)
            error = max(error, (batch["values"][i] + move - batch["returns"][i]) ** 2)
        terms["value_loss"] += error
        terms["entropy_loss"] += sum(p * math.log(p) for p in probs)
        terms["approx_kl"] += ratio - 1 - math.log(ratio)
        terms["clip_fraction"] += abs(ratio - 1) > clip
    out = {k: v / len(rows) for k, v in terms.items()}
    policy, value, entropy = out["policy_gradient_loss"], out["value_loss"], out["entropy_loss"]
    out["loss"] = policy + cfg.vf_coef * value / 2 + cfg.ent_coef * entropy
    return out


def loss_case(seed: int, n: int, actions: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    logits, values = random.normal(size=(n, actions)), random.normal(size=n) * 2
    taken = random.integers(0, actions, n)
    old = log_softmax(logits + random.normal(size=(n, actions)) * 0.3)
    batch = {
        "obs": np.arange(n),
        "actions": taken,
        "logprobs": old[np.arange(n), taken].astype(np.float32),
        "advantages": random.normal(size=n).astype(np.float32),
        "returns": (values + random.normal(size=n)).astype(np.float32),
        "values": (values + random.normal(size=n) * 0.3).astype(np.float32),
    }
    return logits, values, batch


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 9),
    actions=st.integers(2, 5),
    clip=st.sampled_from([0.05, 0.1, 0.2, 0.5]),
    clip_value=st.booleans(),
    ent_coef=st.sampled_from([0.0, 0.01, 0.5]),
    vf_coef=st.sampled_from([0.5, 1.0]),
)
def test_loss_equals_a_slow_computation(seed, n, actions, clip, clip_value, ent_coef, vf_coef):
    cfg = dataclasses.replace(SMALL, clip_value=clip_value, ent_coef=ent_coef, vf_coef=vf_coef)
    logits, values, batch = loss_case(seed, n, actions)
    net = Given(logits, values)
    tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
    loss, stats = ppo.ppo_loss(net, tensors, cfg, clip, n)
    expected = slow_loss(range(n), logits, values, batch, cfg, clip)
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-4)
    assert stats == pytest.approx(expected, abs=1e-4)

    # Two shares of the minibatch sum to the whole, in value and in gradient.
    loss.backward()
    whole = net.logits.grad.clone(), net.values.grad.clone()
    net.zero_grad()
    cut = n // 3
    parts = []
    for rows in (slice(0, cut), slice(cut, n)):
        part, stats_part = ppo.ppo_loss(net, {k: v[rows] for k, v in tensors.items()}, cfg, clip, n)
        part.backward()
        parts.append(stats_part)
    assert {k: parts[0][k] + parts[1][k] for k in stats} == pytest.approx(stats, abs=1e-5)
    torch.testing.assert_close(net.logits.grad, whole[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(net.values.grad, whole[1], atol=1e-6, rtol=1e-4)


def test_loss_by_hand():
    # Two actions of probability 1/2 each, the first was taken with probability 0.4: ratio 1.25, clip 0.1.
    # advantage +2: min(2.5, 1.1*2) = 2.2, beyond the clip: no gradient.  value 3, old 1, return 0: clipped to 1.1,
    # max(9, 1.21) = 9.  entropy ln 2.  loss = -2.2 + 0.5*0.5*9 - 0.01*ln 2
    batch = {
        "obs": torch.tensor([0]),
        "actions": torch.tensor([0]),
        "logprobs": torch.tensor([math.log(0.4)]),
        "advantages": torch.tensor([2.0]),
        "returns": torch.tensor([0.0]),
        "values": torch.tensor([1.0]),
    }
    cfg = dataclasses.replace(SMALL, clip_value=True, vf_coef=0.5, ent_coef=0.01)
    net = Given(np.zeros((1, 2)), np.array([3.0]))
    loss, stats = ppo.ppo_loss(net, batch, cfg, 0.1, 1)
    assert loss.item() == pytest.approx(-2.2 + 2.25 - 0.01 * math.log(2), abs=1e-6)
    assert stats["clip_fraction"] == 1
    loss.backward()
    assert net.logits.grad.abs().max() < 1e-6  # a uniform policy's entropy has no slope either
    assert net.values.grad.item() == pytest.approx(0.5 * 0.5 * 2 * 3)
    # The same with advantage -2: max(-2.5, -2.2) is not taken, the loss is 2.5 and pushes the action down.
    net.zero_grad()
    loss, stats = ppo.ppo_loss(net, batch | {"advantages": torch.tensor([-2.0])}, cfg, 0.1, 1)
    assert stats["policy_gradient_loss"] == pytest.approx(2.5)
    loss.backward()
    assert net.logits.grad[0, 0] == pytest.approx(1.25 * 2 * 0.5)  # ratio * |A| * (1 - p)


# Sampling ------------------------------------------------------------------------------------------------


def test_sampling_by_hand_and_by_frequency():
    logprobs = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    uniform = np.array([0, 0.19, 0.21, 0.69, 0.71, 0.999999999])
    assert sample(np.tile(logprobs, (6, 1)), uniform).tolist() == [0, 0, 1, 1, 2, 2]
    drawn = sample(np.tile(logprobs, (20_000, 1)), np.random.default_rng(0).random(20_000))
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.2, 0.5, 0.3], atol=0.015)


def test_impossible_actions_are_never_drawn():
    logprobs = log_softmax(np.array([[-1e4, 0, -1e4], [0, -1e4, -1e4], [-1e4, -1e4, 0]], np.float32))
    for u in (0.0, 0.5, np.nextafter(1, 0)):
        assert sample(logprobs, np.full(3, u)).tolist() == [1, 0, 2]


# Configurations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [{"minibatches": 0}, {"minibatches": 7}, {"epochs": 0}, {"num_envs": 0}, {"rollout_steps": 0}]
)
def test_impossible_configurations(bad):
    with pytest.raises(UsageError, match=next(iter(bad)).replace("_", "-")):
        dataclasses.replace(SMALL, **bad).check()


def test_one_sample_in_a_minibatch_cannot_be_normalised():
    cfg = dataclasses.replace(SMALL, num_envs=2, rollout_steps=2, minibatches=4)
    with pytest.raises(UsageError, match="minibatches"):
        cfg.check()
    dataclasses.replace(cfg, norm_advantage=False).check()
