"""Cores that others use: they are seen, not waited for without a word, and trainings go where there are free ones."""

from __future__ import annotations

import pytest

from cluster_link import HERE, Told, job, place
from playfield.experiments import node, ray_cores
from playfield.experiments.cluster_state import Pins
from playfield.experiments.ray_cores import Cores


@pytest.fixture(autouse=True)
def _facts(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets forward."""
    now = [1000.0]
    monkeypatch.setattr(ray_cores.time, "monotonic", lambda: now[0])
    yield now
    monkeypatch.undo()


def test_cores_of_others_are_what_is_neither_free_nor_ours(clock):
    cores = Cores()
    assert cores.taken("a", (4, 1), (4.0, 1.0)) == [0, 0]
    assert cores.taken("a", (4, 1), (1.5, 0.5)) == [3, 1], "a part of a core is none"
    cores.submitted(1, "a", 2, 1)
    cores.submitted(2, "a", 0, 0)
    assert cores.taken("a", (4, 1), (4.0, 1.0)) == [0, 0], "Ray does not know yet that it has begun"
    assert cores.taken("a", (4, 1), (1.0, 0.0)) == [1, 0]
    assert cores.taken("b", (4, 0), (1.0, 0.0)) == [3, 0]
    assert not cores.ended(1)
    assert cores.taken("a", (4, 1), (2.0, 0.0)) == [0, 0], "nor that it has ended"
    clock[0] += ray_cores.LAG
    assert cores.taken("a", (4, 1), (2.0, 1.0)) == [2, 0]


def test_what_does_not_begin_is_taken_back_once(clock):
    cores = Cores()
    cores.submitted(1, "a", 1, 0)
    cores.submitted(2, "a", 1, 0)
    cores.submitted(3, "a", 1, 0)
    cores.begun(2)
    cores.ended(3)
    cores.begun(99)
    clock[0] += ray_cores.BEGIN + 0.5
    assert cores.late(clock[0] - 1) == [], "what has begun since then is not known"
    assert cores.late(clock[0]) == [1]
    assert cores.late(clock[0]) == []
    assert cores.taken("a", (1, 0), (0.0, 0.0)) == [0, 0], "by 2, which runs"
    assert cores.ended(1)
    assert not cores.ended(2)
    cores.submitted(4, "a", 1, 0)
    clock[0] += ray_cores.BEGIN + 0.5
    assert cores.late(clock[0]) == [], "twice as long: its processes may be slow to start"
    cores.begun(4)
    cores.submitted(5, "a", 1, 0)
    clock[0] += ray_cores.BEGIN + 0.5
    assert cores.late(clock[0]) == [5]
    for number in range(6, 12):
        cores.submitted(number, "a", 1, 0)
        clock[0] += ray_cores.LONGEST + 0.5
        assert cores.late(clock[0]) == [number], "however often before"


def test_a_training_goes_where_cores_are_free_and_says_why_it_waits(tmp_path):
    link = Told(HERE, a={"cpus": 3, "taken": [2, 0]}, b={"cpus": 2})
    made, said = place(tmp_path, link)
    assert said == ["2 nodes with 5 cores, 2 of them used by others"]
    assert made.slots() == 3
    tasks = [made.start(job(tmp_path, seed)) for seed in (1, 2, 3, 4)]
    assert [task.node and task.node.name for task in tasks] == ["b", "b", "a", None]
    (line,) = made.look(tasks[3]).news
    assert line.endswith("waits for cores; others use some of node a")
    assert made.look(tasks[3]).news == (), "once"
    link.nodes["a"]["taken"] = [0, 0]
    link.tell_nodes()
    assert made.look(tasks[3]).where == "a"
    assert made.slots() == 5


def test_a_training_that_did_not_begin_goes_elsewhere(tmp_path):
    link = Told(HERE, a={"cpus": 3}, b={"cpus": 2})
    made, _ = place(tmp_path, link, Pins("cpu", "fp32", 2))
    one = made.start(job(tmp_path))
    assert one.node.name == "a"
    link.nodes["a"]["taken"] = [3, 0]
    link.tell_nodes()
    link.end(one.number, refused="it did not begin: others use the cores or GPUs of its node")
    made.look(one)
    assert made.look(one).where == "b"
    assert (one.past.losses, one.code) == (0, None)


def test_a_node_where_one_did_not_begin_stays_in_use_and_what_it_has_is_not_counted_twice(tmp_path):
    pins = Pins("cpu", "fp32", 1, 10**9)
    link = Told(HERE | {"memory": 4 * 10**9}, a={"cpus": 4})
    made, _ = place(tmp_path, link, pins)
    tasks = [made.start(job(tmp_path, seed)) for seed in (1, 2)]
    link.facts["memory"] = 2 * 10**9  # free beside those two
    for how in ({}, {"failed": "OSError: Cannot allocate memory"}):
        link.nodes["a"] |= how
        late = made.start(job(tmp_path, 3))
        assert late.node is not None
        link.end(late.number, refused="it did not begin: others use the cores or GPUs of its node")
        made.look(late)
        assert late.node is None, "it waits until the node answers"
        news = [*made.look(late).news, *made.look(late).news]
        assert (late.node and late.node.name, news) == ("a", [])
        made.stop(late)
        link.end(late.number, cancelled=True)
        made.collect(late)
    assert all(task.code is None for task in tasks)


def test_nodes_that_are_all_in_use_are_waited_for(tmp_path):
    link = Told(HERE, a={"cpus": 1, "taken": [1, 0], "gpus": 1})
    made, said = place(tmp_path, link)
    assert said == ["1 node with 1 cores, 1 of them used by others"]
    assert made.slots() == 1, "the one that waits, and says so"
    assert made.look(made.start(job(tmp_path))).where == ""
