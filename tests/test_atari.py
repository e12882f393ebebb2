"""Atari under the contract, against plain single emulators and Gymnasium's preprocessing."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from typing import Any

import ale_py
import numpy as np
import pytest
from ale_py import ALEInterface, roms
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.envs import action_log, make_envs, make_from
from playfield.envs.atari import PROTOCOLS, Atari, AtariProtocol, check_no_double_skip, protocol
from playfield.envs.base import Step, VectorEnv
from playfield.errors import DataError, EnvError, UsageError

GAMES = ("breakout", "pong", "qbert", "seaquest", "space_invaders")
TEN = (*GAMES, "freeway", "ms_pacman", "enduro", "beam_rider", "tetris")


def seeds(n: int, first: int = 0) -> np.ndarray:
    return np.arange(first, first + n, dtype=np.int64)


def play(env: VectorEnv, steps: int, key: int = 0) -> list[Step]:
    """Random play; env i draws its own actions from (key, i), so that they do not depend on the number of envs."""
    draws = [np.random.default_rng([key, i]).integers(env.spec.num_actions, size=steps) for i in range(env.num_envs)]
    return [copied(env.step(np.array(actions))) for actions in np.stack(draws, 1)] if steps else []


def copied(s: Step) -> Step:
    next_obs = s.next_obs.copy()
    obs = next_obs if s.obs is s.next_obs else s.obs.copy()
    return Step(obs, next_obs, s.reward.copy(), s.terminated.copy(), s.truncated.copy(), list(s.episodes))


def digest(records: list[Step]) -> str:
    h = hashlib.sha256()
    for s in records:
        for a in (s.obs, s.next_obs, s.reward, s.terminated, s.truncated):
            h.update(np.ascontiguousarray(a).tobytes())
        h.update(repr(s.episodes).encode())
    return h.hexdigest()


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
    monkeypatch.setattr(action_log, "ANCHOR_STEPS", 10**6)  # a new seed would be news to the plain emulator
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
    check_no_double_skip("breakout", skip)
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


def test_check_no_double_skip_refuses_no_skip():
    with pytest.raises(UsageError, match="at least 1"):
        check_no_double_skip("breakout", 0)


def reference(game: str, rules: AtariProtocol) -> Any:
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    env = ale_py.AtariEnv(game, frameskip=1, repeat_action_probability=0.0, max_num_frames_per_episode=rules.cap)
    pre = AtariPreprocessing(env, noop_max=0, frame_skip=rules.skip, grayscale_obs=rules.colour == "grey")
    return FrameStackObservation(pre, rules.stack, padding_type="zero")


def compare_with_gymnasium(game: str, steps: int, rules: AtariProtocol, key: int) -> int:
    """Both play the same random actions; every observation, reward and end must be equal. Returns games played."""
    env = Atari(game, 1, rules)
    other = reference(game, rules)
    stacked = lambda obs: np.concatenate(list(obs.reshape(*obs.shape[:3], -1)), -1)  # noqa: E731
    obs = env.reset(seeds(1))
    assert np.array_equal(obs[0], stacked(other.reset()[0]))
    games = 0
    for t, action in enumerate(np.random.default_rng(key).integers(env.spec.num_actions, size=steps)):
        s = env.step(np.array([action]))
        expected, reward, terminated, truncated, _ = other.step(action)
        assert np.array_equal(s.next_obs[0], stacked(expected)), (game, t)
        assert (s.reward[0], s.terminated[0], s.truncated[0]) == (reward, terminated, truncated), (game, t)
        if terminated or truncated:
            games += 1
            assert np.array_equal(s.obs[0], stacked(other.reset()[0])), (game, t)
    other.close()
    env.close()
    return games


BARE = protocol(noop=0, life_loss=False, fire_reset=False)


@pytest.mark.parametrize("game", ["breakout", "pong", "qbert", "seaquest", "freeway"])
def test_observations_are_gymnasiums(game):
    compare_with_gymnasium(game, 120, BARE, 0)


@pytest.mark.slow
@pytest.mark.parametrize("game", TEN)
def test_observations_are_gymnasiums_for_10000_steps(game):
    assert compare_with_gymnasium(game, 10_000, BARE, 1) > 0


@pytest.mark.parametrize("parts", [{"skip": 1}, {"skip": 3, "stack": 2}, {"colour": "rgb"}])
def test_observations_are_gymnasiums_with_other_parts(parts):
    assert compare_with_gymnasium("breakout", 250 * 4 // parts.get("skip", 4), BARE.changed(**parts), 2) > 0


def test_ends_show_the_terminal_observation_and_the_next_game():
    # compared with Gymnasium's at every end above; here: they differ, and nothing in between is shown
    env = Atari("breakout", 3)
    env.reset(seeds(3))
    ends = 0
    previous = env._obs.copy()
    for s in play(env, 600):
        ended = np.isin(np.arange(3), [e.env for e in s.episodes])
        assert (s.next_obs is s.obs) == (not ended.any())
        assert np.array_equal(s.next_obs[~ended], s.obs[~ended])
        assert np.array_equal(s.next_obs[..., :-1], previous[..., 1:])  # a true successor, also at an end
        for i in np.flatnonzero(ended):
            ends += 1
            assert not s.obs[i, ..., :-1].any()  # a new game begins with an empty stack
            assert s.obs[i, ..., -1].any()
            assert s.next_obs[i, ..., 0].any()
        previous = s.obs
    assert ends > 2


def test_the_stack_shows_motion_newest_last():
    env = Atari("pong", 1)
    previous = env.reset(seeds(1)).copy()
    moved = 0
    for s in play(env, 300):
        assert np.array_equal(s.next_obs[..., :-1], previous[..., 1:])
        moved += not np.array_equal(s.obs[..., -1], s.obs[..., -2])
        previous = s.obs
    assert moved > 250


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


# --- snapshots ------------------------------------------------------------------------------------------------


def to_json(state: dict[str, Any]) -> str:
    return json.dumps({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()})


def from_json(text: str) -> dict[str, Any]:
    return {k: np.array(v) if isinstance(v, list) else v for k, v in json.loads(text).items()}


def continues(game: str, rules: AtariProtocol, n: int, before: int, key: int) -> Atari:
    """A fresh object goes on exactly where the first one stood; returns it."""
    env = Atari(game, n, rules)
    env.reset(seeds(n, key))
    play(env, before, key)
    state, here = env.state(), env._obs.copy()
    fresh = Atari(game, n, rules)
    assert np.array_equal(fresh.restore(from_json(to_json(state))), here)
    assert to_json(fresh.state()) == to_json(state)
    assert digest(play(fresh, 40, key + 1)) == digest(play(env, 40, key + 1))
    assert to_json(fresh.state()) == to_json(env.state())
    return fresh


@pytest.mark.parametrize(
    ("game", "sticky"),
    [*((game, 0.25) for game in GAMES), ("breakout", 0.0), ("qbert", 0.0)],  # snapshots of qbert's emulator go wrong
)
def test_a_fresh_object_continues_exactly(game, sticky):
    continues(game, protocol(sticky=sticky), 2, 90 + 11 * len(game), 5)


@settings(max_examples=5, deadline=None)
@given(
    game=st.sampled_from(["breakout", "qbert"]),
    before=st.integers(0, 250),
    n=st.integers(1, 3),
    anchor=st.sampled_from([20, 90]),
    cap=st.sampled_from([200, 332, 108_000]),
    name=st.sampled_from(["classic", "v5"]),
)
def test_any_moment_through_anchors_and_caps(game, before, n, anchor, cap, name):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(action_log, "ANCHOR_STEPS", anchor)
        continues(game, protocol(name, cap=cap), n, before, before)


def test_moments_that_matter(monkeypatch):
    """Saved right after a lost life (FIRE pending), an end, an end with a new anchor; logs of different lengths."""
    monkeypatch.setattr(action_log, "ANCHOR_STEPS", 250)
    env = Atari("breakout", 3)
    env.reset(seeds(3, 11))
    draws = np.random.default_rng(4).integers(4, size=(800, 3))
    kinds = {"lost": 0, "ended": 0, "anchored": 0}
    saved, went = [], []
    for t, actions in enumerate(draws):
        s = env.step(actions)
        went.append(digest([s]))
        kind = "lost" if env.life_lost.any() else "ended" if s.episodes else ""
        if not kind or t > 755:
            continue
        state = env.state()
        if s.episodes and (state["length"] == 0).any():
            kind = "anchored"
        if kinds[kind] < 2:
            kinds[kind] += 1
            saved.append((t, state, s.obs.copy()))
    assert kinds == {"lost": 2, "ended": 2, "anchored": 2}
    assert any(len(set(state["length"].tolist())) > 1 for _, state, _ in saved)
    for t, state, obs in saved:
        fresh = Atari("breakout", 3)
        assert np.array_equal(fresh.restore(state), obs)
        assert [digest([fresh.step(x)]) for x in draws[t + 1 : t + 40]] == went[t + 1 : t + 40]


def test_saving_does_not_change_the_games(monkeypatch):
    monkeypatch.setattr(action_log, "ANCHOR_STEPS", 60)
    a, b = (
        Atari("breakout", 2, PROTOCOLS["v5"].changed(cap=300)),
        Atari("breakout", 2, PROTOCOLS["v5"].changed(cap=300)),
    )
    a.reset(seeds(2))
    b.reset(seeds(2))
    digests = []
    for env in (a, b):
        records = []
        for t in range(6):
            records += play(env, 40, t)
            if env is b:
                env.restore(env.state())
        digests.append(digest(records))
    assert digests[0] == digests[1]


CHILD = """
import json, sys
sys.path[:0] = [{here!r}]
from test_atari import *
for game, sticky, key, text in json.load(sys.stdin):
    env = Atari(game, 2, protocol(sticky=sticky))
    env.restore(from_json(text))
    print(digest(play(env, 30, key)))
"""


def test_a_fresh_process_continues_exactly():
    jobs, expected = [], []
    for key, (game, sticky) in enumerate([(g, 0.25) for g in GAMES] + [("qbert", 0.0)]):
        env = Atari(game, 2, protocol(sticky=sticky))
        env.reset(seeds(2, key))
        play(env, 40 + 17 * key, key)
        jobs.append((game, sticky, key + 50, to_json(env.state())))
        expected.append(digest(play(env, 30, key + 50)))
    here = __file__.rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", CHILD.format(here=here)],
        input=json.dumps(jobs), capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    assert done.stdout.split() == expected, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("sticky", [0.0, 0.25])
@pytest.mark.parametrize("game", roms.get_all_rom_ids())
def test_every_game_continues_exactly(game, sticky):
    continues(game, protocol(sticky=sticky), 2, 400, 3)


def test_a_snapshot_of_something_else_is_refused():
    env = Atari("breakout", 2)
    env.reset(seeds(2))
    state = env.state()
    with pytest.raises(DataError, match="2 envs"):
        Atari("breakout", 1).restore(state)
    with pytest.raises(DataError, match="pong"):
        Atari("pong", 2).restore(state)
    with pytest.raises(DataError, match="sticky"):
        Atari("breakout", 2, protocol(sticky=0.25)).restore(state)


def test_a_replay_that_strays_is_told():
    env = Atari("breakout", 2)
    env.reset(seeds(2))
    play(env, 30)
    state = env.state()
    state["log"][10:20] = 3 - state["log"][10:20]  # as if another emulator played it
    with pytest.warns(RuntimeWarning, match="env 0, 1 did not come back|env [01] did not come back"):
        Atari("breakout", 2).restore(state)


# --- protocols and errors -------------------------------------------------------------------------------------


def test_a_changed_protocol_is_custom():
    assert protocol("classic").name == "classic"
    assert protocol("v5", sticky=0.25).name == "v5"
    assert protocol("classic", sticky=0.25).name == "custom"


@pytest.mark.parametrize("name", ["classic", "v5"])
@pytest.mark.parametrize("parts", [{}, {"sticky": 0.1, "stack": 2}, {"obs": "ram"}, {"size": 0, "colour": "rgb"}])
def test_a_spec_makes_its_environment_again(name, parts):
    env = make_envs("breakout", 1, protocol=name, **parts)
    assert make_from(env.spec, 1).spec == env.spec


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("clasic", {}, "did you mean classic"),
        ("v5", {"stiky": 0.1}, "did you mean sticky"),
        ("v5", {"sticky": 1.0}, "sticky must be between"),
        ("v5", {"sticky": "lots"}, "sticky must be a number"),
        ("v5", {"skip": 0}, "skip must be between"),
        ("v5", {"skip": 2.5}, "skip must be a whole number"),
        ("v5", {"noop": -1}, "noop must be between"),
        ("v5", {"cap": 0}, "cap must be between"),
        ("v5", {"stack": 9}, "stack must be between"),
        ("v5", {"size": 8}, "size must be between"),
        ("v5", {"colour": "gray"}, "did you mean grey"),
        ("v5", {"obs": "rams"}, "did you mean ram"),
    ],
)
def test_bad_names_and_values(name, parts, message):
    with pytest.raises(UsageError, match=message):
        protocol(name, **parts)


def test_a_protocol_in_one_line_names_every_part():
    line = protocol("v5").line()
    for text in (
        "v5",
        "sticky 0.25",
        "skip 4",
        "cap 108,000 frames",
        "life loss ignored",
        "fire reset off",
        "stack 4",
    ):
        assert text in line


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
