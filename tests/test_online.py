"""What linear methods begin with and are refused, and lists of traces where tiles share a number."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from playfield import online
from playfield.algos import linear_ac, sarsa
from playfield.envs import make_envs
from playfield.errors import DivergedError, UsageError
from playfield.linear import experiment, values
from playfield.linear.choice import coder_for
from playfield.linear.maths import fade, follow, mark
from playfield.linear.sight import Sight


@pytest.mark.parametrize(
    "text",
    ["tilings", "iht:size=64", "modulo", "onehot", "fourier:order=3", "polynomial:order=2", "identity", "bits"],
)
def test_every_state_is_worth_initial_at_the_start(text):
    low, high = np.zeros(2), np.full(2, 255.0)
    coder = coder_for(text, low, high, high + 1)
    weights = online.weights(3, coder, sarsa.Config(initial=7.5))
    states = np.floor(np.random.default_rng(0).uniform(low, high + 1, (20, 2)))
    assert values(coder, weights, states) == pytest.approx(np.full((20, 3), 7.5))


def test_all_step_sizes_are_annealed():
    cfg = linear_ac.Config(alpha=0.4, alpha_actor=0.2, tau=2.0)
    assert online._annealed(cfg, 0.75) == dataclasses.replace(cfg, alpha=0.1, alpha_actor=0.05)
    assert online._annealed(sarsa.Config(alpha=0.4), 0.5) == sarsa.Config(alpha=0.2)


def test_a_trace_that_cancels_is_listed_once():
    """Feature 1 is on twice; its trace of -1 becomes 0 after the first, and 1 after the second."""
    z, listed, count, w = np.zeros((2, 3)), np.zeros(6, np.int64), np.zeros(1, np.int64), np.zeros((2, 3))
    mark(z, listed, count, 1, np.array([1]), np.ones(1), 1, -1.0, False)
    mark(z, listed, count, 1, np.array([1, 1]), np.ones(2), 2, 1.0, False)
    assert count[0] == 1
    follow(w, z, listed, count, 0.5)
    assert w.tolist() == [[0, 0, 0], [0, 0.5, 0]]
    fade(z, listed, count, 0.5)
    assert z[1, 1] == 0.5
    mark(z, listed, count, 1, np.array([1]), np.ones(1), 1, -0.5, False)
    assert count[0] == 0


def test_an_endless_episode_ends_the_run():
    """Weights that are not finite never choose the way out: no second episode is begun."""
    start = time.perf_counter()
    with pytest.raises(DivergedError, match="lower alpha"):
        experiment("sarsa", "mountain-car", "tilings", seeds=[1], episodes=100_000, alpha=1.0)
    assert time.perf_counter() - start < 60
    with pytest.raises(UsageError, match="below a million"):
        experiment("sarsa", "mountain-car", "tilings", seeds=[1], episodes=1, max_steps=1_000_000)


def test_states_without_numbers_and_too_many_cells_are_refused():
    env = make_envs("FrozenLake-v1", 1)
    env.close()
    with pytest.raises(UsageError, match="use --features identity"):
        Sight("tilings", env.spec)
    assert Sight("identity", env.spec).coder.size == 17
    many = np.zeros(128), np.full(128, 255.0), np.full(128, 256.0)
    for text in ("tilings", "iht", "polynomial", "hashed"):
        with pytest.raises(UsageError) as caught:
            coder_for(text, *many)
        assert len(str(caught.value)) < 120
        assert "10^" in str(caught.value)
        assert "use iht" not in str(caught.value)
