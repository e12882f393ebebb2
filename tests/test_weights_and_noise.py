"""Importance weights, priorities and noise of the DQN family, each against a computation by hand."""

from __future__ import annotations

import copy
import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import memory_games
from playfield.algos import dqn
from playfield.algos._q_network import Noisy, QNetwork, identity, noise_for
from playfield.compute import Compute
from playfield.envs.base import EnvSpec
from playfield.nets.learner import Learner
from playfield.replay.buffer import Batch
from ppo_runs import run_for
from test_dqn import SMALL, Table
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")


# Importance weights and priorities -----------------------------------------------------------------------


class Memory:
    """A replay buffer that only notes its new priorities."""

    def __init__(self) -> None:
        self.new: dict[int, float] = {}

    def reprioritise(self, index: np.ndarray, errors: np.ndarray) -> None:
        self.new.update(zip(index.tolist(), errors.tolist(), strict=True))


def part(seed: int, size: int, largest: float) -> dqn.Minibatch:
    """Random transitions between six states, with weights up to `largest`."""
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 1.0, size)
    weights *= largest / weights.max()
    floats = [torch.tensor(x, dtype=torch.float32) for x in (rng.normal(size=size), rng.choice([0, 0.9], size))]
    following, states = rng.normal(size=size), rng.integers(0, 6, (size, 1))
    return dqn.Minibatch(
        torch.tensor(states).float(),
        torch.tensor(rng.integers(0, 3, size)),
        *floats,
        torch.tensor(following, dtype=torch.float32),
        torch.tensor(weights, dtype=torch.float32),
        rng.permutation(100)[:size],
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_the_gradient_is_that_of_the_weighted_loss_and_each_error_goes_to_its_own_entry(workers: int) -> None:
    rows = np.random.default_rng(5).normal(size=(6, 3))
    learner = Learner(Table(rows), lambda p: torch.optim.SGD(p, 1.0), Compute("cpu", "fp32", workers), 0.0)
    actors = [SimpleNamespace(replay=Memory()) for _ in range(workers)]
    parts = [part(k, 8, largest=(3.0, 0.5)[k]) for k in range(workers)]
    kept = copy.deepcopy(parts)
    randoms = [np.random.default_rng(k) for k in range(workers)]
    half_squares = lambda q, batch: dqn.dqn_loss(q, batch, huber=False)  # noqa: E731
    told = dqn.update(learner, actors, parts, half_squares, identity, randoms, 0.5)
    expected, size, loss = rows.copy(), 8 * workers, 0.0
    for k, batch in enumerate(kept):
        for i in range(8):
            at = int(batch.obs[i, 0]), int(batch.actions[i])
            error = float(batch.returns[i] + batch.discounts[i] * batch.target_q[i]) - rows[at]
            weight = float(batch.weights[i]) / 3.0
            expected[at] += 0.5 * weight * error / size
            loss += weight * 0.5 * error**2 / size
            assert actors[k].replay.new[int(batch.index[i])] == pytest.approx(error, abs=1e-5)
        assert len(actors[k].replay.new) == 8
    np.testing.assert_allclose(learner.net.rows.detach().numpy(), expected, atol=1e-6)
    assert told[0] == pytest.approx(loss, rel=1e-5)
    learner.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_a_minibatch_of_the_size_that_is_asked_for(workers: int, monkeypatch) -> None:
    sizes, update = [], dqn.update

    def spied(learner, actors, minibatch, *rest):
        sizes.append([len(part.actions) for part in minibatch])
        return update(learner, actors, minibatch, *rest)

    monkeypatch.setattr(dqn, "update", spied)
    cfg = dataclasses.replace(SMALL, learning_starts=64, train_period=8)
    run = run_for(Identity(1).spec, Identity, cfg, 8 * cfg.batch, workers=workers)
    dqn.train(run, cfg)
    run.close()
    assert sizes == [[cfg.batch_size // workers] * workers] * 8


def test_minibatches_keep_a_transition_together() -> None:
    size, count = 12, 3
    number = np.arange(size)
    batch = Batch(
        obs=number[:, None].astype(np.float32), actions=number % 4, returns=number * 2.0, discounts=number * 3.0,
        next_obs=number[:, None].astype(np.float32), index=100 + number, weights=number * 5.0,
    )  # fmt: skip
    made = dqn.minibatches(batch, torch.tensor(number * 7.0), count)
    assert [len(m.actions) for m in made] == [4, 4, 4]
    seen = []
    for m in made:
        own = m.obs[:, 0].numpy()
        seen += own.tolist()
        for name, value in {
            "actions": own % 4, "returns": own * 2, "discounts": own * 3, "target_q": own * 7, "weights": own * 5
        }.items():  # fmt: skip
            np.testing.assert_allclose(getattr(m, name).numpy(), value)
        assert (m.index == 100 + own).all()
    assert sorted(seen) == number.tolist()


def test_priorities_are_those_of_the_transitions_that_were_drawn() -> None:
    replay, _ = memory_games.play(60, envs=3, capacity=90, ends=0.1, alpha=0.5)
    assert (replay.count > replay.size).all(), "the ring has gone round"

    def code(obs: np.ndarray) -> np.ndarray:
        """A number for each picture, which is new in every step."""
        return obs.reshape(len(obs), -1).astype(np.float64) @ 2.0 ** np.arange(obs[0].size) % 97 + 1

    before = replay.tree.values.copy()
    batch = replay.sample(40)
    again = replay.read(batch.index)
    np.testing.assert_array_equal(batch.obs, again.obs)
    np.testing.assert_array_equal(batch.actions, again.actions)
    replay.reprioritise(batch.index, -code(batch.obs))
    everything = replay.order()
    drawn = np.isin(everything, batch.index)
    expected = np.where(drawn, (code(replay.read(everything).obs) + 1e-6) ** 0.5, before[everything])
    np.testing.assert_allclose(replay.tree.values[everything], expected, rtol=1e-12)
    rest = np.setdiff1d(np.arange(len(before)), everything)
    assert (replay.tree.values[rest] == before[rest]).all()


# Noise ---------------------------------------------------------------------------------------------------

SPEC = EnvSpec("vectors", "gymnasium", (4,), "float32", 3, ("a", "b", "c"), {})


def noisy_net(dueling: bool = False) -> QNetwork:
    """A network whose values are nearly all noise."""
    torch.manual_seed(3)
    net = QNetwork(SPEC, "mlp", dueling, noise_std=20.0)
    with torch.no_grad():
        for layer in net.noisy:
            layer.weight.mul_(0.01)
    return net


def by_hand(net: QNetwork, obs: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Action values with a matrix of its own for each sample, from the same random numbers (not dueling)."""
    (layer,) = net.noisy
    with torch.no_grad():
        x = net.body(torch.from_numpy(obs)).double().numpy()
    n, inputs, outputs = len(obs), layer.weight.shape[1], layer.weight.shape[0]
    draws = [random.standard_normal((n, width), np.float32).astype(np.float64) for width in (inputs, outputs)]
    inner, outer = (np.sign(d) * np.sqrt(np.abs(d)) for d in draws)
    w, b, ws, bs = (p.detach().double().numpy() for p in (layer.weight, layer.bias, layer.weight_std, layer.bias_std))
    return np.stack([(w + ws * np.outer(outer[i], inner[i])) @ x[i] + b + bs * outer[i] for i in range(n)])


def observations(n: int = 16) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(n, 4)).astype(np.float32)


def test_a_noisy_layer_starts_as_its_paper_says() -> None:
    torch.manual_seed(0)
    layer = Noisy(64, 5, 0.5)
    assert (layer.weight_std == 0.5 / 8).all()
    assert (layer.bias_std == 0.5 / 8).all()
    assert layer.weight.abs().max() <= 1 / 8
    assert layer.weight.std().item() == pytest.approx(1 / 8 / math.sqrt(3), rel=0.15)


def test_noisy_values_equal_those_with_a_matrix_for_each_sample() -> None:
    net, obs = noisy_net(), observations()
    with torch.no_grad():
        got = net(torch.from_numpy(obs), noise_for(net, np.random.default_rng(7), 16)).numpy()
    expected = by_hand(net, obs, np.random.default_rng(7))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    same = np.repeat(obs[:1], 16, axis=0)
    values = by_hand(net, same, np.random.default_rng(7))
    assert len(np.unique(values.argmax(1))) > 1, "each sample has noise of its own"


def test_both_dueling_heads_are_noisy() -> None:
    net, obs = noisy_net(dueling=True), torch.from_numpy(observations())
    noise = noise_for(net, np.random.default_rng(7), 16)
    with torch.no_grad():
        x = net.body(obs)
        advantage, value = (layer(x, of_it) for layer, of_it in zip((net.advantage, net.value), noise, strict=True))
        got = net(obs, noise)
    assert (value - net.value(x)).abs().max() > 1, "the noise of the value matters here"
    torch.testing.assert_close(got, value + advantage - advantage.mean(1, keepdim=True))


def test_noise_is_signed_square_roots_of_normal_numbers() -> None:
    net = noisy_net(dueling=True)
    noise = noise_for(net, np.random.default_rng(2), 2_000)
    assert [tuple(t.shape) for pair in noise for t in pair] == [
        (2_000, net.noisy[0].weight.shape[1]), (2_000, 3), (2_000, net.noisy[1].weight.shape[1]), (2_000, 1),
    ]  # fmt: skip
    x = np.concatenate([t.numpy().ravel() for pair in noise for t in pair])
    # x ** 2 is |z| of a normal z: its mean is sqrt(2 / pi), and that of its square is 1.
    assert (x**2).mean() == pytest.approx(math.sqrt(2 / math.pi), rel=0.01)
    assert (x**4).mean() == pytest.approx(1, rel=0.02)
    assert x.mean() == pytest.approx(0, abs=0.01)
    assert noise_for(QNetwork(SPEC, "mlp"), np.random.default_rng(2), 3) is None


def test_acting_and_targets_use_noise() -> None:
    net, other, obs = noisy_net(), noisy_net(), observations()
    with torch.no_grad():
        other.noisy[0].weight.neg_()
        other.noisy[0].bias_std.mul_(0.5)
    nobody = lambda epsilon, zeta: (np.zeros(16, bool), np.zeros(16, np.int64))  # noqa: E731
    actor = SimpleNamespace(explore=nobody, noise=np.random.default_rng(4), device=torch.device("cpu"))
    assert (
        dqn.act(actor, net, identity, 0.0, 0.0, obs) == by_hand(net, obs, np.random.default_rng(4)).argmax(1)
    ).all()

    random = np.random.default_rng(9)
    target = by_hand(other, obs, random)
    online_values = by_hand(net, obs, random)
    for double, choice in ((False, target.argmax(1)), (True, online_values.argmax(1))):
        got = dqn.targets(net, other, obs, identity, double, np.random.default_rng(9)).numpy()
        np.testing.assert_allclose(got, target[np.arange(16), choice], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("double", [False, True])
def test_in_training_no_network_is_without_noise(double: bool, concurrent: bool, monkeypatch) -> None:
    cfg = dataclasses.replace(
        SMALL, noisy=True, double=double, concurrent=concurrent, learning_starts=128, rollout_steps=4, train_period=16
    )
    used, forward = [], QNetwork.forward

    def spied(self, obs, noise=None):
        used.append((len(obs), noise))
        return forward(self, obs, noise)

    monkeypatch.setattr(QNetwork, "forward", spied)
    run = run_for(Identity(1).spec, Identity, cfg, 8 * cfg.batch)
    dqn.train(run, cfg)
    run.close()
    # From step 128 on, 4 rounds: 4 x 4 steps of 8 environments; targets of 64 samples; 2 updates of 32.
    sizes = [n for n, _ in used]
    assert {n: sizes.count(n) for n in set(sizes)} == {8: 16, 64: 8 if double else 4, 32: 8}
    for n, noise in used:
        assert noise is not None
        assert all(len(t) == n and len(torch.unique(t, dim=0)) == n for pair in noise for t in pair if t.shape[1] > 1)


@pytest.mark.parametrize("concurrent", [False, True])
def test_acting_and_learning_at_once_have_random_numbers_of_their_own(concurrent: bool, monkeypatch) -> None:
    """With one generator for both, the noise would depend on which thread is faster."""
    seen, update = set(), dqn.update

    def spied(learner, actors, minibatch, loss, q_values, randoms, lr):
        seen.update(random is actor.noise for actor, random in zip(actors, randoms, strict=True))
        return update(learner, actors, minibatch, loss, q_values, randoms, lr)

    monkeypatch.setattr(dqn, "update", spied)
    cfg = dataclasses.replace(SMALL, noisy=True, concurrent=concurrent, learning_starts=64)
    run = run_for(Identity(1).spec, Identity, cfg, 8 * cfg.batch)
    dqn.train(run, cfg)
    run.close()
    assert seen == {not concurrent}
