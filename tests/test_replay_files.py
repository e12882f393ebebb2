"""A replay memory goes on exactly from any checkpoint; its files are whole, few, and gone when unneeded."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from memory_games import Games, check, play
from playfield.errors import DataError
from playfield.replay.buffer import Replay


@pytest.mark.parametrize(("packed", "alpha"), [(False, 0.0), (True, 0.0), (True, 0.6)])
def test_goes_on_exactly_from_any_save(packed: bool, alpha: float, tmp_path) -> None:
    """Saved many times over several fills of the ring, restored in a new memory, then the same draws for ever."""
    replay, games = play(20, packed=packed, alpha=alpha, save_to=tmp_path, ends=0.1, n=2)
    for _ in range(25):
        for _ in range(7):
            replay.add(*games.step())
        saved = replay.state()
        replay.saved()
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


def some_steps(replay: Replay, games: Games, steps: int = 10) -> None:
    for _ in range(steps):
        replay.add(*games.step())


def test_files_hold_each_entry_once_and_go_when_no_checkpoint_needs_them(tmp_path) -> None:
    replay, games = play(0, save_to=tmp_path, envs=2, capacity=100)
    for _ in range(60):
        some_steps(replay, games)
        listed = replay.state()["files"]["segments"]
        for before, after in itertools.pairwise(listed):
            assert before["last"] == after["first"]
        replay.saved()
        # 50 entries a lane, at least 10 a save, and the 5 saves that may still be resumed from
        assert len(list(tmp_path.iterdir())) <= 5 + 1 + 5
    old = replay.state()
    replay.saved()
    for _ in range(4):
        some_steps(replay, games)
        replay.state()
        replay.saved()
    play(0, save_to=tmp_path, envs=2, capacity=100)[0].restore(old)  # the oldest of 5 is whole


def test_saves_that_fail_cost_nothing_that_the_last_good_one_needs(tmp_path) -> None:
    """The disk had room for the observations but not for the checkpoint, again and again."""
    replay, games = play(80, save_to=tmp_path, envs=2, capacity=100)
    good = replay.state()
    replay.saved()
    for _ in range(40):
        some_steps(replay, games)
        replay.state()  # and no checkpoint came of it
    new, _ = play(0, save_to=tmp_path, envs=2, capacity=100)
    new.restore(good)
    assert new.state()["digest"] == good["digest"]
    check(new, games, new.sample(32))


def test_files_of_a_run_killed_before_its_first_checkpoint_go(tmp_path) -> None:
    replay, games = play(20, save_to=tmp_path)
    replay.state()
    some_steps(replay, games)
    replay.state()
    assert len(list(tmp_path.iterdir())) == 2
    play(5, save_to=tmp_path)[0].state()
    assert [p.name for p in tmp_path.iterdir()] == ["00000001.seg"]


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


def test_after_a_restore_new_files_stand_beside_those_that_the_checkpoint_lists(tmp_path) -> None:
    """Numbered from 1 again, the next file would replace one that older checkpoints, and this one, need."""
    replay, games = play(20, save_to=tmp_path)
    replay.state(), replay.saved()
    replay.add(*games.step())
    saved = replay.state()
    replay.saved()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.seg")}
    assert len(before) == 2
    again, _ = play(0, save_to=tmp_path)
    again.restore(saved)
    again.add(*games.step())
    later = again.state()
    after = {path.name: path.read_bytes() for path in tmp_path.glob("*.seg")}
    assert {name: after[name] for name in before} == before
    assert len(after) == 3
    last, _ = play(0, save_to=tmp_path)
    last.restore(later)
    np.testing.assert_array_equal(last.read(last.order()).obs, again.read(again.order()).obs)
