"""Trainings on nodes that do not see the directory of the experiment, one cut off, and each failure's line."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from pathlib import Path

import pytest

import playfield
from cluster_link import HERE, PINS, Processes, Told, begun, job, place
from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import away, live, local, node
from playfield.experiments.store import Store
from playfield.runs import fence, lock, storage

AWAY = {"sees": False}
STEPS = 1_200


@pytest.fixture(autouse=True)
def _facts(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)


@pytest.fixture
def there(tmp_path, monkeypatch):
    """Where nodes put what they have."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


def test_a_node_that_is_cut_off_loses_a_checkpoint_interval_and_the_bits_are_those_of_this_machine(
    tmp_path, there, capfd
):
    """With replay files, which checkpoints need."""
    options = ("--algo", "dqn", "--learning-starts", "200", "--save-seconds", "0.05")
    alone = job(tmp_path / "alone", 1, STEPS, *options)
    assert main(alone.command()) == 0
    link = Processes(HERE, a=AWAY, b=AWAY)
    root = tmp_path / "root"
    made, said = place(root, link)
    answer = link.stores.store.answer

    def answered(text, data):
        """Once the first checkpoint has come, nothing of that attempt arrives until the run goes on elsewhere."""
        told, asked = answer(text, data), json.loads(text)
        if asked["do"] == "publish" and "names" in asked and asked["attempt"] == 1:
            link.stores.cut.add(1)
        return told

    link.stores.store.answer = answered
    assert said[0] == f"all nodes, which cannot see {root}: files go through a store on this machine"
    one = job(root, 1, STEPS, *options)
    lost, saved, seen, states = [], [], set(), set()

    def slots():
        found = sorted(one.directory.glob("checkpoints/ckpt-*"))
        seen.add(one.directory.joinpath("metrics.csv").is_file())
        if link.runs() and not lost:
            states.update(told["state"] for told in playfield.list_runs(root))
        if lost and fence.read(one.directory) == 2:
            link.stores.cut.clear()
        if found and not lost:
            lost.append(link.runs()[0])
            saved.append(int(found[-1].name[5:]))
            link.nodes.pop(lost[0]["node"])
            link.waiting.append({"task": lost[0]["number"], "lost": "no heartbeat"})
            link.tell_nodes()
        return 1

    try:
        assert local.run_jobs([one], slots, made) == []
        told = capfd.readouterr().err
        assert f"lost on node {lost[0]['node']} (no heartbeat); it goes on from step" in told
        deadline = time.monotonic() + 60
        while "said" not in link.tasks[lost[0]["number"]] and time.monotonic() < deadline:
            link.events()
            time.sleep(0.05)
        said = link.tasks[lost[0]["number"]]["said"]
        assert said["code"] == 3, "the one cut off was fenced"
        assert fence.ELSEWHERE in said["line"]
    finally:
        link.close()
        made.forget()
    hashes = {json.loads((j.directory / "run.json").read_text())["result"]["hash"] for j in (alone, one)}
    assert len(hashes) == 1
    assert 0 < saved[0] < STEPS
    assert any(seen), "the live table had rows to show while it trained"
    assert not list(there.glob("playfield-*")), "nodes are left clean"
    assert not (root / ".store").exists()
    assert states == {"running"}
    assert lock.holder(one.directory) is None
    games = [
        [row.split(",")[0] for row in (j.directory / "monitor.csv").read_text().splitlines()[1:]]
        for j in (alone, one)
    ]
    assert games[0] == games[1]


CHILD = """#!/bin/sh
# Instead of a training: -P -m playfield.cli._child PARENT WORDS...
for word in "$@"; do run=$word; done
echo "playfield: of $run" >&2
echo '{}' > "$run/run.json"
printf 'step\\n1\\n' > "$run/metrics.csv"
exit ${CODE:-0}
"""


class Child:
    """A node in this process, whose trainings are a script; `code`: that it ends with."""

    def __init__(self, folder, monkeypatch, code=0):
        (folder / "child").write_text(CHILD)
        (folder / "child").chmod(0o755)
        monkeypatch.setattr(node.sys, "executable", str(folder / "child"))
        monkeypatch.setenv("CODE", str(code))
        monkeypatch.setattr(away, "AGAIN", 0.01)
        self.kept = folder / "root" / "grid" / "1"
        fence.advance(self.kept)
        self.store = Store(folder / "root")

    def text(self, **more):
        known = "shown/grid/1"
        told = {"words": ["train", "--run", known], "cwd": "/there/is/none", "threads": {}, **more}
        told["store"] = {"run": "grid/1", "attempt": fence.read(self.kept), "directory": known}
        return json.dumps(told)

    def run(self, ask=None):
        return json.loads(node.run_with(self.text(), ask or self.store.answer))


def test_what_a_node_says_of_a_training(tmp_path, there, monkeypatch):
    one = Child(tmp_path, monkeypatch, 4)
    assert one.run() == {"code": 4, "line": "of shown/grid/1"}, "paths are those of where the command was typed"
    assert (tmp_path / "root/grid/.logs/1.txt").read_text() == "playfield: of shown/grid/1\n"
    assert (one.kept / "metrics.csv").read_text() == "step\n1\n"
    fence.advance(one.kept)
    monkeypatch.setenv("CODE", "0")
    assert one.run()["code"] == 0
    assert not list(there.iterdir()), "nodes are left clean"


def test_a_file_of_a_preset_goes_along(tmp_path, there, monkeypatch):
    link = Told({**HERE, "memory": None}, a={**AWAY, "cpus": 3})
    made, _ = place(tmp_path / "root", link)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "mine.toml").write_text("algo = 'ppo'")
    made.start(job(tmp_path / "root", 1, 4000, "--preset", "sets/mine.toml"))
    made.start(job(tmp_path / "root", 2, 4000, "--preset=sets/mine.toml"))
    made.start(job(tmp_path / "root", 3, 4000, "--preset", "long"))
    given = [task["text"]["given"] for task in link.tasks.values() if task["do"] == "run_away"]
    assert given == [{"sets/mine.toml": "algo = 'ppo'"}] * 2 + [{}]
    link.stores.close()
    one, seen = Child(tmp_path, monkeypatch), []
    monkeypatch.setattr(node, "_wait_for", lambda told, words, cwd, *more: (seen.append(cwd), 0, None)[1:])
    for cwd, names in (("/there/is/none", ["sets/mine.toml"]), (str(tmp_path), ["sets/mine.toml"]), (str(there), [])):
        text = one.text(cwd=cwd, given=dict.fromkeys(names, "algo = 'ppo'"))
        assert json.loads(node.run_with(text, one.store.answer))["code"] == 0
    assert seen[0].parent.parent == there
    assert seen[1:] == [tmp_path, there]


@pytest.mark.parametrize(
    "name", ["mine.toml", "../mine.toml", "a/../../mine.toml", "../../b/mine.toml", "/mine.toml"]
)
def test_the_file_of_a_preset_that_was_sent_is_the_one_that_is_read(tmp_path, there, monkeypatch, name):
    """Not another one that lies on the node; wherever the first lies, and under the name that it was given."""
    (tmp_path / "x" / "cwd" / "a").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "x" / "cwd")
    word = str(tmp_path / name[1:]) if name.startswith("/") else name
    Path(word).write_text("lr = 1\n")
    link = Told({**HERE, "memory": None}, a={**AWAY, "cpus": 2})
    made, _ = place(tmp_path / "root", link)
    made.start(job(tmp_path / "root", 1, 4000, "--preset", word))
    made.start(job(tmp_path / "root", 2, 4000, f"--preset={word}"))
    link.stores.close()
    sent = [task["text"] for task in link.tasks.values() if task["do"] == "run_away"]
    named = [sent[0]["words"][sent[0]["words"].index("--preset") + 1]]
    named += [w.removeprefix("--preset=") for w in sent[1]["words"] if w.startswith("--preset=")]
    assert named == ["../../mine.toml" if name.startswith("/") else name] * 2
    one, seen = Child(tmp_path, monkeypatch), []

    def train(told, words, cwd, *more):
        seen.append((cwd == tmp_path / "x" / "cwd", (cwd / named[0]).read_text()))
        assert seen[-1][0] or (cwd / named[0]).resolve().is_relative_to(there)
        return 0, None

    monkeypatch.setattr(node, "_wait_for", train)
    text = one.text(cwd=str(tmp_path / "x" / "cwd"), given=sent[0]["given"])
    for lies in ("lr = 1\n", "lr = 999\n", None):
        Path(word).write_text(lies) if lies else Path(word).unlink()
        assert json.loads(node.run_with(text, one.store.answer))["code"] == 0
    assert seen == [(True, "lr = 1\n"), (False, "lr = 1\n"), (False, "lr = 1\n")]


def test_a_node_that_sees_the_directory_refuses_a_preset_that_says_something_else_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.toml").write_text("lr = 1\n")
    link = Told(HERE, a={})
    made, _ = place(tmp_path / "root", link)
    made.start(job(tmp_path / "root", 1, 4000, "--preset", "mine.toml"))
    (sent,) = (json.dumps(task["text"]) for task in link.tasks.values() if task["do"] == "run")
    ran = []
    monkeypatch.setattr(node, "_wait_for", lambda *told: (ran.append(told), 0, None)[1:])
    assert json.loads(node.run(sent)) == {"code": 0}
    Path("mine.toml").write_text("lr = 999\n")
    told = json.loads(node.run(sent))
    assert told == {
        "code": 2, "line": "mine.toml says something else on this node than where the command was typed",
        "unfit": True,
    }  # fmt: skip
    assert len(ran) == 1


def test_a_run_whose_directory_was_removed_ends_with_a_line_that_says_so(tmp_path, there, monkeypatch):
    one = Child(tmp_path, monkeypatch)

    def ask(text, data):
        if '"begin"' not in text:
            shutil.rmtree(one.kept, ignore_errors=True)
        return one.store.answer(text, data)

    assert one.run(ask) == {"code": 3, "line": "shown/grid/1 was removed while it was trained"}
    assert not one.kept.exists()


def test_a_full_disk_of_the_driver_is_a_line_with_exit_code_5(tmp_path, there, monkeypatch):
    one = Child(tmp_path, monkeypatch)
    asked = []

    def full(text, data):
        asked.append(text)
        if len(asked) > 1:
            monkeypatch.setattr(storage, "fault_point", no_room)
        return one.store.answer(text, data)

    def no_room(point):
        raise OSError(errno.ENOSPC, "No space left on device")

    told = one.run(full)
    assert told["code"] == 5
    assert told["line"].startswith("its files were not kept where the command was typed: cannot write ")
    assert told["line"].endswith("No space left on device")
    assert 5 < len(asked) < 20, "it was tried again"
    assert not list(there.iterdir())


@pytest.mark.parametrize("begun", [False, True])
def test_a_store_that_is_gone_is_a_line_with_exit_code_6(tmp_path, there, monkeypatch, begun):
    one = Child(tmp_path, monkeypatch)

    def ask(text, data):
        if begun and '"begin"' in text:
            return one.store.answer(text, data)
        raise ConnectionError("the actor died\nwith more lines")

    assert one.run(ask) == {
        "code": 6, "line": "the machine of the command does not take its files: ConnectionError the actor died"
    }  # fmt: skip


def test_a_full_disk_of_a_node_is_a_line_with_exit_code_5(tmp_path, there, monkeypatch):
    one = Child(tmp_path, monkeypatch)
    (one.kept / "run.json").write_text("{}")

    def ask(text, data):
        if '"read"' in text:
            raise OSError(errno.ENOSPC, "No space left on device")
        return one.store.answer(text, data)

    assert one.run(ask) == {"code": 5, "line": "its files cannot be kept on this node: No space left on device"}


def test_a_run_that_went_on_elsewhere_ends_its_attempt_here(tmp_path, there, monkeypatch):
    one = Child(tmp_path, monkeypatch)

    def ask(text, data):
        if '"begin"' not in text and fence.read(one.kept) == 1:
            fence.advance(one.kept)
        return one.store.answer(text, data)

    told = one.run(ask)
    assert told == {"code": 3, "line": "shown/grid/1 went on elsewhere as attempt 2"}
    assert not (one.kept / "run.json").exists()


def test_what_a_killed_node_left_is_removed_later(there, monkeypatch):
    left, mine, young = (there / f"{away.PREFIX}{name}" for name in ("left", "mine", "young"))
    for one in (left, mine, young):
        (one / "run").mkdir(parents=True)
        os.utime(one, (0, 0) if one != young else None)
    with lock.RunLock(mine / "run"), away.room() as home:  # of a training that outlived its task
        assert home.parent == there
        assert sorted(there.iterdir()) == sorted([mine, young, home])
    assert not home.exists()


def test_which_nodes_use_the_store(tmp_path):
    link = Told(HERE, a=AWAY, b={})
    made, said = place(tmp_path, link)
    assert said[0] == f"node a, which cannot see {tmp_path}: files go through a store on this machine"
    tasks = [made.start(job(tmp_path, seed)) for seed in (1, 2)]
    assert {t.node.name: link.tasks[t.number]["do"] for t in tasks} == {"a": "run_away", "b": "run"}
    link.stores.close()
    link = Told(HERE, a=AWAY, b={})
    made, said = place(tmp_path, link, store="driver")
    assert made.slots() == 2
    assert all(one.away for one in made.nodes.values())
    assert said[0] == "all nodes: files go through a store on this machine"
    link.stores.close()
    made, said = place(tmp_path, Told(HERE, a=AWAY, b={}), store="shared")
    assert made.slots() == 1
    assert said[0] == f"node a is not used: it does not see {tmp_path}, which --store shared asks of all nodes"
    with pytest.raises(UsageError, match="no node can be used: a: it does not see"):
        place(tmp_path, Told(HERE, a=AWAY), PINS, "shared")


def test_a_run_that_a_node_has_is_running_where_the_command_was_typed(tmp_path, capsys):
    """For `playfield runs`, the live page, and whoever would train or remove it."""
    link = Told(HERE, a=AWAY)
    made, _ = place(tmp_path, link)
    one = job(tmp_path)
    begun(one, env="CartPole-v1", seed=1, config={})
    page = live.Reader(tmp_path)

    def states():
        seen = [run.cells["state"] for run in page.look().runs]
        assert [told["state"] for told in playfield.list_runs(tmp_path)] == seen
        return seen

    assert states() == ["stopped"]
    task = made.start(one)
    assert (task.node.name, states()) == ("a", ["running"])
    main(["runs", str(tmp_path), "--remove", "--yes"])
    assert f"it is running (process {os.getpid()} on " in "".join(capsys.readouterr())
    assert one.directory.exists()
    link.lose("a")
    made.look(task)
    assert (task.node, states()) == (None, ["stopped"])
    with lock.RunLock(one.directory):  # a training that was started by hand while this one waits
        link.add("b", **AWAY)
        made.look(task)
        made.look(task)
        assert fence.read(one.directory) == 1
    assert made.collect(task).taken
    task = made.start(one)
    assert (task.node.name, states()) == ("b", ["running"])
    link.end(task.number, text='{"code": 0}')
    made.look(task)
    assert states() == ["stopped"]
    made.collect(task)
    task = made.start(one)
    assert states() == ["running"]
    made.gone = "the head is down"
    assert made.collect(task).code == 6
    assert states() == ["stopped"]
    link.stores.close()


def test_the_word_is_for_clusters(tmp_path, capsys):
    words = ["compare", "CartPole-v1", "--algo", "ppo", "--steps", "1000", "--dir", str(tmp_path / "x")]
    assert main([*words, "--store", "driver"]) == 2
    assert capsys.readouterr().err == ("playfield: --store is for a cluster: --on ray or --on HOST:PORT, not local\n")
    assert not (tmp_path / "x").exists()
