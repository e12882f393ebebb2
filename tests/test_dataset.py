"""Recorded play: exact on the disk, split without leaks, refused where it is damaged."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playfield.datasets import dataset
from playfield.errors import DataError, UsageError
from screens import columns, made


def test_round_trip_is_exact(tmp_path):
    written = columns(3, 20)
    dataset.save(tmp_path / "d", written, {"env": "breakout", "seed": 4})
    read = dataset.load(tmp_path / "d")
    assert len(read) == 60
    assert read.meta["env"] == "breakout"
    assert read.meta["seed"] == 4
    for key, column in written.items():
        found = getattr(read, key)
        assert found.dtype == column.dtype
        np.testing.assert_array_equal(found, column)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d"]
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["data.safetensors", "dataset.json"]


def test_other_tools_read_the_data(tmp_path):
    from safetensors.numpy import load_file

    found = load_file(made(tmp_path / "d", 2, 10) / "data.safetensors")
    np.testing.assert_array_equal(found["frames"], columns(2, 10)["frames"])


def data_of(lengths, tmp_path):
    rows = sum(lengths)
    starts = np.zeros(rows, bool)
    starts[np.cumsum([0, *lengths[:-1]])] = True
    frames = np.zeros((rows, 84, 84), np.uint8)
    return dataset.Dataset(tmp_path, {}, frames, *[np.zeros(rows)] * 5, starts)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=12), st.floats(0.05, 0.95), st.integers(0, 99))
def test_episodes_are_in_one_part_only(tmp_path_factory, lengths, test, seed):
    data = data_of(lengths, tmp_path_factory.getbasetemp())
    train, held = data.split(test=test, seed=seed)
    assert len(train)
    assert len(held)
    assert sorted([*train, *held]) == list(range(len(data)))
    assert not set(data.episodes[train]) & set(data.episodes[held])
    nearest = max(lengths) / 2 + 1  # no drawing in an order can be further off than half of the longest episode...
    assert abs(len(held) - test * len(data)) <= nearest or len(set(data.episodes[held])) in (1, len(lengths) - 1)


def test_split_of_frames_is_the_lessons_own(tmp_path):
    """The rows of train_test_split(range(10), test_size=.3, random_state=42), known from its documentation's rule."""
    train, held = data_of([4, 6], tmp_path).split("frames")
    assert held.tolist() == [1, 5, 8]
    assert train.tolist() == [0, 2, 3, 4, 6, 7, 9]


def test_split_by_frames_leaks_neighbours_and_by_episodes_does_not(tmp_path):
    data = data_of([100] * 10, tmp_path)

    def leaked(how):
        train, held = data.split(how)
        return np.mean([(h - 1 in train) or (h + 1 in train) for h in held.tolist()])

    assert leaked("frames") > 0.85
    assert leaked("episodes") < 0.02


@pytest.mark.parametrize(("how", "test", "words"), [("frame", 0.3, "did you mean frames"), ("frames", 1.0, "--test")])
def test_bad_splits(tmp_path, how, test, words):
    with pytest.raises(UsageError, match=words):
        data_of([4, 6], tmp_path).split(how, test=test)


def test_one_episode_cannot_be_split(tmp_path):
    with pytest.raises(UsageError, match="a single episode"):
        data_of([9], tmp_path).split()


def test_stacks_are_black_before_a_start(tmp_path):
    data = dataset.load(made(tmp_path / "d", 2, 6))
    stacks = data.stacks(np.array([0, 1, 5, 6, 11]), 4)
    assert stacks.shape == (5, 84, 84, 4)
    np.testing.assert_array_equal(stacks[2], data.frames[2:6].transpose(1, 2, 0))
    np.testing.assert_array_equal(stacks[1, ..., 2:], data.frames[:2].transpose(1, 2, 0))
    assert not stacks[1, ..., :2].any()
    assert not stacks[3, ..., :3].any()
    np.testing.assert_array_equal(stacks[3, ..., 3], data.frames[6])


def test_nothing_is_overwritten(tmp_path):
    path = made(tmp_path / "d", 2, 5)
    before = (path / "dataset.json").read_bytes()
    with pytest.raises(UsageError, match="exists already"):
        made(path, 3, 5)
    assert (path / "dataset.json").read_bytes() == before


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    def fault(point):
        if point.startswith("create dataset.json"):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("playfield.runs.storage.fault_point", fault)
    with pytest.raises(Exception, match="No space left"):
        made(tmp_path / "d", 2, 5)
    assert list(tmp_path.iterdir()) == []


def test_names_are_corrected(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "datasets" / "breakout", 2, 5)
    with pytest.raises(UsageError, match="did you mean datasets/breakout"):
        dataset.load("datasets/brekout")
    with pytest.raises(UsageError, match="playfield collect"):
        dataset.load("zzz")


def test_damage_is_found(tmp_path):
    path = made(tmp_path / "d", 2, 5)
    data = path / "data.safetensors"
    whole = data.read_bytes()
    flipped = bytearray(whole)
    flipped[-100] ^= 1
    for damaged, words in ((flipped, "sha256"), (whole[:-1], "bytes")):
        data.write_bytes(bytes(damaged))
        with pytest.raises(DataError, match=words):
            dataset.load(path)
    data.write_bytes(whole)
    manifest = json.loads((path / "dataset.json").read_text())
    for changed, words in (
        ({**manifest, "format": 99}, "newer"),
        ({"format": 1}, "does not describe a dataset"),
        ([], "not"),
    ):
        (path / "dataset.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=words):
            dataset.load(path)


def test_what_a_killed_collect_left_is_removed_by_the_next_one(tmp_path):
    code = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom playfield.datasets.dataset import new_directory\n"
        "with new_directory(Path('ds')) as folder:\n"
        "    (folder / 'data').write_bytes(b'x' * 1000)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, timeout=60, check=False)
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".ds.tmp-")
    with dataset.new_directory(tmp_path / "other"):
        assert left.exists()  # another name's: its writer may be on another machine
    with dataset.new_directory(tmp_path / "ds"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ds", "other"]
