"""The maths of returns, against arithmetic by hand and against sums over explicit lists of episodes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.algos._returns import explained_variance, gae, next_values


def column(*numbers: float) -> np.ndarray:
    return np.array(numbers, np.float32)[:, None]


def flags(*numbers: int) -> np.ndarray:
    return np.array(numbers, bool)[:, None]


# gamma 0.5, lambda 0.5, rewards 1, 2, 3, values 4, 5, 6, the state after the last step is worth 8.
REWARDS, VALUES, NEXT = column(1, 2, 3), column(4, 5, 6), column(5, 6, 8)


@pytest.mark.parametrize(
    ("terminated", "truncated", "expected"),
    [
        # delta 1 + 0.5*5 - 4 = -0.5;  2 + 0.5*6 - 5 = 0;  3 + 0.5*8 - 6 = 1.  Each trace keeps 0.5*0.5 = 0.25.
        # A2 = 1;  A1 = 0 + 0.25*1 = 0.25;  A0 = -0.5 + 0.25*0.25 = -0.4375
        ((0, 0, 0), (0, 0, 0), (-0.4375, 0.25, 1)),
        # The second step terminates: delta 2 + 0 - 5 = -3, and nothing flows back over it.
        # A2 = 1;  A1 = -3;  A0 = -0.5 + 0.25*-3 = -1.25
        ((0, 1, 0), (0, 0, 0), (-1.25, -3, 1)),
        # The second step truncates: its delta keeps 0.5*6, but nothing flows back over it.
        # A2 = 1;  A1 = 0;  A0 = -0.5 + 0.25*0 = -0.5
        ((0, 0, 0), (0, 1, 0), (-0.5, 0, 1)),
        # Both at once is a termination.
        ((0, 1, 0), (0, 1, 0), (-1.25, -3, 1)),
        # The last step terminates: delta 3 - 6 = -3;  A1 = 0 - 0.75;  A0 = -0.5 - 0.1875
        ((0, 0, 1), (0, 0, 0), (-0.6875, -0.75, -3)),
    ],
)
def test_gae_by_hand(terminated, truncated, expected):
    found = gae(REWARDS, VALUES, NEXT, flags(*terminated), flags(*truncated), 0.5, 0.5)
    assert found.dtype == np.float32
    assert found[:, 0].tolist() == list(expected)


def test_gae_needs_equal_shapes():
    # A [T] of rewards against [T, 1] of values would broadcast to [T, T] and train on nonsense.
    with pytest.raises(AssertionError):
        gae(REWARDS[:, 0], VALUES, NEXT, flags(0, 0, 0), flags(0, 0, 0), 0.5, 0.5)


def naive(rewards, values, following, terminated, truncated, gamma, lam):
    """Equation 16 as a double sum, env by env, over an explicit list of episodes."""
    out = np.zeros(rewards.shape)
    for n in range(rewards.shape[1]):
        pieces, current = [], []
        for t in range(len(rewards)):
            current.append(t)
            if terminated[t, n] or truncated[t, n] or t == len(rewards) - 1:
                pieces.append(current)
                current = []
        for piece in pieces:
            for i, t in enumerate(piece):
                for j, u in enumerate(piece[i:]):
                    worth = 0.0 if terminated[u, n] else gamma * float(following[u, n])
                    delta = float(rewards[u, n]) + worth - float(values[u, n])
                    out[t, n] += (gamma * lam) ** j * delta
    return out


@st.composite
def rollouts(draw):
    steps, envs = draw(st.integers(1, 12)), draw(st.integers(1, 3))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    reals = [random.normal(size=(steps, envs)).astype(np.float32) for _ in range(4)]
    rate = draw(st.sampled_from([0.0, 0.2, 0.7]))
    cuts = [random.random((steps, envs)) < rate for _ in range(2)]
    last = random.normal(size=envs).astype(np.float32)
    return *reals, last, *cuts


UNIT = st.floats(0, 1)


@settings(max_examples=60, deadline=None)
@given(data=rollouts(), gamma=UNIT, lam=UNIT)
def test_gae_equals_a_double_sum_over_episodes(data, gamma, lam):
    rewards, values, cut_values, _, last, terminated, truncated = data
    following = next_values(values, last, truncated, cut_values)
    found = gae(rewards, values, following, terminated, truncated, gamma, lam)
    expected = naive(rewards, values, following, terminated, truncated, gamma, lam)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(data=rollouts(), gamma=UNIT)
def test_lambda_0_is_one_td_error_and_lambda_1_the_discounted_return(data, gamma):
    rewards, values, following, _, _, terminated, truncated = data
    one = gae(rewards, values, following, terminated, truncated, gamma, 0.0)
    np.testing.assert_allclose(one, rewards + gamma * ~terminated * following - values, atol=1e-5)
    # With lambda 1 the values along the way telescope away, provided that next_values continues values.
    following = np.where(truncated, following, np.concatenate([values[1:], following[-1:]]))
    full = gae(rewards, values, following, terminated, truncated, gamma, 1.0)
    expected = np.zeros(rewards.shape)
    for n in range(rewards.shape[1]):
        after = float(following[-1, n])
        for t in reversed(range(len(rewards))):
            if truncated[t, n]:
                after = float(following[t, n])
            if terminated[t, n]:
                after = 0.0
            after = float(rewards[t, n]) + gamma * after
            expected[t, n] = after - values[t, n]
    np.testing.assert_allclose(full, expected, atol=1e-4)


@settings(max_examples=30, deadline=None)
@given(data=rollouts(), gamma=UNIT, lam=UNIT, changed=st.integers(0, 2**31))
def test_nothing_leaks_into_an_earlier_game(data, gamma, lam, changed):
    """Whatever follows an end, what came before it keeps its advantages."""
    rewards, values, following, _, _, terminated, truncated = data
    ended = np.flatnonzero((terminated | truncated).all(axis=1))
    if not len(ended):
        terminated[len(rewards) // 2] = True
        ended = [len(rewards) // 2]
    end = int(ended[0])
    before = gae(rewards, values, following, terminated, truncated, gamma, lam)
    for array in (rewards, values, following):
        array[end + 1 :] = np.random.default_rng(changed).normal(size=array[end + 1 :].shape)
    after = gae(rewards, values, following, terminated, truncated, gamma, lam)
    assert (before[: end + 1] == after[: end + 1]).all()


def test_next_values_by_hand():
    values = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    cut = np.array([[0, 1], [0, 0], [1, 0]], bool)
    cut_values = np.array([[70, 71], [72, 73], [74, 75]], np.float32)
    found = next_values(values, np.array([8, 9], np.float32), cut, cut_values)
    # Row t is row t + 1 of values, the last row is `last`; where cut, the value given there.
    assert found.tolist() == [[3, 71], [5, 6], [74, 9]]


def test_explained_variance():
    target = np.array([1.0, 2, 3, 4])  # variance 1.25
    assert explained_variance(target, target) == 1
    assert explained_variance(target + 10, target) == 1  # a constant error does not vary
    assert explained_variance(np.full(4, 2.5), target) == 0
    assert explained_variance(-target, target) == pytest.approx(1 - 4)  # Var(2 x) = 4 Var(x)
    assert explained_variance(np.array([2.0, 1, 3, 4]), target) == pytest.approx(1 - 0.5 / 1.25)
    assert math.isnan(explained_variance(np.arange(4.0), np.ones(4)))
