"""The replay memory against a naive one: lists of games with whole observations."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield import bench
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.errors import DataError, DivergedError, UsageError
from playfield.replay import KEPT_SAVES, Replay

GAMMA = 0.9
SIDE = 2


def spec(stack: int, channels: int = 1) -> EnvSpec:
    return EnvSpec("fake", "atari", (SIDE, SIDE, stack * channels), "uint8", 4, ("a", "b", "c", "d"), {})


@dataclass
class Past:
    """A game in full: observations as seen, one more than actions once it went on or was cut."""

    obs: list[np.ndarray] = field(default_factory=list)
    actions: list[int] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: list[bool] = field(default_factory=list)
    truncated: list[bool] = field(default_factory=list)


class Games:
    """Random games whose every picture is new, so that a stack says which step of which game it is."""

    def __init__(self, envs: int, stack: int, channels: int, seed: int, ends: float) -> None:
        self.rng = np.random.default_rng(seed)
        self.envs, self.stack, self.channels, self.ends = envs, stack, channels, ends
        self.id = 0
        self.pasts: list[list[Past]] = [[] for _ in range(envs)]
        self.obs = np.stack([self.begin(e) for e in range(envs)])
        self.length = np.zeros(envs, int)

    def picture(self) -> np.ndarray:
        self.id += 1
        digits = [self.id >> 8 * k & 255 for k in range(SIDE * SIDE)]
        one = np.array(digits, np.uint8).reshape(SIDE, SIDE, 1)
        return np.concatenate([one ^ c for c in range(self.channels)], axis=-1)

    def begin(self, env: int) -> np.ndarray:
        """A first stack: zeros, copies or anything, as protocols differ."""
        first = self.picture()
        how = self.rng.integers(3)
        before = [
            np.zeros_like(first) if how == 0 else first if how == 1 else self.picture() for _ in range(self.stack - 1)
        ]
        obs = np.concatenate([*before, first], axis=-1)
        self.pasts[env].append(Past(obs=[obs]))
        return obs

    def step(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, Step]:
        seen, actions = self.obs, self.rng.integers(0, 4, self.envs)
        rewards = self.rng.integers(-1, 2, self.envs).astype(np.float32)
        fate = self.rng.random(self.envs)
        over, cut, lost = fate < self.ends, (fate >= self.ends) & (fate < 2 * self.ends), fate > 1 - self.ends
        following = np.stack(
            [np.concatenate([seen[e][..., self.channels :], self.picture()], axis=-1) for e in range(self.envs)]
        )
        self.length += 1
        obs, episodes = following.copy(), []
        for e in range(self.envs):
            past = self.pasts[e][-1]
            past.actions.append(int(actions[e]))
            past.rewards.append(float(rewards[e]))
            past.terminated.append(bool(over[e] or lost[e]))
            past.truncated.append(bool(cut[e]))
            past.obs.append(following[e])
            if over[e] or cut[e]:
                episodes.append(Episode(e, 0.0, int(self.length[e])))
                self.length[e] = 0
                obs[e] = self.begin(e)
        self.obs = obs
        return seen, actions, rewards, Step(obs, following, rewards, over | lost, cut, episodes)


def expected(past: Past, t: int, n: int) -> tuple:
    total, discount = 0.0, 1.0
    for k in range(t, t + n):
        total += discount * past.rewards[k]
        discount *= GAMMA
        if past.terminated[k]:
            return past.actions[t], total, 0.0, None
        if past.truncated[k] or k == t + n - 1:
            return past.actions[t], total, discount, past.obs[k + 1]
    raise AssertionError


def check(replay: Replay, games: Games, batch) -> None:
    """Every drawn transition is the naive one, and its observation one of the games'."""
    known = {
        obs.tobytes(): (past, t)
        for lane in games.pasts
        for past in lane[-200:]
        for t, obs in enumerate(past.obs[: len(past.actions)])
    }
    for b in range(len(batch.actions)):
        past, t = known[batch.obs[b].tobytes()]
        action, total, discount, following = expected(past, t, replay.n_step)
        assert batch.actions[b] == action
        assert batch.returns[b] == pytest.approx(total, abs=1e-6)
        assert batch.discounts[b] == pytest.approx(discount)
        if following is not None:
            np.testing.assert_array_equal(batch.next_obs[b], following)


def play(
    steps: int,
    *,
    envs=3,
    stack=4,
    channels=1,
    n=1,
    capacity=120,
    seed=0,
    ends=0.05,
    packed=False,
    alpha=0.0,
    save_to=None,
):
    games = Games(envs, stack, channels, seed, ends)
    replay = Replay(
        spec(stack, channels),
        envs,
        capacity,
        np.random.SeedSequence(seed),
        n_step=n,
        gamma=GAMMA,
        stack=stack,
        packed=packed,
        alpha=alpha,
        save_to=save_to,
    )
    for _ in range(steps):
        seen, actions, rewards, step = games.step()
        replay.add(seen, actions, rewards, step)
    return replay, games


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from([1, 3]),
    st.integers(1, 5),
    st.integers(100, 250),
    st.integers(0, 10**6),
    st.sampled_from([0.02, 0.1, 0.3]),
    st.booleans(),
    st.sampled_from([0.0, 0.6]),
)
def test_equals_naive_lists_of_games(steps, envs, stack, channels, n, capacity, seed, ends, packed, alpha) -> None:
    replay, games = play(
        steps,
        envs=envs,
        stack=stack,
        channels=channels,
        n=n,
        capacity=capacity,
        seed=seed,
        ends=ends,
        packed=packed,
        alpha=alpha,
    )
    if len(replay):
        check(replay, games, replay.sample(32))
    else:
        with pytest.raises(ValueError, match="nothing to draw"):
            replay.sample(1)


@pytest.mark.parametrize(("packed", "alpha"), [(False, 0.0), (True, 0.0), (False, 0.5)])
def test_a_hundred_thousand_transitions_without_one_mismatch(packed: bool, alpha: float) -> None:
    """Wrap-around many times over, capacity no multiple of the environments, checked all along."""
    games = Games(7, 4, 1, 1, 0.03)
    replay = Replay(
        spec(4), 7, 1999, np.random.SeedSequence(1), n_step=3, gamma=GAMMA, stack=4, packed=packed, alpha=alpha
    )
    drawn = 0
    for k in range(100_000 // 7 + 1):
        seen, actions, rewards, step = games.step()
        replay.add(seen, actions, rewards, step)
        if k % 250 == 249:
            batch = replay.sample(128)
            check(replay, games, batch)
            drawn += 128
            replay.reprioritise(batch.index, np.abs(batch.returns) + 0.1)
            for lane in games.pasts:
                del lane[:-200]
    assert drawn > 7000


def test_every_transition_that_is_whole_can_be_drawn_and_no_other() -> None:
    replay, _ = play(300, envs=2, capacity=80, n=2, ends=0.1)
    seen = {int(i) for _ in range(200) for i in replay.sample(32).index}
    assert len(seen) == len(replay)
    prioritised, _ = play(300, envs=2, capacity=80, n=2, ends=0.1, alpha=0.5)
    assert np.flatnonzero(prioritised.tree.values).tolist() == sorted(seen)
    assert {int(i) for _ in range(200) for i in prioritised.sample(32).index} == seen


def test_uniform_means_uniform() -> None:
    replay, _ = play(200, envs=2, capacity=60, ends=0.2)
    counts = np.bincount(np.concatenate([replay.sample(100).index for _ in range(300)]), minlength=2 * replay.size)
    share = counts[counts > 0] / counts.sum()
    assert len(share) == len(replay)
    assert share.max() < 1.3 / len(replay)
    assert share.min() > 0.7 / len(replay)


def test_priorities_decide_and_weights_undo_them() -> None:
    replay, _ = play(30, envs=1, capacity=40, ends=0.0, alpha=1.0)
    everything = np.flatnonzero(replay.tree.values)
    errors = np.where(np.arange(len(everything)) == 5, 10.0, 1.0)
    replay.reprioritise(everything, errors)
    drawn = np.concatenate([replay.sample(50).index for _ in range(100)])
    share = (drawn == everything[5]).mean()
    assert share == pytest.approx(10 / (len(everything) + 9), rel=0.1)
    batch = replay.sample(50)
    assert batch.weights[batch.index == everything[5]] == pytest.approx(0.1, rel=1e-3)
    assert batch.weights[batch.index != everything[5]] == pytest.approx(1.0)


def test_a_new_transition_gets_the_largest_priority_so_far() -> None:
    replay, games = play(30, envs=1, capacity=40, ends=0.0, alpha=1.0)
    replay.reprioritise(np.flatnonzero(replay.tree.values)[:1], np.array([7.0]))
    seen, actions, rewards, step = games.step()
    replay.add(seen, actions, rewards, step)
    assert replay.tree.values.max() == pytest.approx(7.0, abs=1e-4)
    assert (replay.tree.values > 6.9).sum() == 2


def test_bytes_per_transition() -> None:
    """7,056 for the picture, 6 for action, reward and kind: design asks for at most 7.1 kB."""
    atari = EnvSpec("breakout", "atari", (84, 84, 4), "uint8", 4, ("a", "b", "c", "d"), {})
    replay = Replay(atari, 4, 1000, np.random.SeedSequence(0), stack=4)
    assert replay.nbytes / 1000 == 7062
    assert Replay(atari, 4, 1000, np.random.SeedSequence(0), stack=4, alpha=0.5).nbytes / 1000 < 7100


def test_pictures_in_a_file(tmp_path) -> None:
    games = Games(2, 4, 1, 0, 0.1)
    mapped = Replay(spec(4), 2, 100, np.random.SeedSequence(3), stack=4, gamma=GAMMA, file=tmp_path / "frames")
    for _ in range(150):
        mapped.add(*games.step())
    check(mapped, games, mapped.sample(64))
    assert (tmp_path / "frames").stat().st_size == 100 * SIDE * SIDE


def test_vectors() -> None:
    numbers = EnvSpec("v", "classic", (3,), "float32", 2, ("a", "b"), {})
    replay = Replay(numbers, 2, 20, np.random.SeedSequence(0))
    no = np.zeros(2, bool)
    for t in range(8):
        obs, following = np.full((2, 3), t, np.float32), np.full((2, 3), t + 1, np.float32)
        replay.add(obs, np.zeros(2, int), np.ones(2, np.float32), Step(following, following, np.ones(2), no, no))
    batch = replay.sample(50)
    np.testing.assert_array_equal(batch.next_obs, batch.obs + 1)
    assert batch.obs.dtype == np.float32


def test_bad_numbers_never_enter() -> None:
    replay, games = play(20)
    before = replay.count.copy()
    seen, actions, rewards, step = games.step()
    rewards[1] = np.nan
    with pytest.raises(DivergedError, match="not finite"):
        replay.add(seen, actions, rewards, step)
    np.testing.assert_array_equal(replay.count, before)


def test_too_small() -> None:
    with pytest.raises(UsageError, match="too small"):
        Replay(spec(4), 8, 40, np.random.SeedSequence(0), stack=4)


@pytest.mark.parametrize(("packed", "alpha"), [(False, 0.0), (True, 0.0), (True, 0.6)])
def test_goes_on_exactly_from_any_save(packed: bool, alpha: float, tmp_path) -> None:
    """Saved many times over several fills of the ring, restored in a new memory, then the same draws for ever."""
    replay, games = play(20, packed=packed, alpha=alpha, save_to=tmp_path, ends=0.1, n=2)
    for _ in range(25):
        for _ in range(7):
            replay.add(*games.step())
        saved = replay.state()
    new, _ = play(0, packed=packed, alpha=alpha, save_to=tmp_path, ends=0.1, n=2)
    new.restore(saved)
    for _ in range(90):  # past the next wrap-around, so that every old entry was drawn from or overwritten
        for _ in range(3):
            a, b = replay.sample(16), new.sample(16)
            for name in ("obs", "actions", "returns", "discounts", "next_obs", "index", "weights"):
                np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)
            for memory in (replay, new):
                memory.reprioritise(a.index, a.returns)
        record = games.step()
        replay.add(*record)
        new.add(*record)
    for key, value in replay.state().items():
        if key != "files":
            np.testing.assert_equal(new.state()[key], value, err_msg=key)


def test_digest_is_the_same_however_often_it_was_saved(tmp_path) -> None:
    a, games = play(0, save_to=tmp_path / "a")
    b, _ = play(0, save_to=tmp_path / "b")
    for k in range(60):
        record = games.step()
        a.add(*record)
        b.add(*record)
        if k % 9 == 0:
            a.state()
    assert a.state()["digest"] == b.state()["digest"]
    a.add(*games.step())
    assert a.state()["digest"] != b.state()["digest"]


def test_files_hold_each_entry_once_and_go_when_no_checkpoint_needs_them(tmp_path) -> None:
    replay, games = play(0, save_to=tmp_path, envs=2, capacity=100)
    most = 0
    for _ in range(60):
        for _ in range(10):
            replay.add(*games.step())
        listed = replay.state()["files"]["segments"]
        assert sorted(p.name for p in tmp_path.iterdir()) == [entry["name"] for entry in listed]
        for before, after in itertools.pairwise(listed):
            assert before["last"] == after["first"]
        most = max(most, len(listed))
    # 50 entries a lane, at least 10 a save, and the saves that may still be resumed from
    assert most <= 5 + 1 + KEPT_SAVES
    old = replay.state()
    for _ in range(KEPT_SAVES - 1):
        for _ in range(10):
            replay.add(*games.step())
        replay.state()
    play(0, save_to=tmp_path, envs=2, capacity=100)[0].restore(old)  # an older checkpoint is whole


def test_nothing_new_writes_no_file(tmp_path) -> None:
    replay, _ = play(10, save_to=tmp_path)
    first = replay.state()
    assert replay.state()["files"] == first["files"]


def test_damage_is_found(tmp_path) -> None:
    replay, games = play(30, save_to=tmp_path)
    replay.state()
    for _ in range(10):
        replay.add(*games.step())
    saved = replay.state()
    path = tmp_path / saved["files"]["segments"][0]["name"]
    good = path.read_bytes()
    for bad in (good[:-1], good + b"x", good[:50] + bytes([good[50] ^ 1]) + good[51:], b""):
        path.write_bytes(bad)
        with pytest.raises(DataError, match="damaged"):
            play(0, save_to=tmp_path)[0].restore(saved)
    path.unlink()
    with pytest.raises(DataError, match="missing"):
        play(0, save_to=tmp_path)[0].restore(saved)
    path.write_bytes(good)
    files = saved["files"]
    with pytest.raises(DataError, match="whole"):
        play(0, save_to=tmp_path)[0].restore(saved | {"files": files | {"segments": files["segments"][1:]}})
    hostile = [{"name": "../../x", "size": 1, "sha256": "", "first": [0] * 3, "last": [0] * 3}]
    with pytest.raises(DataError, match="not the name"):
        play(0, save_to=tmp_path)[0].restore(saved | {"files": files | {"segments": hostile}})
    with pytest.raises(DataError, match="another size"):
        play(0, save_to=tmp_path, capacity=200)[0].restore(saved)


def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    out = bench.main("replay", steps=2, rounds=2, capacity=1000, json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(out))
    assert out["bytes_per_transition"] == pytest.approx(7062, abs=60)  # a ring not quite full
    assert 300 < out["compressed_bytes_per_transition"] < 2000
    speeds = out["transitions_per_second"]
    assert out["ratio_min"] <= speeds["packed"] / speeds["plain"] <= out["ratio_max"] * 2
    assert out["peak_rss"] > 10**8
    with pytest.raises(UsageError, match="at least 1000"):
        bench.main("replay", capacity=10)
