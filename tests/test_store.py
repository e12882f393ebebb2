"""Nodes that do not see the directory of the experiment: what they fetch and send, and what is torn on its way."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from playfield.experiments import away, store
from playfield.experiments.away import Away, LaterError, RefusedError
from playfield.runs import checkpoint, fence, storage
from store_run import Run, names, same


def test_what_a_node_has_is_in_the_store_and_what_it_removes_is_removed_there(tmp_path):
    one = Run(tmp_path).begun()
    one.write("eval/last.json", "{1}")
    one.write("films/best.mp4", "a film")
    for step in (10, 20, 30):
        one.write("metrics.csv", "step\n" + "".join(f"{k}\n" for k in range(step)))
        one.write(f"replay/0/{step:08d}.seg", os.urandom(300))
        if step > 10:
            (one.run / f"replay/0/{step - 10:08d}.seg").unlink()
        one.save(step)
        one.away.send()
        assert same(one.run, one.kept)
    checkpoint.mark_best(one.run / "checkpoints", one.run / "checkpoints" / "ckpt-000000000030", 3.0, {})
    one.away.send()
    assert same(one.run, one.kept)
    assert names(one.kept) == ["best", "ckpt-000000000020", "ckpt-000000000030", "last"]
    assert (one.kept / "checkpoints/best/tree.json").samefile(one.kept / "checkpoints/ckpt-000000000030/tree.json")
    assert fence.read(one.kept) == 1
    assert not (one.root / ".store").exists()
    assert (one.kept / "films" / "best.mp4").read_text() == "a film"
    before = list(one.asked)
    one.away.send()
    assert one.asked == before, "nothing is new, and nothing is asked"

    fence.advance(one.kept)
    two = Run(tmp_path, 2, one.root)
    two.away.fetch()
    shutil.rmtree(two.kept / "films")  # no training goes on from those
    assert same(two.run, two.kept)
    assert fence.read(two.run) == 2
    before = list(two.asked)
    two.away.send()
    assert two.asked == before, "what was fetched need not be sent"
    assert checkpoint.load(two.run / "checkpoints").tree["step"] == 30
    (two.run / "replay/0/00000030.seg").unlink()
    two.write("replay/0/00000030.seg", b"another of the same name")
    two.save(40)
    two.away.send()
    assert same(two.run, two.kept)


def test_files_go_in_pieces_and_the_manifest_last(tmp_path, monkeypatch):
    for module in (store, away):
        monkeypatch.setattr(module, "PIECE", 1000)
    one = Run(tmp_path).begun()
    sizes, order = [], []
    asked = one.store.answer

    def answer(text, data=b""):
        told = asked(text, data)
        sizes.extend((len(data), len(told[1])))
        if json.loads(text)["do"] == "put":
            order.append(Path(json.loads(text)["path"]).name)
        return told

    one.store.answer = answer
    one.save(10, 5000)
    one.write("replay/0/00000001.seg", os.urandom(2000))
    one.write("empty.txt", b"")
    one.away.send()
    assert max(sizes) == 1000
    first = order.index("manifest.json")
    assert not {"00000001.seg", "tree.json", "tensors.safetensors"} & set(order[first:])
    assert order.count("tree.json") > 2
    fence.advance(one.kept)
    two = Run(tmp_path, 2, one.root)
    two.store.answer = answer
    two.away.fetch()
    assert same(two.run, one.run)
    assert max(sizes) == 1000


@pytest.mark.parametrize("torn", ["put", "publish", "clear"])
def test_a_torn_transfer_leaves_the_last_whole_checkpoint(tmp_path, monkeypatch, torn):
    monkeypatch.setattr(away, "PIECE", 500)
    one = Run(tmp_path).begun()
    one.save(10)
    one.away.send()
    one.save(20, 1000)
    count = {"put": 0}

    def ask(text, data, asked=one.ask):
        do = json.loads(text)["do"]
        count["put"] += do == "put"
        if do == torn and (torn != "put" or count["put"] > 2):
            raise ConnectionError("torn")
        return asked(text, data)

    one.away._ask = ask
    with pytest.raises(ConnectionError):
        one.away.send()
    assert names(one.kept) == ["ckpt-000000000010", "last"]
    assert checkpoint.load(one.kept / "checkpoints").tree["step"] == 10
    one.away._ask = one.ask
    one.write("metrics.csv", "step\n1\n")
    one.away.send()
    assert same(one.run, one.kept)
    assert not (one.root / ".store").exists()


def test_a_checkpoint_whose_place_a_newer_one_takes_is_left_out(tmp_path):
    """Files that it needs may be gone by then."""
    one = Run(tmp_path).begun()
    one.save(10)
    newest = one.away._newest
    told = iter(["checkpoints/ckpt-000000000010", "checkpoints/ckpt-000000000020"])
    one.away._newest = lambda: next(told)
    one.away.send()
    assert not list(one.kept.glob("checkpoints/ckpt-*"))
    one.away._newest = newest
    one.away.send()
    assert same(one.run, one.kept)


def test_the_result_comes_after_its_checkpoint(tmp_path):
    """Else a node that is lost in between would leave a run that looks finished."""
    one = Run(tmp_path).begun()
    one.away.send()
    one.save(10)
    one.write("run.json", '{"result": 10}')
    one.fails = {"publish"}
    with pytest.raises(ConnectionError):
        one.away.send()
    assert (one.kept / "run.json").read_text() == "{}"
    one.fails = set()
    publish, order = one.store._publish, []

    def published(directory, names=None, files=None):
        told = publish(directory, names, files)
        order.append((names is not None, (one.kept / "run.json").read_text()))
        return told

    one.store._publish = published
    one.away.send()
    assert order[0] == (True, "{}")
    assert order[-1] == (False, '{"result": 10}')


def test_what_nobody_completes_is_removed_at_the_end_and_that_of_others_stays(tmp_path):
    one = Run(tmp_path).begun()
    other = one.root / store.ASIDE / "other"
    other.mkdir(parents=True)
    one.save(10)
    one.fails = {"publish"}
    with pytest.raises(ConnectionError):
        one.away.send()
    assert len(list((one.root / store.ASIDE).iterdir())) == 2
    one.store.forget()
    assert list((one.root / store.ASIDE).iterdir()) == [other]


def test_what_was_changed_on_its_way_is_not_published(tmp_path):
    one = Run(tmp_path).begun()
    one.save(10)
    asked = one.ask
    one.away._ask = lambda text, data: asked(text, data.replace(b"10", b"11") if b"step" in data else data)
    with pytest.raises(RefusedError, match=r"tree\.json was damaged on its way"):
        one.away.send()
    assert not list(one.kept.glob("checkpoints/ckpt-*"))
    assert one.notes == [
        "grid/1: what its node sends is not kept: checkpoints/ckpt-000000000010/tree.json was damaged on its way"
    ]


def test_a_checkpoint_without_all_its_files_is_not_published(tmp_path):
    one = Run(tmp_path).begun()
    one.save(10)
    asked = one.ask
    for left_out in ("tree.json", "manifest.json"):
        one.away._ask = lambda text, data, name=left_out: (
            ("{}", b"") if f'{name}"' in text and '"put"' in text else asked(text, data)
        )
        with pytest.raises(RefusedError, match=f"{left_out} is missing"):
            one.away.send()
        assert not list(one.kept.glob("checkpoints/ckpt-*"))


def test_tables_grow_by_their_new_rows_and_are_sent_anew_after_a_cut(tmp_path):
    one = Run(tmp_path).begun()
    table = one.run / "metrics.csv"
    table.write_text("step,a\n" + "1,2\n" * 2000)
    one.away.send()
    one.asked.clear()
    with open(table, "a") as file:
        file.write("3,4\n")
    one.away.send()
    assert one.asked == ["append"]
    assert same(one.run, one.kept)
    with open(one.kept / "metrics.csv", "a") as file:
        file.write("rows of an attempt that was cut off\n")
    with open(table, "a") as file:
        file.write("5,6\n")
    one.away.send()
    assert same(one.run, one.kept)
    text = table.read_text().replace("5,6\n", "7,8\n9,9\n")
    table.write_text(text)
    one.away.send()
    assert same(one.run, one.kept)


def test_a_later_attempt_shuts_the_earlier_one_out(tmp_path):
    one = Run(tmp_path).begun()
    one.save(10)
    one.away.send()
    one.save(20)
    fence.advance(one.kept)
    kept = {p: p.read_bytes() for p in one.kept.rglob("*") if p.is_file()}
    one.away.log.write_text("late words")
    with pytest.raises(LaterError):
        one.away.send()
    for do in ("log", "clear", "put", "append", "publish", "link", "begin"):
        told, _ = one.store.answer(json.dumps({"do": do, "run": "grid/1", "attempt": 1}), b"x")
        assert json.loads(told) == {"fenced": 2}
    assert {p: p.read_bytes() for p in one.kept.rglob("*") if p.is_file()} == kept
    assert fence.read(one.run) == 2, "so that the training ends"
    with pytest.raises(fence.FencedError):
        fence.Fence(one.run, 1).check()
    shutil.rmtree(one.kept)
    with pytest.raises(LaterError, match=r"^ was removed while it was trained$"):
        one.away.send()
    assert not one.kept.exists(), "a run that was removed does not come back"
    assert fence.read(one.run) == 2, "so that the training ends"
    fence.advance(one.kept)
    later = Away(one.ask, "grid/1", 3, tmp_path / "third", one.away.log, "shown")
    later.run.mkdir()
    later.log.write_text("other words")
    (later.run / "run.json").write_text("{}")
    with pytest.raises(LaterError, match=r"^ went on elsewhere as attempt 1$"):
        later.send()
    with pytest.raises(fence.FencedError):
        fence.Fence(later.run, 3).check()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a/\0"])
def test_no_path_leads_out_of_a_run(tmp_path, path):
    one = Run(tmp_path).begun()
    for asked in (
        {"do": "put", "path": path, "offset": 0},
        {"do": "read", "path": path, "offset": 0},
        {"do": "link", "path": "run.json", "to": path},
        {"do": "append", "path": path, "offset": 0},
    ):
        data = b"x" if asked["do"] in ("put", "append") else b""
        told = json.loads(one.store.answer(json.dumps({"run": "grid/1", "attempt": 1, **asked}), data)[0])
        assert told["code"] == 3
        assert told["error"].endswith("is no file of a run")
    assert (
        "is no file of a run"
        in json.loads(one.store.answer(json.dumps({"do": "begin", "run": path, "attempt": 0}))[0])["error"]
    )


def test_a_full_disk_is_said_once_and_what_was_whole_stays(tmp_path, monkeypatch):
    one = Run(tmp_path).begun()
    one.save(10)
    one.away.send()
    one.save(20)

    def full(point):
        if "write" in point and threading.current_thread() is threading.main_thread() and asked:
            raise OSError(errno.ENOSPC, "No space left on device")

    asked = [True]
    monkeypatch.setattr(storage, "fault_point", full)
    for _ in range(2):
        with pytest.raises(RefusedError, match="No space left on device") as told:
            one.away.send()
        assert told.value.exit_code == 5
    assert len(one.notes) == 1
    assert one.notes[0].startswith("grid/1: what its node sends is not kept: cannot write ")
    assert names(one.kept) == ["ckpt-000000000010", "last"]
    assert not (one.root / ".store").exists(), "no room is taken by what is not whole"
    asked.clear()
    one.away.send()
    assert same(one.run, one.kept)
