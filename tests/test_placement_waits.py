"""Trainings that wait for a node, and nodes that are waited for: neither for ever, nor with an answer of long ago."""

from __future__ import annotations

import json

import pytest

from cluster_link import HERE, Told, begun, job, place
from playfield.errors import StorageError, UsageError
from playfield.experiments import cluster, node, placement
from playfield.experiments.cluster import Cluster
from playfield.experiments.cluster_state import Pins

PINS = Pins("cpu", "fp32", 1, 10**9)


@pytest.fixture(autouse=True)
def _facts(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)


def test_what_failed_before_it_worked_elsewhere_is_forgotten(tmp_path):
    link = Told(HERE, a={"cpus": 2}, b={"cpus": 1})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    link.end(one.number, text=json.dumps({"code": 5, "line": "the disk is full"}))
    made.look(one)
    assert one.node.name == "b"
    (one.job.directory / "checkpoints" / "ckpt-000000000100").mkdir(parents=True)
    link.lose("b")
    assert (made.look(one).where, one.code) == ("a", None)


def test_a_failure_that_is_no_value_stays_none_where_the_other_node_is_lost(tmp_path):
    link = Told(HERE, a={"cpus": 2}, b={"cpus": 1})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    link.end(one.number, text=json.dumps({"code": 2, "line": "another preset is there", "unfit": True}))
    made.look(one)
    link.lose("b")
    assert made.collect(one).unplaced


def test_where_its_own_kind_of_node_has_no_room_for_long_another_takes_it(tmp_path):
    link = Told(HERE, a={"memory": 10**8}, b={"processor": {"model": "Two"}})
    made, _ = place(tmp_path, link, PINS)
    begun(job(tmp_path))
    one = made.start(job(tmp_path))
    assert one.node is None, "a is of its kind, and others have its memory"
    one.short -= placement.SHORT
    assert made.look(one).where == "b"


def test_a_node_that_does_not_answer_is_given_up(tmp_path):
    link = Told(HERE, a={}, b={})
    made, _ = place(tmp_path, link)
    link.end = lambda number, **how: None
    for one, refresh in zip(made.nodes.values(), (False, True), strict=True):
        made.places.ask(one, refresh)
        one.probed -= placement.PROBE
    made.places.give_up_silent()
    assert [one.refused for one in made.nodes.values()] == ["no answer in 120 s", ""]
    assert [one.name for one in made.places.usable] == ["b"]
    assert made.places.notes == ["node a is not used: no answer in 120 s"]


def test_what_waits_for_a_lost_node_keeps_no_other_from_beginning(tmp_path):
    link = Told(HERE, a={"gpus": 1}, b={})
    made, _ = place(tmp_path, link, Pins("cuda", "fp32", 1))
    link.lose("a")
    one = made.start(job(tmp_path))
    made.look(one)
    assert one.waits == "node"
    assert made.slots() == 2


def test_a_lost_node_that_comes_back_with_other_versions_is_not_waited_for(tmp_path):
    link = Told(HERE, a={"bf16": True}, b={})
    made, _ = place(tmp_path, link, Pins("cpu", "bf16", 1))
    one = made.start(job(tmp_path))
    link.lose("a")
    made.look(one)
    link.add("a", bf16=True, versions={"torch": "3"})
    for _ in range(3):
        made.look(one)
    assert (one.code, one.line.partition(":")[0]) == (2, "no node can take it")


def late(made, link):
    """Let the node a answer no more, until its time is over; returns the question."""
    link.end = lambda number, **how: None
    made.places.ask(made.nodes["a"])
    made.nodes["a"].probed -= placement.PROBE
    made.places.give_up_silent()
    del link.end
    return made.nodes["a"].late


def test_a_node_that_answers_late_is_asked_again_and_used(tmp_path):
    """The first import of torch over a network disk may take minutes."""
    link = Told(HERE, a={}, b={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    number = late(made, link)
    assert made.slots() == 1
    link.waiting.append({"task": number, "text": json.dumps(HERE | {"sees": False})})
    made.look(one)
    assert made.look(one).news == ()
    assert (made.slots(), made.nodes["a"].away) == (2, False), "the file that it was asked for had been removed"
    number = late(made, link)
    link.waiting.append({"task": number, "failed": "ModuleNotFoundError: No module named 'playfield'"})
    made.look(one)
    assert (made.slots(), made.nodes["a"].refused) == (1, "no answer in 120 s")


def test_it_is_said_which_nodes_are_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PATIENT", 0.0)
    monkeypatch.setattr(cluster, "PROBE", 0.5)
    said = []
    link = Told(HERE, **{f"n{k}": {} for k in range(7)})
    link.end = lambda number, **how: None
    with pytest.raises(UsageError, match="no node can be used: n0: no answer; "):
        Cluster(link, tmp_path, lambda job: PINS, said.append).open()
    assert said == ["waiting for the answer of n0, n1, n2, n3, n4 and 2 more, at most 0 s"]


def test_a_full_disk_ends_no_command_because_nodes_are_asked(tmp_path, monkeypatch):
    def full(*_):
        raise StorageError("cannot write .seen: No space left on device")

    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    with monkeypatch.context() as patch:
        patch.setattr(placement, "atomic_write", full)
        made.places.ask(made.nodes["a"], refresh=True)  # what is free is told without it
        link.add("b")
        (line,) = made.look(one).news
        assert line == (
            f"node b is not used yet: whether it sees {tmp_path} is unknown: "
            "cannot write .seen: No space left on device"
        )
        assert made.slots() == 1
        with pytest.raises(StorageError):  # at the begin nothing is lost by it
            place(tmp_path / "other", Told(HERE, a={}))
    monkeypatch.setattr(placement, "AGAIN", 0.0)
    made.look(one)
    made.look(one)
    assert made.slots() == 2


def test_a_damaged_number_of_an_attempt_ends_its_training_alone(tmp_path):
    link = Told(HERE, a={"cpus": 2})
    made, _ = place(tmp_path, link)
    one, two = made.start(job(tmp_path, 1)), made.start(job(tmp_path, 2))
    one.log.write_text("Killed\n")
    (one.job.directory / "attempt").write_text("x")
    link.end(one.number, lost="its worker died")
    assert made.look(two).running
    assert (one.code, two.code) == (3, None)
    assert "holds no number of an attempt" in one.line
