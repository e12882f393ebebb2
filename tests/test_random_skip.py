"""The protocol `v4`: an action is held for a random number of frames, as ALE's `frameskip=(2, 5)` does."""

from __future__ import annotations

import numpy as np
import pytest
from ale_py.env import AtariEnv

from playfield.envs import make_envs, protocol_line
from playfield.envs.atari_modes import AtariModes
from playfield.envs.atari_protocol import PROTOCOLS, protocol
from playfield.envs.atari_ram import AtariRam
from playfield.envs.family import FAMILIES
from playfield.errors import UsageError
from playfield.show.preprocess import play

ATARI = FAMILIES["atari"]


class Drawn:
    """Stands in for the generator of ale-py's environment: gives the numbers that ours drew."""

    def __init__(self) -> None:
        self.next = 0

    def integers(self, low: int, high: int) -> int:
        assert (low, high) == (2, 5)
        return self.next


@pytest.mark.parametrize("game", ["breakout", "space_invaders", "ms_pacman"])
@pytest.mark.parametrize("obs", ["ram", "pixels"])
def test_frame_for_frame_the_game_of_ale_py_with_a_random_skip(game: str, obs: str) -> None:
    """The same draws give the same screens, rewards, lives and ends as ale-py's own environment."""
    plain = {"noop": 0, "fire_reset": False, "life_loss": False}
    if obs == "ram":
        ours = AtariRam(game, 1, protocol("v4", **plain))
    else:
        ours = AtariModes(game, 1, protocol("v4", maxpool=False, **plain), raw=True)
    theirs = AtariEnv(game, obs_type="ram" if obs == "ram" else "rgb", frameskip=(2, 5), repeat_action_probability=0)
    assert np.array_equal(ours.reset(np.array([3]))[0], theirs.reset(seed=3)[0])
    drawn = Drawn()
    rng, seen, games = np.random.default_rng(0), [], 0
    for action in rng.integers(ours.spec.num_actions, size=600).tolist():
        step = ours.step(np.array([action]))
        drawn.next = int(ours.held[0])
        theirs._np_random = drawn  # type: ignore[assignment]
        screen, reward, over, _, info = theirs.step(action)
        seen.append(drawn.next)
        assert np.array_equal(step.next_obs[0], screen)
        assert (step.reward[0], bool(step.terminated[0])) == (reward, over)
        if over:
            games += 1
            break
        assert ours.lives[0] == info["lives"]
    assert set(seen) == {2, 3, 4}
    counts = np.bincount(seen)[2:] / len(seen)
    assert np.all(np.abs(counts - 1 / 3) < 4 * np.sqrt(2 / 9 / len(seen))), "evenly drawn"
    theirs.close()


def test_the_same_seed_gives_the_same_game_and_a_snapshot_goes_on_exactly() -> None:
    rng = np.random.default_rng(1)
    actions = rng.integers(4, size=(120, 2))
    envs = [make_envs("breakout", 2, protocol="v4") for _ in range(2)]
    assert isinstance(envs[0], AtariModes)
    first = [env.reset(np.array([5, 6])) for env in envs]
    assert np.array_equal(*first)
    lengths = []
    for t, action in enumerate(actions):
        a, b = (env.step(action) for env in envs)
        assert np.array_equal(a.obs, b.obs)
        lengths.append(envs[0].held.tolist())
        if t == 60:
            state = envs[0].state()
    assert len({tuple(x) for x in lengths}) > 3, "each game draws for itself"
    fresh = make_envs("breakout", 2, protocol="v4")
    fresh.restore(state)
    for t, action in enumerate(actions[61:], 61):
        step = fresh.step(action)
        assert fresh.held.tolist() == lengths[t]
    assert np.array_equal(step.obs, a.obs)


def test_the_cap_counts_frames_not_steps() -> None:
    env = make_envs("pong", 1, protocol="v4", cap=300)
    env.reset(np.array([0]))
    frames = steps = 0
    while True:
        step = env.step(np.array([0]))
        frames, steps = frames + int(env.held[0]), steps + 1
        if step.episodes:
            break
    assert step.truncated[0]
    assert not step.terminated[0]
    assert 300 <= frames < 304
    assert step.episodes[0].length == steps > 300 / 4 + 5


def test_one_frame_has_nothing_to_pool() -> None:
    """A step of one frame shows that frame, not the maximum with an older one."""
    rules = protocol("v5", sticky=0.0, skip=2, skip_min=1)
    pooled, plain = (AtariModes("space_invaders", 1, rules.changed(maxpool=m), raw=True) for m in (True, False))
    pooled.reset(np.array([2])), plain.reset(np.array([2]))
    same = {1: 0, 2: 0}
    for _ in range(200):
        a, b = (env.step(np.array([0])).obs for env in (pooled, plain))
        held = int(plain.held[0])
        if held == 1:
            assert np.array_equal(a, b)
        same[held] += int(np.array_equal(a, b))
    assert 0 < same[2] < 150, "two frames are pooled"


def test_what_it_is_called_and_what_it_takes() -> None:
    rules = PROTOCOLS["v4"]
    assert (rules.skip_min, rules.skip) == (2, 4)
    assert "v4: sticky 0, skip 2 to 4 at random" in protocol_line(rules.stored())
    assert "skip_min" not in PROTOCOLS["classic"].stored(), "older runs have no such part"
    assert ATARI.frames_per_step(rules.stored()) == 3
    assert ATARI.fps("breakout", rules.stored()) == 20
    assert ATARI.make_options(rules.stored())["protocol"] == "v4"
    for bad in (0, 4, 9, True, 2.0, "2"):
        with pytest.raises(UsageError, match="skip_min"):
            protocol("v4", skip_min=bad)
    with pytest.raises(UsageError, match="below skip, 1, not 2 "):
        protocol("v4", skip=1)


def test_preprocess_holds_the_frames_that_the_game_held() -> None:
    """The picture's frames end with the one that the observation shows."""
    env = make_envs("breakout", 1, protocol="v4", size=0, maxpool=False)
    frames, obs, played = play(env, 25, seed=4)
    assert played == 25
    assert len(frames) == env.held[0]
    weights = np.array([0.2989, 0.587, 0.114])
    assert np.abs(np.rint(frames[-1] @ weights) - obs[..., -1]).max() <= 1
