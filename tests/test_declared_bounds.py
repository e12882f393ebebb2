"""Observations mean what their space declares: bytes from 0 to 1 are not divided by 255, and no bound crashes."""

from __future__ import annotations

import dataclasses
import json

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

import playfield
from playfield.envs import make_envs, make_from
from playfield.envs.base import EnvSpec
from playfield.envs.codec import declared_bounds
from playfield.errors import DataError
from playfield.nets import bodies
from playfield.runs.info import read_info, spec_from
from playfield.show import saliency

SIDE = 5


class Chase(gymnasium.Env):
    """A grid of 0 and 1: the agent in the middle sees on which side of it the 1 is, and must go there."""

    action_space = spaces.Discrete(2)

    def __init__(self, shape: tuple[int, ...] = (SIDE,), dtype: type = np.uint8) -> None:
        self.observation_space = spaces.Box(0, 1, shape, dtype)

    def _look(self):
        self.side = int(self.np_random.integers(2))
        obs = np.zeros(self.observation_space.shape, self.observation_space.dtype)
        obs[..., :2] = 1 - self.side
        obs[..., -2:] = self.side
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        self.t += 1
        reward = float(action == self.side)
        return self._look(), reward, self.t == 10, False, {}


@pytest.fixture(autouse=True)
def registered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = dict(gymnasium.registry)
    gymnasium.register("Chase-v0", entry_point=Chase)
    for name, shape in (("Grid", (8, 8, 6)), ("Picture", (16, 16, 6))):
        gymnasium.register(f"{name}-v0", entry_point=Chase, kwargs={"shape": shape})
    yield
    gymnasium.registry.clear()
    gymnasium.registry.update(before)


@pytest.mark.parametrize(
    ("algo", "steps", "config"),
    [
        ("ppo", 6000, {}),
        ("dqn", 3000, {"learning_starts": 200}),
        ("sarsa", 2000, {"features": "onehot"}),
        ("sarsa", 2000, {"features": "identity"}),
    ],
)
def test_a_grid_of_bytes_0_and_1_is_learnt(algo, steps, config):
    said: list[str] = []
    result = playfield.train(
        "Chase-v0",
        algo,
        steps=steps,
        games=20,
        film=False,
        console=False,
        tensorboard=False,
        config=config,
        say=said.append,
    )
    assert result.evaluation["mean"] > 8.5  # 5 is chance, 10 is perfect
    assert "bytes declared from 0 to 1, scaled to 0..1" in "\n".join(said)
    assert read_info(result.directory)["spec"]["obs_bounds"] == [[0.0], [1.0]]
    # An own loop gives the bytes as they are.
    policy = playfield.load_policy(result.directory, temperature=0)
    assert policy.act(np.array([0, 0, 0, 1, 1], np.uint8)) == 1
    assert policy.act([1, 1, 0, 0, 0]) == 0


@pytest.mark.parametrize("name", ["Grid-v0", "Picture-v0"])
def test_small_pictures_of_bytes_0_and_1_train(name):
    result = playfield.train(name, "ppo", steps=300, games=0, film=False, console=False, tensorboard=False)
    assert spec_from(read_info(result.directory)).obs_bounds == ((0.0,), (1.0,))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(0, 255, (4,), np.uint8), None),
        (spaces.Box(0, 255, (9, 9, 3), np.uint8), None),
        (spaces.Box(0, 1, (9, 9, 3), np.uint8), ((0,), (1,))),
        (spaces.Box(2, 2, (4,), np.uint8), ((2,), (2,))),
        (spaces.Box(np.array([0, 3], np.uint8), np.array([1, 9], np.uint8), dtype=np.uint8), ((0, 3), (1, 9))),
        (spaces.Box(-1, 1, (4,), np.float32), None),
        (spaces.Box(-np.inf, np.inf, (4,), np.float32), None),
        (spaces.Box(-1, 1, (9, 9, 3), np.float32), ((-1,), (1,))),
        (spaces.Box(0, 255, (9, 9, 3), np.float32), ((0,), (255,))),
        (spaces.Box(-np.inf, np.inf, (9, 9, 3), np.float32), ((0,), (1,))),
    ],
)
def test_the_bounds_by_which_observations_are_scaled(space, expected):
    assert declared_bounds(space, np.dtype(np.uint8 if space.dtype == np.uint8 else np.float32)) == expected


def spec_of(shape, dtype, bounds):
    return EnvSpec("e", "gymnasium", shape, dtype, 2, ("0", "1"), {}, obs_bounds=bounds)


def outputs(net, spec, obs):
    torch.manual_seed(0)
    with torch.no_grad():
        return bodies.for_spec(net, spec)(torch.as_tensor(obs))


@pytest.mark.parametrize(("net", "shape"), [("mlp", (6,)), ("relu128", (6,)), ("nature", (36, 36, 2))])
def test_every_body_scales_by_the_bounds(net, shape):
    bits = np.random.default_rng(0).integers(0, 2, (3, *shape), np.uint8)
    usual = outputs(net, spec_of(shape, "uint8", None), 255 * bits)
    for low, high in ((0, 1), (3, 7), (0, 255)):
        obs = (low + (high - low) * bits).astype(np.uint8)
        for dtype in ("uint8", "float32"):
            bounds = ((float(low),), (float(high),))
            found = outputs(net, spec_of(shape, dtype, bounds), obs.astype(dtype))
            torch.testing.assert_close(found, usual, rtol=1e-4, atol=1e-5)
    # Bounds of each index of the last axis; of equal ones nothing can be seen.
    width = shape[-1]
    one = bits.copy()
    one[..., 0] = 9
    bounds = ((9.0,) + (0.0,) * (width - 1), (9.0,) + (1.0,) * (width - 1))
    dark = 255 * bits
    dark[..., 0] = 0
    torch.testing.assert_close(
        outputs(net, spec_of(shape, "uint8", bounds), one),
        outputs(net, spec_of(shape, "uint8", None), dark),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_body_of_another_package_gets_bytes_of_0_to_255(monkeypatch):
    from playfield.nets.layers import First

    class Own(torch.nn.Module):
        def forward(self, obs):
            assert obs.dtype == torch.uint8
            return obs.float() / 255

    monkeypatch.setattr(bodies, "make", lambda *_: bodies.Body(Own(), First(6, 4), out_features=4))
    bits = np.eye(6, dtype=np.uint8)
    usual = outputs("own", spec_of((6,), "uint8", None), 255 * bits)
    torch.testing.assert_close(outputs("own", spec_of((6,), "uint8", ((0.0,), (1.0,))), bits), usual)


def test_gradients_are_taken_where_the_network_is_used():
    """Gradients need floats: these are the same bytes."""
    spec, obs = spec_of((6,), "uint8", None), np.arange(6, dtype=np.uint8) * 40
    body = bodies.for_spec("mlp", spec)
    torch.testing.assert_close(body(torch.as_tensor(obs[None]).float()), body(torch.as_tensor(obs[None])))
    assert np.abs(saliency.gradients(lambda x: (body(x), body(x)[:, 0]), obs, 0)["value"]).max() > 0


def test_a_run_of_an_earlier_version_keeps_its_scale():
    spec = make_envs("Chase-v0", 1).spec
    stored = dataclasses.asdict(spec)
    for name in ("obs_bounds", "states", "first_action"):
        del stored[name]
    old = spec_from({"spec": stored})
    assert old.obs_bounds is None
    assert make_from(old, 1).spec == old
    assert make_from(spec, 1).spec == spec
    bits = np.eye(5, dtype=np.uint8)
    with torch.no_grad():
        torch.testing.assert_close(
            outputs("mlp", old, bits),
            outputs("mlp", spec_of((5,), "float32", None), np.eye(5, dtype=np.float32) / 255),
        )


@pytest.mark.parametrize("bounds", [[[0, 0], [1, 1]], [[0]], 5, [[0], [float("inf")]], [["a"], ["b"]]])
def test_bounds_of_a_damaged_run_are_refused(bounds):
    spec = dataclasses.asdict(make_envs("Chase-v0", 1).spec)
    with pytest.raises(DataError, match="obs_bounds"):
        spec_from({"spec": spec | {"obs_bounds": bounds}})


def test_people_see_the_bounds_as_black_and_white(tmp_path):
    spec = make_envs("Grid-v0", 1).spec
    assert spec.visible(np.array([[[0, 1, 1]]], np.uint8)).tolist() == [[[0, 255, 255]]]
    assert spec_of((1, 1, 2), "uint8", None).visible(np.array([[[0, 1]]], np.uint8)).tolist() == [[[0, 1]]]
    uneven = spec_of((1, 1, 2), "uint8", ((10.0, 3.0), (20.0, 3.0)))
    assert uneven.visible(np.array([[[15, 3]]], np.uint8)).tolist() == [[[128, 0]]]


def test_a_single_number_is_a_vector_of_one_and_games_are_listed_from_the_start(tmp_path):
    class Single(gymnasium.Env):
        observation_space, action_space = spaces.Box(0, 1, (), np.float32), spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return np.float32(0.5), {}

        def step(self, action):
            return np.float32(0.25), 1.0, False, False, {}

    gymnasium.register("Single-v0", entry_point=Single)
    for algo in ("a2c", "sarsa"):
        directory = tmp_path / algo
        playfield.train(
            "Single-v0", algo, run=directory, steps=500, games=0, film=False, console=False, tensorboard=False
        )
        policy = playfield.load_policy(directory)
        assert policy.act(np.float32(0.5)) in (0, 1)
        assert policy.act(0.5).shape == ()
        # No game has ended: SB3's `load_results` reads the first line as JSON and the second as the columns.
        first, columns = (directory / "monitor.csv").read_text("utf-8").splitlines()
        assert json.loads(first[1:])["env_id"] == "Single-v0"
        assert columns == "r,l,t,step"
