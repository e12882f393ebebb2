"""PQN: its returns and loss against naive ones, what ends mean, that it acts on its values, learns, and resumes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from playfield.algos import pqn
from playfield.algos._actor_critic import Rollout, collect
from playfield.algos._q_network import QNetwork
from playfield.algos._returns import gae, next_values
from playfield.compute import Compute
from playfield.errors import UsageError
from playfield.play.policy import ProbabilityPolicy
from playfield.runs import checkpoint
from playfield.runs.run import Run
from ppo_runs import Corridor, named, run_for
from test_dqn import Table
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

GAMMA = 0.9
SMALL = pqn.Config(
    num_envs=8, rollout_steps=16, epochs=4, minibatches=2, lr=5e-3, gamma=GAMMA, q_lambda=0.8, epsilon_end=0.1,
    net="mlp", clip_reward=False,
)  # fmt: skip
CPU = Compute("cpu", "fp32", 1)


# Returns -------------------------------------------------------------------------------------------------


def forward_view(rewards, values, following, ends, stops, lam: float) -> list[float]:
    """Peng's Q(lambda) by its definition: the mean of the n-step returns, weighted (1 - lam) lam^(n - 1)."""
    out = []
    for t in range(len(rewards)):
        total, weight, so_far = 0.0, 1.0, 0.0
        for n in range(len(rewards) - t):
            at = t + n
            so_far += GAMMA**n * rewards[at]
            n_step = so_far + (0.0 if ends[at] else GAMMA ** (n + 1) * following[at])
            if ends[at] or stops[at] or at == len(rewards) - 1:  # nothing longer: all the weight that is left
                total += weight * n_step
                break
            total += weight * (1 - lam) * n_step
            weight *= lam
        out.append(total)
    return out


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 12), lam=st.sampled_from([0.0, 0.3, 0.65, 1.0]))
def test_returns_equal_the_forward_view(seed: int, steps: int, lam: float) -> None:
    rng = np.random.default_rng(seed)
    shape = (steps, 3)
    rewards, values, cut_values = (rng.normal(size=shape).astype(np.float32) for _ in range(3))
    last = rng.normal(size=3).astype(np.float32)
    terminated, truncated = rng.random(shape) < 0.2, rng.random(shape) < 0.2
    following = next_values(values, last, truncated, cut_values)
    returns = values + gae(rewards, values, following, terminated, truncated, GAMMA, lam)
    for e in range(3):
        true = [
            cut_values[t, e] if truncated[t, e] else last[e] if t == steps - 1 else values[t + 1, e]
            for t in range(steps)
        ]
        expected = forward_view(rewards[:, e], values[:, e], true, terminated[:, e], truncated[:, e], lam)
        np.testing.assert_allclose(returns[:, e], expected, atol=1e-4)


# The loss ------------------------------------------------------------------------------------------------


def test_loss_equals_a_naive_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(6, 3))
    batch = {
        "obs": rng.integers(0, 6, (16, 1)).astype(np.float32),
        "actions": rng.integers(0, 3, 16),
        "returns": rng.normal(size=16).astype(np.float32) * 3,
    }
    pairs = list(zip(batch["obs"][:, 0].astype(int), batch["actions"], batch["returns"], strict=True))
    table = Table(rows)
    loss, stats = pqn.pqn_loss(table, {key: torch.from_numpy(value) for key, value in batch.items()}, 32)
    assert loss.item() == pytest.approx(sum(0.5 * (g - rows[o, a]) ** 2 for o, a, g in pairs) / 32, rel=1e-5)
    assert stats["loss"] == pytest.approx(loss.item())
    assert stats["q_value"] == pytest.approx(sum(rows[o, a] for o, a, _ in pairs) / 32, rel=1e-5)
    assert stats["td_error"] == pytest.approx(sum(abs(g - rows[o, a]) for o, a, g in pairs) / 32, rel=1e-5)
    loss.backward()
    expected = np.zeros((6, 3))
    for o, a, g in pairs:
        expected[o, a] += (rows[o, a] - g) / 32
    np.testing.assert_allclose(table.rows.grad, expected, atol=1e-6)


# Ends ----------------------------------------------------------------------------------------------------


def learned_values(cfg: pqn.Config = SMALL, rounds: int = 80, workers: int = 1, **corridor) -> np.ndarray:
    env = Corridor(1, **corridor)
    run = run_for(env.spec, lambda n: Corridor(n, **corridor), cfg, rounds * cfg.batch, workers=workers)
    pqn.train(run, cfg)
    obs = torch.ones(1, 1) if env.blind else torch.eye(env.cut + 1)
    with torch.no_grad():
        values = run._parts["learner"].net(obs).max(-1).values.numpy()
    run.close()
    return values


@pytest.mark.parametrize("q_lambda", [0.0, 0.8])
def test_truncation_bootstraps(q_lambda: float) -> None:
    # Nothing ever ends: 1 / (1 - 0.9) = 10. Taken for a termination, it would be about 3.
    cfg = dataclasses.replace(SMALL, q_lambda=q_lambda)
    assert learned_values(cfg, cut=5, how="cut", blind=True)[0] == pytest.approx(10, rel=0.03)


@pytest.mark.parametrize("workers", [1, 2])
def test_truncation_bootstraps_from_the_true_successor(workers: int) -> None:
    # Only the first state of a game pays nothing. The end state is never acted in, so its value is not trained; what
    # must hold is V(s) = r + gamma V(s + 1) on the way to it, not with the first state of the next game.
    values = learned_values(cut=4, how="cut", free_start=False, workers=workers, rounds=120)
    way = [sum(GAMMA**i for i in range(1 if s == 0 else 0, 4 - s)) for s in range(4)]
    expected = [way[s] + GAMMA ** (4 - s) * values[4] for s in range(4)]
    np.testing.assert_allclose(values[:4], expected, rtol=0.05, atol=0.15)
    wrong = [way[s] + GAMMA ** (4 - s) * values[0] for s in range(4)]
    assert abs(np.array(wrong) - expected).max() > 0.5  # the test can tell the two apart


@pytest.mark.parametrize("how", ["end", "both"])
def test_termination_does_not_bootstrap(how: str) -> None:
    expected = [(1 - GAMMA ** (5 - s)) / (1 - GAMMA) for s in range(5)]
    np.testing.assert_allclose(learned_values(cut=5, how=how)[:5], expected, rtol=0.03, atol=0.05)


# Acting --------------------------------------------------------------------------------------------------


def play(net: nn.Module, epsilon: float, steps: int, n: int = 8) -> Rollout:
    rollout = Rollout(Identity(n), steps, np.random.SeedSequence(0), CPU)
    collect(lambda obs: pqn.epsilon_greedy(net(obs), epsilon), rollout, False)
    return rollout


def test_it_acts_on_its_own_values() -> None:
    """With epsilon 0 every action is the greedy one; with epsilon 1 they are even; values are the best action's."""
    net = QNetwork(Identity(1).spec, "mlp")
    rollout = play(net, 0.0, 60)
    with torch.no_grad():
        q = net(rollout.obs.flatten(0, 1)).unflatten(0, (60, 8))
    np.testing.assert_array_equal(rollout.actions, q.argmax(-1).numpy())
    np.testing.assert_allclose(rollout.values, q.max(-1).values.numpy(), rtol=1e-6)
    assert len(np.unique(rollout.obs.argmax(-1))) == 4
    share = np.bincount(play(net, 1.0, 200).actions.reshape(-1), minlength=4) / 1600
    np.testing.assert_allclose(share, 0.25, atol=0.05)


def test_each_environment_explores_by_itself() -> None:
    """One draw for all would make them explore in the same steps."""
    net = QNetwork(Identity(1).spec, "mlp")
    with torch.no_grad():
        net.advantage.weight.zero_()
        net.advantage.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0]))
    explored = play(net, 0.5, 300, n=4).actions != 0
    assert explored.mean() == pytest.approx(0.375, abs=0.06)
    assert explored.all(1).mean() < 0.1  # 0.375 if they shared a draw


def test_the_policy_made_of_its_weights_is_greedy_but_for_epsilon() -> None:
    spec = Identity(1).spec
    net = QNetwork(spec, "mlp")
    weights = {name: p.detach() for name, p in net.named_parameters()}
    network = pqn.load(spec, SMALL, weights, "cpu")
    obs = np.eye(4, dtype=np.float32)
    logits, value, _ = network(obs)
    with torch.no_grad():
        q = net(torch.eye(4)).numpy()
    np.testing.assert_allclose(value, q.max(1), rtol=1e-6)
    np.testing.assert_allclose(np.sort(np.exp(logits), 1), np.tile([0.025, 0.025, 0.025, 0.925], (4, 1)), rtol=1e-5)
    np.testing.assert_array_equal(ProbabilityPolicy(spec, network, "it", 0.0).act(obs), q.argmax(1))


# Learning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "radam"])
def test_learns_identity(optimizer: str) -> None:
    cfg = dataclasses.replace(SMALL, optimizer=optimizer, epsilon_end=0.0, epsilon_share=0.5)
    run = run_for(Identity(1).spec, Identity, cfg, 40 * cfg.batch)
    pqn.train(run, cfg)
    assert np.mean([score for _, score in run.history[:16]]) < 4.5  # chance is 2
    assert np.mean([score for _, score in run.history[-48:]]) / 8 > 0.95
    run.close()


def test_learns_pixels_with_two_workers() -> None:
    cfg = dataclasses.replace(SMALL, net="nips:width=0.25", epsilon_end=0.0, epsilon_share=0.5, lr=2e-3)
    run = run_for(
        Identity(1, pixels=True).spec,
        lambda n: Identity(n, pixels=True),
        cfg,
        40 * cfg.batch,
        workers=2,
        fmt="bf16",
    )
    pqn.train(run, cfg)
    assert np.mean([score for _, score in run.history[-48:]]) / 8 > 0.9
    run.close()


# Exactness -----------------------------------------------------------------------------------------------


BREAKOUT = pqn.Config(num_envs=4, rollout_steps=4, epochs=1, minibatches=2, net="nips:width=0.25")


@pytest.mark.parametrize(
    ("env", "cfg", "workers", "fmt"),
    [
        ("CartPole-v1", SMALL, 2, "fp32"),
        ("CartPole-v1", dataclasses.replace(SMALL, optimizer="radam"), 1, "fp32"),
        ("breakout", BREAKOUT, 2, "bf16"),
    ],
)
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, env, cfg, workers, fmt) -> None:
    steps, more = 8 * cfg.batch, {"workers": workers, "fmt": fmt}
    whole = named(env, cfg, steps, **more)
    pqn.train(whole, cfg)

    class Killed(Exception):
        pass

    def kill(run: Run) -> None:
        if run.step == 4 * cfg.batch:
            run.save()
        if run.step == 5 * cfg.batch:
            raise Killed

    first = named(env, cfg, steps, directory=tmp_path, on_rollout=kill, **more)
    with pytest.raises(Killed):
        pqn.train(first, cfg)
    first.close()
    second = named(env, cfg, steps, resume=checkpoint.load(tmp_path / "checkpoints"), **more)
    pqn.train(second, cfg)
    assert second.final_hash() == whole.final_hash()
    assert second.updates == whole.updates > 0
    whole.close(), second.close()


def test_another_seed_ends_with_another_hash() -> None:
    hashes = set()
    for seed in (1, 1, 2):
        run = named("CartPole-v1", SMALL, 2 * SMALL.batch, seed=seed)
        pqn.train(run, SMALL)
        hashes.add(run.final_hash())
        run.close()
    assert len(hashes) == 2


@pytest.mark.parametrize(
    ("change", "workers", "message"),
    [
        ({"epochs": 0}, 1, "--epochs"),
        ({"minibatches": 3}, 1, "--minibatches 3"),
        ({"minibatches": 128}, 2, "2 workers"),
    ],
)
def test_mistakes_are_told(change: dict, workers: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SMALL, **change).check(workers)
