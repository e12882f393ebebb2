"""CartPole seen from pixels: the picture follows the state, and everything else is CartPole's own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.cli import main
from playfield.envs import make_envs, make_from
from playfield.envs.base import VectorEnv
from playfield.envs.cartpole_pixels import ACROSS, HEIGHT, UP, WIDTH, CartPolePixels, patches
from playfield.envs.classic import ClassicVectorEnv
from playfield.envs.names import resolve
from playfield.errors import DataError, EnvError, UsageError
from playfield.replay.buffer import Replay

CENTRE = (WIDTH - 1) / 2
POLE_ROWS = slice(2, 29)  # above the cart: nothing but the pole, unless a post is near


def state(x: float = 0.0, angle: float = 0.0) -> np.ndarray:
    return np.array([[x, 0.0, angle, 0.0]])


def oracle(angle: float) -> np.ndarray:
    """The pole alone: of a fine grid in each pixel, the share of points that lie within 1.2 pixels of its line."""
    fine = (np.arange(8) + 0.5) / 8
    x, y = np.meshgrid(
        (np.arange(WIDTH)[:, None] + fine).ravel() - WIDTH / 2,
        HEIGHT - (np.arange(HEIGHT)[:, None] + fine).ravel() - 9,
    )
    tip = (ACROSS * math.sin(angle), UP * math.cos(angle))
    along = np.clip((x * tip[0] + y * tip[1]) / math.hypot(*tip) ** 2, 0, 1)
    near = np.hypot(x - along * tip[0], y - along * tip[1]) <= 1.2
    return near.reshape(HEIGHT, 8, WIDTH, 8).mean((1, 3))


@settings(max_examples=25, deadline=None)
@given(st.floats(-1, 1), st.floats(-0.3, 0.3))
def test_the_pole_is_where_its_angle_puts_it(x, angle):
    near = slice(30, 66)  # no post
    picture = patches(state(x, angle))[0, POLE_ROWS, near].astype(float) / 255
    np.testing.assert_allclose(picture, oracle(angle)[POLE_ROWS, near], atol=0.2)
    # on average over each row much closer: its middle is the pole's middle there
    for row in range(5, 28):
        line = picture[row - POLE_ROWS.start]
        height = (HEIGHT - 0.5 - row - 9) / UP
        middle = (line * np.arange(WIDTH)[near]).sum() / line.sum()
        assert middle == pytest.approx(CENTRE + math.tan(angle) * height * ACROSS, abs=0.25)


@settings(max_examples=25, deadline=None)
@given(st.floats(-2.4, 2.4), st.floats(-0.2, 0.2))
def test_the_track_passes_below_the_cart(x, angle):
    """Ticks and posts stay where they are in the world, so the cart's position can be read off the picture."""
    picture = patches(state(x, angle))[0].astype(float)
    ground, columns = picture[-2], np.arange(WIDTH)
    edges = (np.array([-2.4, 2.4]) - x) * ACROSS + CENTRE
    outside = (columns < edges[0] - 3) | (columns > edges[1] + 3)
    assert (ground[outside] == 0).all()
    inside = (columns > edges[0] + 3) & (columns < edges[1] - 3)
    assert (ground[inside] >= 80).all()
    ticks = np.clip(ground - 80, 0, None) * inside
    for metre in np.arange(-2, 2.5, 0.5):
        at = (metre - x) * ACROSS + CENTRE
        if 3 < at < WIDTH - 4 and edges[0] + 5 < at < edges[1] - 5:
            near = np.abs(columns - at) < 3
            assert (ticks * near * columns).sum() / (ticks * near).sum() == pytest.approx(at, abs=0.2)
    posts = picture[27]  # above the ground and below the top of the posts
    seen = [edge for edge in edges if -0.5 <= edge <= WIDTH - 0.5]
    assert seen  # one end at least, wherever the cart is
    for edge in seen:
        if abs(edge - CENTRE) > 8 and 2 < edge < WIDTH - 3:
            assert posts[round(edge)] > 100


def test_all_envs_are_drawn_as_one_alone_is():
    states = np.random.default_rng(0).normal(0, [1.2, 1, 0.4, 1], (50, 4))
    together = patches(states)
    assert together.dtype == np.uint8
    assert together.shape == (50, HEIGHT, WIDTH)
    for one, picture in zip(states, together, strict=True):
        np.testing.assert_array_equal(patches(one[None])[0], picture)
    np.testing.assert_array_equal(patches(states * [1, 9, 1, 9]), together)  # speeds are not in one picture


def test_a_mirrored_state_is_a_mirrored_picture():
    states = np.random.default_rng(1).normal(0, [1.2, 1, 0.2, 1], (20, 4))
    difference = patches(states).astype(int) - patches(-states)[:, :, ::-1]
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize(("dx", "turn"), [(0.005, 0.0), (-0.005, 0.0), (0.0, 0.005), (0.0, -0.005)])
def test_motion_far_below_a_pixel_shows_and_its_direction_too(dx, turn):
    """A quarter of a step's usual motion: a tenth of a pixel."""
    before, after = patches(state(0.7, 0.05)), patches(state(0.7 + dx, 0.05 + turn))
    moved = after[0].astype(int) - before[0]
    rows = moved[POLE_ROWS] if turn else moved[-4:]
    assert np.abs(rows).sum() > 100
    shift = (rows * (np.arange(WIDTH) - CENTRE)).sum()  # brightness that went right
    assert np.sign(shift) == np.sign(turn or -dx)  # the track goes the other way


def play(env, actions: np.ndarray) -> list[bytes]:
    out = []
    for row in actions:
        r = env.step(row)
        parts = (r.obs, r.next_obs, r.reward, r.terminated, r.truncated)
        out.append(b"".join(p.tobytes() for p in parts) + repr(r.episodes).encode())
    return out


@pytest.mark.parametrize("max_steps", [None, 14])
def test_the_game_is_cartpole_step_for_step(max_steps):
    """Rewards, ends and scores are those of the game seen as numbers; every picture is of the true state then."""
    seeds = np.array([3, 0, 7, 123456789])
    env, plain = CartPolePixels("CartPole-v1", 4, max_steps), ClassicVectorEnv("CartPole-v1", 4, max_steps)
    assert isinstance(env, VectorEnv)
    obs, states = env.reset(seeds), plain.reset(seeds)
    assert (obs.shape, obs.dtype) == ((4, HEIGHT, WIDTH, 2), np.uint8)
    np.testing.assert_array_equal(obs[..., 0], obs[..., 1])
    np.testing.assert_array_equal(obs[..., 1], patches(states))
    rng, cut, over = np.random.default_rng(0), 0, 0
    for _ in range(150):
        actions = rng.integers(2, size=4)
        before, mine, theirs = obs.copy(), env.step(actions), plain.step(actions)
        for name in ("reward", "terminated", "truncated", "episodes"):
            np.testing.assert_array_equal(getattr(mine, name), getattr(theirs, name))
        np.testing.assert_array_equal(mine.next_obs[..., 0], before[..., 1])
        np.testing.assert_array_equal(mine.next_obs[..., 1], patches(theirs.next_obs))
        ended = theirs.terminated | theirs.truncated
        np.testing.assert_array_equal(mine.obs[~ended], mine.next_obs[~ended])
        for k in (0, 1):
            np.testing.assert_array_equal(mine.obs[ended][..., k], patches(theirs.obs[ended]))
        assert (mine.obs is mine.next_obs) == (not ended.any())
        cut, over, obs = cut + int(theirs.truncated.sum()), over + int(theirs.terminated.sum()), mine.obs
    assert over > 0
    assert (cut > 0) == (max_steps is not None)


def test_a_full_game_is_truncated_not_terminated():
    """Balanced by a hand-made rule on the true state up to the 500th step."""
    env, plain = CartPolePixels("CartPole-v1", 1), ClassicVectorEnv("CartPole-v1", 1)
    env.reset(np.array([5]))
    seen = plain.reset(np.array([5]))
    for t in range(500):
        action = np.array([int(3 * seen[0, 2] + seen[0, 3] + 0.1 * seen[0, 0] + 0.2 * seen[0, 1] > 0)])
        record, seen = env.step(action), plain.step(action).obs
        assert record.truncated[0] == (t == 499)
        assert not record.terminated[0]
    assert [(e.score, e.length) for e in record.episodes] == [(500.0, 500)]
    assert (record.next_obs != record.obs).any()


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 60), st.integers(0, 2**40))
def test_a_restored_env_goes_on_exactly(before, seed):
    env = CartPolePixels("CartPole-v1", 3, max_steps=30)
    env.reset(np.array([seed, 1, 2]))
    actions = np.random.default_rng(seed).integers(2, size=(before + 40, 3))
    play(env, actions[:before])
    saved = env.state()
    obs = env.restore(saved)
    expected = play(env, actions[before:])
    other = CartPolePixels("CartPole-v1", 3, max_steps=30)
    np.testing.assert_array_equal(other.restore(saved), obs)
    assert play(other, actions[before:]) == expected
    np.testing.assert_array_equal(env.restore(saved), obs)  # a snapshot is a copy


def test_obs_changed_in_place_do_no_harm():
    env, clean = (CartPolePixels("CartPole-v1", 2) for _ in range(2))
    env.reset(np.arange(2))[:] = 9
    clean.reset(np.arange(2))
    for _ in range(60):
        touched, record = env.step(np.ones(2, int)), clean.step(np.ones(2, int))
        np.testing.assert_array_equal(touched.obs, record.obs)
        np.testing.assert_array_equal(touched.next_obs, record.next_obs)
        touched.obs[:] = 9


def test_replay_gives_back_what_was_seen():
    """Stacks are rebuilt from single patches, across the starts and the ends of games."""
    env = CartPolePixels("CartPole-v1", 2, max_steps=12)
    memory = Replay(env.spec, 2, 400, np.random.SeedSequence(0), stack=2)
    obs, seen, rng = env.reset(np.arange(2)), {}, np.random.default_rng(0)
    for t in range(120):
        actions = rng.integers(2, size=2)
        step, before = env.step(actions), obs.copy()
        for i in range(2):
            seen[before[i].tobytes()] = (step.next_obs[i].tobytes(), bool(step.terminated[i]))
        memory.add(before, actions, np.full(2, t, np.float32), step)
        obs = step.obs
    batch = memory.sample(200, 0.0)
    for one, following, discount in zip(batch.obs, batch.next_obs, batch.discounts, strict=True):
        expected, terminated = seen[one.tobytes()]
        assert (discount == 0) == terminated
        assert terminated or following.tobytes() == expected


def test_both_spellings_make_it_and_it_is_made_again_from_its_spec():
    for env in (make_envs("CartPole-v1-pixels", 2), make_envs("CartPole-v1", 2, obs="pixels")):
        assert isinstance(env, CartPolePixels)
        assert (env.spec.id, env.spec.kind, env.spec.pixels) == ("CartPole-v1", "classic", True)
        assert env.spec.protocol == {"env": "CartPole-v1", "time_limit": 500, "obs": "pixels", "stack": 2}
        json.dumps(env.spec.protocol)
        again = make_from(env.spec, 3)
        assert isinstance(again, CartPolePixels)
        assert again.spec == env.spec
    assert isinstance(make_envs("CartPole-v1", 2, obs="state"), ClassicVectorEnv)
    assert isinstance(make_from(make_envs("CartPole-v1", 1).spec, 1), ClassicVectorEnv)
    assert make_envs("CartPole-v0-pixels", 1).spec.protocol["time_limit"] == 200


@pytest.mark.parametrize("name", ["CartPole-v1-pixels", "cartpole-pixels", "CartPole-pixels-v1", "Cart_Pole-pixels"])
def test_spellings(name):
    found = resolve(name)
    assert (found.id, found.kind, found.overrides) == ("CartPole-v1", "classic", {"obs": "pixels"})
    assert "pixels around the cart" in str(found.note)


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("Acrobot-v1-pixels", {}, "only CartPole has pixel observations"),
        ("Acrobot-v1", {"obs": "pixels"}, "only CartPole has pixel observations"),
        ("CartPole-v1", {"obs": "ram"}, "--obs state or --obs pixels, not ram"),
        ("CartPole-v1", {"obs": "pixels", "sticky": 0.25}, "sticky is for Atari games"),
        ("CartPole-v1-pixel", {}, "did you mean"),
        ("CartPole-v1-pixels-v1", {}, "did you mean"),
        ("CartPole-v3-pixels", {}, "did you mean CartPole-v1"),
    ],
)
def test_mistakes(name, parts, message):
    with pytest.raises(UsageError, match=message):
        make_envs(name, 1, **parts)


def test_errors_of_the_contract():
    env = CartPolePixels("CartPole-v1", 2)
    with pytest.raises(EnvError, match="reset"):
        env.step(np.zeros(2, int))
    env.reset(np.arange(2))
    with pytest.raises(EnvError):
        env.step(np.array([0, 2]))
    plain = ClassicVectorEnv("CartPole-v1", 2)
    plain.reset(np.arange(2))
    with pytest.raises(DataError, match="with pixel observations"):
        env.restore(plain.state())
    three = CartPolePixels("CartPole-v1", 3)
    three.reset(np.arange(3))
    with pytest.raises(DataError, match="2 envs"):
        env.restore(three.state())


def test_a_run_from_pixels_trains_resumes_and_is_shown(tmp_path, monkeypatch):
    """PPO and its film, by the option; what is stored makes the same environment again."""
    monkeypatch.chdir(tmp_path)
    words = ["--steps", "256", "--num-envs", "4", "--rollout-steps", "16", "--minibatches", "2", "--net", "nips"]
    common = ["--workers", "1", "--quiet", "--no-tensorboard", "--seed", "2"]
    assert main(["train", "CartPole-v1", "--obs", "pixels", "--run", "a", *words, *common, "--games", "2"]) == 0
    info = json.loads((tmp_path / "a" / "run.json").read_text())
    assert info["spec"]["obs_shape"] == [HEIGHT, WIDTH, 2]
    assert "--obs pixels" in info["command"]
    assert (tmp_path / "a" / "films").is_dir()
    assert main(["train", "CartPole-v1-pixels", "--run", "b", *words, *common, "--games", "0"]) == 0
    again = json.loads((tmp_path / "b" / "run.json").read_text())
    assert again["result"]["hash"] == info["result"]["hash"]
    assert main(["train", "--resume", "b", "--steps", "320", "--quiet", "--games", "0"]) == 0
    assert main(["record", "a", "--show", "all", "--steps", "5"]) == 0
