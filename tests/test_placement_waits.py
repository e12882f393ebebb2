"""Trainings that wait for a node, and nodes that are waited for: neither for ever, nor with an answer of long ago."""

from __future__ import annotations

import json

import pytest

from cluster_link import HERE, Told, begun, job, place
from playfield.experiments import node, placement
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
    assert [one.refused for one in made.nodes.values()] == ["no answer", ""]
    assert [one.name for one in made.places.usable] == ["b"]
    assert made.places.notes == ["node a is not used: no answer"]


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
