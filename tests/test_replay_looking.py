"""Looking into a replay memory: its length, index and transitions, oldest first, against naive lists of games."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory_games import Games, expected, play, spec
from playfield.errors import DataError
from playfield.replay.buffer import Replay


def naive(games: Games, n: int) -> list[tuple]:
    """Every transition that was ever stored and can be drawn, oldest first and then by lane: (obs, ..., done)."""
    found = []
    for lane, pasts in enumerate(games.pasts):
        t = 0
        for past in pasts:
            for k in range(len(past.actions)):
                ends = [past.terminated[j] or past.truncated[j] for j in range(k, min(k + n, len(past.actions)))]
                if any(ends) or k + n <= len(past.actions):
                    over = past is not pasts[-1] and k == len(past.actions) - 1 and not past.truncated[k]
                    following = np.zeros_like(past.obs[k]) if over else past.obs[k + 1]
                    one = (past.obs[k], past.actions[k], past.rewards[k], following, past.terminated[k])
                    found.append((t, lane, one, past, k))
                t += 1
    return sorted(found, key=lambda item: item[:2])


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 150),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([1, 3]),
    st.integers(1, 4),
    st.integers(0, 10**6),
    st.sampled_from([0.02, 0.2]),
    st.booleans(),
)
def test_items_equal_naive_lists_of_games(steps, envs, stack, channels, n, seed, ends, packed) -> None:
    """Each item is the naive one of its place, the last of them the newest that is whole."""
    replay, games = play(
        steps, envs=envs, stack=stack, channels=channels, n=n, capacity=110, seed=seed, ends=ends, packed=packed
    )
    whole = naive(games, n)
    # The memory holds the newest of each lane; how many depends on how its games began and ended.
    held = [sum(i // replay.size == lane for i in replay.order()) for lane in range(envs)]
    kept = []
    for lane in range(envs):
        # One of n steps that ends early can be drawn only once n entries followed it: the memory may lag behind.
        mine = [item for item in whole if item[1] == lane]
        first = replay.frames.get(np.array([lane]), np.array([_entry(replay, lane)]))[0] if held[lane] else None
        start = next((j for j, item in enumerate(mine) if first is not None and (item[2][0] == first).all()), 0)
        kept += mine[start : start + held[lane]]
        assert len(mine) - start - held[lane] < n + 2 * stack or not held[lane]
    kept.sort(key=lambda item: item[:2])
    assert len(replay) == len(replay.order()) == len(kept)
    for (_, lane, one, past, k), got, where in zip(kept, list(replay), replay.order(), strict=True):
        assert where // replay.size == lane
        np.testing.assert_array_equal(got[0], one[0])
        assert got[1:3] == one[1:3]
        np.testing.assert_array_equal(got[3], one[3])
        assert got[4] is one[4]
        batch = replay.read(np.array([where]))
        action, total, discount, _ = expected(past, k, n)
        assert batch.actions[0] == action
        assert batch.returns[0] == pytest.approx(total, abs=1e-6)
        assert batch.discounts[0] == pytest.approx(discount)


def _entry(replay: Replay, lane: int) -> int:
    """The number of the oldest entry of a lane that can be drawn."""
    return int(replay._sampleable(lane)[0])


def test_order_is_that_of_time() -> None:
    """Lane by lane and step by step, though lanes hold unequal numbers of entries."""
    replay, games = play(90, envs=3, capacity=120, ends=0.2, seed=4)
    born = {}
    for lane, pasts in enumerate(games.pasts):
        steps = [obs.tobytes() for past in pasts for obs in past.obs[: len(past.actions)]]
        born |= {key: (t, lane) for t, key in enumerate(steps)}
    times = [born[item[0].tobytes()] for item in replay]
    assert times == sorted(times)
    assert times[-1][0] >= 90 - 2  # the newest step has no successor yet, unless a game ended there
    assert len({len(replay._sampleable(lane)) for lane in range(3)}) > 1


def test_index_is_where_it_writes_next() -> None:
    replay, games = play(0, envs=2, capacity=60, ends=0.1)
    np.testing.assert_array_equal(replay.index, [0, 0])
    for _ in range(80):
        before = replay.count.copy()
        at = replay.index
        replay.add(*games.step())
        written = replay.count - before
        assert (written >= 1).all()
        np.testing.assert_array_equal(replay.index, (at + written) % replay.size)


def test_counts_from_the_end_and_refuses_what_is_not_there() -> None:
    replay, games = play(40, envs=2, capacity=60, ends=0.1)
    n = len(replay)
    for i in (0, 1, n - 1):
        np.testing.assert_array_equal(replay[i - n][0], replay[i][0])
    assert len(list(replay)) == n
    for i in (n, -n - 1):
        with pytest.raises(IndexError, match=f"no transition {i}: there are {n}"):
            replay[i]
    newest = replay[-1][0].tobytes()
    replay.add(*games.step())
    assert replay[-1][0].tobytes() != newest


@pytest.mark.parametrize(("packed", "alpha"), [(False, 0.0), (True, 0.0), (False, 0.6)])
def test_opened_is_what_was_saved_with_all_lanes(packed: bool, alpha: float, tmp_path) -> None:
    """Two workers' memories as one; nothing in their directories changes."""
    made = [
        play(50 + k, envs=2, capacity=80, seed=k, n=2, packed=packed, alpha=alpha, save_to=tmp_path / str(k))
        for k in range(2)
    ]
    memories = [replay for replay, _ in made]
    saved = [(memory.state(), tmp_path / str(k)) for k, memory in enumerate(memories)]
    before = sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*"))
    opened = Replay.opened(spec(4), saved)
    assert sorted((p, p.stat().st_mtime_ns) for p in tmp_path.rglob("*")) == before
    assert len(opened) == sum(map(len, memories))
    assert opened.made == memories[0].made
    np.testing.assert_array_equal(opened.index, np.concatenate([m.index for m in memories]))
    for k, memory in enumerate(memories):
        mine = [i for i in opened.order().tolist() if i // opened.size // 2 == k]
        np.testing.assert_array_equal(np.array(mine) - k * 2 * memory.size, memory.order())
        for a, b in zip(vars_of(opened, np.array(mine)), vars_of(memory, memory.order()), strict=True):
            np.testing.assert_array_equal(a, b)
    if alpha:
        np.testing.assert_array_equal(opened.tree.values, np.concatenate([m.tree.values for m in memories]))
    path = next((tmp_path / "1").glob("*.seg"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="damaged"):
        Replay.opened(spec(4), saved)


def vars_of(memory: Replay, where: np.ndarray) -> list[np.ndarray]:
    batch = memory.read(where)
    return [batch.obs, batch.actions, batch.returns, batch.discounts, batch.next_obs]
