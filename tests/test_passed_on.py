"""What an option says reaches the place where it counts: annealed values, importance weights, priorities, noise."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import memory_games
from playfield.algos import a2c, c51, dqn, hlgauss, mrp, ppo, pqn, qrdqn
from playfield.algos._q_network import Noisy, QNetwork, identity, noise_for
from playfield.compute import Compute
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.linear import online
from playfield.nets.learner import Learner
from playfield.replay.buffer import Batch
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
        DQN, noisy=True, double=double, concurrent=concurrent, learning_starts=128, rollout_steps=4, train_period=16
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
