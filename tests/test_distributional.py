"""C51, QR-DQN, HL-Gauss: projections, losses and histograms against naive ones; their values are what they learn."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from playfield.algos import c51, dqn, hlgauss, qrdqn, rainbow
from playfield.algos._q_network import select
from playfield.algos.dqn import Minibatch
from playfield.errors import UsageError
from playfield.replay.buffer import Batch

pytestmark = pytest.mark.usefixtures("one_thread")


def minibatch(returns, discounts, following) -> Minibatch:
    returns, discounts = (torch.tensor(x, dtype=torch.float32) for x in (returns, discounts))
    following = torch.as_tensor(following, dtype=torch.float32)
    nothing = torch.zeros(len(returns))
    return Minibatch(nothing, nothing, returns, discounts, following, nothing + 1, np.arange(len(returns)))


def random_minibatch(outputs: int, size: int = 12) -> tuple[np.ndarray, Minibatch]:
    """What a network says of actions taken [B, K], and what is to be learnt; returns reach beyond -10 to 10."""
    rng = np.random.default_rng(outputs)
    returns, discounts = rng.normal(size=size) * 9, rng.choice([0.0, 0.99, 0.97], size)
    return rng.normal(size=(size, outputs)) * 2, minibatch(returns, discounts, rng.normal(size=(size, outputs)) * 2)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(np.asarray(x, np.float64) - np.max(x, -1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


# C51 -----------------------------------------------------------------------------------------------------


def naive_projection(probs, reward: float, discount: float, low: float, high: float) -> list[float]:
    """Each atom moves, and is shared by its two neighbours by distance."""
    gap = (high - low) / (len(probs) - 1)
    atoms = [low + i * gap for i in range(len(probs))]
    out = [0.0] * len(probs)
    for p, z in zip(probs, atoms, strict=True):
        moved = min(max(reward + discount * z, low), high)
        for i, here in enumerate(atoms):
            out[i] += p * max(0.0, 1 - abs(moved - here) / gap)
    return out


def test_projection_by_hand() -> None:
    def project(reward: float, discount: float, probs=(0.25, 0.5, 0.25)) -> list[float]:
        return c51.project(torch.tensor([probs]), torch.tensor([reward]), torch.tensor([discount]), 0, 2)[0].tolist()

    assert project(0.5, 1.0) == [0.125, 0.375, 0.5]  # 0.5, 1.5 and 2.5, which counts as 2
    assert project(1.0, 0.0) == [0, 1, 0]  # nothing follows
    assert project(0.0, 1.0) == [0.25, 0.5, 0.25]  # every atom falls on itself
    assert project(0.0, 0.5) == [0.5, 0.5, 0]  # 0, 0.5 and 1
    assert project(-9.0, 1.0) == [1, 0, 0]
    assert project(9.0, 1.0) == [0, 0, 1]


@settings(max_examples=40, deadline=None)
@given(
    atoms=st.integers(2, 30),
    reward=st.floats(-30, 30, width=32),
    discount=st.sampled_from([0.0, 0.5, 0.97, 1.0]),
    low=st.floats(-20, -1, width=32),
    span=st.floats(1, 40, width=32),
    seed=st.integers(0, 100),
)
def test_projection_equals_a_naive_one(atoms, reward, discount, low, span, seed) -> None:
    probs = softmax(np.random.default_rng(seed).normal(size=(1, atoms)) * 3)
    tensors = torch.tensor(probs, dtype=torch.float32), torch.tensor([reward]), torch.tensor([discount])
    got = c51.project(*tensors, low, low + span)[0].numpy()
    # Atoms of float32 are off by half a unit in the last place: a part of the gap between two is on the wrong side.
    room = 2e-5 + 2 * np.finfo(np.float32).eps * (abs(low) + span) * (atoms - 1) / span
    np.testing.assert_allclose(got, naive_projection(probs[0], reward, discount, low, low + span), atol=room)
    assert got.sum() == pytest.approx(1, abs=1e-5)
    z = np.linspace(low, low + span, atoms)
    if low <= reward + discount * low and reward + discount * (low + span) <= low + span:  # nothing is clamped
        assert got @ z == pytest.approx(reward + discount * (probs[0] @ z), abs=1e-3)


@settings(max_examples=20, deadline=None)
@given(atoms=st.integers(2, 30), seed=st.integers(0, 1000))
def test_both_ways_to_share_out_equal_a_naive_one(atoms, seed) -> None:
    rng = np.random.default_rng(seed)
    probs, at = softmax(rng.normal(size=(5, atoms)) * 3), rng.uniform(0, atoms - 1, (5, atoms))
    at[rng.random(at.shape) < 0.3] = atoms - 1
    at = np.where(rng.random(at.shape) < 0.3, np.rint(at), at)
    expected = np.zeros_like(probs)
    for (b, i), place in np.ndenumerate(at):
        left = math.floor(place)
        expected[b, left] += probs[b, i] * (left + 1 - place)
        if place > left:
            expected[b, left + 1] += probs[b, i] * (place - left)
    tensors = [torch.tensor(x, dtype=torch.float32) for x in (probs, at)]
    for share in (c51.project_scatter, c51.project_dense):
        np.testing.assert_allclose(share(*tensors), expected, atol=1e-5)


def test_only_a_cpu_scatters(monkeypatch) -> None:
    """On a GPU the order of a scattered sum is not fixed, so that runs would not repeat."""
    used = []
    for name in ("project_scatter", "project_dense"):
        monkeypatch.setattr(c51, name, lambda probs, at, name=name: used.append(name))
    for device in ("cpu", "meta"):
        c51.project(*(torch.ones(shape, device=device) for shape in ((2, 3), 2, 2)), 0, 2)
    assert used == ["project_scatter", "project_dense"]


def test_c51s_loss_equals_a_naive_one() -> None:
    logits, batch = random_minibatch(11)
    losses, errors = c51.c51_loss(torch.tensor(logits, dtype=torch.float32), batch, -10.0, 10.0)
    for b in range(len(logits)):
        following = softmax(batch.target_q[b].numpy())
        aim = naive_projection(following, float(batch.returns[b]), float(batch.discounts[b]), -10, 10)
        said = softmax(logits[b])
        cross = -sum(m * math.log(p) for m, p in zip(aim, said, strict=True))
        divergence = sum(m * math.log(m / p) for m, p in zip(aim, said, strict=True) if m > 1e-12)
        assert float(losses[b]) == pytest.approx(cross, rel=1e-4)
        assert float(errors[b]) == pytest.approx(divergence, rel=1e-3, abs=1e-5)


# QR-DQN --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kappa", [1.0, 0.5])
def test_quantile_loss_equals_a_naive_one(kappa: float) -> None:
    quantiles, batch = random_minibatch(7)
    losses, errors = qrdqn.qrdqn_loss(torch.tensor(quantiles, dtype=torch.float32), batch, kappa)
    for b in range(len(quantiles)):
        aims = [float(batch.returns[b]) + float(batch.discounts[b]) * float(f) for f in batch.target_q[b]]
        total = 0.0
        for i, q in enumerate(quantiles[b]):
            for aim in aims:
                u = aim - q
                huber = 0.5 * u * u if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
                total += abs((i + 0.5) / 7 - (u < 0)) * huber / kappa / 7
        assert float(losses[b]) == pytest.approx(total, rel=1e-4)
        assert float(errors[b]) == pytest.approx(sum(aims) / 7 - quantiles[b].mean(), rel=1e-4, abs=1e-5)


def test_quantiles_of_a_coin() -> None:
    """Returns are 0 or 8 evenly: the lower quantiles become 0, the upper ones 8."""
    said = nn.Parameter(torch.zeros(1, 4))
    optimizer = torch.optim.SGD([said], 2.0)
    coin = minibatch([0.0, 8.0], [0.0, 0.0], np.zeros((2, 4)))
    for _ in range(80):
        optimizer.zero_grad()
        qrdqn.qrdqn_loss(said.expand(2, 4), coin, 1.0)[0].mean().backward()
        optimizer.step()
    # Where the Huber loss is still quadratic, level / (1 - level) decides how far from an end.
    np.testing.assert_allclose(said.detach().numpy()[0], [1 / 7, 3 / 5, 8 - 3 / 5, 8 - 1 / 7], atol=0.02)


# HL-Gauss ------------------------------------------------------------------------------------------------


def gaussian_shares(target: float, bins: int, low: float, high: float, deviation: float) -> np.ndarray:
    """By adding up the density in small steps."""
    fine = 400
    x = low + (np.arange(bins * fine) + 0.5) * (high - low) / (bins * fine)
    density = np.exp(-0.5 * ((x - target) / deviation) ** 2).reshape(bins, fine).sum(1)
    return density / density.sum()


@pytest.mark.parametrize("bins", [51, 101])
@pytest.mark.parametrize("target", [-10.0, -9.9, -0.03, 0.0, 3.21, 9.0, 10.0])
def test_a_histogram_is_that_of_a_gaussian(target: float, bins: int) -> None:
    width = 20 / bins
    got = hlgauss.histogram(torch.tensor([target]), bins, -10, 10, 0.75)[0].double().numpy()
    np.testing.assert_allclose(got, gaussian_shares(target, bins, -10, 10, 0.75 * width), atol=2e-6)
    edges = [-10 + i * width for i in range(bins + 1)]
    phi = [0.5 * (1 + math.erf((e - target) / (0.75 * width * math.sqrt(2)))) for e in edges]
    by_erf = [(b - a) / (phi[-1] - phi[0]) for a, b in pairwise(phi)]
    np.testing.assert_allclose(got, by_erf, atol=2e-6)
    assert got.sum() == pytest.approx(1, abs=1e-6)


def test_small_shares_keep_their_precision() -> None:
    """Four widths away a share is about 1e-7, less than what float32 can tell next to 1."""
    got = hlgauss.histogram(torch.tensor([0.0]), 51, -10, 10, 0.75)[0]
    width, s = 20 / 51, 0.75 * 20 / 51 * math.sqrt(2)
    for k in (3, 4, 5):
        share = (math.erfc((k - 0.5) * width / s) - math.erfc((k + 0.5) * width / s)) / 2
        assert float(got[25 + k]) == pytest.approx(share, rel=2e-3)
        assert float(got[25 - k]) == pytest.approx(share, rel=2e-3)


@pytest.mark.parametrize("bins", [51, 101])
def test_the_mean_of_a_histogram_is_its_target(bins: int) -> None:
    inside = 4 * 0.75 * 20 / bins
    targets = torch.linspace(-10 + inside, 10 - inside, 333)
    shares = hlgauss.histogram(targets, bins, -10, 10, 0.75)
    means = hlgauss.expectation(shares.log().clamp(min=-1e4), -10, 10)
    np.testing.assert_allclose(means, targets, atol=5e-4)


def test_targets_outside_count_as_the_nearest_end() -> None:
    shares = hlgauss.histogram(torch.tensor([-1e6, -10.0, 10.0, 10.01, 1e6]), 51, -10, 10, 0.75)
    assert torch.isfinite(shares).all()
    assert torch.equal(shares[0], shares[1])
    assert torch.equal(shares[2], shares[3])
    assert torch.equal(shares[2], shares[4])
    torch.testing.assert_close(shares[0], shares[4].flip(0))


def test_hlgauss_loss_equals_a_naive_one() -> None:
    logits, batch = random_minibatch(51)
    losses, errors = hlgauss.hlgauss_loss(torch.tensor(logits, dtype=torch.float32), batch, -10.0, 10.0, 0.75)
    middles = [-10 + (i + 0.5) * 20 / 51 for i in range(51)]
    clamped = 0
    for b in range(len(logits)):
        value = float(softmax(batch.target_q[b].numpy()) @ middles)
        free = float(batch.returns[b]) + float(batch.discounts[b]) * value
        aim = min(max(free, -10.0), 10.0)
        clamped += aim != free
        shares, said = gaussian_shares(aim, 51, -10, 10, 0.75 * 20 / 51), softmax(logits[b])
        assert float(losses[b]) == pytest.approx(-(shares * np.log(said)).sum(), rel=1e-4)
        assert float(errors[b]) == pytest.approx(aim - said @ middles, rel=1e-4, abs=1e-4)
    assert clamped


# All of them ---------------------------------------------------------------------------------------------

LOSSES = {
    "c51": (partial(c51.c51_loss, v_min=-10.0, v_max=10.0), partial(c51.expectation, v_min=-10.0, v_max=10.0)),
    "qrdqn": (partial(qrdqn.qrdqn_loss, kappa=1.0), qrdqn.mean),
    "hlgauss": (
        partial(hlgauss.hlgauss_loss, v_min=-10.0, v_max=10.0, sigma=0.75),
        partial(hlgauss.expectation, v_min=-10.0, v_max=10.0),
    ),
}


class Table(nn.Module):
    """Outputs [A, K] looked up: observation i has row i."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rows = nn.Parameter(
            torch.tensor(np.random.default_rng(seed).normal(size=(6, 3, 9)), dtype=torch.float32)
        )

    def forward(self, obs: torch.Tensor, noise: None = None) -> torch.Tensor:
        return self.rows[obs.long().squeeze(1)]


@pytest.mark.parametrize("algo", LOSSES)
@pytest.mark.parametrize("double", [False, True])
def test_only_actions_taken_learn_towards_the_best_that_follows(algo: str, double: bool) -> None:
    loss, q_values = LOSSES[algo]
    net, target, rng = Table(1), Table(2), np.random.default_rng(3)
    obs, following = (rng.integers(0, 6, (16, 1)).astype(np.float32) for _ in range(2))
    sampled = Batch(obs, rng.integers(0, 3, 16), np.ones(16, np.float32), np.full(16, 0.9, np.float32), following,
                  np.arange(16), np.ones(16, np.float32))  # fmt: skip
    target_q = dqn.targets(net, target, sampled.next_obs, q_values, double, rng)
    [batch] = dqn.minibatches(sampled, target_q, 1)
    with torch.no_grad():
        selecting = (net if double else target).rows
        best = [int(q_values(selecting[int(o)]).argmax()) for o in following[:, 0]]
        torch.testing.assert_close(
            batch.target_q, torch.stack([target.rows[int(o), a] for o, a in zip(following[:, 0], best, strict=True)])
        )
    losses, errors = loss(select(net(batch.obs), batch.actions), batch)
    assert losses.shape == errors.shape == (16,)
    losses.sum().backward()
    taken = {(int(o), int(a)) for o, a in zip(obs[:, 0], sampled.actions, strict=True)}
    assert {tuple(i) for i in torch.nonzero(net.rows.grad.abs().sum(-1)).tolist()} == taken
    assert target.rows.grad is None


@pytest.mark.parametrize("algo", LOSSES)
def test_everything_is_made_where_the_outputs_are(algo: str) -> None:
    """On the `meta` device an operation with a tensor of the CPU fails, as it would on a GPU."""
    loss, expect = LOSSES[algo]
    batch = minibatch(np.zeros(4), np.zeros(4), np.zeros((4, 9)))
    tensors = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
    there = Minibatch(**{n: t.to("meta") if n != "index" else t for n, t in tensors.items()})
    outputs = torch.zeros(4, 3, 9, device="meta")
    assert expect(outputs).shape == (4, 3)
    assert {t.device.type for t in (*loss(outputs[:, 0], there), expect(outputs))} == {"meta"}


@pytest.mark.parametrize(
    ("config", "change", "words"),
    [
        (c51.Config, {"atoms": 1}, "--atoms must be between 2 and 1000"),
        (c51.Config, {"v_min": 10.0}, "--v-min 10 must be below --v-max 10"),
        (rainbow.Config, {"v_max": -20.0}, "--v-min -10 must be below --v-max -20"),
        (rainbow.Config, {"noise_std": 0.5, "alpha": 1.5}, "between 0 and 1"),
        (qrdqn.Config, {"quantiles": 1}, "--quantiles must be between 2 and 1000"),
        (qrdqn.Config, {"kappa": 0.0}, "--kappa must be above 0"),
        (hlgauss.Config, {"bins": 1}, "--bins must be between 2 and 1000"),
        (hlgauss.Config, {"sigma": 0.0}, "--sigma must be between"),
        (hlgauss.Config, {"v_max": -10.0}, "--v-min -10 must be below --v-max -10"),
        (hlgauss.Config, {"batch_size": 0}, "at least 1"),
    ],
)
def test_values_that_cannot_go_together(config, change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        config(**change).check()


@pytest.mark.parametrize("module", [c51, qrdqn, hlgauss, rainbow])
def test_presets_are_whole(module) -> None:
    for kind, table in module.PRESETS.items():
        assert "default" in table
        for cfg in table.values():
            cfg.check(2)
            assert cfg.clip_reward == (kind == "atari")
