"""What an agent sees of Atari games, against Gymnasium's preprocessing; and snapshots, which must continue exactly.

What happens in a game is tested in test_atari_rules.py, the protocols' names and values in test_atari_protocol.py.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import ale_py
import numpy as np
import pytest
from ale_py import roms
from hypothesis import given, settings
from hypothesis import strategies as st

from atari_play import digest, play, seeds
from playfield.envs.action_log import AtariLog
from playfield.envs.atari import Atari
from playfield.envs.atari_protocol import PROTOCOLS, AtariProtocol, protocol
from playfield.envs.atari_ram import AtariRam
from playfield.envs.names import TWO_PLAYER
from playfield.errors import DataError

GAMES = ("breakout", "pong", "qbert", "seaquest", "space_invaders")
TEN = (*GAMES, "freeway", "ms_pacman", "enduro", "beam_rider", "tetris")


def reference(game: str, rules: AtariProtocol) -> Any:
    from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

    env = ale_py.AtariEnv(game, frameskip=1, repeat_action_probability=0.0, max_num_frames_per_episode=rules.cap)
    pre = AtariPreprocessing(env, noop_max=0, frame_skip=rules.skip, grayscale_obs=rules.colour == "grey")
    return FrameStackObservation(pre, rules.stack, padding_type="zero")


def compare_with_gymnasium(game: str, steps: int, rules: AtariProtocol, key: int) -> int:
    """Both play the same random actions; every observation, reward and end must be equal. Returns games played.

    Where our log was long and the next game starts from a new seed, Gymnasium's does too: in some games a plain reset
    leaves traces of the game before.
    """
    env = Atari(game, 1, rules)
    other = reference(game, rules)
    stacked = lambda obs: np.concatenate(list(obs.reshape(*obs.shape[:3], -1)), -1)  # noqa: E731
    obs = env.reset(seeds(1))
    assert np.array_equal(obs[0], stacked(other.reset()[0]))
    games, seed = 0, env._log.seed[0]
    for t, action in enumerate(np.random.default_rng(key).integers(env.spec.num_actions, size=steps)):
        s = env.step(np.array([action]))
        expected, reward, terminated, truncated, _ = other.step(action)
        assert np.array_equal(s.next_obs[0], stacked(expected)), (game, t)
        assert (s.reward[0], s.terminated[0], s.truncated[0]) == (reward, terminated, truncated), (game, t)
        if terminated or truncated:
            games += 1
            anchored = env._log.seed[0] != seed
            seed = env._log.seed[0]
            first, _ = other.reset(seed=1) if anchored else other.reset()
            assert np.array_equal(s.obs[0], stacked(first)), (game, t)
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
        patch.setattr(AtariLog, "limit", anchor)
        continues(game, protocol(name, cap=cap), n, before, before)


def test_moments_that_matter(monkeypatch):
    """Saved right after a lost life (FIRE pending), an end, an end with a new anchor; logs of different lengths."""
    monkeypatch.setattr(AtariLog, "limit", 250)
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
        if kinds[kind] < 1:
            kinds[kind] += 1
            saved.append((t, state, s.obs.copy()))
    assert kinds == {"lost": 1, "ended": 1, "anchored": 1}
    assert any(len(set(state["length"].tolist())) > 1 for _, state, _ in saved)
    for t, state, obs in saved:
        fresh = Atari("breakout", 3)
        assert np.array_equal(fresh.restore(state), obs)
        assert [digest([fresh.step(x)]) for x in draws[t + 1 : t + 40]] == went[t + 1 : t + 40]


def test_saving_does_not_change_the_games(monkeypatch):
    monkeypatch.setattr(AtariLog, "limit", 60)
    a, b = (
        Atari("breakout", 2, PROTOCOLS["v5"].changed(cap=300)),
        Atari("breakout", 2, PROTOCOLS["v5"].changed(cap=300)),
    )
    a.reset(seeds(2))
    b.reset(seeds(2))
    digests = []
    for env in (a, b):
        records = []
        for t in range(4):
            records += play(env, 40, t)
            if env is b:
                env.restore(env.state())
        digests.append(digest(records))
    assert digests[0] == digests[1]


CHILD = """
import json, sys
sys.path[:0] = [{here!r}]
from test_atari import Atari, digest, from_json, play, protocol
for game, sticky, key, text in json.load(sys.stdin):
    env = Atari(game, 1, protocol(sticky=sticky))
    env.restore(from_json(text))
    print(digest(play(env, 30, key)))
"""


def test_a_fresh_process_continues_exactly():
    jobs, expected = [], []
    for key, (game, sticky) in enumerate([(g, 0.25) for g in GAMES] + [("qbert", 0.0)]):
        env = Atari(game, 1, protocol(sticky=sticky))
        env.reset(seeds(1, key))
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
@pytest.mark.parametrize("game", sorted(set(roms.get_all_rom_ids()) - TWO_PLAYER))
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


@pytest.mark.parametrize("kind", [Atari, AtariRam])
def test_a_replay_that_strays_is_told(kind):
    env = kind("breakout", 2, protocol())
    env.reset(seeds(2))
    play(env, 30)
    state = env.state()
    state["log"][10:20] = 3 - state["log"][10:20]  # as if another emulator played it
    other = kind("breakout", 2, protocol())
    with pytest.warns(RuntimeWarning, match="breakout: env (0, 1|[01]) did not reach its saved state") as warned:
        other.restore(state)
    assert [w.filename for w in warned] == [__file__]  # it points at the caller
