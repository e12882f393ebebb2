"""RAM observations under the contract, against a plain emulator."""

from __future__ import annotations

import numpy as np
import pytest
from ale_py import Action, ALEInterface, roms
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.envs import make_envs, make_from
from playfield.envs.action_log import AtariLog
from playfield.envs.atari_protocol import protocol
from playfield.envs.atari_ram import AtariRam
from playfield.envs.base import VectorEnv
from playfield.errors import DataError, EnvError, UsageError


def seeds(n: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + n, dtype=np.int64)


def play(env: AtariRam, steps: int, key: int) -> list[bytes]:
    draws = np.random.default_rng(key).integers(env.spec.num_actions, size=(steps, env.num_envs))
    out = []
    for actions in draws:
        s = env.step(actions)
        parts = (s.obs, s.next_obs, s.reward, s.terminated, s.truncated)
        out.append(b"".join(p.tobytes() for p in parts) + repr(s.episodes).encode())
    return out


@pytest.mark.parametrize(("game", "name"), [("breakout", "classic"), ("breakout", "v5"), ("seaquest", "classic")])
def test_ram_rewards_and_ends_are_those_of_a_plain_emulator(game, name):
    rules = protocol(name, noop=0)
    env = AtariRam(game, 1, rules)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", rules.sticky)
    ale.setInt("random_seed", 5)
    ale.loadROM(roms.get_rom_path(game))

    def start() -> None:
        ale.reset_game()
        if rules.fire_reset:
            ale.act(Action.FIRE)

    start()
    assert np.array_equal(env.reset(np.array([5]))[0], ale.getRAM())
    press, score, length, lost, games = False, 0, 0, 0, 0
    for action in np.random.default_rng(0).integers(env.spec.num_actions, size=700):
        s = env.step(np.array([action]))
        lives, reward = ale.lives(), 0
        for _ in range(4):
            reward += ale.act(Action.FIRE if press else ale.getMinimalActionSet()[action])
            if ale.game_over():
                break
        score, length = score + reward, length + 1
        fell = ale.lives() < lives
        if not ale.game_over():
            assert env.lives[0] == ale.lives()
        assert np.array_equal(s.next_obs[0], ale.getRAM())
        assert s.reward[0] == reward
        assert s.terminated[0] == (ale.game_over() or (fell and rules.life_loss))
        press = fell and rules.fire_reset and not ale.game_over()
        lost += fell
        if ale.game_over():
            assert [(e.score, e.length) for e in s.episodes] == [(score, length)]
            score = length = 0
            games += 1
            start()
            assert np.array_equal(s.obs[0], ale.getRAM())
        else:
            assert not s.episodes
            assert s.obs is s.next_obs
    assert games > 0
    assert lost > games


def test_contract_spec_and_picture():
    env = make_envs("breakout", 2, obs="ram", stack=3)
    assert isinstance(env, AtariRam)
    assert isinstance(env, VectorEnv)
    assert env.spec.obs_shape == (128,)
    assert (env.spec.obs_dtype, env.spec.kind, env.spec.pixels) == ("uint8", "atari", False)
    assert (env.spec.protocol["obs"], env.spec.protocol["stack"], env.spec.protocol["name"]) == ("ram", 1, "custom")
    assert make_from(env.spec, 1).spec == env.spec
    assert env.reset(seeds(2)).shape == (2, 128)
    before = env.render(0)
    assert before.shape == (210, 160, 3)
    play(env, 20, 0)
    assert not np.array_equal(env.render(0), before)
    assert env.step(np.zeros(2, np.int64)).reward.dtype == np.float32


def test_noop_start_cap_and_full_actions():
    env = AtariRam("breakout", 8, protocol(cap=200, full_actions=True))
    starts = env.reset(seeds(8))
    assert len({row.tobytes() for row in starts}) > 3  # random no-ops
    assert env.spec.num_actions == 18
    for t in range(1, 101):
        s = env.step(np.zeros(8, np.int64))
        assert s.truncated.all() == (t % 50 == 0)
        if t % 50 == 0:
            assert not s.terminated.any()
            assert [e.length for e in s.episodes] == [50] * 8
            assert not np.array_equal(s.obs, s.next_obs)


def test_fire_after_a_lost_life():
    env = AtariRam("breakout", 1, protocol())
    env.reset(seeds(1))
    games = sum(len(env.step(np.zeros(1, np.int64)).episodes) for _ in range(600))
    assert games >= 1  # only NOOP is asked for; without FIRE the game would wait for ever


@settings(max_examples=6, deadline=None)
@given(
    game=st.sampled_from(["breakout", "qbert"]),
    before=st.integers(0, 250),
    n=st.integers(1, 3),
    anchor=st.sampled_from([20, 150]),
    name=st.sampled_from(["classic", "v5"]),
    cap=st.sampled_from([200, 108_000]),
)
def test_a_fresh_object_continues_exactly(game, before, n, anchor, name, cap):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AtariLog, "limit", anchor)
        env, fresh = (AtariRam(game, n, protocol(name, cap=cap)) for _ in range(2))
        env.reset(seeds(n, before))
        play(env, before, before)
        obs = env._obs.copy()
        assert np.array_equal(fresh.restore(env.state()), obs)
        assert play(fresh, 50, 1) == play(env, 50, 1)


def test_bad_use():
    with pytest.raises(UsageError, match="did you mean breakout"):
        AtariRam("brekout", 1, protocol())
    with pytest.raises(UsageError, match="at least 1"):
        AtariRam("breakout", 0, protocol())
    env = AtariRam("breakout", 2, protocol())
    with pytest.raises(EnvError, match="reset"):
        env.step(np.zeros(2, np.int64))
    env.reset(seeds(2))
    with pytest.raises(EnvError, match="action 4 for env 1"):
        env.step(np.array([0, 4]))
    with pytest.raises(DataError, match="2 envs"):
        AtariRam("breakout", 1, protocol()).restore(env.state())
