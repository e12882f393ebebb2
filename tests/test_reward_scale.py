"""Scaled rewards against the definition, computed naively, and in a training that is resumed."""

import numpy as np
import pytest

import playfield
from playfield.algos._reward_scale import RewardScale


@pytest.mark.parametrize("gamma", [0.0, 0.9, 1.0])
def test_a_reward_is_divided_by_the_deviation_of_all_discounted_sums_so_far(gamma):
    rng = np.random.default_rng(3)
    steps, n = 60, 3
    rewards = rng.choice([0.0, 0.0, 1.0, 4.0, -7.0], (steps, n))
    ended = rng.random((steps, n)) < 0.1
    scale = RewardScale(n, gamma)
    seen: list[float] = []
    for t in range(steps):
        for i in range(n):  # the sum since the last end before t, each reward discounted by its age
            begin = max((s + 1 for s in range(t) if ended[s, i]), default=0)
            seen.append(sum(gamma ** (t - s) * rewards[s, i] for s in range(begin, t + 1)))
        expected = np.clip(rewards[t] / np.sqrt(np.var(seen) + 1e-8), -10, 10)
        got = scale(rewards[t], ended[t])
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("pays", [1.0, -1.0, 1e6])
def test_the_first_rewards_are_not_huge(pays):
    """Where all environments pay the same, as CartPole and MountainCar do, the deviation begins at 0."""
    scale = RewardScale(8, 0.99)
    first = [scale(np.full(8, pays), np.zeros(8, bool))[0] for _ in range(50)]
    assert first[0] == np.sign(pays) * 10
    assert np.all(np.abs(first) <= 10)
    assert abs(first[-1]) < 0.2, "a fiftieth of the sum, or so"


def test_its_state_goes_on_exactly():
    rng = np.random.default_rng(1)
    rewards, ended = rng.normal(size=(20, 4)), rng.random((20, 4)) < 0.2
    one, two = RewardScale(4, 0.9), RewardScale(4, 0.9)
    for t in range(10):
        one(rewards[t], ended[t])
    two.restore(one.state())
    for t in range(10, 20):
        np.testing.assert_array_equal(one(rewards[t], ended[t]), two(rewards[t], ended[t]))


def test_a_training_goes_on_with_the_scale_it_had(tmp_path):
    quiet = {"quiet": True, "games": 0, "film": False, "tensorboard": False}
    words = {"steps": 2_048, "norm_reward": True, "workers": 2, **quiet}
    one = playfield.train("CartPole-v1", algo="ppo", run=tmp_path / "a", **words)
    playfield.train("CartPole-v1", algo="ppo", run=tmp_path / "b", **words | {"steps": 1_024})
    two = playfield.train(resume=tmp_path / "b", steps=2_048, **quiet)
    plain = playfield.train("CartPole-v1", algo="ppo", run=tmp_path / "c", **words | {"norm_reward": False})
    assert one.hash == two.hash != plain.hash
