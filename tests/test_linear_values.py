"""TD(lambda) against the online lambda-return algorithm, and actor-critic against torch's gradients."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from linear_driven import ACTIONS, CLOSE, SIZE, Driven, episodes, started
from linear_naive import offline_lambda_return, online_lambda_return, td_lambda
from playfield.algos import linear_ac
from playfield.algos import td_lambda as algo
from playfield.errors import UsageError
from playfield.linear.kernels import ONGOING, TERMINATED, TRUNCATED


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_true_online_td_is_the_online_lambda_return_algorithm(lam, gamma):
    """After every step: the same weights as from all updates of the episode recomputed with longer returns."""
    for seed in range(10):
        mine, w = started(algo, seed, lam=lam, alpha=0.06, gamma=gamma, trace="dutch")
        for episode in episodes(seed):
            _, seen = mine.play(episode)
            expected = online_lambda_return(episode.xs, episode.rewards, episode.terminal, w[0], 0.06, gamma, lam)
            for got, right in zip(seen, expected, strict=True):
                assert got[0] == pytest.approx(right, **CLOSE)
            w = expected[-1][None]


def test_the_oracle_itself_by_hand():
    """Two steps with rewards 2 and 0 through states of features 1 and 2, from w = 1/2, with lambda 1/2, alpha 0.1."""
    xs = [np.array([x]) for x in (1.0, 2.0, 1.0)]
    seen = online_lambda_return(xs, [2.0, 0.0], True, [0.5], 0.1, 1.0, 0.5)
    assert seen[0] == pytest.approx([0.75])  # 2 + v(second) is 3, and 3 - 0.5 = 2.5
    # anew: half of 3 and half of 2 + 0 is 2.5, so w = 0.7; then the second state, worth 1.4, moves towards 0
    assert seen[1] == pytest.approx([0.7 - 0.1 * 1.4 * 2])


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_accumulating_td(lam):
    for seed in range(10):
        mine, w = started(algo, seed, lam=lam, alpha=0.06, gamma=0.95, trace="accumulating")
        for episode in episodes(seed):
            mine.play(episode)
            td_lambda(episode.xs, episode.rewards, episode.terminal, w[0], 0.06, 0.95, lam)
            assert mine.w == pytest.approx(w, **CLOSE)


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_offline_true_online_td_is_the_offline_lambda_return_algorithm(lam, gamma):
    """Nothing before the end of an episode; then one update after another towards lambda-returns of old weights."""
    for seed in range(10):
        mine, w = started(algo, seed, lam=lam, alpha=0.06, gamma=gamma, trace="dutch", offline=True)
        for episode in episodes(seed):
            _, seen = mine.play(episode)
            assert all(before == pytest.approx(w, **CLOSE) for before in seen[:-1])
            w = offline_lambda_return(episode.xs, episode.rewards, episode.terminal, w[0], 0.06, gamma, lam)[None]
            assert mine.w == pytest.approx(w, **CLOSE)


@pytest.mark.parametrize("lam", [0.0, 0.5, 1.0])
def test_offline_accumulating_td_adds_all_updates_from_the_same_weights(lam):
    """As equation 12.4 with the weights of the start in every update: the sum of them (section 12.2, off-line)."""
    for seed in range(10):
        mine, w = started(algo, seed, lam=lam, alpha=0.06, gamma=0.95, trace="accumulating", offline=True)
        for episode in episodes(seed):
            mine.play(episode)
            w = offline_lambda_return(
                episode.xs, episode.rewards, episode.terminal, w[0], 0.06, 0.95, lam, sums=True
            )[None]
            assert mine.w == pytest.approx(w, **CLOSE)


def test_the_offline_oracle_by_hand():
    """As below: both returns by w = 1/2 are known before the first update, the second of 2 + 0."""
    xs = [np.array([x]) for x in (1.0, 2.0, 1.0)]
    # the first state moves to half of 2 + 1 and half of 2, then the second, now worth 1.4, to 0
    assert offline_lambda_return(xs, [2.0, 0.0], True, [0.5], 0.1, 1.0, 0.5) == pytest.approx([0.7 - 0.1 * 1.4 * 2])
    summed = offline_lambda_return(xs, [2.0, 0.0], True, [0.5], 0.1, 1.0, 0.5, sums=True)
    assert summed == pytest.approx([0.5 + 0.2 - 0.1 * 1.0 * 2])


def test_both_traces_are_td_0_where_lambda_is_0():
    results = []
    for trace in algo.TRACES:
        mine, _ = started(algo, 4, lam=0.0, alpha=0.06, gamma=0.95, trace=trace)
        results.append([mine.play(episode)[1][-1] for episode in episodes(4)])
    assert np.array(results[0]) == pytest.approx(np.array(results[1]), **CLOSE)


def test_lambda_1_without_discount_learns_the_whole_return():
    """From fresh weights, features that no two states share: every state moves by alpha times what came after it."""
    mine = Driven(algo, lam=1.0, alpha=0.1, gamma=1.0, trace="dutch")
    xs, rewards = np.eye(SIZE)[:4], [1.0, 2.0, 4.0]
    mine.begin(xs[0])
    for t, reward in enumerate(rewards):
        mine.learn(reward, xs[t + 1], TERMINATED if t == 2 else ONGOING)
    assert mine.w[0, :4] == pytest.approx([0.7, 0.6, 0.4, 0.0])


# Actor-critic


class TorchActorCritic:
    """Section 13.5 with torch's gradients of log pi and v; traces by hand."""

    def __init__(self, actor, critic, alpha, alpha_actor, gamma, lam, tau, discounted) -> None:
        self.theta = torch.tensor(actor, requires_grad=True)
        self.w = torch.tensor(critic, requires_grad=True)
        self.alpha, self.alpha_actor, self.gamma, self.lam = alpha, alpha_actor, gamma, lam
        self.tau, self.discounted = tau, discounted

    def policy(self, x) -> torch.Tensor:
        return torch.log_softmax(self.theta @ torch.tensor(x) / self.tau, 0)

    def play(self, episode, actions) -> None:
        z, z_critic, shrunk = torch.zeros_like(self.theta), torch.zeros_like(self.w), 1.0
        for t, reward in enumerate(episode.rewards):
            x, x_next = torch.tensor(episode.xs[t]), torch.tensor(episode.xs[t + 1])
            value, over = self.w @ x, episode.end(t) == TERMINATED
            delta = reward + (0.0 if over else self.gamma * (self.w @ x_next).item()) - value.item()
            z_critic = self.gamma * self.lam * z_critic + torch.autograd.grad(value, self.w)[0]
            slope = torch.autograd.grad(self.policy(episode.xs[t])[actions[t]], self.theta)[0]
            z = self.gamma * self.lam * z + shrunk * slope
            with torch.no_grad():
                self.w += self.alpha * delta * z_critic
                self.theta += self.alpha_actor * delta * z
            shrunk *= self.gamma if self.discounted else 1.0


@pytest.mark.parametrize("lam", [0.0, 0.7])
@pytest.mark.parametrize(("tau", "discounted"), [(1.0, False), (0.5, True)])
def test_actor_critic_is_the_gradient(lam, tau, discounted):
    for seed in range(4):
        numbers = {"alpha": 0.05, "alpha_actor": 0.03, "gamma": 0.9, "lam": lam, "tau": tau, "discounted": discounted}
        mine, w = started(linear_ac, seed, **numbers)
        mine.memory.critic[:] = critic = np.random.default_rng(seed).normal(size=(1, SIZE))
        theirs = TorchActorCritic(w, critic[0].copy(), **numbers)
        for episode in episodes(seed):
            actions, _ = mine.play(episode)
            theirs.play(episode, actions)
            assert mine.w == pytest.approx(theirs.theta.detach().numpy(), **CLOSE)
            assert mine.memory.critic[0] == pytest.approx(theirs.w.detach().numpy(), **CLOSE)


def test_taken_only_moves_one_row():
    mine = Driven(linear_ac, alpha=0.1, alpha_actor=0.2, gamma=1.0, lam=0.0, tau=2.0, taken_only=True)
    x = np.eye(SIZE)[2]
    action = mine.begin(x)
    mine.learn(1.0, x, TERMINATED)
    expected = np.zeros((ACTIONS, SIZE))
    expected[action, 2] = 0.2 * 1.0 * (1 - 1 / 3) / 2.0  # alpha * delta * (1 - pi(a)) / tau
    assert mine.w == pytest.approx(expected, **CLOSE)


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_actions_are_sampled_from_the_softmax(tau):
    mine = Driven(linear_ac, 3, tau=tau)
    mine.w[:, 0] = [0.0, 1.0, -0.5]
    sampled = np.bincount([mine.begin(np.eye(SIZE)[0]) for _ in range(4000)], minlength=ACTIONS) / 4000
    probs = np.exp(mine.w[:, 0] / tau)
    assert sampled == pytest.approx(probs / probs.sum(), abs=0.03)


def test_large_preferences_do_not_overflow():
    mine = Driven(linear_ac, 3)
    mine.w[:, 0] = [2000.0, -2000.0, 1000.0]
    assert {mine.begin(np.eye(SIZE)[0]) for _ in range(20)} == {0}
    assert mine.memory.probs.tolist() == [1, 0, 0]


def test_td_samples_random_actions_uniformly():
    mine = Driven(algo, 5)
    sampled = np.bincount([mine.begin(np.eye(SIZE)[0]) for _ in range(3000)], minlength=ACTIONS) / 3000
    assert sampled == pytest.approx([1 / 3] * 3, abs=0.04)


# Ends; plain Python


def test_truncated_episodes_bootstrap_and_terminated_ones_do_not():
    x, y = np.eye(SIZE)[:2]
    for end, goal in ((TERMINATED, 1.0), (TRUNCATED, 1.0 + 0.9 * 10)):
        for trace, offline in itertools.product(algo.TRACES, (False, True)):
            mine = Driven(algo, alpha=0.5, gamma=0.9, trace=trace, offline=offline)
            mine.w[0, 1] = 10
            mine.begin(x)
            mine.learn(1.0, y, end)
            assert mine.w[0, :2] == pytest.approx([0.5 * goal, 10])
        mine = Driven(linear_ac, alpha=0.5, gamma=0.9)
        mine.memory.critic[0, 1] = 10
        mine.begin(x)
        mine.learn(1.0, y, end)
        assert mine.memory.critic[0, :2] == pytest.approx([0.5 * goal, 10])


@pytest.mark.parametrize(("module", "more"), [(algo, {}), (algo, {"offline": True}), (linear_ac, {})])
def test_compiled_is_plain_python_bit_for_bit(module, more):
    both = [Driven(module, 2, compiled, alpha=0.1, gamma=0.9, lam=0.7, **more) for compiled in (True, False)]
    for episode in episodes(2, count=8):
        (actions, weights), (others, plain) = (driven.play(episode) for driven in both)
        assert actions == others
        assert all((a == b).all() for a, b in zip(weights, plain, strict=True))


def test_refusals():
    for module, options in ((algo, {"lam": 1.1}), (linear_ac, {"lam": -0.1}), (linear_ac, {"tau": 0.0})):
        with pytest.raises(UsageError, match=next(iter(options))):
            module.Config(**options).check()
