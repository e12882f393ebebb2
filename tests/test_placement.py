"""Which node takes a training: what is free changes, nodes where trainings fail, and those that cannot take them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cluster_link import HERE, C, Told, begun, job, place
from playfield import compute
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.experiments import cluster_state, local, node, placement
from playfield.experiments.cluster_state import Pins
from playfield.runs import registered

PINS = Pins("cpu", "fp32", 1, 10**9)


@pytest.fixture(autouse=True)
def _facts(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)


def ended(link, task, code, line=""):
    link.end(task.number, text=json.dumps({"code": code, "line": line}))


def failed_on_a(tmp_path):
    """A place of two nodes, its link, and a training that failed on the larger one, a, and is on b now."""
    link = Told(HERE, a={"cpus": 2}, b={"cpus": 1})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    assert one.node.name == "a"
    ended(link, one, 6, "Corridor-v0 raised")
    news = made.look(one).news
    assert one.node.name == "b"
    return made, link, one, news


def checkpoint(task, step):
    (task.job.directory / "checkpoints" / f"ckpt-{step:012}").mkdir(parents=True)


# A node where trainings fail


@pytest.mark.parametrize(
    "how",
    [
        {"text": '{"code": 5, "line": "its files cannot be kept on this node: No space left on device"}'},
        {"text": '{"code": 6, "line": "there is no /home/me, where the command was typed, on this node"}'},
        {"text": '{"code": 2, "line": "LunarLander-v3 cannot be made: No module named Box2D"}'},
        {"text": '{"code": 1, "line": "ImportError: libGL.so.1"}'},
        {"failed": "OSError: [Errno 28] No space left on device"},
    ],
)
def test_a_node_on_which_all_fails_takes_no_training_from_the_others(tmp_path, monkeypatch, capsys, how):
    monkeypatch.setattr(local, "POLL", 0.001)
    link = Told(HERE, bad={"cpus": 9}, good={"cpus": 1})
    made, _ = place(tmp_path, link)
    link.begin = lambda n: link.end(n, **(how if link.tasks[n]["node"] == "bad" else {"text": '{"code": 0}'}))
    assert local.run_jobs([job(tmp_path, seed) for seed in range(1, 9)], 8, made) == []
    runs = [run["node"] for run in link.runs()]
    told = capsys.readouterr().err
    assert runs.count("bad") <= 2, "aside after two at most"
    assert told.count("node bad is put aside for 5 minutes: others are used first") == 1
    assert ": another node tries it" in told


def test_what_fails_on_two_nodes_fails_and_both_are_used_again(tmp_path):
    made, link, one, news = failed_on_a(tmp_path)
    assert "node a is put aside for 5 minutes: others are used first" in news
    two = made.start(job(tmp_path, 2))
    assert two.node is None, "it waits for b"
    ended(link, one, 6, "Corridor-v0 raised")
    news = made.look(one).news
    assert (one.code, one.line) == (6, "Corridor-v0 raised (node b)")
    assert "node a is used as before: what failed there failed elsewhere, too" in news
    assert made.look(two).where in ("a", "b")


def test_a_node_that_was_put_aside_gets_another_try(tmp_path):
    """What failed there waits for another one, which may be busy for days."""
    made, _, _, _ = failed_on_a(tmp_path)
    two = made.start(job(tmp_path, 2))
    assert two.node is None
    made.nodes["a"].failed_at -= cluster_state.ASIDE
    assert made.look(two).where == "a"


def test_a_failure_is_final_where_it_is_the_trainings_own(tmp_path):
    link = Told(HERE, a={"cpus": 2}, b={"cpus": 1})
    made, _ = place(tmp_path, link)
    for code in (3, 4):
        one = made.start(job(tmp_path, code))
        ended(link, one, code, "why")
        assert made.look(one).code == code
    one = made.start(job(tmp_path, 6))
    checkpoint(one, 100)
    ended(link, one, 6, "its environment raised after hours")
    assert made.look(one).code == 6
    link.lose("b")
    one = made.start(job(tmp_path, 7))
    ended(link, one, 5, "the disk is full")
    assert made.look(one).code == 5, "there is no other node"


def test_where_the_other_node_is_lost_the_first_failure_is_told(tmp_path):
    made, link, one, _ = failed_on_a(tmp_path)
    link.lose("b")
    made.look(one)
    assert (one.code, one.line) == (6, "Corridor-v0 raised (node a)")


def test_nodes_that_are_all_put_aside_are_used(tmp_path):
    link = Told(HERE, a={"cpus": 1}, b={"cpus": 1})
    made, _ = place(tmp_path, link)
    one, two = made.start(job(tmp_path, 1)), made.start(job(tmp_path, 2))
    ended(link, one, 5, "full")
    ended(link, two, 5, "full")
    made.look(one)
    assert {one.node.name, two.node.name} == {"a", "b"}
    assert len(link.runs()) == 4


# Memory and disk


def test_memory_is_looked_at_again_where_trainings_of_before_still_save(tmp_path, monkeypatch):
    """The command was killed and is typed again: what is free now says nothing of what will be."""
    monkeypatch.setattr(placement, "AGAIN", 0.0)
    link = Told(HERE, a={"memory": 10**9})
    made, _ = place(tmp_path, link, Pins("cpu", "fp32", 1, 3e9))
    one = made.start(job(tmp_path))
    news = made.look(one).news
    why = "node a: it takes 3.00 GB of memory, and 1.00 GB are free"
    assert (one.code, one.node, news) == (None, None, (f"ppo on {C}, seed 1: waits for a node with room: {why}",))
    assert made.slots() == 1
    assert made.look(one).news == (), "once"
    link.nodes["a"]["memory"] = 4 * 10**9
    made.look(one)
    made.look(one)
    assert made.look(one).where == "a"


def test_what_is_short_for_long_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "SHORT", 0.0)
    made, _ = place(tmp_path, Told(HERE, a={"memory": 10**9}), Pins("cpu", "fp32", 1, 3e9))
    one = made.start(job(tmp_path))
    time.sleep(0.01)
    made.look(one)
    outcome = made.collect(one)
    assert (outcome.code, outcome.unplaced) == (2, True)
    assert "it takes 3.00 GB of memory, and 1.00 GB are free" in outcome.line


def test_a_busy_node_is_looked_at_again_more_and_more_rarely_and_gains_what_others_gave_back(tmp_path, monkeypatch):
    link = Told(HERE, a={"cpus": 3, "memory": 2 * 10**9})
    made, _ = place(tmp_path, link)
    one, two = made.start(job(tmp_path, 1)), made.start(job(tmp_path, 2))
    assert (one.node.name, two.node) == ("a", None)
    (known,) = made.nodes.values()
    link.nodes["a"]["memory"] = 10**9
    known.measured -= 2 * placement.AGAIN
    made.look(two)
    made.look(two)
    assert (known.pause, known.facts["memory"]) == (2 * placement.AGAIN, 2 * 10**9), "its own training took that"
    link.nodes["a"]["memory"] = 4 * 10**9
    known.measured -= 2 * placement.AGAIN - 1
    made.look(two)
    assert two.node is None
    known.measured -= 2
    made.look(two)
    made.look(two)
    assert made.look(two).where == "a"


def test_the_disk_of_a_node_that_keeps_its_files_itself_must_suffice(tmp_path):
    pins = Pins("cpu", "fp32", 1, 10**9, 6e9)
    made, _ = place(tmp_path, Told(HERE, a={"cpus": 2, "sees": False, "disk": 10**10}), pins)
    one, two = made.start(job(tmp_path, 1)), made.start(job(tmp_path, 2))
    assert (one.node.name, two.node) == ("a", None)
    made, _ = place(tmp_path / "shared", Told(HERE, a={"cpus": 2, "disk": 10**9}), pins)
    assert made.start(job(tmp_path / "shared")).node.name == "a", "its files lie with all others"


# Nodes that are missing


def test_a_training_waits_for_the_node_that_could_take_it(tmp_path):
    link = Told(HERE, a={"bf16": True}, b={})
    made, _ = place(tmp_path, link, Pins("cpu", "bf16", 1))
    one = made.start(job(tmp_path))
    link.lose("a")
    line = f"ppo on {C}, seed 1: waits for a node such as a, which is lost: no other can take it"
    assert line in made.look(one).news
    assert made.look(one).news == (), "once"
    assert one.code is None
    link.add("a", bf16=True)
    made.look(one)
    made.look(one)
    assert made.look(one).where == "a"


def test_it_does_not_wait_for_a_lost_node_that_could_not_take_it_either(tmp_path):
    link = Told(HERE, a={}, b={})
    made, _ = place(tmp_path, link, Pins("cpu", "bf16", 1))
    link.lose("a")
    one = made.start(job(tmp_path))
    assert made.look(one).code == 2


def test_it_is_told_apart_whether_a_node_is_missing_or_the_options_take_too_much(tmp_path):
    made, _ = place(tmp_path, Told(HERE, a={}), Pins("cpu", "bf16", 1))
    assert made.collect(made.start(job(tmp_path))).unplaced
    large = Pins("cpu", "fp32", 1, 1e11)
    made, _ = place(tmp_path, Told(HERE, a={}), large)
    outcome = made.collect(made.start(job(tmp_path)))
    assert (outcome.code, outcome.unplaced) == (2, False), "no machine that there was could have trained it"
    begun(job(tmp_path))
    assert made.collect(made.start(job(tmp_path))).unplaced, "one could: it has begun"


# What a node must have


def test_packages_of_the_environment_must_be_there_in_the_same_version(tmp_path):
    link = Told(HERE, a={"packages": {"mujoco": "3.1"}}, b={})
    pins = Pins("cpu", "fp32", 1, packages={"mujoco": "3.2"})
    made, _ = place(tmp_path, link, pins)
    assert made.start(job(tmp_path)).node.name == "b"
    for pins, why in (
        (Pins("cpu", "fp32", 1, packages={"mujoco": "3.3"}), "node a: mujoco 3.2 there, 3.3 here"),
        (Pins("cpu", "fp32", 1, packages={"box2d": "2.3"}), "node a: it has no box2d 2.3"),
    ):
        made, _ = place(tmp_path, Told(HERE, a={}), pins)
        outcome = made.collect(made.start(job(tmp_path)))
        assert (outcome.line, outcome.unplaced) == (f"no node can take it: {why}", True)


def test_what_a_run_that_has_begun_needs_of_a_node_is_what_a_new_one_does(tmp_path):
    begun(job(tmp_path))
    packages = {"mujoco": "3.3"}
    for pins, why in (
        (Pins("cpu", "fp32", 1, packages=packages), "node a: mujoco 3.2 there, 3.3 here"),
        (Pins("cpu", "fp32", 1, disk=10**12), ""),
    ):
        made, _ = place(tmp_path, Told(HERE, a={"sees": False, "disk": 10**10}), pins)
        task = made.start(job(tmp_path))
        assert task.node is None
        assert task.line == (f"no node can take it: {why}" if why else "")


def test_packages_of_an_environment(tmp_path, monkeypatch):
    (tmp_path / "hall.py").write_text(
        "import gymnasium\nfrom gymnasium.envs.classic_control import CartPoleEnv\n"
        "class Hall(CartPoleEnv): pass\ngymnasium.register('Hall-v0', entry_point=Hall)\n"
    )
    info = tmp_path / "hall_of_mine-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: Hall_of_mine\nVersion: 1.5\n")
    (info / "top_level.txt").write_text("hall\n")
    monkeypatch.syspath_prepend(tmp_path)
    envs = [make_envs(name, 1) for name in ("hall:Hall-v0", "CartPole-v1", "FrozenLake-v1")]
    found = [registered.packages_of(env.spec) for env in envs]
    for env in envs:
        env.close()
    assert found == [{"hall_of_mine": "1.5"}, {}, {}]


@pytest.mark.parametrize(
    ("clock", "told"), [(40, "40 seconds ahead of"), (-3600, "3,600 seconds behind"), (3, None), (-3, None)]
)
def test_a_clock_that_is_off_is_told(tmp_path, clock, told):
    said = [line for line in place(tmp_path, Told(HERE, a={"clock": clock}))[1] if "clock" in line]
    wrong = (
        f"note: the clock of node a is {told} this machine's: times of its files are wrong by that, results are not"
    )
    assert said == ([wrong] if told else [])


def test_a_node_without_the_directory_of_the_command_uses_the_store(tmp_path):
    link = Told(HERE, a={"cwd": False})
    made, said = place(tmp_path, link)
    try:
        assert said[0] == f"all nodes, which cannot see {os.getcwd()}: files go through a store on this machine"
        made.start(job(tmp_path))
        assert link.runs()[0]["do"] == "run_away"
        assert link.tasks[1]["text"]["cwd"] == os.getcwd()
    finally:
        link.close()
    with pytest.raises(UsageError, match="which --store shared asks of all nodes"):
        place(tmp_path / "shared", Told(HERE, a={"cwd": False}), store="shared")


def test_what_a_node_tells_of_itself(tmp_path, monkeypatch):
    monkeypatch.undo()
    mark = tmp_path / "mark"
    mark.touch()
    told = json.loads(node.probe(json.dumps({"mark": str(mark), "cwd": str(tmp_path / "nothing")})))
    assert (told["sees"], told["cwd"]) == (True, False)
    assert abs(told["time"] - time.time()) < 300
    assert 0 < told["memory"] <= told["total"]
    assert told["total"] == compute.total_memory()
    assert told["disk"] > 0
    assert told["packages"]["numpy"] == told["versions"]["numpy"]


def test_a_task_whose_directory_is_gone_says_so(tmp_path):
    told = json.loads(
        node.run(json.dumps({"words": [], "cwd": str(tmp_path / "gone"), "log": str(tmp_path / "log")}))
    )
    assert told["code"] == 6
    assert told["line"] == f"there is no {tmp_path / 'gone'}, where the command was typed, on this node"


# The file that nodes are asked for


def test_marks_of_killed_commands_are_removed_and_none_stays_while_nobody_asks(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    old, dead, foreign, alive = (tmp_path / f".seen-{name}" for name in ("old", "dead", "foreign", "alive"))
    old.write_text("")
    os.utime(old, (1, 1))
    dead.write_text(json.dumps({"pid": gone.pid, "host": socket.gethostname()}))
    foreign.write_text(json.dumps({"pid": gone.pid, "host": "elsewhere"}))
    alive.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    link = Told(HERE, a={})
    seen = []
    submit = link.submit
    link.submit = lambda do, *given: (seen.extend(made_marks(tmp_path)), submit(do, *given))[1]
    place(tmp_path, link)
    assert len(seen) == 1
    assert sorted(tmp_path.glob(".seen-*")) == sorted([alive, foreign])


def made_marks(root: Path) -> list[Path]:
    return [one for one in root.glob(".seen-*") if one.name.count("-") == 2]
