"""The live page of a folder of runs: what it is told, what it may open, and that it changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import time

import numpy as np
import pytest
import websockets

import playfield
from playfield.cli import _watch, main
from playfield.errors import PlayfieldError
from playfield.experiments import live
from playfield.play.statistics import t_interval
from playfield.runs.lock import RunLock
from playfield.show.watch import board as board_module
from playfield.show.watch.board import Board
from watch_fixtures import TOKEN, make_folder, make_run, served, unpack

WHOLE = {
    "compute": {"device": "cpu", "precision": "fp32", "workers": 1},
    "versions": {},
    "extensions": [],
    "playfield": "0",
}
LABELS = {"ppo": "ppo, net mlp", "a2c": "a2c, net mlp"}  # no preset names a network


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("made") / "exp")


@pytest.fixture
def folder(made, tmp_path):
    return shutil.copytree(made, tmp_path / "exp")


@pytest.fixture
def board(folder, monkeypatch):
    monkeypatch.setattr(board_module, "PERIOD", 0.0)
    monkeypatch.setattr(board_module, "SHARE", 1e9)
    return Board(str(folder), live.Reader(folder).look)


def talk(page, conversation, query="", **options):
    options = {"origin": page.origin, "subprotocols": ["playfield", f"token.{TOKEN}"], **options}

    async def go():
        async with websockets.connect(f"ws://127.0.0.1:{page.port}/ws{query}", max_size=None, **options) as socket:
            return await asyncio.wait_for(conversation(socket), 20)

    return asyncio.run(go())


async def first_two(socket):
    return unpack(await socket.recv())[0], unpack(await socket.recv())[0]


def by_run(state):
    return {row["run"]: row for row in state.rows.values()}


def test_the_table_and_the_curves_are_those_of_the_files(folder, board):
    with served(board) as page:
        hello, news = talk(page, first_two)
    assert hello == {"kind": "board", "folder": str(folder), "statistic": "mean", "words": "mean"}
    assert news["kind"] == "runs"
    rows = {row["run"]: row for row in news["rows"]}
    records = playfield.list_runs(folder)
    assert [str(folder / run) for run in rows] == [r["run"] for r in records]
    for record, row in zip(records, rows.values(), strict=True):
        for key in ("env", "seed", "state", "step", "steps"):
            assert row[key] == record[key]
        assert row["label"] == LABELS[record["algo"]]
        assert row["score"] == pytest.approx(record["score"], abs=1e-4)
        assert row["shown"] == f"{record['score']:.1f}"
        assert row["interval"] == f"{record['low']:.1f} to {record['high']:.1f}"
        assert (row["state"], row["over"], row["note"]) == ("stopped", "19 training games", "")
    curves = dict(map(tuple, news["curves"]))
    for row in rows.values():
        means = [10 * row["seed"] + (i + 1) / 2 for i in range(1, 20)]
        assert curves[row["n"]] == [[50 * i, m] for i, m in zip(range(1, 20), means, strict=True)]
    assert {(g["env"], g["label"], g["seeds"]) for g in news["groups"]} == {
        ("CartPole-v1", LABELS["ppo"], 3), ("CartPole-v1", LABELS["a2c"], 3)
    }  # fmt: skip
    assert len({g["color"] for g in news["groups"]}) == 2
    for group in news["groups"]:
        step, mean, low, high = group["points"][-1]
        assert (step, mean) == (950, 30.0)  # the last mean of a seed is 10 x seed + 10
        assert [low, high] == pytest.approx(np.ravel(t_interval(np.array([20.0, 30, 40]))), abs=1e-3)
        assert {rows[r]["color"] for r in rows if rows[r]["label"] == group["label"]} == {group["color"]}


def test_only_what_changes_is_read_and_told_again(folder, board, monkeypatch):
    read = []
    original = live._read
    monkeypatch.setattr(live, "_read", lambda run, *more: read.append(run) or original(run, *more))
    before = board.state()
    assert len(read) == 6
    assert board.state().since(before) is None
    assert len(read) == 6
    run = folder / "CartPole-v1" / "ppo" / "2"
    with open(run / "monitor.csv", "a") as file:
        file.write("99.0,5,20.0,980\n")
    after = board.state()
    assert read[6:] == [run]
    news = after.since(before)
    n = by_run(before)["CartPole-v1/ppo/2"]["n"]
    assert [row["n"] for row in news["rows"]] == [n]
    assert [(c[0], c[1][-1][0]) for c in news["curves"]] == [(n, 980)]
    assert news["gone"] == []
    shutil.rmtree(run)
    fewer = board.state()
    assert fewer.since(after)["gone"] == [n]
    assert [g["seeds"] for g in fewer.groups if g["label"] == LABELS["ppo"]] == [2]
    assert all(
        len(p) == 2 for g in fewer.groups if g["label"] == LABELS["ppo"] for p in g["points"]
    )  # no band for two
    make_run(folder / "new")
    assert by_run(board.state())["new"]["n"] == 6  # no number is given twice


def test_a_run_that_trains_is_told_from_one_that_has_stopped(folder, board):
    run = folder / "CartPole-v1" / "ppo" / "1"
    with RunLock(run):
        assert by_run(board.state())["CartPole-v1/ppo/1"]["state"] == "running"
    assert by_run(board.state())["CartPole-v1/ppo/1"]["state"] == "stopped"
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "result": {"steps": 999, "seconds": 7.0, "stop": "steps"}}))
    row = by_run(board.state())["CartPole-v1/ppo/1"]
    assert (row["state"], row["step"], row["time"]) == ("finished", 999, "7.0 s")


DAMAGE = {
    "run.json": b"{", "monitor.csv": b"nonsense", "run.json#list": b"[]", "run.json#empty": b"{}",
    "run.json#spec": json.dumps({"env": "x", "algo": "ppo", "seed": 1, "spec": {}}).encode(),
    "run.json#steps": None, "../compare.json": b"{}",
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_run_is_listed_and_hides_no_other(folder, board, what):
    run = folder / "CartPole-v1" / "ppo" / "2"
    name, data = what.partition("#")[0], DAMAGE[what]
    if data is None:
        data = json.dumps(json.loads((run / "run.json").read_text()) | {"steps": "many"}).encode()
    (run / name).write_bytes(data)
    state = board.state()
    rows = by_run(state)
    assert len(rows) == 6
    bad = {run: row for run, row in rows.items() if row["state"] == "damaged"}
    assert "CartPole-v1/ppo/2" in bad
    assert len(bad) == (3 if name.startswith("..") else 1)  # a damaged label is that of all its runs
    assert all(row["note"] and row["color"] is None and row["n"] not in state.curves for row in bad.values())
    assert len(state.curves) == 6 - len(bad)
    assert [g["seeds"] for g in state.groups if g["label"] == LABELS["a2c"]] == [3]
    with served(board) as page:
        opened = unpack(talk(page, lambda s: s.recv(), f"?run={bad['CartPole-v1/ppo/2']['n']}"))[0]
        assert opened["kind"] == ("error" if name == "run.json" else "hello")
        assert len(talk(page, first_two)[1]["rows"]) == 6


def test_runs_that_cannot_be_pooled_say_why(folder, board):
    shutil.copytree(folder / "CartPole-v1" / "ppo" / "2", folder / "again")
    changed = folder / "CartPole-v1" / "ppo" / "3" / "run.json"
    changed.write_text(json.dumps(json.loads(changed.read_text()) | {"fingerprint": "0" * 16} | WHOLE))
    (folder / "CartPole-v1" / "a2c" / "1" / "monitor.csv").unlink()
    state = board.state()
    notes = {run: row["note"] for run, row in by_run(state).items() if row["note"]}
    assert set(notes) == {"again", "CartPole-v1/ppo/3"} or set(notes) == {"CartPole-v1/ppo/2", "CartPole-v1/ppo/3"}
    assert any("same settings and seed" in note for note in notes.values())
    assert "changed by hand" in notes["CartPole-v1/ppo/3"]
    assert sorted(g["seeds"] for g in state.groups) == [2, 2]


def test_a_run_is_opened_by_its_number(folder, board):
    async def played(socket):
        return await first_two(socket)

    rows = by_run(board.state())
    with served(board) as page:
        for run in ("CartPole-v1/ppo/2", "CartPole-v1/a2c/3"):
            hello, _ = talk(page, played, f"?run={rows[run]['n']}")
            assert (hello["kind"], hello["env"], hello["run"]) == ("hello", "CartPole-v1", str(folder / run))
        assert len(board._sources) == 2


def test_a_run_without_a_checkpoint_says_so_until_it_has_one(folder, board):
    run = folder / "CartPole-v1" / "ppo" / "1"
    (run / "checkpoints").rename(run / "away")
    n = by_run(board.state())["CartPole-v1/ppo/1"]["n"]
    with served(board) as page:
        told = unpack(talk(page, lambda s: s.recv(), f"?run={n}"))[0]
        assert told["kind"] == "error"
        assert "no checkpoint" in told["text"]
        (run / "away").rename(run / "checkpoints")
        assert talk(page, first_two, f"?run={n}")[0]["kind"] == "hello"


@pytest.mark.parametrize(
    "number",
    ["6", "-1", "", "00", "1e0", "0.0", "%D9%A3", "..", "../../etc", "/etc/passwd", "0%00", "last", "9" * 4000],
)
def test_no_other_number_opens_anything(folder, board, number, monkeypatch):
    board.state()
    monkeypatch.setattr(board_module, "Source", None)  # would be called
    with served(board) as page:
        found = unpack(talk(page, lambda s: s.recv(), f"?run={number}"))[0]
        assert found["kind"] == "error"
        assert "no run of that number" in found["text"]
        assert talk(page, first_two)[0]["kind"] == "board"


def test_the_guards_hold_for_the_table_and_for_its_runs(board):
    board.state()
    wrong = [
        {"origin": "http://evil.example"}, {"origin": None}, {"subprotocols": ["playfield", "token.wrong"]},
        {"subprotocols": ["playfield"]}, {"additional_headers": {"Host": "evil.example"}},
    ]  # fmt: skip
    with served(board) as page:
        for options in wrong:
            for query in ("", "?run=0"):
                with pytest.raises((websockets.InvalidStatus, websockets.InvalidMessage)):
                    talk(page, lambda s: s.recv(), query, **options)
        assert page.hub.clients == 0


@pytest.mark.parametrize(
    ("message", "code"),
    [("not json", 1007), ('{"command": "delete"}', 1008), ('{"command": "ack"}', 1008), (b"\0", 1003),
     ("x" * 70_000, 1009)],
)  # fmt: skip
def test_the_table_takes_no_message(board, message, code):
    async def conversation(socket):
        await socket.send(message)
        try:
            while True:
                await socket.recv()
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code

    with served(board) as page:
        assert talk(page, conversation) == code
        assert talk(page, first_two)[0]["kind"] == "board"


def test_watching_a_folder_changes_nothing_in_it(folder, board):
    def files():
        return {
            str(p): (p.lstat().st_mtime_ns, hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "")
            for p in [folder, *sorted(folder.rglob("*"))]
        }

    before = files()
    with served(board) as page:
        talk(page, first_two)
        assert talk(page, first_two, "?run=0")[0]["kind"] == "hello"
    assert files() == before


def test_a_folder_that_vanishes_is_told_and_may_come_back(folder, board, monkeypatch):
    async def conversation(socket):
        await first_two(socket)
        folder.rename(folder.with_name("away"))
        note = unpack(await socket.recv())[0]
        folder.with_name("away").rename(folder)
        shutil.rmtree(folder / "CartPole-v1" / "ppo" / "1")
        while (news := unpack(await socket.recv())[0])["kind"] == "note":
            pass
        return note, news

    monkeypatch.setattr(board_module, "PERIOD", 0.05)
    with served(board) as page:
        note, news = talk(page, conversation)
    assert "there is no directory" in note["text"]
    assert len(news["gone"]) == 1


def test_messages_are_bounded(folder, board, monkeypatch):
    monkeypatch.setattr(board_module, "MOST_RUNS", 4)
    monkeypatch.setattr(board_module, "POINTS", 72)
    state = board.state()
    assert (len(state.rows), state.more) == (4, 2)
    assert {len(points) for points in state.curves.values()} == {12}
    assert {len(g["points"]) for g in state.groups} == {12}
    assert board.about == f"{folder}: 6 runs"


def test_tabs_share_one_look(folder, monkeypatch):
    looks = []

    def look():
        looks.append(time.monotonic())
        return live.Reader(folder).look()

    board = Board(str(folder), look)
    assert [board.state() for _ in range(5)].count(board.state()) == 5
    assert len(looks) == 1


def test_a_run_called_last_is_that_run(tmp_path, monkeypatch):
    make_run(tmp_path / "last", steps=(100,))
    make_run(tmp_path / "runs" / "newer", steps=(300,))
    monkeypatch.chdir(tmp_path)
    board = Board(".", live.Reader(live.Path(".")).look)
    n = by_run(board.state())["last"]["n"]
    assert board.source(str(n)).newest() == 100
    with pytest.raises(PlayfieldError, match="no run of that number"):
        board.source("2")


def test_the_command_line_takes_a_folder(folder, tmp_path, monkeypatch, capsys):
    served_with = []
    monkeypatch.setattr(_watch, "watch", lambda source, **options: served_with.append((source, options)))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "breakout").mkdir()
    assert main(["watch", "exp", "--greedy", "--no-browser"]) == 0
    source, options = served_with.pop()
    assert (source, options["temperature"], options["open_browser"]) == ("exp", 0.0, False)
    assert len(options["look"]().runs) == 6
    for name in ("breakout", "exp/CartPole-v1/ppo/1"):  # an agent, and a run
        assert main(["watch", name]) == 0
        assert served_with.pop()[1]["look"] is None
    capsys.readouterr()
    for words, text in (
        (["empty"], "there is no run in empty: train one first, or name another folder"),
        (["nowhere"], "nowhere"),
        (["exp", "--agent", "random"], "exp is a folder: with --agent random name a game, or one run"),
    ):
        assert main(["watch", *words]) == 2
        told = capsys.readouterr().err
        assert text in told
        assert told.count("\n") == 1
    assert main(["eval", "exp"]) == 2  # other commands take no folder
    assert served_with == []
