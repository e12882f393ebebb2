"""Initial weights, step sizes and refusals of linear methods, and traces where tiles share a feature."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest

from playfield.algos import linear_ac, sarsa
from playfield.envs import make_envs
from playfield.errors import DivergedError, UsageError
from playfield.linear import online
from playfield.linear.coders import coder_for
from playfield.linear.kernels import add_traces, decay_traces, update_traces
from playfield.linear.many import experiment, values
from playfield.linear.observe import Observer
from playfield.training import prepare
from playfield.training.request import Request


@pytest.mark.parametrize(
    "text",
    ["tilings", "iht:size=64", "modulo", "onehot", "fourier:order=3", "polynomial:order=2", "identity", "bits"],
)
def test_every_state_has_the_initial_value_at_the_start(text):
    low, high = np.zeros(2), np.full(2, 255.0)
    coder = coder_for(text, low, high, high + 1)
    weights = online.initial_weights(3, coder, sarsa.Config(initial=7.5))
    states = np.floor(np.random.default_rng(0).uniform(low, high + 1, (20, 2)))
    assert values(coder, weights, states) == pytest.approx(np.full((20, 3), 7.5))


def test_all_step_sizes_are_annealed():
    cfg = linear_ac.Config(alpha=0.4, alpha_actor=0.2, tau=2.0)
    annealed = dataclasses.replace(cfg, anneal=True)
    assert linear_ac.rates(annealed, 0.75) == linear_ac.rates(dataclasses.replace(cfg, alpha=0.1, alpha_actor=0.05))
    assert sarsa.rates(sarsa.Config(alpha=0.4, anneal=True), 0.5) == sarsa.rates(sarsa.Config(alpha=0.2))
    assert linear_ac.rates(cfg, 0.75) == linear_ac.rates(cfg)


@pytest.mark.parametrize(
    ("algo", "env", "alpha", "actor"),
    [
        ("sarsa", "MountainCar-v0", 0.5 / 8, None),
        ("sarsa_lambda", "CartPole-v1", 0.5 / 16, None),
        ("qlearning", "Acrobot-v1", 0.3 / 16, None),
        ("linear_ac", "MountainCar-v0", 0.5 / 8, 0.02),
        ("linear_ac", "CartPole-v1", 0.3 / 16, 0.2 / 16),
        ("linear_ac", "Acrobot-v1", 0.3 / 16, 0.02),
    ],
)
def test_step_sizes_of_the_presets(algo, env, alpha, actor):
    """A share of 1 / tilings; what is given stays; with other features, theirs."""
    cfg = prepare.configure(Request(env, algo))[1]
    assert cfg.alpha == pytest.approx(alpha, rel=1e-12)
    assert actor is None or cfg.alpha_actor == pytest.approx(actor, rel=1e-12)
    assert prepare.configure(Request(env, algo, config={"alpha": 0.01}))[1].alpha == 0.01
    waves = prepare.configure(Request(env, algo, config={"features": "fourier:order=2"}))[1]
    size = 3 ** {"MountainCar-v0": 2, "CartPole-v1": 4, "Acrobot-v1": 6}[env]
    assert waves.alpha == pytest.approx(cfg.correction / (0.5 * (size + 1)))


@pytest.mark.parametrize(
    ("env", "problem", "limit", "episodes", "enough"),
    [("CartPole-v1", "cartpole", 500, 60, 300), ("MountainCar-v0", "mountain-car-gym", 200, 80, -165)],
)
@pytest.mark.parametrize("algo", ["sarsa", "sarsa_lambda"])
def test_fourier_features_learn_with_the_automatic_step_size(algo, env, problem, limit, episodes, enough):
    """`playfield train CartPole-v1 --algo sarsa --features fourier:order=3`, as an experiment of 3 runs."""
    cfg = prepare.configure(Request(env, algo, config={"features": "fourier:order=3"}))[1]
    own = {"gamma": cfg.gamma, "epsilon": cfg.epsilon, "correction": cfg.correction}
    out = experiment(algo, problem, cfg.features, seeds=range(3), episodes=episodes, max_steps=limit, **own)
    assert out.returns[:, -20:].mean() > enough
    again = experiment(algo, problem, cfg.features, seeds=[0], episodes=3, max_steps=limit, alpha=cfg.alpha, **own)
    assert (again.steps[0] == out.steps[0, :3]).all()


def test_a_trace_that_cancels_is_listed_once():
    """Feature 1 is on twice; its trace of -1 becomes 0 after the first, and 1 after the second."""
    z, nonzero, length, w = np.zeros((2, 3)), np.zeros(6, np.int64), np.zeros(1, np.int64), np.zeros((2, 3))
    update_traces(z, nonzero, length, 1, np.array([1]), np.ones(1), 1, -1.0, False)
    update_traces(z, nonzero, length, 1, np.array([1, 1]), np.ones(2), 2, 1.0, False)
    assert length[0] == 1
    add_traces(w, z, nonzero, length, 0.5)
    assert w.tolist() == [[0, 0, 0], [0, 0.5, 0]]
    decay_traces(z, nonzero, length, 0.5)
    assert z[1, 1] == 0.5
    update_traces(z, nonzero, length, 1, np.array([1]), np.ones(1), 1, -0.5, False)
    assert length[0] == 0


def test_an_endless_episode_ends_the_run():
    """Weights that are not finite never choose the way out: no second episode is begun."""
    start = time.perf_counter()
    with pytest.raises(DivergedError, match="lower alpha"):
        experiment("sarsa", "mountain-car", "tilings", seeds=[1], episodes=100_000, alpha=1.0)
    assert time.perf_counter() - start < 60
    with pytest.raises(UsageError, match="max-steps must be between 0 and 999999"):
        experiment("sarsa", "mountain-car", "tilings", seeds=[1], episodes=1, max_steps=1_000_000)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("onehot:faithful=maybe", "faithful of --features onehot takes true or false, not 'maybe'"),
        ("fourier:scaled=2", "scaled of --features fourier takes true or false, not '2'"),
        ("fourier:scaled=", "scaled of --features fourier takes true or false, not ''"),
    ],
)
def test_errors_of_boolean_feature_options(text, error):
    with pytest.raises(UsageError) as caught:
        coder_for(text, np.zeros(2), np.ones(2))
    assert str(caught.value) == error


def test_presets_differ_only_where_a_method_says_so():
    own = online.presets(linear_ac.Config, CartPole={"tau": 2.0})
    assert own["CartPole"]["default"] == linear_ac.Config(**online.DEFAULTS["CartPole"], tau=2.0)
    assert own["vector"]["default"] == linear_ac.Config()
    assert own["ram"]["default"].features == "bits"
    assert own.keys() == sarsa.PRESETS.keys() == online.DEFAULTS.keys()


def test_states_without_numbers_and_too_many_cells_are_refused():
    env = make_envs("FrozenLake-v1", 1)
    env.close()
    with pytest.raises(UsageError, match="use --features table"):
        Observer("tilings", env.spec)
    assert Observer("identity", env.spec).coder.size == 16
    many = np.zeros(128), np.full(128, 255.0), np.full(128, 256.0)
    for text in ("tilings", "iht", "polynomial", "hashed"):
        with pytest.raises(UsageError) as caught:
            coder_for(text, *many)
        assert len(str(caught.value)) < 120
        assert "10^" in str(caught.value)
        assert "use iht" not in str(caught.value)
