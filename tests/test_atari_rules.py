"""The rules of a game: rewards, lives, FIRE, frame skip, cap and seeds, against plain single emulators."""

from __future__ import annotations

import hashlib
from typing import Any

import ale_py
import numpy as np
import pytest
from ale_py import ALEInterface, roms

from atari_play import copied, play, seeds
from playfield.envs import make_envs
from playfield.envs.action_log import AtariLog
from playfield.envs.atari import Atari
from playfield.envs.atari_protocol import PROTOCOLS, protocol
from playfield.errors import EnvError, UsageError


def tell(env: Any, log: list[dict[str, np.ndarray]]) -> None:
    """Let `log` receive the emulator's own info of each step."""
    step = env._ale.step

    def spy(actions):
        out = step(actions)
        log.append({k: v.copy() for k, v in out[4].items()})
        return out

    env._ale.step = spy


class Plain:
    """One game on a bare emulator: seed, FIRE, `skip` frames a step. Knows nothing of playfield."""

    def __init__(self, game: str, seed: int, skip: int, sticky: float, fire: bool) -> None:
        self.ale = ALEInterface()
        self.ale.setFloat("repeat_action_probability", sticky)
        self.ale.setInt("random_seed", seed)
        self.ale.loadROM(roms.get_rom_path(game))
        self.actions = self.ale.getMinimalActionSet()
        self.fire = fire and ale_py.Action.FIRE in self.actions
        self.skip = skip
        self.start()

    def start(self) -> None:
        self.ale.reset_game()
        if self.fire:
            self.ale.act(ale_py.Action.FIRE)
        self.lost = False

    def step(self, action: int) -> tuple[int, bool]:
        what = ale_py.Action.FIRE if self.lost and self.fire else self.actions[action]
        lives, reward = self.ale.lives(), 0
        for _ in range(self.skip):
            reward += self.ale.act(what)
            if self.ale.game_over():
                return reward, True
        self.lost = self.ale.lives() < lives
        return reward, False


@pytest.mark.parametrize(
    ("game", "name"),
    [("breakout", "classic"), ("breakout", "v5"), ("seaquest", "classic"), ("ms_pacman", "classic"), ("pong", "v5")],
)
def test_rewards_scores_and_lives_are_those_of_a_plain_emulator(game, name, monkeypatch):
    monkeypatch.setattr(AtariLog, "limit", 10**6)  # a new seed would be news to the plain emulator
    rules = protocol(name, noop=0)
    env = Atari(game, 2, rules)
    env.reset(seeds(2, 3))
    plain = [Plain(game, 3 + i, 4, rules.sticky, rules.fire_reset) for i in range(2)]
    scores, lengths, games, losses = [0, 0], [0, 0], 0, 0
    steps = 900 if game in ("pong", "ms_pacman") else 600
    draws = np.random.default_rng(1).integers(env.spec.num_actions, size=(steps, 2))
    for actions in draws:
        s = env.step(actions)
        expected = []
        for i in range(2):
            reward, over = plain[i].step(int(actions[i]))
            assert s.reward[i] == reward
            assert s.terminated[i] == (over or (plain[i].lost and rules.life_loss))
            assert not s.truncated[i]
            losses += plain[i].lost
            scores[i] += reward
            lengths[i] += 1
            if over:
                expected.append((i, float(scores[i]), lengths[i]))
                scores[i] = lengths[i] = 0
                plain[i].start()
        assert [(e.env, e.score, e.length) for e in s.episodes] == expected
        games += len(expected)
    assert games > 0
    assert (losses > 0) == (game != "pong")  # Pong has no lives


def test_rewards_are_raw():
    env = Atari("space_invaders", 2)
    env.reset(seeds(2))
    rewards = np.concatenate([s.reward for s in play(env, 250)])
    assert rewards.max() >= 5
    assert rewards.dtype == np.float32


@pytest.mark.parametrize("skip", [1, 2, 3, 4])
def test_each_step_advances_skip_frames_and_a_lost_life_is_no_reset(skip):
    env = Atari("breakout", 2, protocol(skip=skip, noop=0))
    infos: list[dict[str, np.ndarray]] = []
    tell(env, infos)
    env.reset(seeds(2))
    frame = np.array([1, 1])  # the FIRE at the start of each game
    lost = 0
    for actions in np.random.default_rng(0).integers(4, size=(1200 // skip, 2)):
        s = env.step(actions)
        info = infos.pop()
        ended = np.isin([0, 1], [e.env for e in s.episodes])
        assert (info["episode_frame_number"][~ended] == frame[~ended] + skip).all()
        assert (info["episode_frame_number"][ended] == 1).all()
        lost += int((s.terminated & ~ended).sum())
        frame = info["episode_frame_number"]
    assert lost > 0


@pytest.mark.parametrize("cap", [400, 402])
@pytest.mark.parametrize("name", ["classic", "v5"])
def test_the_cap_truncates_and_shows_the_true_successor(cap, name):
    capped, free = (Atari("pong", 2, protocol(name, cap=c, fire_reset=False)) for c in (cap, 10_000))
    capped.reset(seeds(2))
    free.reset(seeds(2))
    last = -(-cap // 4)
    a, b = play(capped, last), play(free, last)
    for s, f in zip(a[:-1], b[:-1], strict=True):
        assert np.array_equal(s.next_obs, f.next_obs)
        assert s.next_obs is s.obs
        assert not s.truncated.any()
    assert np.array_equal(a[-1].next_obs, b[-1].next_obs)
    assert a[-1].truncated.all()
    assert not a[-1].terminated.any()
    assert [(e.env, e.length) for e in a[-1].episodes] == [(0, last), (1, last)]
    assert [e.score for e in a[-1].episodes] == sum(s.reward for s in a).tolist()
    assert not a[-1].obs[..., :-1].any()
    lengths = [e.length for s in play(capped, 2 * last + 1) for e in s.episodes]
    assert lengths == [last] * 4


def ball_seen(frames: np.ndarray) -> np.ndarray:
    """Is anything lit between Breakout's bricks and its paddle? Raw frames [N, 210, 160, 3] -> bool [N]."""
    return (frames[:, 100:185, 8:152] > 0).any(axis=(1, 2, 3))


@pytest.mark.parametrize(("name", "plays"), [("classic", True), ("v5", False)])
def test_fire_is_pressed_after_each_lost_life_under_classic_only(name, plays):
    env = Atari("breakout", 2, protocol(name), raw=True)
    env.reset(seeds(2))
    seen, losses, episodes = np.zeros(2, int), 0, 0
    for _ in range(800):
        s = env.step(np.zeros(2, np.int64))  # always NOOP
        seen += ball_seen(s.next_obs)
        losses += int(env.life_lost.sum())
        episodes += len(s.episodes)
    if plays:
        assert (seen > 100).all()
        assert losses >= 8
        assert episodes >= 2
    else:
        assert not seen.any()
        assert losses == episodes == 0


@pytest.mark.parametrize("game", ["pong", "freeway", "ms_pacman", "skiing"])
@pytest.mark.parametrize("name", ["classic"])
def test_games_without_lives_or_fire_run(game, name):
    env = make_envs(game, 2, protocol=name)
    assert env.reset(seeds(2)).shape == (2, 84, 84, 4)
    for s in play(env, 40):
        assert s.obs.dtype == np.uint8
        assert s.obs.shape == (2, 84, 84, 4)
    env.close()


@pytest.mark.parametrize("name", ["classic", "v5"])
def test_an_env_plays_the_same_games_whatever_its_company(name):
    def games(num_envs: int, threads: int) -> list[str]:
        env = Atari("breakout", num_envs, PROTOCOLS[name], threads=threads)
        first = env.reset(seeds(num_envs, 7))[0].tobytes()
        records = play(env, 150)
        rows = [first, *(b for s in records for b in (s.obs[0].tobytes(), s.reward[0].tobytes()))]
        return [hashlib.sha256(row).hexdigest() for row in rows]

    alone = games(1, 1)
    assert games(1, 1) == alone
    assert games(3, 1) == alone
    assert games(4, 2) == alone


def test_other_seeds_play_other_games():
    env = Atari("breakout", 6)
    env.reset(seeds(6))
    records = play(env, 30)
    assert len({np.stack([s.obs[i] for s in records]).tobytes() for i in range(6)}) > 1
    sticky = Atari("breakout", 2, PROTOCOLS["v5"])
    sticky.reset(seeds(2))
    draws = np.random.default_rng(0).integers(4, size=60)
    records = [copied(sticky.step(np.array([a, a]))) for a in draws]
    assert any(not np.array_equal(s.obs[0], s.obs[1]) for s in records)


def test_bad_use():
    with pytest.raises(UsageError, match="did you mean breakout"):
        Atari("brekout", 1)
    with pytest.raises(UsageError, match="at least 1"):
        Atari("breakout", 0)
    env = Atari("breakout", 2)
    with pytest.raises(EnvError, match="reset"):
        env.step(np.zeros(2, np.int64))
    with pytest.raises(EnvError, match="reset"):
        env.state()
    with pytest.raises(UsageError, match="one whole seed per env"):
        env.reset(seeds(3))
    env.reset(seeds(2))
    for actions in (np.array([0, 4]), np.array([-1, 0])):  # the emulator itself would hang
        with pytest.raises(EnvError, match=r"is not in 0\.\.3"):
            env.step(actions)
    with pytest.raises(EnvError, match="one whole number per env"):
        env.step(np.zeros(3, np.int64))


def test_the_given_actions_are_not_changed():
    env = Atari("breakout", 1)
    env.reset(seeds(1))
    actions = np.zeros(1, np.int64)
    for _ in range(200):
        env.step(actions)
        assert not actions.any()
