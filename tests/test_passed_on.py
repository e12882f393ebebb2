"""What an option says reaches the place where it counts: schedules and the numbers of losses."""

from __future__ import annotations

import dataclasses
import importlib

import numpy as np
import pytest
import torch
from torch import nn

from playfield.algos import a2c, c51, dqn, hlgauss, mrp, ppo, pqn, qrdqn
from playfield.algos._actor import Actor
from playfield.envs import make_envs
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.linear import online
from ppo_runs import SMALL as PPO
from ppo_runs import named, run_for
from test_distributional import gaussian_shares, random_minibatch, softmax
from test_dqn import SMALL as DQN
from test_dqn import Table
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

ROUNDS = 4
LINEAR = ("sarsa", "sarsa_lambda", "qlearning", "linear_ac", "td_lambda")


def rates(module, cfg, rounds=ROUNDS):
    """The learning rate of the optimizer after each rollout of a training."""
    seen = []
    run = run_for(Identity(1).spec, Identity, cfg, rounds * cfg.batch)
    run.on_rollout = lambda r: seen.append(r._parts["learner"].optimizers[0].param_groups[0]["lr"])
    module.train(run, cfg)
    run.close()
    return seen


# Schedules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", ["anneal", "anneal_clip", "anneal_ent"])
def test_ppo_anneals_what_it_is_told_to_and_down_to_anneal_to(on, monkeypatch) -> None:
    switches = {"anneal": False, "anneal_clip": False, "anneal_ent": False} | {on: True}
    cfg = dataclasses.replace(PPO, **switches, anneal_to=0.2, lr=1e-3, clip=0.3, ent_coef=0.05, epochs=1)
    used, loss = [], ppo.ppo_loss

    def spied(net, batch, cfg, clip, size, ent_coef):
        used.append((clip, ent_coef))
        return loss(net, batch, cfg, clip, size, ent_coef)

    monkeypatch.setattr(ppo, "ppo_loss", spied)
    lrs = rates(ppo, cfg)
    left = [1 - 0.8 * k / ROUNDS for k in range(ROUNDS)]
    stays = [1.0] * ROUNDS
    assert lrs == pytest.approx([1e-3 * f for f in (left if on == "anneal" else stays)])
    per_round = np.array(used).reshape(ROUNDS, cfg.minibatches, 2)
    clips = [0.3 * f for f in (left if on == "anneal_clip" else stays)]
    bonus = [0.05 * f for f in (left if on == "anneal_ent" else stays)]
    assert np.ptp(per_round, axis=1).max() == 0, "the same in all minibatches of a rollout"
    np.testing.assert_allclose(per_round[:, 0], np.stack([clips, bonus], axis=1))


def test_ppos_loss_takes_the_bonus_of_this_update() -> None:
    net = Table(np.random.default_rng(0).normal(size=(6, 3)))

    class Both(nn.Module):
        def forward(self, obs):
            return net(obs), torch.zeros(len(obs))

    batch = {"obs": torch.arange(6.0)[:, None], "actions": torch.tensor([0, 1, 2, 0, 1, 2])}
    batch |= {name: torch.zeros(6) for name in ("logprobs", "values", "advantages", "returns")}
    logits = net.rows.detach().double().numpy()
    p = softmax(logits)
    entropy = -(p * np.log(p)).sum() / 6
    plain = ppo.ppo_loss(Both(), batch, PPO, 0.2, 6, 0.0)[0].item()
    given = ppo.ppo_loss(Both(), batch, dataclasses.replace(PPO, ent_coef=0.7), 0.2, 6, 0.3)[0].item()
    assert given == pytest.approx(plain - 0.3 * entropy, abs=1e-6)


@pytest.mark.parametrize("anneal", [True, False])
@pytest.mark.parametrize("module", [pqn, dqn, c51, qrdqn, hlgauss, mrp, a2c], ids=lambda m: m.__name__[17:])
def test_the_optimizer_has_the_annealed_learning_rate(module, anneal: bool) -> None:
    own = {"num_envs": 8, "net": "mlp", "lr": 1e-3, "anneal": anneal, "clip_reward": False}
    if module is pqn:
        own |= {"rollout_steps": 8, "minibatches": 2}
    elif module is a2c:
        own |= {"rollout_steps": 8}
    else:
        own |= {"rollout_steps": 4, "capacity": 2_000, "learning_starts": 64, "batch_size": 32, "train_period": 16}
        own |= {"policy": "random"} if module is mrp else {"packed": False}
    cfg, rounds = module.Config(**own), 8
    seen = rates(module, cfg, rounds)
    first = 0 if module in (pqn, a2c) else 2  # rounds before the first update
    expected = [1e-3 * ((1 - k / rounds) if anneal else 1) for k in range(rounds)]
    assert seen[first:] == pytest.approx(expected[first:])


def test_pqn_acts_with_the_epsilon_of_the_schedule(monkeypatch) -> None:
    cfg = pqn.Config(
        num_envs=4, rollout_steps=8, minibatches=2, epochs=1, net="mlp", epsilon_start=0.8, epsilon_end=0.2,
        epsilon_share=0.5, clip_reward=False,
    )  # fmt: skip
    used, act = [], pqn.epsilon_greedy
    monkeypatch.setattr(pqn, "epsilon_greedy", lambda q, epsilon: (used.append(epsilon), act(q, epsilon))[1])
    rates(pqn, cfg, 8)
    told = [0.8 - 0.6 * min(k / 8 / 0.5, 1) for k in range(8)]
    steps = len(used) // 8
    assert used == pytest.approx([e for e in told for _ in range(steps)])


@pytest.mark.parametrize("anneal", [True, False])
@pytest.mark.parametrize("algo", LINEAR)
def test_linear_methods_learn_with_the_annealed_step_sizes(algo: str, anneal: bool, monkeypatch) -> None:
    module = importlib.import_module(f"playfield.algos.{algo}")
    actor = {"alpha_actor": 0.3} if algo == "linear_ac" else {}
    own = {"policy": "random"} if algo == "td_lambda" else {}
    cfg = module.Config(features="identity", alpha=0.2, anneal=anneal, rollout_steps=8, num_envs=2, **actor, **own)
    used, points = [], online.entry_points

    def spied(begin, learn):
        first, following = points(begin, learn)

        def learning(m, h, *rest):
            used.append((h.alpha, getattr(h, "alpha_actor", 0.0)))
            return following(m, h, *rest)

        return first, learning

    monkeypatch.setattr(online, "entry_points", spied)
    run = named("CartPole-v1", cfg, ROUNDS * cfg.batch)
    module.train(run, cfg)
    run.close()
    per_round = np.array(used).reshape(ROUNDS, cfg.batch, 2)
    left = np.array([1 - k / ROUNDS if anneal else 1.0 for k in range(ROUNDS)])[:, None]
    np.testing.assert_allclose(per_round[..., 0], 0.2 * left.repeat(cfg.batch, 1))
    np.testing.assert_allclose(per_round[..., 1], (0.3 if actor else 0.0) * left.repeat(cfg.batch, 1))


class Lives:
    """A game of nine steps in which a life is lost, a termination, after every third."""

    def __init__(self, n: int) -> None:
        self.num_envs, self.t = n, 0
        self.spec = EnvSpec("lives", "gymnasium", (2,), "float32", 2, ("a", "b"), {})

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        return np.ones((self.num_envs, 2), np.float32)

    def step(self, actions: np.ndarray) -> Step:
        self.t += 1
        obs, no = np.ones((self.num_envs, 2), np.float32), np.zeros(self.num_envs, bool)
        games = [Episode(i, 1.0, 9) for i in range(self.num_envs)] if self.t % 9 == 0 else []
        return Step(obs, obs, np.ones(self.num_envs, np.float32), no | (self.t % 3 == 0), no, games)

    def close(self) -> None:
        pass


@pytest.mark.parametrize("algo", ["sarsa", "sarsa_lambda", "qlearning"])
def test_epsilon_decays_once_for_each_game_and_not_for_each_life(algo: str) -> None:
    module = importlib.import_module(f"playfield.algos.{algo}")
    cfg = module.Config(features="identity", alpha=0.01, epsilon=0.8, epsilon_decay=0.9, rollout_steps=20, num_envs=2)
    run = run_for(Lives(1).spec, Lives, cfg, 2 * cfg.batch)
    module.train(run, cfg)
    games = 2 * (40 // 9)
    assert run._parts["learner"].shared["epsilon"][0] == pytest.approx(0.8 * 0.9**games)
    run.close()


# The losses of the family --------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [c51, qrdqn, hlgauss], ids=lambda m: m.__name__[17:])
def test_training_uses_the_support_and_the_width_that_are_asked_for(module, monkeypatch) -> None:
    own = {
        c51: {"atoms": 11, "v_min": -4.0, "v_max": 6.0},
        qrdqn: {"quantiles": 11, "kappa": 0.3},
        hlgauss: {"bins": 11, "v_min": -4.0, "v_max": 6.0, "sigma": 1.3},
    }[module]
    made = {}
    monkeypatch.setattr(dqn, "train_q_network", lambda run, cfg, net, loss, q: made.update(loss=loss, q=q, net=net))
    cfg = module.Config(net="mlp", packed=False, **own)
    run = run_for(Identity(1).spec, Identity, cfg, cfg.batch)
    module.train(run, cfg)
    run.close()
    logits, batch = random_minibatch(11)
    said = torch.tensor(logits, dtype=torch.float32)
    losses, errors = made["loss"](said, batch)
    if module is qrdqn:
        expected = qrdqn.qrdqn_loss(said, batch, 0.3)
        np.testing.assert_allclose(made["q"](said), logits.mean(-1), rtol=1e-5)
        np.testing.assert_allclose(losses, expected[0])
        return
    places = np.linspace(-4, 6, 11) if module is c51 else -4 + (np.arange(11) + 0.5) * 10 / 11
    np.testing.assert_allclose(made["q"](said), softmax(logits) @ places, rtol=1e-4, atol=1e-5)
    if module is c51:
        np.testing.assert_allclose(losses, c51.c51_loss(said, batch, -4.0, 6.0)[0])
        return
    for b in range(len(logits)):
        aim = float(batch.returns[b]) + float(batch.discounts[b]) * float(softmax(batch.target_q[b].numpy()) @ places)
        aim = min(max(aim, -4.0), 6.0)
        shares = gaussian_shares(aim, 11, -4, 6, 1.3 * 10 / 11)
        assert float(losses[b]) == pytest.approx(-(shares * np.log(softmax(logits[b]))).sum(), rel=1e-4)
        assert float(errors[b]) == pytest.approx(aim - softmax(logits[b]) @ places, rel=1e-3, abs=1e-4)


def test_the_width_of_hlgausss_targets_is_the_papers() -> None:
    """Farebrother et al. 2024: sigma / width of a bin = 0.75."""
    assert {cfg.sigma for table in hlgauss.PRESETS.values() for cfg in table.values()} == {0.75}


def test_the_loop_explores_with_the_exponent_that_is_asked_for(monkeypatch) -> None:
    used, explore = set(), Actor.explore

    def spied(self, epsilon, zeta=0.0):
        used.add(zeta)
        return explore(self, epsilon, zeta)

    monkeypatch.setattr(Actor, "explore", spied)
    rates(dqn, dataclasses.replace(DQN, epsilon_zeta=1.7))
    assert used == {1.7}


def test_acting_beside_learning_needs_memory_for_three_rollouts(tmp_path) -> None:
    """A step that waits to be stored has three observations: before it, after it, and the true successor."""
    env = make_envs("CartPole-v1", 1)
    env.close()
    plain, beside = (dataclasses.replace(DQN, concurrent=on).need(env.spec, tmp_path) for on in (False, True))
    assert beside.memory - plain.memory == 3 * DQN.batch * 4 * 4
