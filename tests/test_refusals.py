"""What a saved replay buffer and a checkpoint refuse, each refusal once: whole files that say what cannot be."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

import playfield
from checkpoint_examples import example
from memory_games import play
from playfield import compute
from playfield.envs import make_envs
from playfield.errors import DataError, StorageError, UsageError
from playfield.replay import budget, frames, segments
from playfield.replay import saved as saved_replay
from playfield.runs import checkpoint
from playfield.runs.checkpoint import load, save
from playfield.runs.storage import remove

# Replay --------------------------------------------------------------------------------------------------


@pytest.fixture(params=[False, True], ids=["plain", "packed"])
def stored(request, tmp_path):
    """(state of a buffer whose observations are in one file, that file, a fresh buffer)."""
    options = {"packed": request.param, "alpha": 0.5, "save_to": tmp_path, "ends": 0.0}
    state = play(30, **options)[0].state()
    (path,) = tmp_path.glob("*.seg")
    return state, path, lambda: play(0, **options)[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["actions"].__setitem__((0, 0), 200), "actions or counts out of range"),
        (lambda s: s["count"].__setitem__(0, -1), "no usable|out of range|whole"),
        (lambda s: s["rewards"].__setitem__((0, 0), np.nan), "rewards that are not finite"),
        (lambda s: s["priorities"].__setitem__(0, -1.0), "priorities that are not finite, or negative"),
        (lambda s: s["priorities"].__setitem__(0, np.inf), "priorities that are not finite, or negative"),
        (lambda s: s.update(top=np.nan), "priorities that are not finite, or negative"),
        (lambda s: s["files"]["segments"][0].update(size="1"), "listed without a size"),
        (lambda s: s["files"]["segments"][0].update(first=[9] * 3, last=[8] * 3), "ends before it begins"),
        (lambda s: s["files"]["segments"][0].update(last=[-1] * 3), "no usable 'last'"),
        (lambda s: s["files"]["segments"][0].update(first=None), "no usable 'first'"),
        (lambda s: s["files"].update(past=[[1, 2]]), "no usable 'past'"),
    ],
)
def test_a_state_that_no_buffer_has_is_refused(stored, change, words) -> None:
    state, _, fresh = stored
    bad = copy.deepcopy(state)
    change(bad)
    with pytest.raises(DataError, match=words):
        fresh().restore(bad)
    fresh().restore(state)


def forged(state, path: Path, data: bytes):
    """The state, with `data` as the content of its file, sealed."""
    path.write_bytes(data)
    made = copy.deepcopy(state)
    made["files"]["segments"][0] |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return made


def everything(replay, state):
    """All transitions of a restored buffer: compressed observations are looked at when they are drawn."""
    replay.restore(state)
    return replay.read(replay.order())


def test_a_sealed_file_of_something_else_is_refused(stored) -> None:
    state, path, fresh = stored
    good, entries = path.read_bytes(), int(state["count"].sum())
    lengths = np.frombuffer(good[: 4 * entries], "<u4")
    one_byte, broken = (np.ones(entries, "<u4").tobytes() + byte * entries for byte in (b"\x00", b"\xff"))
    for data, words in (
        (good[: 4 * entries - 1], "is not a file of this replay buffer"),
        (good + b"x", "is not a file of this replay buffer"),
        ((lengths + 1).astype("<u4").tobytes() + good[4 * entries :], "is not a file of this replay buffer"),
        (one_byte, "no observations of this size"),
        (broken, "no observations of this size"),
    ):
        with pytest.raises(DataError, match=words):
            everything(fresh(), forged(state, path, data))
    fresh().restore(forged(state, path, good))


def test_a_file_that_cannot_be_read_is_told(stored, monkeypatch) -> None:
    state, _, fresh = stored

    class Failing(io.BytesIO):
        def fileno(self):
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(segments, "open_regular", lambda directory, name: Failing())
    with pytest.raises(DataError, match=r"00000001\.seg: Input/output error"):
        fresh().restore(state)


def test_a_buffer_without_a_directory_saves_no_observations_and_restores_none() -> None:
    replay, _ = play(30)
    state = replay.state()
    assert state["files"]["segments"] == []
    replay.saved()
    with pytest.raises(DataError, match="no directory to restore from"):
        play(0)[0].restore(state)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_nothing_can_be_drawn_before_there_is_a_transition(alpha: float) -> None:
    for replay in (play(0, alpha=alpha)[0], play(1, alpha=alpha)[0]):
        with pytest.raises(ValueError, match="nothing to sample yet"):
            replay.sample(4)
    replay, _ = play(30, alpha=0.0)
    replay.kinds[:] = 0  # as if every entry were the end of a game
    with pytest.raises(ValueError, match="nothing to sample yet"):
        replay.sample(4)


@pytest.fixture
def run(tmp_path) -> Path:
    config = {"num_envs": 4, "learning_starts": 192, "capacity": 400}
    options = {"games": 0, "film": False, "console": False, "tensorboard": False, "workers": 1}
    return playfield.train("CartPole-v1", "dqn", steps=224, run=tmp_path / "run", config=config, **options).directory


def test_a_run_without_workers_or_without_a_buffer_has_nothing_to_look_at(run) -> None:
    info = json.loads((run / "run.json").read_text())
    with pytest.raises(DataError, match="has no replay buffer"):
        saved_replay._memories(run, {"parts": {"actor-0": {}, "learner": {}}})
    found = checkpoint.load(run / "checkpoints")
    saved_replay.whole(run, info)(found)
    del found.tree["parts"]["actor-0"]["replay"]
    saved_replay.whole(run, info)(found)  # as of PPO: nothing to check
    (run / "run.json").write_text(json.dumps({k: v for k, v in info.items() if k != "compute"}))
    with pytest.raises(DataError, match="does not say how many workers"):
        saved_replay.open_replay(run)
    for told in ({}, info["compute"] | {"workers": "many"}, None):
        (run / "run.json").write_text(json.dumps(info | {"compute": told}))
        with pytest.raises(DataError, match="compute must be"):
            saved_replay.open_replay(run)


def test_a_run_whose_files_are_gone_already_can_be_dropped(run) -> None:
    remove(run / "replay")
    lines: list[str] = []
    saved_replay.drop(run, say=lines.append)
    assert "0 files" in lines[0]
    assert saved_replay.DROPPED in json.loads((run / "run.json").read_text())


def test_advice_on_memory_names_only_what_helps(monkeypatch) -> None:
    env = make_envs("CartPole-v1", 1)
    env.close()
    monkeypatch.setattr(compute, "free_memory", lambda: 10**8)
    with pytest.raises(UsageError) as told:
        budget.replay_need(env, 10_000, False, 0.0, sampling=10**8)
    assert "use a smaller --batch-size or --rollout-steps" in str(told.value), "the buffer itself is small"
    assert "100.0 MB" in str(told.value)
    assert "--mmap" not in str(told.value)
    assert ", and 10.0 MB for sampling" in budget.replay_need(env, 10_000, False, 0.0, sampling=10**7)[2]


def test_a_mapped_file_is_made_where_there_is_no_fallocate(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sys.platform", "other")
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    array = frames._mapped(tmp_path, (3, 4), "uint8")
    array[:] = 7
    assert array.sum() == 84


# Checkpoints ---------------------------------------------------------------------------------------------


def test_what_cannot_be_saved_leaves_nothing(tmp_path: Path) -> None:
    for tree, options, words in (({}, {"keep": 0}, "keep must be at least 1"), ([], {}, "the tree is a list")):
        with pytest.raises((ValueError, TypeError), match=words):
            save(tmp_path, 1, tree, {}, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_replacement_that_never_came_is_put_back_by_the_next_save(tmp_path: Path) -> None:
    save(tmp_path, 5, example(1), {}).rename(tmp_path / "ckpt-000000000005.old")
    assert load(tmp_path / "ckpt-000000000005").step == 5, "it counts as long as it stands alone"
    save(tmp_path, 6, example(2), {})
    assert [p.name for p in sorted(tmp_path.glob("ckpt-*"))] == ["ckpt-000000000005", "ckpt-000000000006"]
    (tmp_path / "ckpt-000000000005.old").mkdir()
    save(tmp_path, 7, example(3), {})
    assert not list(tmp_path.glob("*.old")), "one whose successor came is no longer needed"


def test_damaged_checkpoints_are_set_aside_under_names_of_their_own(tmp_path: Path) -> None:
    assert checkpoint.take_over(tmp_path) is None
    save(tmp_path, 1, example(1), {})
    for _ in range(3):
        (save(tmp_path, 2, example(2), {}) / "tree.json").write_text("damaged")
        found = checkpoint.take_over(tmp_path)
        assert found is not None
        assert found.step == 1
    names = sorted(p.name for p in tmp_path.glob("*.damaged*"))
    assert names == [f"ckpt-000000000002.damaged{end}" for end in ("", "-2", "-3")]


def test_a_best_that_says_nothing_is_refused(tmp_path: Path) -> None:
    best = checkpoint.mark_best(tmp_path, save(tmp_path, 1, example(1), {}), 3.0, {"step": 1})
    assert checkpoint.read_best(tmp_path)["score"] == 3.0
    told = json.loads((best / "best.json").read_text())
    (best / "best.json").write_text(json.dumps(told | {"step": "1"}))
    with pytest.raises(DataError, match=r"best\.json is malformed"):
        checkpoint.read_best(tmp_path)


def test_a_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, 1, example(1), {})
    for text in ("[]", "{}", '{"playfield_checkpoint": "1"}'):
        (path / "manifest.json").write_text(text)
        with pytest.raises(DataError, match="not the manifest of a playfield checkpoint"):
            checkpoint.read_manifest(path)


def test_best_is_copied_where_files_cannot_be_linked(tmp_path: Path, monkeypatch) -> None:
    def refuses(*names):
        raise OSError(95, "Operation not supported")

    path = save(tmp_path, 1, example(1), {})
    monkeypatch.setattr(os, "link", refuses)
    best = checkpoint.mark_best(tmp_path, path, 3.0, {})
    for name in ("tree.json", "tensors.safetensors", "manifest.json"):
        assert (best / name).read_bytes() == (path / name).read_bytes()


def test_a_best_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path, 1, example(1), {})

    def full(*names):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "replace_directory", full)
    with pytest.raises(StorageError, match="No space left"):
        checkpoint.mark_best(tmp_path, path, 3.0, {})
    with pytest.raises(StorageError, match="No space left"):
        save(tmp_path, 2, example(1), {})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ckpt-000000000001", "last"]


def test_what_is_replaced_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch) -> None:
    path = save(tmp_path, 1, example(1), {})
    reading, tries = checkpoint._load_one, []

    def replaced(name, only):
        tries.append(name)
        if len(tries) == 1:  # a training run has pruned this one, and saved the next
            save(tmp_path, 2, example(2), {}, keep=1)
            raise DataError("tree.json is missing")
        return reading(name, only)

    monkeypatch.setattr(checkpoint, "_load_one", replaced)
    assert load(tmp_path).step == 2
    assert tries[0] == path


def test_a_checkpoint_on_a_failing_disk_is_told(tmp_path: Path, monkeypatch) -> None:
    def fails(*arguments):
        raise OSError(5, "Input/output error")

    save(tmp_path, 1, example(1), {})
    monkeypatch.setattr(checkpoint.tensor_file, "read", fails)
    with pytest.raises(DataError, match=r"tensors\.safetensors: Input/output error"):
        load(tmp_path)
