"""Updates of the linear methods against independent ones from the book, on episodes of random features.

`begin` and `learn` get random features, rewards and ends, and return actions; the methods of linear_naive get the
same steps and actions, and weights must agree after every step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from linear_driven import ACTIONS, CLOSE, SIZE, Driven, Episode, episodes, started
from linear_naive import NStepSarsa, SarsaLambda, Watkins, online_lambda_return, taken
from playfield.algos import qlearning, sarsa, sarsa_lambda
from playfield.linear.kernels import TERMINATED, TRUNCATED


def compare(mine: Driven, learner: Any, played: list[Episode]) -> list[list[int]]:
    """Play the episodes with both; after each step the weights must agree. Returns the actions taken."""
    history = []
    for episode in played:
        actions = [mine.begin(episode.xs[0])]
        last = len(episode.rewards) - 1
        for t, reward in enumerate(episode.rewards):
            end = episode.end(t)
            actions.append(mine.learn(reward, episode.xs[t + 1], end))
            x, x_next, over = episode.xs[t], episode.xs[t + 1], end == TERMINATED
            learner(t, x, actions[t], reward, x_next, -1 if over else actions[t + 1], over, t == last)
            assert mine.w == pytest.approx(learner.w, **CLOSE)
        history.append(actions)
    return history


# True online methods against the online lambda-return algorithm


@pytest.mark.parametrize("lam", [0.0, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_true_online_sarsa_is_the_online_lambda_return_algorithm(lam, seed):
    """After every step: the same weights as from all updates of the episode recomputed with longer returns."""
    mine, w = started(sarsa_lambda, seed, lam=lam, alpha=0.07, gamma=0.9, epsilon=0.3, trace="dutch")
    for episode in episodes(seed):
        actions, seen = mine.play(episode)
        pairs = [taken(ACTIONS, a, x) for a, x in zip(actions, episode.xs, strict=True)]
        expected = online_lambda_return(pairs, episode.rewards, episode.terminal, w, 0.07, 0.9, lam)
        for got, right in zip(seen, expected, strict=True):
            assert got == pytest.approx(right, **CLOSE)
        w = expected[-1]


@pytest.mark.parametrize("lam", [0.5, 1.0])
def test_true_online_q_is_the_online_lambda_return_algorithm_while_actions_are_greedy(lam):
    mine, w = started(qlearning, 3, lam=lam, alpha=0.07, gamma=0.9, epsilon=0.0, trace="dutch")
    for episode in episodes(3):
        actions, _ = mine.play(episode)
        pairs = [taken(ACTIONS, a, x) for a, x in zip(actions, episode.xs, strict=True)]
        w = online_lambda_return(pairs, episode.rewards, episode.terminal, w, 0.07, 0.9, lam)[-1]
        assert mine.w == pytest.approx(w, **CLOSE)


# Control with traces and n steps


@pytest.mark.parametrize("trace", ["accumulating", "replacing", "dutch"])
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_sarsa_lambda(trace, lam):
    for seed in range(5):
        options = {"lam": lam, "alpha": 0.05, "gamma": 0.95, "trace": trace}
        mine, w = started(sarsa_lambda, seed, epsilon=0.5, **options)
        compare(mine, SarsaLambda(w, **options), episodes(seed, binary=trace == "replacing"))


@pytest.mark.parametrize("n", [1, 2, 3, 8, 20])
def test_n_step_sarsa(n):
    """20 steps are more than an episode has: then all updates are done at the end."""
    for seed in range(5):
        mine, w = started(sarsa, seed, n_step=n, alpha=0.05, gamma=0.9, epsilon=0.5)
        compare(mine, NStepSarsa(w, n, 0.05, 0.9), episodes(seed))


@pytest.mark.parametrize("trace", ["accumulating", "replacing"])
@pytest.mark.parametrize("lam", [0.0, 0.6, 1.0])
def test_watkins(trace, lam):
    for seed in range(5):
        options = {"lam": lam, "alpha": 0.05, "gamma": 0.95, "trace": trace}
        mine, w = started(qlearning, seed, epsilon=0.4, **options)
        compare(mine, Watkins(w, **options), episodes(seed, count=6, binary=trace == "replacing"))


@pytest.mark.parametrize("trace", sarsa_lambda.TRACES)
def test_lambda_0_is_one_step(trace):
    """Sarsa(0) is one-step Sarsa, Q(0) Q-learning, for all traces: the same actions from the same random numbers."""
    for seed in range(3):
        options: dict[str, Any] = {"alpha": 0.05, "gamma": 0.95, "epsilon": 0.5}
        played = episodes(seed, binary=trace == "replacing")
        one, w = started(sarsa, seed, n_step=1, **options)
        first = compare(one, NStepSarsa(w, 1, 0.05, 0.95), played)
        mine, w = started(sarsa_lambda, seed, lam=0.0, trace=trace, **options)
        assert compare(mine, NStepSarsa(w, 1, 0.05, 0.95), played) == first
        assert mine.w == pytest.approx(one.w, **CLOSE)
        mine, w = started(qlearning, seed, lam=0.0, trace=trace, **options)
        compare(mine, Watkins(w, 0.0, 0.05, 0.95), played)


def test_traces_of_the_last_episode_are_gone():
    """A second episode learns the same whether or not there was a first, of no reward and no learning."""
    for algo in (sarsa_lambda, qlearning):
        for trace in sarsa_lambda.TRACES:
            mine, fresh = (Driven(algo, 1, lam=1.0, alpha=0.1, gamma=1.0, epsilon=0.0, trace=trace) for _ in "ab")
            first, second = np.eye(SIZE)[0], np.eye(SIZE)[1]
            mine.begin(first)
            mine.learn(0.0, first, TERMINATED)
            for driven in (mine, fresh):
                driven.begin(second)
                driven.learn(1.0, second, TERMINATED)
            assert (mine.w[:, 0] == 0).all()
            assert mine.w[:, 1].sum() == fresh.w[:, 1].sum() == pytest.approx(0.1)


# Ends


@pytest.mark.parametrize("algo", [sarsa, sarsa_lambda, qlearning])
def test_truncated_episodes_bootstrap_and_terminated_ones_do_not(algo):
    """One step with reward 1 from x to y, where every action is worth 10."""
    x, y = np.eye(SIZE)[0], np.eye(SIZE)[1]
    for end, goal in ((TERMINATED, 1.0), (TRUNCATED, 1.0 + 0.9 * 10)):
        mine = Driven(algo, alpha=0.5, gamma=0.9, epsilon=0.0)
        mine.w[:, 1] = 10
        action = mine.begin(x)
        mine.learn(1.0, y, end)
        assert mine.w[action, 0] == pytest.approx(0.5 * goal)
        assert np.abs(mine.w[:, 0]).sum() == pytest.approx(0.5 * goal)
        assert (mine.w[:, 1] == 10).all()


# Choices


@pytest.mark.parametrize("algo", [sarsa, sarsa_lambda, qlearning])
def test_epsilon_greedy_with_random_ties(algo):
    x, counts = np.eye(SIZE)[0], {}
    for name, epsilon, values in (("ties", 0.0, [2, 1, 2]), ("explore", 0.3, [0, 1, 0]), ("all", 1.0, [0, 1, 0])):
        mine = Driven(algo, 7, epsilon=epsilon)
        mine.w[:, 0] = values
        counts[name] = np.bincount([mine.begin(x) for _ in range(3000)], minlength=ACTIONS) / 3000
    assert counts["ties"] == pytest.approx([0.5, 0, 0.5], abs=0.04)
    assert counts["explore"] == pytest.approx([0.1, 0.8, 0.1], abs=0.03)
    assert counts["all"] == pytest.approx([1 / 3] * 3, abs=0.04)


@pytest.mark.parametrize("algo", [sarsa, sarsa_lambda, qlearning])
def test_compiled_is_plain_python_bit_for_bit(algo):
    more = {} if algo is sarsa else {"lam": 0.7}
    both = [Driven(algo, 2, compiled, alpha=0.1, gamma=0.9, epsilon=0.3, **more) for compiled in (True, False)]
    for episode in episodes(2, count=8):
        (actions, weights), (others, plain) = (driven.play(episode) for driven in both)
        assert actions == others
        assert all((a == b).all() for a, b in zip(weights, plain, strict=True))
