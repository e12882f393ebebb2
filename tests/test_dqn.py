"""DQN: its loss against a naive one, what ends mean, that it acts on its values, learns, and resumes exactly."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from playfield.algos import dqn
from playfield.algos._actor import Actor, Target
from playfield.algos._q_network import QNetwork, identity, select
from playfield.compute import Compute
from playfield.envs import make_envs
from playfield.nets.learner import Learner
from playfield.replay.buffer import Batch, Replay
from ppo_runs import Corridor, run_for
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

GAMMA = 0.9
SMALL = dqn.Config(
    num_envs=8, rollout_steps=2, capacity=4_000, packed=False, learning_starts=256, batch_size=32, target_period=64,
    lr=3e-3, adam_eps=1e-8, gamma=GAMMA, epsilon_end=0.1, net="mlp", clip_reward=False,
)  # fmt: skip


# The loss ------------------------------------------------------------------------------------------------


class Table(nn.Module):
    """Values looked up: observation i has row i."""

    def __init__(self, rows: np.ndarray) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.tensor(rows, dtype=torch.float32))

    def forward(self, obs: torch.Tensor, noise: None = None) -> torch.Tensor:
        return self.rows[obs.long().squeeze(1)]


def random_batch(size: int) -> Batch:
    rng = np.random.default_rng(0)
    return Batch(
        obs=rng.integers(0, 6, (size, 1)).astype(np.float32),
        actions=rng.integers(0, 3, size),
        returns=rng.normal(size=size).astype(np.float32),
        discounts=rng.choice([0.0, 0.99, 0.97], size).astype(np.float32),
        next_obs=rng.integers(0, 6, (size, 1)).astype(np.float32),
        index=np.arange(size),
        weights=rng.random(size).astype(np.float32),
    )


def naive(net, target, batch: Batch, double: bool) -> list[float]:
    errors = []
    for b in range(len(batch.actions)):
        at, to = int(batch.obs[b, 0]), int(batch.next_obs[b, 0])
        best = int(np.argmax(net[to] if double else target[to]))
        errors.append(batch.returns[b] + batch.discounts[b] * target[to][best] - net[at][batch.actions[b]])
    return errors


@pytest.mark.parametrize("double", [False, True])
def test_loss_equals_a_naive_one(double: bool) -> None:
    rng = np.random.default_rng(1)
    rows, other = rng.normal(size=(6, 3)) * 2, rng.normal(size=(6, 3)) * 2
    batch, table = random_batch(16), Table(rows)
    target_q = dqn.targets(table, Table(other), batch.next_obs, identity, double, rng)
    [minibatch] = dqn.minibatches(batch, target_q, 1)
    losses, errors = dqn.dqn_loss(select(table(minibatch.obs), minibatch.actions), minibatch)
    expected = naive(rows, other, batch, double)
    np.testing.assert_allclose(errors.detach(), expected, rtol=1e-5, atol=1e-6)
    huber = [0.5 * e**2 if abs(e) < 1 else abs(e) - 0.5 for e in expected]
    np.testing.assert_allclose(losses.detach(), huber, rtol=1e-5, atol=1e-6)
    squares, same = dqn.dqn_loss(select(table(minibatch.obs), minibatch.actions), minibatch, huber=False)
    np.testing.assert_allclose(squares.detach(), [0.5 * e**2 for e in expected], rtol=1e-5, atol=1e-6)
    assert torch.equal(same, errors)
    # Only the values of the actions taken learn: the target passes no gradient.
    losses.sum().backward()
    taken = {(int(o), int(a)) for o, a in zip(batch.obs[:, 0], batch.actions, strict=True)}
    assert {tuple(i) for i in torch.nonzero(table.rows.grad).tolist()} <= taken


def test_double_uses_the_other_networks_choice() -> None:
    net, target = np.array([[0.0, 0.0], [5.0, 1.0]]), np.array([[0.0, 0.0], [2.0, 3.0]])
    for double, expected in ((False, 3), (True, 2)):
        target_q = dqn.targets(Table(net), Table(target), np.ones((1, 1)), identity, double, np.random.default_rng(0))
        assert target_q.tolist() == [expected]


def test_dueling_is_value_plus_centred_advantage() -> None:
    spec = Corridor(1, 4, "end").spec
    net = QNetwork(spec, "mlp", dueling=True)
    obs = torch.eye(5)
    q, features = net(obs), net.body(obs)
    np.testing.assert_allclose(q.mean(1).detach(), net.value(features).squeeze(1).detach(), atol=1e-6)
    advantage = net.advantage(features)
    np.testing.assert_allclose((q[:, 0] - q[:, 1]).detach(), (advantage[:, 0] - advantage[:, 1]).detach(), atol=1e-6)


# Ends ----------------------------------------------------------------------------------------------------


def learned_values(cfg: dqn.Config, rounds: int = 160, **corridor) -> np.ndarray:
    cfg, env = dataclasses.replace(cfg, target_period=32), Corridor(1, **corridor)
    run = run_for(env.spec, lambda n: Corridor(n, **corridor), cfg, rounds * cfg.batch)
    dqn.train(run, cfg)
    obs = torch.ones(1, 1) if env.blind else torch.eye(env.cut + 1)
    with torch.no_grad():
        values = run._parts["learner"].net(obs).max(-1).values.numpy()
    run.close()
    return values


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_truncation_bootstraps(n_step: int, alpha: float) -> None:
    # Nothing ever ends: 1 / (1 - 0.9) = 10. Taken for a termination, it would be about 3.
    cfg = dataclasses.replace(SMALL, n_step=n_step, alpha=alpha)
    assert learned_values(cfg, cut=5, how="cut", blind=True)[0] == pytest.approx(10, rel=0.03)


def test_truncation_bootstraps_from_the_true_successor() -> None:
    # Only the first state of a game pays nothing. The end state is never acted in, so its value is not trained; what
    # must hold is V(s) = r + gamma V(s + 1) on the way to it, not with the first state of the next game.
    values = learned_values(SMALL, cut=4, how="cut", free_start=False)
    end = values[4]
    expected = [sum(GAMMA**i for i in range(1 if s == 0 else 0, 4 - s)) + GAMMA ** (4 - s) * end for s in range(4)]
    np.testing.assert_allclose(values[:4], expected, rtol=0.05, atol=0.15)
    wrong = [sum(GAMMA**i for i in range(1 if s == 0 else 0, 4 - s)) + GAMMA ** (4 - s) * values[0] for s in range(4)]
    assert abs(np.array(wrong) - expected).max() > 0.5  # the test can tell the two apart


@pytest.mark.parametrize("n_step", [1, 3])
@pytest.mark.parametrize("how", ["end", "both"])
def test_termination_does_not_bootstrap(how: str, n_step: int) -> None:
    values = learned_values(dataclasses.replace(SMALL, n_step=n_step), cut=5, how=how)
    expected = [(1 - GAMMA ** (5 - s)) / (1 - GAMMA) for s in range(5)]
    np.testing.assert_allclose(values[:5], expected, rtol=0.03, atol=0.05)


# Acting --------------------------------------------------------------------------------------------------


def actor_for(env, epsilon_seed: int = 0, **replay) -> Actor:
    memory = Replay(env.spec, env.num_envs, 2_000, np.random.SeedSequence(1), stack=env.spec.stack, **replay)
    return Actor(env, memory, np.random.SeedSequence(epsilon_seed), Compute("cpu", "fp32", 1))


def play(actor: Actor, net, steps: int, epsilon: float, zeta: float = 0.0, clip_reward: bool = False) -> None:
    """Collect steps epsilon-greedily, as a run does."""
    actor.collect(partial(dqn.act, actor, net, identity, epsilon, zeta), steps, clip_reward)


def test_it_acts_on_its_own_values() -> None:
    """With epsilon 0 every remembered action is the greedy one; with epsilon 1 they are even."""
    actor = actor_for(Identity(8))
    net = QNetwork(actor.env.spec, "mlp")
    play(actor, net, 40, 0.0)
    batch = actor.replay.sample(500)
    with torch.no_grad():
        greedy = net(torch.from_numpy(batch.obs)).argmax(-1).numpy()
    np.testing.assert_array_equal(batch.actions, greedy)
    assert len(set(map(bytes, batch.obs))) == 4

    actor = actor_for(Identity(8))
    play(actor, net, 200, 1.0)
    share = np.bincount(actor.replay.actions[:, :200].reshape(-1), minlength=4) / 1600
    np.testing.assert_allclose(share, 0.25, atol=0.05)


def test_each_environment_explores_by_itself() -> None:
    """One draw for all would make them explore in the same steps."""
    actor = actor_for(Identity(4))
    net = QNetwork(actor.env.spec, "mlp")
    with torch.no_grad():
        net.advantage.weight.zero_()
        net.advantage.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    play(actor, net, 200, 0.5)
    explored = actor.replay.actions[:, :200] != 0
    together = explored.all(0).mean()
    assert explored.mean() == pytest.approx(0.375, abs=0.06)
    assert together < 0.1  # 0.375 if they shared a draw


@pytest.mark.parametrize("packed", [False, True])
def test_a_learner_sees_motion_and_what_the_game_showed(packed: bool) -> None:
    """Stacks drawn from memory are those that were acted on, and their pictures differ from each other."""
    env = make_envs("breakout", 2)
    actor, seen = actor_for(env, packed=packed), {}  # the same picture may come again and go on differently
    net = QNetwork(env.spec, "nips")
    for _ in range(300):
        before = actor.obs.copy()
        play(actor, net, 1, 1.0, clip_reward=True)
        for e in range(2):
            seen.setdefault(before[e].tobytes(), set()).add(actor.obs[e].tobytes())
    batch = actor.replay.sample(200)
    assert all(obs.tobytes() in seen for obs in batch.obs)
    moving = [len({obs[..., k].tobytes() for k in range(4)}) for obs in batch.obs]
    assert np.mean(moving) > 3
    alive = [b for b in range(200) if batch.discounts[b] > 0]
    assert all(batch.next_obs[b].tobytes() in seen[batch.obs[b].tobytes()] for b in alive)
    env.close()


def test_the_target_network_waits() -> None:
    env = Identity(1)
    learner = Learner(QNetwork(env.spec, "mlp"), lambda p: torch.optim.Adam(p, 0.1), Compute("cpu", "fp32", 1), 0.0)
    target = Target(learner.replicas[0])
    obs = torch.eye(4)
    before = target.net(obs).clone()
    learner.update(lambda k, net: (net(obs).square().sum(), None), 0.1)
    assert torch.equal(target.net(obs), before)
    assert not torch.equal(learner.net(obs), before)
    target.sync(learner.net)
    assert torch.equal(target.net(obs), learner.net(obs))
    other = Target(QNetwork(env.spec, "mlp"))
    other.restore(target.state())
    assert torch.equal(other.net(obs), target.net(obs))


# Learning ------------------------------------------------------------------------------------------------


VARIANTS = {
    "plain": {},
    "double": {"double": True},
    "dueling": {"dueling": True},
    "n-step": {"n_step": 3},
    "prioritised": {"alpha": 0.6},
    "noisy": {"noisy": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_identity(variant: str) -> None:
    cfg = dataclasses.replace(SMALL, epsilon_end=0.0, epsilon_share=0.5, **VARIANTS[variant])
    env = Identity(1)
    run = run_for(env.spec, Identity, cfg, 160 * cfg.batch)
    dqn.train(run, cfg)
    assert np.mean([score for _, score in run.history[:16]]) < 4.5  # chance is 2
    assert np.mean([score for _, score in run.history[-48:]]) / 8 > 0.95
    run.close()


def test_learns_pixels_with_two_workers() -> None:
    cfg = dataclasses.replace(SMALL, net="nips:width=0.25", packed=True, epsilon_end=0.0, epsilon_share=0.5, lr=1e-3)
    env = Identity(1, pixels=True)
    run = run_for(env.spec, lambda n: Identity(n, pixels=True), cfg, 120 * cfg.batch, workers=2, fmt="bf16")
    dqn.train(run, cfg)
    assert np.mean([score for _, score in run.history[-48:]]) / 8 > 0.9
    run.close()
