"""What a node's training ends with, or a store's process, while files are on their way: nothing looks more whole."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import pytest

from playfield.errors import UsageError
from playfield.experiments import store
from playfield.experiments.away import Away, RefusedError
from playfield.experiments.store import Store
from playfield.runs import checkpoint, fence, info, storage
from store_run import Run, names, same


def torn(one, part):
    """Let no file arrive of which the path has this part; "" lets all arrive."""
    asked = one.store.answer

    def ask(text, data):
        told = json.loads(text)
        one.asked.append(told["do"])
        if part and told["do"] == "put" and part in told["path"]:
            raise ConnectionError("torn")
        return asked(text, data)

    one.away._ask = ask


def ended(one, step):
    """The training ends: its last checkpoint, the result, and the evaluation."""
    one.save(step)
    one.write("run.json", json.dumps({"steps": step, "result": {"steps": step}}))
    one.write("eval/last.json", "{}")


@pytest.mark.parametrize("part", ["tree.json", "manifest.json", "metrics.csv"])
def test_a_training_that_ends_before_anything_was_sent_looks_finished_only_with_its_checkpoint(tmp_path, part):
    one = Run(tmp_path).begun()
    one.write("config.json", "{}")
    one.write("metrics.csv", "step\n10\n")
    ended(one, 10)
    torn(one, part)
    with pytest.raises(ConnectionError):
        one.away.send()
    assert json.loads((one.kept / "run.json").read_text()) == {"steps": 10}
    assert (one.kept / "config.json").exists(), "it can go on"
    assert not (one.kept / "eval").exists()
    torn(one, "")
    one.away.send()
    assert same(one.run, one.kept)
    assert checkpoint.load(one.kept / "checkpoints").tree["step"] == 10


def test_a_training_that_ends_while_a_checkpoint_is_sent_looks_finished_only_with_its_last_one(tmp_path):
    one = Run(tmp_path).begun()
    one.away.send()
    one.save(10)
    publish = one.store._publish

    def published(directory, names=None, files=None):
        told = publish(directory, names, files)
        if names is not None:
            one.store._publish = publish
            ended(one, 20)
        return told

    one.store._publish = published
    for part in ("eval/", "ckpt-000000000020"):
        torn(one, part)
        with pytest.raises(ConnectionError):
            one.away.send()
        assert "result" not in (one.kept / "run.json").read_text()
    torn(one, "")
    one.away.send()
    assert same(one.run, one.kept)
    assert names(one.kept) == ["ckpt-000000000010", "ckpt-000000000020", "last"]


def test_a_result_waits_for_a_checkpoint_that_could_not_be_opened(tmp_path):
    one = Run(tmp_path).begun()
    one.away.send()
    ended(one, 10)
    newest, one.away._newest = one.away._newest, lambda: next(told)
    told = iter(["checkpoints/ckpt-000000000010", "checkpoints/ckpt-000000000020"])
    one.away.send()
    assert (one.kept / "run.json").read_text() == "{}"
    one.away._newest = newest
    one.away.send()
    assert same(one.run, one.kept)


def test_a_table_that_grows_while_a_checkpoint_is_sent_goes_on_by_its_new_rows(tmp_path):
    one = Run(tmp_path).begun()
    table = one.run / "metrics.csv"
    table.write_text("step\n" + "1\n" * 5000)
    one.away.send()
    one.save(10)
    publish = one.store._publish

    def published(directory, names=None, files=None):
        with open(table, "a") as file:
            file.write("2\n")
        return publish(directory, names, files)

    one.store._publish = published
    one.asked.clear()
    one.away.send()
    assert one.asked[one.asked.index("publish") + 1 :] == ["append"]
    assert same(one.run, one.kept)


def test_rows_are_on_the_disk_before_the_checkpoint_that_follows_them(tmp_path, monkeypatch):
    one = Run(tmp_path).begun()
    one.write("metrics.csv", "step\n")
    one.away.send()
    with open(one.run / "metrics.csv", "a") as file:
        file.write("10\n")
    one.save(10)
    synced, replace, table = [], storage.replace_directory, one.kept / "metrics.csv"
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((os.fstat(fd).st_ino, os.fstat(fd).st_size)))

    def replaced(new, final):
        assert (table.stat().st_ino, len("step\n10\n")) in synced
        synced.append("checkpoint")
        return replace(new, final)

    monkeypatch.setattr(storage, "replace_directory", replaced)
    one.away.send()
    assert "checkpoint" in synced


def test_a_copy_that_stands_for_a_link_is_on_the_disk(tmp_path, monkeypatch):
    one = Run(tmp_path).begun()
    one.save(10)
    one.away.send()
    checkpoint.mark_best(one.run / "checkpoints", one.run / "checkpoints" / "ckpt-000000000010", 3.0, {})
    synced, fsync = set(), os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.add(os.fstat(fd).st_ino), fsync(fd)))

    def no_links(*paths):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    one.away.send()
    assert same(one.run, one.kept)
    assert {path.stat().st_ino for path in (one.kept / "checkpoints/best").iterdir()} <= synced


def test_what_belongs_to_a_machine_is_not_taken(tmp_path):
    one = Run(tmp_path).begun()
    one.away.send()
    for path in ("attempt", "lock", "./attempt"):
        for asked in (
            {"do": "put", "path": path, "offset": 0},
            {"do": "link", "path": "run.json", "to": path},
            {"do": "append", "path": path, "offset": 2},
        ):
            told, _ = one.store.answer(
                json.dumps({"run": "grid/1", "attempt": 1, **asked}), b"x" * (asked["do"] != "link")
            )
            assert json.loads(told) == {"error": f"'{path}' is no file that nodes send", "code": 3}
    assert fence.read(one.kept) == 1


def test_what_was_put_aside_and_cleared_by_another_is_not_taken_for_published(tmp_path):
    one = Run(tmp_path).begun()
    one.away.send()
    one.write("run.json", '{"steps": 1}')
    publish = one.store._publish

    def published(directory, names=None, files=None):
        shutil.rmtree(one.root / store.ASIDE)
        return publish(directory, names, files)

    one.store._publish = published
    with pytest.raises(RefusedError, match=r"run\.json is missing"):
        one.away.send()
    one.store._publish = publish
    one.away.send()
    assert same(one.run, one.kept)


def test_what_a_killed_store_left_is_removed_and_is_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one = Run(tmp_path, root=Path("runs")).begun()
    one.fails = {"publish"}
    with pytest.raises(ConnectionError):
        one.away.send()
    (left,) = (one.root / store.ASIDE).iterdir()
    assert (left / "run.json").exists()
    (left / "checkpoints").mkdir()
    (left / "checkpoints" / "last").write_text("")
    assert list(info.runs_under(one.root)) == []
    assert info.all_runs() == []
    with pytest.raises(UsageError):
        info.newest_run()
    after = Store(one.root)
    after.sweep()
    assert left.exists(), "another one's may be on its way"
    for path in (left, *left.rglob("*")):
        os.utime(path, (0, 0))
    after.sweep()
    assert not (one.root / store.ASIDE).exists()
    after.sweep()
    one.fails = set()
    one.away.send()
    assert list(info.runs_under(Path("runs"))) == [Path("runs/grid/1")]
    assert info.all_runs() == ["runs/grid/1"]


def test_a_file_that_cannot_be_read_is_said_as_such(tmp_path, monkeypatch):
    one = Run(tmp_path).begun()
    one.away.send()

    def broken(*what, **more):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(store, "open_regular", broken)
    with pytest.raises(RefusedError, match=r"cannot read .*Input/output error") as told:
        Away(one.ask, "grid/1", 1, tmp_path / "other", tmp_path / "log.txt", "shown").fetch()
    assert told.value.exit_code == 5
