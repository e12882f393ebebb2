"""A policy outside of the package's loops: `act` takes what an environment gives, and returns what it takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

import playfield
from playfield.envs.base import EnvSpec
from playfield.envs.codec import Codec
from playfield.errors import UsageError
from playfield.play.observation import as_batch
from playfield.play.policy import ProbabilityPolicy, RandomPolicy, chooser, explainer
from playfield.runs.algorithm import Network

PICTURES = EnvSpec("p", "atari", (6, 5, 4), "uint8", 2, ("a", "b"), {})
GREY = EnvSpec("g", "gymnasium", (6, 5, 1), "uint8", 2, ("a", "b"), {})
BITS = EnvSpec("b", "gymnasium", (6, 5, 1), "uint8", 2, ("a", "b"), {}, obs_bounds=((0.0,), (1.0,)))
VECTOR = EnvSpec("v", "classic", (4,), "float32", 2, ("a", "b"), {})
NUMBER = EnvSpec("n", "gymnasium", (1,), "float32", 2, ("a", "b"), {})
LAKE = EnvSpec("l", "gymnasium", (4,), "float32", 2, ("10", "11"), {}, first_action=10, states=((4, 3),))
CARDS = EnvSpec("c", "gymnasium", (9,), "float32", 2, ("0", "1"), {}, states=((4, 0), (3, 1), (2, 0)))

RNG = np.random.default_rng(0)
ONE = RNG.integers(0, 256, (6, 5, 4), np.uint8)
MANY = RNG.integers(0, 256, (3, 6, 5, 4), np.uint8)
FIRST_CARDS = [0, 1, 0, 0, 0, 1, 0, 0, 1]  # the state (1, 2, 1)


@pytest.mark.parametrize(
    ("spec", "given", "expected", "single"),
    [
        (PICTURES, ONE, ONE[None], True),
        (PICTURES, MANY, MANY, False),
        (PICTURES, (ONE, {"lives": 5}), ONE[None], True),
        (PICTURES, ONE.tolist(), ONE[None], True),
        (PICTURES, torch.from_numpy(ONE), ONE[None], True),
        (PICTURES, np.moveaxis(ONE, -1, 0).copy(), ONE[None], True),
        (PICTURES, np.moveaxis(MANY, -1, 1).copy(), MANY, False),
        (PICTURES, ONE.astype(np.float32), ONE[None], True),
        (PICTURES, ONE.astype(np.int64), ONE[None], True),
        (PICTURES, np.zeros((6, 5, 4)), np.zeros((1, 6, 5, 4)), True),
        (GREY, ONE[..., 0], ONE[None, ..., :1], True),
        (GREY, MANY[..., 0], MANY[..., :1], False),
        (GREY, MANY[:1, ..., 0], MANY[:1, ..., :1], True),  # also a picture with its channel first: the same numbers
        (BITS, (ONE[..., :1] > 99), (ONE[None, ..., :1] > 99), True),
        (BITS, (ONE[..., :1] > 99).astype(float), (ONE[None, ..., :1] > 99), True),
        (VECTOR, np.arange(4.0), np.arange(4)[None], True),
        (VECTOR, [0, 1, 2, 3], np.arange(4)[None], True),
        (VECTOR, np.ones((2, 4)), np.ones((2, 4)), False),
        (NUMBER, np.float64(0.5), [[0.5]], True),
        (NUMBER, 0.5, [[0.5]], True),
        (LAKE, 4, [[0, 1, 0, 0]], True),
        (LAKE, np.int64(6), [[0, 0, 0, 1]], True),
        (LAKE, (3, {"prob": 1.0}), [[1, 0, 0, 0]], True),
        (LAKE, np.array([3, 6]), [[1, 0, 0, 0], [0, 0, 0, 1]], False),
        (LAKE, torch.tensor([3, 6]), [[1, 0, 0, 0], [0, 0, 0, 1]], False),
        (LAKE, np.array([0, 1, 0, 0], np.float32), [[0, 1, 0, 0]], True),
        (LAKE, np.eye(4), np.eye(4), False),
        (CARDS, (1, 2, 1), [FIRST_CARDS], True),
        (CARDS, ((1, 2, 1), {}), [FIRST_CARDS], True),
        (CARDS, np.array([[1, 2, 1]] * 2), [FIRST_CARDS] * 2, False),
        (CARDS, (np.array([1, 1]), np.array([2, 2]), np.array([1, 1])), [FIRST_CARDS] * 2, False),
        (CARDS, np.array(FIRST_CARDS, np.float32), [FIRST_CARDS], True),
    ],
)
def test_what_can_mean_one_thing_is_converted(spec, given, expected, single):
    obs, alone = as_batch(spec, given)
    assert obs.dtype == spec.obs_dtype
    assert obs.shape[1:] == spec.obs_shape
    assert alone == single
    np.testing.assert_array_equal(obs, expected)


@pytest.mark.parametrize(
    ("spec", "given", "why"),
    [
        (PICTURES, ONE.astype(np.float32) / 255, "scaled by 255"),
        (PICTURES, (ONE > 9).astype(float), "could be scaled"),
        (PICTURES, ONE > 9, "could be scaled"),
        (PICTURES, ONE.astype(int) + 200, "are no bytes"),
        (PICTURES, -ONE.astype(int), "are no bytes"),
        (PICTURES, ONE[..., 0], "does not fit"),
        (PICTURES, ONE[..., :1], "does not fit"),
        (PICTURES, np.zeros((210, 160, 3), np.uint8), "does not fit"),
        (PICTURES, np.zeros((0, 6, 5, 4), np.uint8), "holds no observation"),
        (BITS, ONE[..., :1], "outside of the declared range"),
        (VECTOR, np.zeros(5), "does not fit"),
        (VECTOR, np.zeros((1, 1, 4)), "does not fit"),
        (VECTOR, np.full(4, np.nan), "NaN"),
        (VECTOR, np.full(4, 1e300), "too large"),
        (VECTOR, {"obs": np.zeros(4)}, "dict"),
        (VECTOR, None, "no array of numbers"),
        (VECTOR, "0000", "no array of numbers"),
        (VECTOR, [[0, 1], [2]], "no array of numbers"),
        (LAKE, 2, "no state 2"),
        (LAKE, 7, "no state 7"),
        (LAKE, 4.5, "no state"),
        (LAKE, np.array([0.5, 0.5, 0, 0]), "no state"),
        (LAKE, np.array([0, 1, 0, 0]), "use float32"),  # four states, of which two are none, or a vector
        (CARDS, (1, 3, 2), "no state (1, 3, 2)"),
        (CARDS, np.array([1, 2]), "no state"),
    ],
)
def test_what_could_mean_another_thing_is_refused(spec, given, why):
    with pytest.raises(UsageError) as error:
        as_batch(spec, given)
    assert why in str(error.value)
    assert str(spec.obs_shape) in str(error.value)
    assert spec.obs_dtype in str(error.value)


@given(st.integers(0, 3), st.booleans())
def test_states_are_recognised_by_number_and_by_vector(state, batched):
    vector = np.eye(4, dtype=np.float32)[state]
    for obs in (state + 3, vector):
        found, _ = as_batch(LAKE, np.array([obs]) if batched else obs)
        np.testing.assert_array_equal(found, vector[None])


def test_actions_are_the_environments_own():
    right = Network(lambda obs: (obs[:, :2] * 9, obs[:, 0]))
    policy = ProbabilityPolicy(LAKE, right, "it", 0)
    assert policy.act(3) == 10
    assert policy.act(4) == 11
    assert isinstance(policy.act(4), np.integer)
    assert policy.act(np.array([4, 3, 4])).tolist() == [11, 10, 11]
    obs = np.eye(4, dtype=np.float32)[[1, 0, 1]]
    assert policy.choose(obs).tolist() == [1, 0, 1]
    assert policy.explain(4)["probs"].tolist() == [[0, 1]]
    assert set(RandomPolicy(LAKE).act(np.full(99, 3)).tolist()) == {10, 11}

    class Own:
        """Written by a user."""

        spec, label, temperature = LAKE, "own", 1.0

        def act(self, obs, uniform=None):
            return np.full(len(obs), 11)

    assert chooser(Own())(obs, None).tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("obs", "why"),
    [
        (np.full((1, 4), np.nan, np.float32), "NaN or infinite"),
        (np.zeros((1, 3), np.float32), "does not fit"),
    ],
)
def test_explain_refuses_what_act_refuses(obs, why):
    network = Network(lambda x: (np.zeros((len(x), 2), np.float32), np.zeros(len(x))))
    policy = ProbabilityPolicy(VECTOR, network, "p")
    for call in (policy.act, policy.explain, RandomPolicy(VECTOR).explain):
        with pytest.raises(UsageError, match=why):
            call(obs)
    bits = ProbabilityPolicy(BITS, network, "p")
    with pytest.raises(UsageError, match="outside of the declared range"):
        bits.explain(np.full((1, 6, 5, 1), 2, np.uint8))
    with pytest.raises(UsageError, match="is no state"):
        ProbabilityPolicy(LAKE, network, "p").explain(np.full((1, 4), 0.25, np.float32))
    # Explanations replace parts of an observation: what no environment gives is not checked there.
    assert explainer(bits)(np.full((1, 6, 5, 1), 2, np.uint8))["probs"].shape == (1, 2)


def test_an_own_explain_is_used_everywhere():
    class Own(RandomPolicy):
        def explain(self, obs):
            return {"probs": np.ones((1, 1))}

    policy = RandomPolicy(VECTOR)
    policy.explain = Own(VECTOR).explain  # type: ignore[method-assign]
    for one in (Own(VECTOR), policy):
        assert explainer(one)(np.zeros((2, 4), np.float32))["probs"].shape == (1, 1)


@pytest.mark.parametrize("space", [spaces.MultiBinary((2, 3)), spaces.MultiDiscrete([[3, 4, 2], [2, 2, 5]])])
def test_states_of_several_axes_are_given_as_the_environment_does(space, tmp_path, monkeypatch):
    class Board(gymnasium.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            space.seed(seed)
            return space.sample(), {}

        def step(self, action):
            return space.sample(), 1.0, bool(self.np_random.random() < 0.2), False, {}

    monkeypatch.chdir(tmp_path)
    result = playfield.train(Board, "qlearning", steps=64, film=False, console=False, tensorboard=False, games=1)
    policy = playfield.load_policy(result.directory, temperature=0)
    batch = np.stack([space.sample() for _ in range(7)])
    single = [int(policy.act(one)) for one in batch]
    assert policy.act(batch).tolist() == policy.act(batch.reshape(7, 6)).tolist() == single
    hot = Codec("it", Board()).encode(batch[0])
    np.testing.assert_array_equal(as_batch(policy.spec, batch[0])[0][0], hot)
    for wrong in (batch[0].T, batch[:, None], batch[0] + 9, np.int64(1)):
        with pytest.raises(UsageError, match="no state"):
            policy.act(wrong)


def test_an_own_loop_of_gymnasium(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("CliffWalking-v1", "Blackjack-v1"):
        result = playfield.train(name, "a2c", steps=200, games=0, film=False, console=False, tensorboard=False)
        policy, env = playfield.load_policy(result.directory), gymnasium.make(name)
        obs, _info = env.reset(seed=0)
        for _ in range(30):
            obs, _reward, terminated, truncated, _info = env.step(policy.act(obs))
            if terminated or truncated:
                obs, _info = env.reset()
        many = gymnasium.make_vec(name, 3, vectorization_mode="sync")
        obs, _info = many.reset(seed=0)
        obs = many.step(policy.act(obs))[0]
        many.close()


def test_the_own_loop_of_the_documentation(tmp_path, monkeypatch):
    page = (Path(__file__).parent.parent / "docs" / "howto" / "environments.md").read_text("utf-8")
    code = re.search(r"## Play in your own loop.*?```python\n(.*?)```", page, re.DOTALL)[1]
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(compile(code, "environments.md", "exec"), found)
    assert found["env"].action_space.contains(found["policy"].act(found["obs"]))
