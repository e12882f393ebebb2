"""Trainings on the nodes of a cluster: which node takes which, what a lost node costs, and what each mistake says."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

import playfield
from cluster_link import HERE, PINS, WORDS, C, Processes, Told, begun, job, place
from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import cluster, local, node, ray_link
from playfield.experiments.cluster import Cluster
from playfield.experiments.cluster_state import Pins
from playfield.experiments.places import Look
from playfield.runs import fence, info
from playfield.training import rendezvous


@pytest.fixture(autouse=True)
def _facts(monkeypatch):
    monkeypatch.setattr(node, "facts", lambda mark: HERE)


def test_a_training_runs_with_what_was_pinned(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "3")
    link = Told(HERE, a={"cpus": 2}, head={"cpus": 0})
    made, said = place(tmp_path, link, Pins("cpu", "fp32", 2))
    assert made.slots() == 2
    assert said == ["1 node with 2 cores"]
    one = made.start(job(tmp_path))
    (run,) = link.runs()
    assert (run["node"], run["cpus"], run["gpus"]) == ("a", 2, 0)
    words = run["text"]["words"]
    assert words[: len(WORDS) + 1] == ["train", *WORDS]
    assert words[-6:] == ["--device", "cpu", "--precision", "fp32", "--workers", "2"]
    assert run["text"]["threads"] == {"MKL_NUM_THREADS": "3"}
    assert run["text"]["cwd"] == os.getcwd()
    assert run["text"]["variables"] == {"PLAYFIELD_ATTEMPT": f"1:{one.job.directory}"}
    assert made.look(one) == Look(None, 0, 0.0, "a")
    link.end(run["number"], text='{"code": 0}')
    assert made.look(one).code == 0
    assert made.collect(one).code == 0
    assert not one.log.parent.exists(), "nothing is left of a log that nobody needs"
    made.forget()
    assert not list(tmp_path.glob(".seen-*"))


def test_trainings_take_the_cores_that_there_are_and_wait_for_others(tmp_path):
    link = Told(HERE, a={"cpus": 2}, b={"cpus": 1})
    made, said = place(tmp_path, link)
    assert said == ["2 nodes with 3 cores"]
    tasks = [made.start(job(tmp_path, seed)) for seed in range(1, 5)]
    assert sorted(run["node"] for run in link.runs()) == ["a", "a", "b"]
    assert made.look(tasks[3]).where == ""
    on_b = next(run for run in link.runs() if run["node"] == "b")
    link.end(on_b["number"], text='{"code": 0}')
    assert made.look(tasks[3]).where == "b"
    link.add("c", cpus=1)
    made.look(tasks[3])
    made.look(tasks[3])
    assert made.slots() == 4
    assert made.start(job(tmp_path, 5)).node.name == "c"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"versions": {"torch": "2.12.0"}}, "other versions would give other bits: torch 2.12.0 there, 2.13.0 here"),
        ({"failed": "ModuleNotFoundError: No module named 'playfield'"}, "No module named 'playfield'"),
    ],
)
def test_a_node_that_would_give_other_results_is_not_used(tmp_path, given, why):
    made, said = place(tmp_path, Told(HERE, good={}, bad=given))
    assert made.slots() == 1
    assert why.format(root=tmp_path) in said[0]
    assert said[0].startswith("node bad is not used: ")
    with pytest.raises(UsageError, match=f"no node can be used: bad: .*{re.escape(why.format(root=tmp_path))}"):
        place(tmp_path, Told(HERE, bad=given))


def test_nothing_is_left_where_nothing_was_trained(tmp_path):
    root = tmp_path / "runs" / "new"
    made = Cluster(Told(HERE, bad={"sees": False}), root, lambda job: PINS, print, "shared")
    with pytest.raises(UsageError):
        made.open()
    made.forget()
    assert not list(tmp_path.iterdir())
    made, _ = place(root, Told(HERE, a={}))
    made.start(job(root))
    made.forget()
    assert {one.name for one in root.iterdir()} == {"grid"}


def test_no_node_is_an_error_too(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "PROBE", 0.1)
    with pytest.raises(UsageError, match="no node can be used: there is none"):
        place(tmp_path, Told(HERE, head={"cpus": 0}))
    link = Told(HERE, a={})
    link.waiting.append({"gone": "the head is down"})
    with pytest.raises(UsageError, match="no node can be used: the head is down"):
        place(tmp_path, link)


@pytest.mark.parametrize(
    ("pins", "can", "why"),
    [
        (Pins("cpu", "bf16", 1), {"bf16": True}, "no bf16"),
        (Pins("cpu", "fp32", 2), {"cpus": 2}, "2 workers need as many cores, and it has 1"),
        (
            Pins("cpu", "fp32", 1, 8e9),
            {"memory": 9 * 10**9, "total": 9 * 10**9},
            "takes 8.00 GB of memory, and the node has 8.00 GB",
        ),
        (Pins("cuda", "bf16", 1), {"gpus": 1}, "it has no GPU"),
    ],
)
def test_a_training_takes_only_a_node_that_can_honour_it(tmp_path, pins, can, why):
    made, _ = place(tmp_path, Told(HERE, a={}, b={}), pins)
    failed = made.collect(made.start(job(tmp_path)))
    assert failed.code == 2
    assert failed.line.startswith("no node can take it: node a: ")
    assert failed.line.count(why) == 2, "it says so of both nodes"
    assert not (tmp_path / "grid" / "1").exists(), "nothing half-made"
    link = Told(HERE, a={}, b=can)
    made, _ = place(tmp_path, link, pins)
    assert made.start(job(tmp_path)).node.name == "b"
    assert link.runs()[0]["gpus"] == (pins.device == "cuda")


def test_two_trainings_that_do_not_fit_together_run_one_after_the_other(tmp_path):
    link = Told(HERE, a={"cpus": 2})
    made, _ = place(tmp_path, link, Pins("cpu", "fp32", 1, 2e9))
    one, two = made.start(job(tmp_path, 1)), made.start(job(tmp_path, 2))
    assert (one.number > 0, two.number) == (True, 0)
    link.end(one.number, text='{"code": 0}')
    made.look(one)
    assert two.node.name == "a"


def test_another_processor_is_said_and_a_run_goes_on_where_it_is_the_same(tmp_path):
    other = {"processor": {"model": "Two", "features": "avx2 avx512f"}}
    link = Told(HERE, a={"cpus": 1}, b={"cpus": 9, **other})
    made, said = place(tmp_path, link)
    assert said[0] == (
        "note: node b has another processor (Two) than this machine: the same seed may give other bits there"
    )
    assert made.start(job(tmp_path, 1)).node.name == "b", "a new one takes the node with most room"
    begun(job(tmp_path, 2))
    begun(job(tmp_path, 3))
    two, three = made.start(job(tmp_path, 2)), made.start(job(tmp_path, 3))
    assert (two.node.name, three.node) == ("a", None), "it waits for the same processor"
    assert link.runs()[1]["text"]["words"][:2] == ["train", "--resume"]
    assert "--device" not in link.runs()[1]["text"]["words"]
    link.lose("a")
    assert made.look(three).where == "b", "no other is left: the training itself says that bits may differ"


def test_stopping_asks_once_and_kills_with_a_second_interrupt(tmp_path):
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one, two, three = (made.start(job(tmp_path, seed)) for seed in (1, 2, 3))
    made.stop(two)
    assert made.collect(two).code == 143
    made.stop(one)
    made.stop(one)
    assert link.interrupted == [(one.number, False)]
    made.stop(one, kill=True)
    made.stop(one, kill=True)
    assert link.interrupted == [(one.number, False), (one.number, True)]
    link.end(one.number, lost="interrupted")
    assert made.collect(one).code == 143
    made.look(three)
    made.stop(three, kill=True)
    assert link.interrupted[2:] == [(three.number, True)]


def test_a_training_that_cannot_be_ended_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ENDING", 0.2)
    made, _ = place(tmp_path, Told(HERE, a={"cpus": 9}))
    tasks = [made.start(job(tmp_path, seed)) for seed in range(1, 4)]
    for task in tasks:
        made.stop(task)
        made.stop(task, kill=True)
    assert made.look(tasks[0]).running
    assert made.collect(tasks[0]).code == -9
    found = made.look(tasks[1])
    assert (found.code, found.news) == (
        -9, (f"{tasks[1].job.name}: it was killed, and node a has not confirmed that it ended",)
    )  # fmt: skip
    assert tasks[2].code == -9, "all are waited for at once"


def test_a_failure_is_told_with_its_node_and_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(cluster, "ENDING", 0.0)
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    one = made.start(job(tmp_path, 1))
    one.log.write_text("first line\nplayfield: the disk is full\n")
    link.end(one.number, text='{"code": 5}')
    outcome = made.collect(one) if made.look(one) else None
    assert (outcome.code, outcome.line) == (5, f"the disk is full (node a, {one.log})")
    assert one.log.exists()
    six = made.start(job(tmp_path, 6))
    link.end(six.number, text='{"code": 5, "line": "the store is full"}')
    made.look(six)
    assert six.line == "the store is full (node a)"
    two = made.start(job(tmp_path, 2))
    link.end(two.number, failed="FileNotFoundError: no such directory")
    made.look(two)
    assert (two.code, two.line) == (6, "node a: FileNotFoundError: no such directory")
    three = made.start(job(tmp_path, 3))
    link.waiting.append({"gone": "the head is down"})
    made.look(three)
    assert (three.code, three.line) == (6, "the cluster is lost: the head is down")
    four = made.start(job(tmp_path, 4))
    assert four.code == 6


def test_what_another_process_took_over_is_put_aside(tmp_path, monkeypatch, capsys):
    """Fenced by the driver of another machine: no failure, the run is looked at until it is done."""
    monkeypatch.setattr(local, "LOOK_ELSEWHERE", 0.05)
    link = Told(HERE, a={})
    made, _ = place(tmp_path, link)
    wanted = job(tmp_path)

    def begin(number):
        task = link.tasks[number]
        if len(link.runs()) == 1:
            Path(task["text"]["log"]).write_text("playfield: it went on elsewhere as attempt 2\n")
            link.end(number, text='{"code": 3}')
        else:
            begun(wanted, result={"steps": 4000})
            link.end(number, text='{"code": 0}')

    link.begin = begin
    assert local.run_jobs([wanted], 1, made) == []
    assert "running elsewhere" in capsys.readouterr().err
    assert len(link.runs()) == 2


def wanted_task(link):
    """The number of the first training that was started."""
    return link.runs()[0]["number"]


def test_a_node_that_was_cut_off_cannot_write_and_the_bits_are_those_of_this_machine(tmp_path, capfd):
    words = ("--save-seconds", "0.2")
    alone = job(tmp_path / "alone", 1, 12_000, *words)
    assert local.run_jobs([alone], 1) == []
    link = Processes(HERE, a={}, b={})
    made, _ = place(tmp_path, link)
    wanted = job(tmp_path, 1, 12_000, *words)
    lost = []

    def slots():
        if not lost and list(wanted.directory.glob("checkpoints/ckpt-*")):
            lost.append(next(task for task in link.tasks.values() if task["do"] == "run"))
            link.nodes.pop(lost[0]["node"])
            link.waiting.append({"task": wanted_task(link), "lost": "no heartbeat"})
            link.tell_nodes()
        return 1

    try:
        assert local.run_jobs([wanted], slots, made) == []
        told = capfd.readouterr().err
        assert f"lost on node {lost[0]['node']} (no heartbeat); it goes on from step" in told
        deadline = time.monotonic() + 60
        while "said" not in lost[0] and time.monotonic() < deadline:
            link.events()
            time.sleep(0.05)
        assert lost[0]["said"] == {"code": 3}, "the one cut off was fenced"
    finally:
        link.close()
    hashes = {json.loads((j.directory / "run.json").read_text())["result"]["hash"] for j in (alone, wanted)}
    assert len(hashes) == 1
    assert fence.read(wanted.directory) >= 2


# The words, and Ray itself


def test_addresses(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_link.asked("ray") == "local"
    assert ray_link.asked("10.0.0.1:6379") == "10.0.0.1:6379"
    assert ray_link.asked("ray://head.example:10001") == "ray://head.example:10001"
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert ray_link.asked("ray") == "head:6379"
    for wrong in ("slum", "http://head:80", "head:99999", "head:", ":6379", "ray://head", ""):
        with pytest.raises(UsageError, match="HOST:PORT"):
            ray_link.asked(wrong)
    monkeypatch.setenv("RAY_ADDRESS", "nonsense")
    with pytest.raises(UsageError, match="RAY_ADDRESS is 'nonsense'"):
        ray_link.asked("ray")


@pytest.mark.parametrize(
    "words",
    [
        ["compare", C, "--algo", "ppo", "--steps", "1000"],
        ["tune", C, "--algo", "ppo", "--steps", "1000"],
    ],
)
def test_mistakes_are_one_line(words, tmp_path, monkeypatch, capsys):
    where = tmp_path / "there"
    assert main([*words, "--dir", str(where), "--on", "slrum"]) == 2
    meant = {
        "compare": "did you mean slurm? An address is written as HOST:PORT",
        "tune": "an address is written as HOST:PORT or ray://HOST:PORT",  # it has no slurm
    }
    assert capsys.readouterr().err == f"playfield: --on slrum: {meant[words[0]]}\n"
    assert main([*words, "--dir", str(where), "--on", "somewhere-else"]) == 2
    assert capsys.readouterr().err == (
        "playfield: --on somewhere-else: an address is written as HOST:PORT or ray://HOST:PORT\n"
    )
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "ray" else found(name, *a))
    assert main([*words, "--dir", str(where), "--on", "ray"]) == 2
    assert capsys.readouterr().err == "playfield: --on ray needs Ray: pip install 'playfield[ray]'\n"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: object() if name == "ray" else found(name, *a))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert main([*words, "--dir", str(where), "--on", address]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"playfield: no Ray cluster answers at {address}: Connection refused"
    )
    assert not where.exists()


def test_on_is_for_training(capsys, tmp_path):
    assert main(["compare", C, "--on", "local", "--dir", str(tmp_path)]) == 2
    assert "--on is for training" in capsys.readouterr().err


def test_one_module_imports_ray_and_no_other_imports_that():
    files = {path.name: path.read_text() for path in Path(playfield.__file__).parent.rglob("*.py")}
    assert {name for name, text in files.items() if re.search(r"^\s*(import|from) ray\b", text, re.M)} == {
        "ray_bridge.py"
    }
    assert not [name for name, text in files.items() if re.search(r"import.* ray_bridge\b", text)]
    code = "import sys, playfield.cli.compare, playfield.cli.tune, playfield.cli._tuning; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_other_source_of_the_same_version_is_another_version(tmp_path, monkeypatch):
    """Two checkouts at different commits have one version number, and may give other bits."""
    (tmp_path / "runs").mkdir()
    monkeypatch.setattr(info, "__file__", str(tmp_path / "runs" / "info.py"))
    hashed = info.source.__wrapped__
    found = [hashed()]
    for name, text in (
        ("a.py", "x = 1\n"),
        ("a.py", "x = 2\n"),
        ("b.txt", "no code"),
        ("runs/b.py", ""),
        ("c.py", ""),
    ):
        (tmp_path / name).write_bytes(text.encode())
        found.append(hashed())
    assert [one != other for one, other in itertools.pairwise(found)] == [True, True, False, True, True]
    (tmp_path / "a.py").write_bytes(b"x = 2\r\n")
    assert hashed() == found[-1], "as git may write it on Windows"
    monkeypatch.undo()
    for told in (node.facts(tmp_path), rendezvous.facts()):
        assert told["versions"]["playfield's source"] == info.source()
        assert len(info.source()) == 12
