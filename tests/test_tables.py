"""Named states have a table of values by default, and small problems are solved with it."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

import playfield
from playfield.algos import sarsa
from playfield.envs import make_envs
from playfield.envs.codec import Codec
from playfield.errors import EnvError, UsageError
from playfield.linear import features, online
from playfield.linear.bounds import Bounds
from playfield.linear.coders import coder_for, coder_options, env_coder, squared_length
from playfield.linear.features import encode
from playfield.runs.info import read_info
from playfield.training.prepare import configure
from playfield.training.request import Request


def table(*sizes: int) -> features.Coder:
    width = sum(sizes)
    return coder_for("table", np.zeros(width), np.ones(width), states=sizes)


@settings(deadline=None)  # the first call compiles
@given(st.lists(st.integers(1, 6), min_size=1, max_size=3), st.data())
def test_each_state_has_one_feature(sizes, data):
    coder = table(*sizes)
    state = tuple(data.draw(st.integers(0, n - 1)) for n in sizes)
    hot = np.concatenate([np.eye(n)[s] for n, s in zip(sizes, state, strict=True)])
    index, value = np.zeros(coder.active, np.int64), np.zeros(coder.active)
    assert encode(coder, hot, index, value) == 1
    assert (coder.size, index[0], value[0]) == (np.prod(sizes), np.ravel_multi_index(state, sizes), 1.0)
    assert squared_length(coder) == 1


@pytest.mark.parametrize("sizes", [(500,), (32, 11, 2)])
def test_one_hot_vectors_have_no_constant_beside_them(sizes):
    width = sum(sizes)
    coder = coder_for("identity", np.zeros(width), np.ones(width), states=sizes)
    assert (coder.size, squared_length(coder)) == (width, len(sizes))
    start = online.initial_weights(1, coder, sarsa.Config(initial=6.0))
    hot = np.concatenate([np.eye(n)[0] for n in sizes])
    assert (start @ hot).tolist() == [pytest.approx(6.0)]


def test_a_table_is_for_named_states_only():
    with pytest.raises(UsageError, match="Discrete observations"):
        env_coder("table", make_envs("CartPole-v1", 1).spec)
    with pytest.raises(UsageError, match="use --features table"):
        env_coder("tilings", make_envs("FrozenLake-v1", 1).spec)
    with pytest.raises(UsageError, match=r"10\^16 states: use identity"):
        features.table(Bounds(np.zeros(160), np.ones(160), np.ones(160), (10,) * 16))


@pytest.mark.parametrize("algo", ["sarsa", "sarsa_lambda", "qlearning", "linear_ac", "td_lambda"])
def test_every_linear_method_takes_a_table_by_default(algo):
    for name in ("Taxi-v4", "Blackjack-v1"):
        _, cfg, _ = configure(Request(name, algo))
        assert cfg.features == "table"
        assert cfg.alpha == 0.1  # whatever the number of states


@pytest.mark.parametrize(
    ("space", "raw", "sizes", "places"),
    [
        (spaces.Discrete(4, start=3), 5, (4,), (2,)),
        (spaces.MultiDiscrete([3, 4]), np.array([1, 2]), (3, 4), (1, 2)),
        (spaces.MultiDiscrete([3, 4], start=[5, -1]), np.array([6, 1]), (3, 4), (1, 2)),
        (spaces.MultiBinary(3), np.array([1, 0, 1], np.int8), (2, 2, 2), (1, 0, 1)),
        (spaces.Tuple((spaces.Discrete(3), spaces.Discrete(2, start=1))), (2, 1), (3, 2), (2, 0)),
    ],
)
def test_products_of_states_are_one_hot_vectors(space, raw, sizes, places):
    class Env(gymnasium.Env):
        observation_space, action_space = space, spaces.Discrete(2)

    codec = Codec("it", Env())
    hot = np.concatenate([np.eye(n)[p] for n, p in zip(sizes, places, strict=True)])
    np.testing.assert_array_equal(codec.encode(raw), hot)
    for wrong in (np.asarray(raw) + 99, None, "a", np.zeros(9), np.asarray(raw) + 0.5):
        with pytest.raises(EnvError):
            codec.encode(wrong)


@pytest.mark.parametrize(
    ("name", "steps", "best"),
    [("CliffWalking-v1", 15_000, -13), pytest.param("FrozenLake-v1", 60_000, 0.65, marks=pytest.mark.slow)],
)
def test_small_problems_are_solved_with_the_defaults(name, steps, best, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = playfield.train(name, "qlearning", steps=steps, games=0, film=False, console=False, tensorboard=False)
    assert read_info(result.directory)["config"]["features"] == "table"
    policy = playfield.load_policy(result.directory, temperature=0)
    env, scores = gymnasium.make(name, max_episode_steps=100), []
    for seed in range(1 if best < 0 else 200):  # one is deterministic
        obs, _ = env.reset(seed=seed)
        scores.append(0.0)
        over = cut = False
        while not (over or cut):
            obs, reward, over, cut, _ = env.step(policy.act(obs))
            scores[-1] += float(reward)
    found = np.mean(scores)
    assert found >= best


def test_features_are_those_that_make_a_coder():
    bounds = Bounds(np.zeros(2), np.ones(2), np.ones(2), (1, 1))
    for name in coder_options():
        assert isinstance(getattr(features, name)(bounds), features.Coder), name
    with pytest.raises(UsageError, match="no features called 'check_bounds'"):
        configure(Request("CartPole-v1", "sarsa", config={"features": "check_bounds"}))


def test_bounds_that_are_no_problem_and_those_that_are_refused():
    """See `test_no_bounds_crash` for all coders."""
    with pytest.raises(UsageError, match="number 1 are not finite"):
        coder_for("tilings", np.zeros(2), np.array([1.0, np.inf]))


ENDS = [1e300, -1e300, np.inf, -np.inf, np.nan]
SIDES = st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 255.0, 1e-320, 1e-9, 1e5, 1e7, *ENDS])
CODERS = (
    "tilings",
    "iht:tilings=2,size=64",
    "modulo",
    "hashed:tiles=2",
    "onehot",
    "onehot:faithful=true",
    "fourier",
    "polynomial",
    "legendre",
    "identity",
    "bits",
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(CODERS), st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3), st.data())
def test_no_bounds_crash(name, ends, data):
    """Compiled code checks no index: each coder either refuses bounds or gives indices of its features only."""
    low, high = (np.array(side) for side in zip(*ends, strict=True))
    try:
        with np.errstate(all="ignore"):
            coder = coder_for(name, low, high)
    except UsageError:
        return
    index, value = np.full(coder.active, -7), np.zeros(coder.active)
    extreme = st.one_of(SIDES, st.floats(-2, 2))
    drawn = [data.draw(extreme) for _ in low]
    for x in (np.array(drawn), *(np.full(len(low), end) for end in ENDS)):
        seen = np.clip(np.nan_to_num(x), 0, 255) if name == "bits" else x
        active = encode(coder, seen, index, value)
        assert 0 <= active <= coder.active
        assert ((index[:active] >= 0) & (index[:active] < coder.size)).all()
