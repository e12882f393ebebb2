"""The loop of the DQN family: schedules, when the target network is updated, what is stored; and RMSProp."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from playfield.algos import _dqn_config, dqn
from playfield.algos._actor import Actor, Target
from playfield.algos._q_network import QNetwork
from playfield.compute import Compute
from playfield.errors import UsageError
from playfield.nets.optimizers import CentredRMSProp
from playfield.replay.buffer import Replay
from playfield.training import prepare
from playfield.training.request import Request
from ppo_runs import run_for
from test_dqn import SMALL, play
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDS = 40


@pytest.fixture
def trained(monkeypatch):
    """A run of ROUNDS rounds with everything that changes in its course, and what was told and called."""
    cfg = dataclasses.replace(
        SMALL, anneal=True, alpha=0.6, beta=0.4, learning_starts=256, epsilon_end=0.1, epsilon_share=0.8
    )
    seen: dict[str, list] = {"beta": [], "sync": [], "rows": []}
    draw, sync = Replay.sample, Target.sync

    def sample(self, batch, beta=1.0):
        seen["beta"].append((run.step, beta))
        return draw(self, batch, beta)

    def synced(self, net):
        seen["sync"].append(run.step)
        sync(self, net)

    monkeypatch.setattr(Replay, "sample", sample)
    monkeypatch.setattr(Target, "sync", synced)
    run = run_for(Identity(1).spec, Identity, cfg, ROUNDS * cfg.batch)
    run.on_rollout = lambda r: seen["rows"].append((r.step - cfg.batch, dict(r._metrics)))
    dqn.train(run, cfg)
    run.close()
    return cfg, seen


def test_what_falls_and_rises(trained) -> None:
    cfg, seen = trained
    total = ROUNDS * cfg.batch
    assert [at for at, _ in seen["beta"]] == list(range(256, total, cfg.batch))
    for at, beta in seen["beta"]:
        assert beta == pytest.approx(0.4 + 0.6 * at / total)
    for at, row in seen["rows"]:
        told = row["rollout/exploration_rate"]
        assert told == pytest.approx(1.0 if at < 256 else max(1 - 0.9 * at / (0.8 * total), 0.1))
        if at >= 256:
            assert row["train/learning_rate"] == pytest.approx(cfg.lr * (1 - at / total))


def test_the_target_network_is_renewed_by_the_clock(trained) -> None:
    cfg, seen = trained
    assert seen["sync"] == list(range(256, ROUNDS * cfg.batch, cfg.target_period))


@pytest.mark.parametrize("noisy", [False, True])
def test_actions_are_random_until_learning_starts(noisy: bool) -> None:
    cfg = dataclasses.replace(SMALL, noisy=noisy, learning_starts=600, epsilon_end=0.0, epsilon_share=0.0)
    run = run_for(Identity(1).spec, Identity, cfg, 600)
    dqn.train(run, cfg)
    actions = run._parts["actor-0"].replay.actions[:, :70].reshape(-1)
    np.testing.assert_allclose(np.bincount(actions, minlength=4) / len(actions), 0.25, atol=0.08)
    run.close()


@pytest.mark.parametrize(("clip", "remembered"), [(True, {0.0, 1.0}), (False, {0.0, 5.0})])
def test_rewards_are_clipped_only_when_asked(clip: bool, remembered: set[float]) -> None:
    class Fives(Identity):
        def step(self, actions):
            step = super().step(actions)
            return dataclasses.replace(step, reward=step.reward * 5)

    env = Fives(8)
    memory = Replay(env.spec, 8, 2_000, np.random.SeedSequence(1))
    actor = Actor(env, memory, np.random.SeedSequence(0), Compute("cpu", "fp32", 1))
    play(actor, QNetwork(env.spec, "mlp"), 40, 1.0, clip_reward=clip)
    assert set(memory.rewards[:, :40].reshape(-1).tolist()) == remembered
    assert {score for _, episode in actor.episodes for score in [episode.score]} - {0.0, 1.0}  # scores stay raw


def test_rmsprop_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    w, gradients = rng.normal(size=5), rng.normal(size=(30, 5))
    p = torch.tensor(w, requires_grad=True)
    optimizer = CentredRMSProp([p], lr=0.01, decay=0.9, eps=0.02)
    mean, square = np.zeros(5), np.zeros(5)
    for g in gradients:
        p.grad = torch.tensor(g)
        optimizer.step()
        for i in range(5):
            mean[i] = 0.9 * mean[i] + 0.1 * g[i]
            square[i] = 0.9 * square[i] + 0.1 * g[i] ** 2
            w[i] -= 0.01 * g[i] / math.sqrt(square[i] - mean[i] ** 2 + 0.02)
    np.testing.assert_allclose(p.detach(), w, rtol=1e-9)


def test_rmsprop_stands_gradients_that_hardly_change() -> None:
    """Then the variance is smaller than its rounding: without the cut, its root would not be a number."""
    torch.manual_seed(0)
    p = torch.zeros(20_000)
    g, optimizer = torch.randn(20_000), CentredRMSProp([p], lr=1e-4, eps=1e-9)
    for _ in range(700):
        p.grad = g * (1 + 1e-6 * torch.randn(20_000))
        optimizer.step()
    assert torch.isfinite(p).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"noisy": True, "noise_std": 0.0}, "--noise-std must be above 0"),
        ({"batch_size": 5_000, "learning_starts": 20_000}, "more than --capacity"),
    ],
)
def test_more_values_that_cannot_go_together(change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        _dqn_config.Config(**{**dataclasses.asdict(_dqn_config.Config()), "capacity": 4_000, **change}).check()


@pytest.mark.parametrize(("algo", "option"), [("c51", "atoms"), ("qrdqn", "quantiles"), ("hlgauss", "bins")])
def test_heads_have_a_largest_size(algo: str, option: str) -> None:
    with pytest.raises(UsageError, match="between 2 and 1000"):
        prepare.configure(Request("CartPole-v1", algo, config={option: 10**9}))


def test_a_net_that_was_asked_for_is_never_replaced() -> None:
    with pytest.raises(UsageError, match="needs pixels"):
        prepare.configure(Request("CartPole-v1", "dqn", config={"net": "nips"}))
