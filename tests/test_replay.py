"""The replay memory against a naive one: lists of games with whole observations."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_games import GAMMA, SIDE, Games, check, play, spec
from playfield import bench
from playfield.envs.base import EnvSpec, Step
from playfield.errors import DivergedError, StorageError, UsageError
from playfield.replay.buffer import Replay


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
        with pytest.raises(ValueError, match="nothing to sample"):
            replay.sample(1)


@pytest.mark.parametrize(
    ("packed", "alpha", "count"),
    [
        (False, 0.0, 20_000),
        (True, 0.0, 20_000),
        (False, 0.5, 20_000),
        pytest.param(False, 0.0, 100_000, marks=pytest.mark.slow),
    ],
)
def test_many_transitions_without_one_mismatch(packed: bool, alpha: float, count: int) -> None:
    """Wrap-around many times over, capacity no multiple of the environments, checked all along."""
    games = Games(7, 4, 1, 1, 0.03)
    replay = Replay(
        spec(4), 7, 1999, np.random.SeedSequence(1), n_step=3, gamma=GAMMA, stack=4, packed=packed, alpha=alpha
    )
    drawn = 0
    for k in range(count // 7 + 1):
        seen, actions, rewards, step = games.step()
        replay.add(seen, actions, rewards, step)
        if k % 18 == 17:
            batch = replay.sample(128)
            check(replay, games, batch)
            drawn += 128
            replay.reprioritise(batch.index, np.abs(batch.returns) + 0.1)
            for lane in games.pasts:
                del lane[:-45]  # a lane holds 285 steps, and one in 17 ends a game
    assert drawn > count


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
    batch = replay.sample(50, beta=0.5)
    share = np.where(batch.index == everything[5], 10, 1) / (len(everything) + 9)
    np.testing.assert_allclose(batch.weights, (replay.entries * share) ** -0.5, rtol=1e-4)


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
    """Mapped into memory, and without a name, so that nothing is left however the process ends."""
    games = Games(2, 4, 1, 0, 0.1)
    mapped = Replay(spec(4), 2, 100, np.random.SeedSequence(3), stack=4, gamma=GAMMA, mapped=tmp_path / "new")
    for _ in range(150):
        mapped.add(*games.step())
    check(mapped, games, mapped.sample(64))
    assert isinstance(mapped.frames.data, np.memmap)
    assert mapped.frames.data.nbytes == 100 * SIDE * SIDE
    if sys.platform == "linux":
        maps = Path("/proc/self/maps").read_text()
        assert f"{tmp_path / 'new'}/" in maps
    assert list((tmp_path / "new").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="only there a file's room is taken at once")
def test_a_file_that_does_not_fit_is_refused_at_once(tmp_path, monkeypatch) -> None:
    """Not when it is written to, by the end of the process."""

    def full(fd: int, offset: int, size: int) -> None:
        assert (offset, size) == (0, 100 * SIDE * SIDE)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match=r"replay buffer of 400 bytes in"):
        Replay(spec(4), 2, 100, np.random.SeedSequence(3), stack=4, mapped=tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def test_bench(capsys: pytest.CaptureFixture[str]) -> None:
    out = bench.main("replay", steps=2, rounds=2, capacity=1000, json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(out))
    assert out["bytes_per_transition"] == pytest.approx(7062, abs=60)  # a ring not quite full
    assert 300 < out["compressed_bytes_per_transition"] < 2000
    speeds = out["transitions_per_second"]
    assert out["ratio_min"] <= out["ratio"] <= out["ratio_max"]
    assert min(speeds.values()) > 100
    assert out["peak_rss"] > 10**8
    with pytest.raises(UsageError, match="at least 1000"):
        bench.main("replay", capacity=10)


def test_bench_fill_measures_the_process() -> None:
    """A process of its own: this one holds freed memory, which a new one would not grow by."""
    words = ["-m", "playfield", "bench", "replay", "--fill", "--slots", "8000", "--agent", "random", "--json"]
    out = json.loads(subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True).stdout)
    assert 8000 <= out["slots"] < 8016
    assert 300 < out["counted_bytes_per_slot"] < out["estimated_bytes_per_slot"] < 2000
    if sys.platform == "linux":
        assert out["bytes_per_slot"] == pytest.approx(out["counted_bytes_per_slot"], rel=0.4)


def test_bench_fill_refuses_what_does_not_go_together() -> None:
    for wrong, words in (
        ({"fill": True, "steps": 5}, "goes with --slots"),
        ({"slots": 2000}, "go with --fill"),
        ({"fill": True, "slots": 10}, "at least 1000"),
        ({"fill": True, "agent": "randon"}, "did you mean random"),
    ):
        with pytest.raises(UsageError, match=words):
            bench.main("replay", **wrong)
