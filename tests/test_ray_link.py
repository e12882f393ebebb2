"""The process that talks to Ray, with a pretended Ray: what goes in and out, and how it fails."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from playfield import compute
from playfield.errors import UsageError
from playfield.experiments import node, ray_link
from playfield.experiments.ray_link import RayLink
from playfield.runs import fence


@pytest.fixture(autouse=True)
def _pretended(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # where Ray looks for a token
    folders = [str(Path(__file__).with_name("pretended_ray")), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(folders))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def wait_until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def events(link, count):
    found, deadline = [], time.monotonic() + 60
    while len(found) < count:
        found += link.events()
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def ends(link, numbers):
    """number -> how these tasks ended."""
    found = {}
    while numbers - found.keys():
        found |= {e.pop("task"): e for e in events(link, 1) if "task" in e}
    return found


def test_tasks_go_in_and_how_they_ended_comes_out(tmp_path):
    link = RayLink("local")
    try:
        (first,) = events(link, 1)
        (one,) = first["nodes"]
        assert (one["id"], one["cpus"], one["gpus"]) == ("n1", 3, 0)
        how = json.loads(one["host"])
        how.pop("_temp_dir", None)
        assert how == {
            "address": "local",
            "num_cpus": compute.cores(),
            "include_dashboard": False,
            "object_store_memory": 80 * 2**20,
            "log_to_driver": False,
            "logging_level": "ERROR",
            "auth": "token",
            "token": 64,
        }
        texts = {
            "text": {"do": "options"},
            "lost": {"do": "NodeDiedError", "text": "its node died. To see more, use ray\nand more"},
            "crashed": {"do": "OutOfMemoryError", "text": "\x1b[31mtoo much\x1b[0m"},
            "refused": {"do": "TaskUnschedulableError", "text": "The task is not schedulable: no such node"},
            "odd": {"do": "cannot be submitted"},
            "failed": {"do": "RayTaskError", "text": "boo"},
            "missing": {"do": "RayTaskError", "text": "import"},
            "uncaused": {"do": "RayTaskError", "text": "no cause"},
            "strange": {"do": "RayError", "text": ""},
            "waits": {"do": "wait"},
            "stubborn": {"do": "stubborn"},
        }
        numbers = {name: link.submit("run", "n1", json.dumps(text), 2, 1) for name, text in texts.items()}
        link.interrupt(numbers["waits"])
        link.interrupt(99)
        link.interrupt(numbers["stubborn"])
        link.interrupt(numbers["stubborn"], kill=True)
        link.interrupt(numbers["stubborn"], kill=True)
        found = ends(link, set(numbers.values()))
        assert json.loads(found[numbers["text"]]["text"]) == {
            "max_retries": 0, "num_cpus": 2, "num_gpus": 1, "node": "n1", "soft": False,
        }  # fmt: skip
        assert found[numbers["lost"]] == {"lost": "its node died"}
        assert found[numbers["crashed"]] == {"lost": "too much"}
        assert found[numbers["refused"]] == {"refused": "The task is not schedulable: no such node"}
        assert found[numbers["odd"]] == {"failed": "ValueError: cannot be submitted"}, "the others go on"
        assert found[numbers["failed"]] == {"failed": "ValueError: boo"}
        assert found[numbers["missing"]] == {"failed": "ModuleNotFoundError: No module named 'playfield'"}
        assert found[numbers["uncaused"]] == {"failed": "ValueError: no cause"}
        assert found[numbers["strange"]] == {"lost": "RayError: RayError"}
        assert found[numbers["waits"]] == {"cancelled": True}
        assert found[numbers["stubborn"]] == {"lost": "after [False, False, False, True]"}, "Ray may drop the second"

        mark = tmp_path / "mark"
        mark.touch()
        number = link.submit("probe", "n1", json.dumps({"mark": str(mark), "threads": node.threads()}))
        told = json.loads(ends(link, {number})[number]["text"])
        here = node.facts(mark)
        assert told["host"] == socket.gethostname()
        assert {k: told[k] for k in ("versions", "processor", "bf16", "sees")} == {
            k: here[k] for k in ("versions", "processor", "bf16", "sees")
        }
        assert here["sees"] is True
        assert node.facts(tmp_path / "nothing")["sees"] is False

        link.submit("run", "n1", json.dumps({"do": "die"}))
        assert "gone" in events(link, 1)[-1]
        assert "gone" in link.events()[0], "it is said again and again"
        link.submit("run", "n1", "{}")
    finally:
        link.close()
    assert link._process.poll() == 7


def test_what_a_cluster_of_its_own_leaves_is_removed(monkeypatch):
    with tempfile.TemporaryDirectory(prefix="pf-", dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        sessions = []
        for dies in (True, False):
            link = RayLink("local")
            (first,) = events(link, 1)
            sessions.append(Path(json.loads(first["nodes"][0]["host"])["_temp_dir"]))
            assert sessions[-1].parent == Path(short)
            assert sessions[-1].is_dir()
            if dies:
                link.submit("run", "n1", json.dumps({"do": "die"}))
                events(link, 1)
            link.close()
            assert sessions[0].is_dir() == dies, "the next one removes what a process that was killed left"
            os.utime(sessions[0], (0, 0)) if dies else None
        assert list(Path(short).iterdir()) == []
        monkeypatch.setenv("TMPDIR", f"{short}/{'x' * 60}")
        os.mkdir(os.environ["TMPDIR"])
        link = RayLink("local")
        (first,) = events(link, 1)
        assert "_temp_dir" not in json.loads(first["nodes"][0]["host"]), "too long for a socket"
        link.close()


def test_cores_of_others_are_seen_and_what_does_not_begin_is_taken_back(port, tmp_path, monkeypatch):
    free = tmp_path / "free"
    free.write_text('{"n1": {"CPU": 1.5}}')
    monkeypatch.setenv("PRETENDED_FREE", str(free))
    monkeypatch.setenv("PRETENDED_BEGIN", "0.3")
    link = RayLink(port)
    try:
        (first,) = events(link, 1)
        assert [(one["cpus"], one["taken"]) for one in first["nodes"]] == [(3, [2, 0])]
        waits = link.submit("run", "n1", json.dumps({"do": "wait", "begins": False}), 1)
        assert ends(link, {waits}) == {
            waits: {"refused": "it did not begin: others use the cores or GPUs of its node"}
        }
        begins = link.submit("run", "n1", json.dumps({"do": "wait"}), 1)
        probe = link.submit("run", "n1", json.dumps({"do": "options"}))
        ends(link, {probe})
        time.sleep(1.0)
        assert [one for one in link.events() if "task" in one] == [], "what has begun is let alone"
        link.interrupt(begins)
        assert ends(link, {begins}) == {begins: {"cancelled": True}}
        free.write_text("{}")  # nothing is known of the node
        wait_until(lambda: [one for one in link.events() if "nodes" in one and one["nodes"][0]["taken"] == [0, 0]])
    finally:
        link.close()


def test_a_dashboard_is_there_where_it_is_asked_for(monkeypatch):
    monkeypatch.setenv("PLAYFIELD_RAY_DASHBOARD", "1")
    with pytest.raises(UsageError, match="with PLAYFIELD_RAY_DASHBOARD=1 set RAY_AUTH_TOKEN to one of your own"):
        RayLink("local")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "x" * 40)
    link = RayLink("local")
    try:
        note, first = events(link, 2)
        assert note == {"note": "Ray's dashboard: http://127.0.0.1:8265"}
        how = json.loads(first["nodes"][0]["host"])
        assert (how["include_dashboard"], how["auth"], how["token"]) == (True, "token", 40)
    finally:
        link.close()
    monkeypatch.setenv("PRETENDED_RAY", "Cannot include dashboard with missing packages.")
    with pytest.raises(UsageError, match=r"needs more packages: pip install 'ray\[default\]'"):
        RayLink("local")


def test_questions_of_nodes_reach_the_store_and_are_answered(tmp_path):
    kept = tmp_path / "grid" / "1"
    fence.advance(kept)
    link = RayLink("local")
    try:
        link.serve(str(tmp_path))

        def ask(do, size=0, times=1, **more):
            text = json.dumps({"do": do, "run": "grid/1", "bytes": size, "times": times, "more": more})
            number = link.submit("run_away", "n1", text)
            return json.loads(ends(link, {number})[number]["text"])

        how, told = ask("begin")
        assert how == {"max_restarts": -1, "num_cpus": 0, "node": "n1", "soft": False}, "beside the driver"
        assert json.loads(told) == {"files": []}
        ask("put", 4_000_000, path="x", offset=0, sha256=hashlib.sha256(b"x" * 4_000_000).hexdigest())
        assert ask("publish")[1] == "{}"
        assert (kept / "x").read_bytes() == b"x" * 4_000_000
        _, *told = ask("append", 3_000_000, 9, path="x", offset=0)
        assert told == ['{"has": 4000000}'] * 9
        number = link.submit(
            "run_away", "n1", json.dumps({"do": "read", "run": "..", "bytes": 0, "times": 1, "more": {}})
        )
        note, _ = events(link, 2)
        assert note == {"note": "..: what its node sends is not kept: '..' is no file of a run"}
        assert number
        _, *told = ask("begin", times=2, attempt="none")
        assert [json.loads(line)["code"] for line in told] == [6, 6], "others are answered, too"
        assert "invalid literal" in told[0]
    finally:
        link.close()


def test_a_mailbox_that_is_lost_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PRETENDED_MAILBOX", "lost")
    link = RayLink("local")
    try:
        link.serve(str(tmp_path))
        _, note = events(link, 2)
        assert note == {
            "note": "nodes cannot reach this machine for now, and files of runs do not arrive: "
            "RayError: The actor cannot be restarted"
        }
        time.sleep(2.5)
        assert link.events() == []
    finally:
        link.close()


def test_it_ends_with_the_process_that_asks(tmp_path):
    code = (
        "import os, sys; from playfield.experiments.ray_link import RayLink; link = RayLink('local');"
        "print(link._process.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and Path(f"/proc/{child}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


MISMATCH = (
    "Version mismatch: The cluster was started with:\n    Ray: 2.61.0\n    Python: 3.12.1\n"
    "This process on node 10.0.0.2 was started with:\n    Ray: 2.60.0\n    Python: 3.11.7\n"
)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (MISMATCH, "it has Ray 2.61.0, Python 3.12.1, and this machine has Ray 2.60.0, Python 3.11.7: use the same"),
        ("InvalidAuthToken: no token", "it wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH"),
        ("something\nelse", "RuntimeError: something else"),
    ],
)
def test_what_cannot_be_joined_is_one_line(trouble, why, port, monkeypatch):
    monkeypatch.setenv("PRETENDED_RAY", trouble)
    with pytest.raises(UsageError) as told:
        RayLink(port)
    assert str(told.value).startswith(f"{port} cannot be joined: {why}")
    assert "\n" not in str(told.value)


def test_what_does_not_answer_as_ray_does_is_given_up(port, monkeypatch):
    monkeypatch.setenv("PRETENDED_RAY", "hangs")
    monkeypatch.setattr(ray_link, "ANSWER", 0.5)
    with pytest.raises(UsageError, match="cannot be joined: it does not answer as a Ray cluster does"):
        RayLink(port)
    monkeypatch.setattr(ray_link, "CLIENT", 2.0)
    with pytest.raises(UsageError, match="as a Ray cluster does in 2 s"):  # it starts a process, which imports Ray
        RayLink(f"ray://{port}")
    monkeypatch.setattr(ray_link, "END", 0.2)
    monkeypatch.setattr(ray_link, "START", 3.0)
    with pytest.raises(UsageError, match="Ray could not be started here: it takes too long"):
        RayLink("local")
    monkeypatch.setenv("PRETENDED_RAY", "no space left")
    monkeypatch.setattr(ray_link, "START", 60.0)
    with pytest.raises(UsageError, match="Ray could not be started here: RuntimeError: no space left"):
        RayLink("local")


def test_a_training_on_a_node_is_asked_to_save_by_an_interrupt_and_ended_by_a_second(tmp_path):
    """`node.run` itself: the exit code of the command, its standard error, and what KeyboardInterrupt does."""
    code = "import sys; from playfield.experiments import node; print(node.run(sys.argv[1]))"
    told = {"cwd": str(tmp_path), "log": str(tmp_path / "log"), "variables": {"X": "1"}, "threads": {}}

    def start(*words):
        text = json.dumps({**told, "words": list(words)})
        return subprocess.Popen([sys.executable, "-c", code, text], stdout=subprocess.PIPE, text=True)

    wrong = start("train", "CartPole-v9")
    assert json.loads(wrong.communicate()[0]) == {"code": 2}
    assert (tmp_path / "log").read_text().startswith("playfield: ")
    run = tmp_path / "run"
    words = ("train", "CartPole-v1", "--algo", "random", "--steps", "100M", "--quiet", "--run", str(run))
    long = start(*words)
    wait_until((run / "metrics.csv").exists)
    wait_until(lambda: len((run / "metrics.csv").read_text().splitlines()) > 1)
    long.send_signal(signal.SIGINT)
    assert json.loads(long.communicate()[0]) == {"code": 143}
    assert (run / "checkpoints" / "last").exists()
    stuck = start("train", *words[1:-1], str(tmp_path / "stuck"))
    wait_until((tmp_path / "stuck" / "metrics.csv").exists)
    os.kill(json.loads((tmp_path / "stuck" / "lock").read_text())["pid"], signal.SIGSTOP)
    stuck.send_signal(signal.SIGINT)
    time.sleep(0.5)
    assert stuck.poll() is None, "it does not save, and is waited for"
    stuck.send_signal(signal.SIGINT)
    assert json.loads(stuck.communicate()[0]) == {"code": -9}
