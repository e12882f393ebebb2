"""`playfield train --nodes N --on ray`: the other machines are tasks of a cluster. The cluster is pretended here."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import away, node, ray_link, together
from playfield.runs.lock import in_use
from playfield.training.directory import resuming
from playfield.training.meeting import Address
from playfield.training.request import Request
from test_nodes import SECRET, waiting
from test_worker_processes import until

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is shared as Linux has it"),
]
SMALL = "train CartPole-v1 --steps 2048 --workers 2 --games 0 --no-film --no-tensorboard --quiet --run"


class Pretended:
    """A cluster of one node whose tasks are processes of this machine."""

    def __init__(self, address):
        self.address, self.closed = address, False
        self.told = [{"nodes": [{"id": "n", "host": "there", "cpus": 2, "gpus": 0}]}]

    def submit(self, do, where, text, cpus=0, gpus=0):
        assert (do, where, cpus) == ("join", "n", 1)
        assert set(json.loads(text)["variables"]) == {"PLAYFIELD_TOKEN"}
        threading.Thread(target=lambda: self.told.append({"task": 1, "text": node.join(text)})).start()
        return 1

    def interrupt(self, task, kill=False):
        raise AssertionError

    def events(self):
        found, self.told = self.told, []
        return found

    def close(self):
        self.closed = True


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_link, "require_ray", lambda: None)
    monkeypatch.setattr(ray_link, "RayLink", Pretended)
    for name in ("PLAYFIELD_TOKEN", "PLAYFIELD_TOKEN_FILE", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")  # what the command sets is taken back
    return tmp_path


def test_a_training_with_a_task_of_a_cluster_ends_with_the_bits_of_one_machine(pretended, capsys):
    assert main([*SMALL.split(), "one"]) == 0
    assert main([*SMALL.split(), "two", "--nodes", "2", "--on", "ray"]) == 0
    assert "Ray" not in capsys.readouterr().err  # they are to be quiet
    one, two = (json.loads((pretended / name / "run.json").read_text())["result"]["hash"] for name in ("one", "two"))
    assert one == two


def test_a_task_that_fails_ends_the_waiting_in_its_words(pretended, monkeypatch, capsys):
    monkeypatch.setattr(node, "join", lambda text: json.dumps({"code": 2, "last": "no torch for this machine"}))
    assert main([*SMALL.split(), "two", "--nodes", "2", "--on", "ray"]) == 2
    assert "another machine does not come: there: no torch for this machine" in capsys.readouterr().err
    assert not (pretended / "two").exists()


def test_places_are_other_hosts_first_and_each_once():
    nodes = [{"id": str(k), "host": host, "cpus": 2} for k, host in enumerate([socket.gethostname(), "a", "b"])]
    assert [one["host"] for one in together.places(nodes, 2, 1)] == ["a", "b"]
    assert [one["id"] for one in together.places(nodes, 5, 1)] == ["1", "2", "0", "1", "2"]
    with pytest.raises(UsageError, match="the cluster has room for 3 machines of 2 cores beside this one"):
        together.places(nodes, 4, 2)


def test_cores_that_others_use_are_no_room(pretended, monkeypatch, capsys):
    nodes = [{"id": "1", "host": "a", "cpus": 2, "taken": [1, 0]}, {"id": "2", "host": "b", "cpus": 2}]
    assert [one["host"] for one in together.places(nodes, 3, 1)] == ["a", "b", "b"]
    with pytest.raises(UsageError, match=r"room for 1 machines of 2 cores .* others use cores \(1 of 2 on a\)"):
        together.places(nodes, 2, 2)
    why = "it did not begin: others use the cores or GPUs of its node"

    def submit(self, *what):
        self.told.append({"task": 1, "refused": why})
        return 1

    monkeypatch.setattr(Pretended, "submit", submit)
    assert main([*SMALL.split(), "two", "--nodes", "2", "--on", "ray"]) == 2
    assert f"another machine does not come: the task on there: {why}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cluster", "given", "words"),
    [
        ("local", None, "--on ray"),
        ("auto", Address("127.0.0.1", 7), "--on auto --rendezvous 127.0.0.1:7"),
    ],
)
def test_nobody_is_told_to_start_what_ray_starts(cluster, given, words, pretended, monkeypatch):
    monkeypatch.setattr(Pretended, "submit", lambda self, *what: 1)
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    with together.gathered(cluster, given, 1, 1, lambda _: None) as where:
        request = Request(env="m:E", algo="ppo", nodes=2, rendezvous=str(where))
        again = f"playfield train --resume a --trust --nodes 2 {words}"
        assert resuming(Path("a"), "m:E", request) == again
        with waiting(monkeypatch) as (_, said, _):
            until(lambda: said, 5.0)
            assert said == ["waiting for 1 more machine, which Ray starts"]
    by_hand = f"playfield train --resume a --trust --nodes 2 --rendezvous {where}"
    assert resuming(Path("a"), "m:E", request) == by_hand, "another training of this process has another cluster"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("CartPole-v1 --on ray", "--on is for several machines: say how many with --nodes"),
        ("CartPole-v1 --on nonsense --nodes 2", "an address is written as HOST:PORT or ray://HOST:PORT"),
        (
            "CartPole-v1 --on slurm --nodes 2",
            "--on slurm is for playfield compare: with --nodes it is ray or HOST:PORT",
        ),
        ("CartPole-v1 --on local --nodes 2", "--on local is for playfield compare"),
        ("CartPole-v1 --algo dqn --on ray --nodes 2", "dqn trains on one machine; only PPO, A2C and PQN train on"),
    ],
)
def test_mistakes_are_one_line(words, message, pretended, capsys):
    assert main(["train", *words.split()]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert not list(pretended.iterdir())


def test_what_a_task_says_last_comes_back(tmp_path):
    told = {"words": ["train", "nonsense-env"], "cwd": str(tmp_path / "gone")}
    result = json.loads(node.join(json.dumps(told)))
    assert result["code"] == 2
    assert "nonsense-env" in result["last"]


def test_what_a_task_leaves_when_it_is_killed_is_removed_by_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / f"{away.PREFIX}left"
    left.mkdir()
    os.utime(left, (0, 0))
    seen = []

    def trains(told, words, cwd, log):
        seen.append((cwd, log.parent, in_use(log.parent) is not None))
        log.write_text("playfield: it ended\n")
        return 0, None

    monkeypatch.setattr(node, "_wait_for", trains)
    assert json.loads(node.join(json.dumps({"words": [], "cwd": str(tmp_path / "gone")}))) == {
        "code": 0, "last": "it ended"
    }  # fmt: skip
    assert seen == [(seen[0][1], seen[0][1], True)]
    assert list(tmp_path.iterdir()) == []
