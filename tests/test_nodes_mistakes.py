"""Several machines that train together: what goes wrong before the training begins, and what it leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import ClassVar

import numpy as np
import pytest

from playfield.cli import main
from playfield.errors import UsageError
from playfield.experiments import ray_link, together
from playfield.runs import line as lines_of
from playfield.runs.line import Far
from playfield.runs.machine import Machine
from playfield.training import join, meeting, rendezvous
from playfield.training.meeting import Address
from playfield.training.rendezvous import Rendezvous, greet
from test_nodes import ENVIRONMENT, SECRET, free_port, line_to, waiting
from test_worker_processes import CPU, until

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is shared as Linux has it"),
]
TRAIN = "train CartPole-v1 --steps 1024 --workers 2 --games 0 --no-film --no-tensorboard --quiet --run"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "a"
    assert main([*TRAIN.split(), str(folder)]) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch):
    """A finished run, named a, in the directory where we are."""
    monkeypatch.chdir(tmp_path)
    for name, value in (("PLAYFIELD_TOKEN", SECRET), ("PLAYFIELD_TOKEN_FILE", ""), ("RAY_ADDRESS", "")):
        monkeypatch.setenv(name, value)
    shutil.copytree(trained, tmp_path / "a")
    return tmp_path / "a"


def taken(where):
    """The lines of a machine with one worker that has joined."""
    first = line_to(where)
    greet(first, SECRET.encode(), rendezvous.facts())
    told = first.receive()
    own = line_to(where)
    greet(own, SECRET.encode(), {"session": told["session"], "machine": told["machine"], "worker": 0})
    return first, own


def ended(line):
    """Whether the other side has ended a line."""
    with contextlib.suppress(OSError, ValueError):
        try:
            while True:
                line.receive()
        except EOFError:
            return True
        except ConnectionError:
            return True
    return False


# A run that is to go on


def test_a_run_is_as_it_was_where_the_other_machines_do_not_come(run, monkeypatch, capsys):
    monkeypatch.setattr(rendezvous, "WAIT", 0.1)
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "diverged": {"step": 1, "why": "it did"}}))
    before = (run / "run.json").read_bytes()
    for where, why in (("192.0.2.1:29500", "cannot listen there"), (f"127.0.0.1:{free_port()}", "1 of 2 machines")):
        words = "train --resume a --steps 9000 --target-score 400 --save-seconds 7 --games 3 --nodes 2 --rendezvous"
        assert main([*words.split(), where]) == 2
        said = capsys.readouterr()
        assert why in said.err
        assert "the total is now" not in said.out
        assert (run / "run.json").read_bytes() == before


@pytest.mark.parametrize("more", ["", "--target-score 1 --target-games 1 --steps 9000"])
def test_a_run_with_nothing_left_to_train_waits_for_nobody(run, more, capsys):
    before = json.loads((run / "run.json").read_text())["result"]["hash"]
    assert main(f"train --resume a --nodes 2 --rendezvous 192.0.2.1:29500 {more}".split()) == 0
    assert "nothing is left to train: no other machine is waited for" in capsys.readouterr().out
    assert json.loads((run / "run.json").read_text())["result"]["hash"] == before


def test_a_run_of_several_machines_goes_on_on_one_and_says_how_to_have_them_again(run, capsys):
    for steps, told in ((2048, True), (3072, False)):
        info = json.loads((run / "run.json").read_text())
        (run / "run.json").write_text(json.dumps({**info, "nodes": 2} if told else {**info, "nodes": 1}))
        assert main(f"train --resume a --steps {steps}".split()) == 0
        line = (
            "it was trained on 2 machines and continues on this one alone; on 2 again: playfield train --resume a "
            "--nodes 2 --rendezvous HOST:PORT (or --on ray)"
        )
        assert (line in capsys.readouterr().out.splitlines()) == told
        now = json.loads((run / "run.json").read_text())
        assert (now["result"]["steps"], now["nodes"]) == (steps, 1 + told)


def test_nor_does_it_ask_a_cluster(run, monkeypatch, capsys):
    monkeypatch.setattr(ray_link, "require_ray", lambda: None)
    monkeypatch.setattr(ray_link, "RayLink", None)
    assert main(["train", "--resume", "a", "--nodes", "2", "--on", "ray"]) == 0
    assert "nothing is left to train" in capsys.readouterr().out


# Words that are wrong


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--resume a --steps 9000 --nodes 3", "--nodes 3 must divide the number of workers (2)"),
        ("--resume a --steps 9000 --nodes 2 --workers-as threads", "workers of 2 machines are processes"),
        ("--resume a --steps 1000 --nodes 2", "has done 1,024 steps already: --steps must be more"),
        ("--resume a --steps 9000 --nodes 2 --rendezvous h:0", "an address is written as HOST:PORT"),
        ("CartPole-v1 --run a --nodes 2", "a holds a run already"),
        ("CartPole-v1 --steps 9000 --minutes 1 --nodes 2", "give --steps or --minutes, not both"),
        (
            "CartPole-v1 --on no-such-host.invalid:6379 --nodes 2",
            "no Ray cluster answers at no-such-host.invalid:6379",
        ),
    ],
)
def test_mistakes_are_found_before_a_cluster_is_asked(run, words, message, monkeypatch, capsys):
    monkeypatch.setattr(ray_link, "require_ray", lambda: None)
    monkeypatch.setattr(ray_link.subprocess, "Popen", None)
    before = (run / "run.json").read_bytes()
    assert main(["train", *words.split(), *([] if "--on" in words else ["--on", "ray"])]) == 2
    said = capsys.readouterr().err.splitlines()
    assert message in said.pop()
    assert said in ([], ["joining no-such-host.invalid:6379 ..."])
    assert (run / "run.json").read_bytes() == before


def test_a_wrong_address_to_join_is_said_without_torch():
    code = "import sys; from playfield.cli import main; code = main(sys.argv[1:]); "
    code += "sys.exit(90 if 'torch' in sys.modules else code)"
    words = ["train", "--join", "no-such-host.invalid:7"]
    done = subprocess.run([sys.executable, "-c", code, *words], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no training answers there" in done.stderr


# The address that tasks of a cluster are told


@pytest.mark.parametrize(
    ("cluster", "hosts", "address"),
    [
        ("local", ["elsewhere"], "127.0.0.1"),
        ("auto", ["here"], "127.0.0.1"),
        ("auto", ["here", "elsewhere"], "10.0.0.1"),
        ("10.0.0.9:6379", ["elsewhere"], "10.0.0.1"),
        ("ray://[::2]:10001", ["unknown"], "::1:2"),
        ("127.0.0.1:6379", ["elsewhere"], "10.0.0.1"),
        ("127.0.0.1:6379", ["here"], "127.0.0.1"),
        ("127.0.0.1:6379", ["unknown"], None),
        ("auto", ["itself"], None),
    ],
)
def test_nodes_elsewhere_are_never_told_an_address_of_their_own(cluster, hosts, address, monkeypatch):
    routes = {"elsewhere": "10.0.0.1", "10.0.0.9": "10.0.0.1", "::2": "::1:2", "127.0.0.1": "127.0.0.1"}
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    monkeypatch.setattr(together, "_route", {**routes, "itself": "127.0.1.1", "unknown": ""}.__getitem__)
    if address is None:
        with pytest.raises(UsageError, match=f"at which {hosts[0]} reaches it: give one with --rendezvous HOST:PORT"):
            together.own_address(cluster, hosts, 7)
    else:
        assert together.own_address(cluster, hosts, 7) == Address(address, 7)


def test_routes_are_those_of_this_machine():
    assert together._route("127.0.0.1") == "127.0.0.1"
    assert together._route("no-such-host.invalid") == ""
    assert together.own_address("auto", [socket.gethostname()]).port > 0


class Told:
    """A cluster of this machine and one elsewhere, whose tasks end at once with an error."""

    nodes = (("a", socket.gethostname()), ("b", "elsewhere"))
    words: ClassVar[list[str]] = []

    def __init__(self, address):
        nodes = [{"id": name, "host": host, "cpus": 2, "gpus": 0} for name, host in self.nodes]
        self.told = [{"nodes": nodes}]

    def submit(self, do, where, text, cpus=0, gpus=0):
        self.words[:] = json.loads(text)["words"]
        self.told.append({"task": 1, "failed": "it cannot"})
        return 1

    def events(self):
        found, self.told = self.told, []
        return found

    def close(self):
        pass


def test_tasks_are_told_where_others_reach_this_machine(monkeypatch):
    monkeypatch.setenv("PLAYFIELD_TOKEN", SECRET)
    monkeypatch.setattr(ray_link, "RayLink", Told)
    monkeypatch.setattr(together, "_route", {"elsewhere": "10.0.0.1"}.__getitem__)
    for given, told in ((":7", "10.0.0.1:7"), ("0.0.0.0:7", "10.0.0.1:7"), ("10.0.0.3:7", "10.0.0.3:7")):
        where = meeting.address("--rendezvous", given)
        with together.gathered("auto", where, 1, 1, lambda _: None) as waits:
            assert waits == where
            assert Told.words == ["train", "--join", told]
            until(lambda: meeting.trouble() == "the task on elsewhere failed: it cannot", 5.0)
        assert meeting.trouble() == ""  # another training of this process does not hear of it


def test_a_machine_that_is_stopped_before_the_training_begins_ends_it_with_the_code_of_the_signal():
    with socket.create_server(("127.0.0.1", 0)) as server:
        there = Far(socket.create_connection(server.getsockname()))
        machine = Machine(2, "b", Far(server.accept()[0]), range(1, 2))
    there.send(("stop", int(signal.SIGTERM)))
    until(lambda: machine.lost, 5.0)
    assert (str(machine.error()), machine.error().exit_code) == ("machine 2 (b) was stopped by SIGTERM", 143)
    there.close()
    machine.close(5.0)


# Where they meet


def test_nothing_listens_once_all_are_there(monkeypatch):
    with waiting(monkeypatch) as (where, _, found):
        silent = line_to(where)
        lines = taken(where)
        until(lambda: bool(found), 5.0)
        with pytest.raises(ConnectionError):
            line_to(where)
        assert ended(silent)
        assert not [one for one in threading.enumerate() if "rendezvous" in one.name]
        for line in (*lines, silent):
            line.close()
        found[0].close(0.0)
        again = Rendezvous(where, 1, 2, CPU, lambda _: None)  # the port is free
        again._socket.close()


def worker_of(told, where):
    """The line of a worker of the machine that was told this."""
    line = line_to(where)
    greet(line, SECRET.encode(), {"session": told["session"], "machine": told["machine"], "worker": 0})
    return line


def test_a_worker_of_a_machine_that_is_gone_is_not_taken_for_one_of_the_next(monkeypatch):
    with waiting(monkeypatch) as (where, said, found):
        told = []
        for first in (line_to(where), line_to(where)):
            greet(first, SECRET.encode(), rendezvous.facts())
            told.append(first.receive())
            if len(told) == 1:
                first.close()
                until(lambda: any("waiting for another" in text for text in said), 5.0)
        assert told[0]["machine"] == told[1]["machine"]
        assert ended(worker_of(told[0], where))
        assert not found
        worker_of(told[1], where)
        until(lambda: bool(found), 5.0)
        found[0].close(0.0)


def test_a_machine_with_fewer_cores_than_workers_is_said(monkeypatch):
    with waiting(monkeypatch, workers=2) as (where, said, _):
        for cores in (1, 2):
            line = line_to(where)
            greet(line, SECRET.encode(), {**rendezvous.facts(), "cores": cores})
            assert line.receive()["workers"] == 2
            line.close()
            until(lambda: said[-1].endswith("waiting for another"), 5.0)
        (note,) = [text for text in said if "for which all others wait" in text]
        assert "has 1 core for 2 workers" in note


def test_what_a_stranger_sends_ends_its_line_and_nothing_else(monkeypatch):
    with waiting(monkeypatch) as (where, _, found):
        for message in (np.zeros(3, "f4"), np.float32(1), 7, None, [], {"nonce": "0"}):
            stranger = line_to(where)
            stranger.receive()
            stranger.send(message)
            assert ended(stranger)
            stranger.close()
        lines = taken(where)
        until(lambda: bool(found), 5.0)
        for line in lines:
            line.close()
        found[0].close(0.0)


def test_a_hello_that_is_no_table_is_none(monkeypatch):
    with waiting(monkeypatch) as (where, _, found):
        for hello in ([], 3, {"versions": 3, "memory": 1}):
            line = line_to(where)
            with contextlib.suppress(EOFError, OSError):
                greet(line, SECRET.encode(), hello)
            assert ended(line)
            line.close()
        assert not found


def test_a_stranger_has_so_much_time_in_all(monkeypatch):
    monkeypatch.setattr(rendezvous, "ANSWER", 0.5)
    monkeypatch.setattr(rendezvous, "LOOK", 0.1)
    with waiting(monkeypatch) as (where, _, _found):
        stranger, begun = socket.create_connection((where.host, where.port)), time.monotonic()
        with stranger, contextlib.suppress(OSError):
            stranger.sendall(lines_of._HEADER.pack(b"m", 60_000))
            while time.monotonic() < begun + 10.0:
                stranger.sendall(b"0")
                time.sleep(0.1)
        assert time.monotonic() < begun + 5.0


def test_strangers_keep_nobody_out(monkeypatch):
    with waiting(monkeypatch) as (where, _, found):
        # As many as are let in and as wait for that: a machine's turn must come before it gives up.
        strangers = [line_to(where) for _ in range(2 * rendezvous.STRANGERS - 4)]
        lines = taken(where)
        until(lambda: bool(found), 5.0)
        for line in (*strangers, *lines):
            line.close()
        found[0].close(0.0)


def test_a_machine_tries_again_where_its_line_is_ended_at_once(monkeypatch):
    monkeypatch.setattr(join, "AGAIN", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as server:
        hello: list[object] = []

        def lead():
            for _ in range(2):
                server.accept()[0].close()
            line = Far(server.accept()[0])
            hello.append(rendezvous._admit(line, SECRET.encode()))
            line.close()

        thread = threading.Thread(target=lead)
        thread.start()
        join._greeted(Address(*server.getsockname()), SECRET.encode(), {"host": "me"}).close()
        thread.join(5.0)
        assert hello == [{"host": "me"}]


@pytest.mark.parametrize("joined", [True, False])
def test_ctrl_c_on_a_machine_that_waits_is_no_loss_of_the_first_one(joined, monkeypatch):
    monkeypatch.setattr(join, "work", lambda line, _file: line.poll(30.0))
    monkeypatch.setattr(join.compute, "setup", lambda: None)
    greeted = join._greeted

    def stop(*_):
        os.kill(os.getpid(), signal.SIGINT)

    def stopped(where, secret, hello, over=None):
        if joined or over is None:
            return greeted(where, secret, hello)
        stop()
        until(over, 5.0)
        raise UsageError("its worker finds nobody")

    monkeypatch.setattr(join, "_greeted", stopped)
    with waiting(monkeypatch, 3) as (where, said, found):
        with pytest.raises(
            join.Left, match=r"^stopped by SIGINT; the first machine: machine 2 .* it waits for"
        ) as left:
            join.join(where, stop)
        assert left.value.exit_code == 130
        until(lambda: any("was stopped by SIGINT; waiting for another" in text for text in said), 5.0)
        assert not found
