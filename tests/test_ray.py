"""Ray itself: an experiment on two nodes of one core each, one of them lost, and the driver killed. Needs Ray."""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")

C = "CartPole-v1"
SEEDS = 4
WORDS = (C, "--algo", "ppo", "--steps", "16k", "--seeds", str(SEEDS))
AFTER = ("--", "--save-seconds", "0.3")
LONGEST = 300.0  # seconds that anything here may take on a busy machine


@pytest.fixture(scope="module")
def token(tmp_path_factory):
    """The environment of a cluster and of all who join it; nothing is written into the home directory."""
    return {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "HOME": str(tmp_path_factory.mktemp("home")),
    }


class Nodes:
    """The program `ray_nodes.py`."""

    def __init__(self, count, env):
        command = [sys.executable, str(Path(__file__).with_name("ray_nodes.py")), str(count)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, env=env, text=True, **pipes)
        told = json.loads(self.process.stdout.readline())
        self.address, self.ids = told["address"], told["nodes"]

    def lose(self):
        self.process.stdin.write(f"lose {self.ids.pop()}\n")
        self.process.stdin.flush()
        assert json.loads(self.process.stdout.readline()) == "lost"

    def end(self):
        self.process.stdin.close()
        self.process.wait(LONGEST)
        self.process.stdout.close()


@pytest.fixture
def nodes(token):
    found = Nodes(2, token)
    yield found
    found.end()


def command(root, *words):
    return [sys.executable, "-m", "playfield", "compare", *WORDS, "--dir", str(root), *words, *AFTER]


def hashes(root):
    found = {}
    for seed in range(1, SEEDS + 1):
        info = json.loads((root / C / "ppo" / str(seed) / "run.json").read_text())
        assert info.get("exact", True)
        found[seed] = info["result"]["hash"]
    return found


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The hashes of the same experiment on this machine."""
    root = tmp_path_factory.mktemp("here")
    subprocess.run(command(root), check=True, capture_output=True)
    return hashes(root)


def wait_until(true, process):
    deadline = time.monotonic() + LONGEST
    while not true():
        assert process.poll() is None, "it ended before"
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("store", ["shared", "driver"])
def test_the_driver_is_killed_then_a_node_is_lost_and_the_bits_are_those_of_this_machine(
    store, nodes, token, here, tmp_path
):
    log = tmp_path / "log"
    words = command(tmp_path, "--on", nodes.address, "--store", store)
    with open(log, "wb") as errors:
        driver = subprocess.Popen(words, env=token, stdout=subprocess.DEVNULL, stderr=errors)
        wait_until(lambda: len(list(tmp_path.glob("*/ppo/*/checkpoints/ckpt-*"))) > 2, driver)
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert "Traceback" not in log.read_text()

    with open(log, "wb") as errors:
        driver = subprocess.Popen(words, env=token, stdout=subprocess.DEVNULL, stderr=errors)
        begun = time.time()

        def both_run():
            found = [p for p in tmp_path.glob("*/ppo/*/checkpoints/last") if p.stat().st_mtime > begun]
            return len(found) > 1

        wait_until(both_run, driver)
        nodes.lose()
        assert driver.wait(LONGEST) == 0, log.read_text()
    told = log.read_text()
    assert "2 nodes with 2 cores" in told
    assert "is lost" in told
    assert "elsewhere" in told
    assert "Traceback" not in told
    assert hashes(tmp_path) == here
    assert ("files go through a store" in told) == (store == "driver")
    assert not (tmp_path / ".store").exists()


def test_a_cluster_of_its_own_fails_on_one_line(token, tmp_path):
    """A training that fails there is told with its last line; nothing of Ray's stands around it."""
    words = ["compare", C, "--algo", "sarsa --alpha 1e30", "--algo", "random", "--steps", "2000", "--seeds", "1"]
    command = [sys.executable, "-m", "playfield", *words, "--dir", str(tmp_path), "--on", "ray"]
    done = subprocess.run(command, env={**token, "RAY_ADDRESS": ""}, capture_output=True, text=True, timeout=LONGEST)
    assert done.returncode == 0, done.stderr
    assert "sarsa --alpha 1e30 on CartPole-v1, seed 1: diverged after" in done.stderr
    assert "random on CartPole-v1, seed 1: done" in done.stderr
    assert all(word not in done.stderr for word in ("Traceback", "raylet", "ray::", "INFO"))
    assert not list(Path(token["HOME"]).rglob("*token*")), "no token is left behind"


def test_a_second_signal_ends_trainings_on_nodes_that_do_not_save(token, tmp_path):
    words = [
        "compare",
        C,
        "--algo",
        "random",
        "--steps",
        "100M",
        "--seeds",
        "1",
        "--dir",
        str(tmp_path),
        "--on",
        "ray",
    ]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    driver = subprocess.Popen(
        [sys.executable, "-m", "playfield", *words], env={**token, "RAY_ADDRESS": ""}, text=True, **pipes
    )
    run = tmp_path / C / "random" / "1"
    wait_until((run / "metrics.csv").exists, driver)
    training = json.loads((run / "lock").read_text())["pid"]
    os.kill(training, signal.SIGSTOP)  # so that it cannot save
    driver.send_signal(signal.SIGINT)
    time.sleep(2.0)
    assert driver.poll() is None, "it waits until the training has saved"
    driver.send_signal(signal.SIGINT)
    try:
        assert driver.wait(60) == 130
        assert "has not confirmed" not in driver.stderr.read()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{training}").exists():  # its parent may still have to see that it has ended
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        driver.stderr.close()
        driver.kill()
        if Path(f"/proc/{training}").exists():
            os.kill(training, signal.SIGKILL)


def test_a_port_that_is_no_cluster_is_said(token, tmp_path, monkeypatch):
    import http.server
    import threading

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        done = subprocess.run(
            command(tmp_path / "x", "--on", address), env=token, capture_output=True, text=True, timeout=LONGEST
        )
        server.shutdown()
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"playfield: {address} cannot be joined: ")
    assert not (tmp_path / "x").exists()


def test_one_training_on_two_nodes_ends_with_the_bits_of_one_machine(nodes, token, tmp_path):
    """The other machine is a task on a node; of the two processes each has one worker."""

    def trained(name, *more):
        words = ["train", C, "--algo", "ppo", "--steps", "4096", "--workers", "2", "--games", "0", "--no-film"]
        command = [sys.executable, "-m", "playfield", *words, "--run", str(tmp_path / name), *more]
        done = subprocess.run(command, env=token, cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST)
        assert done.returncode == 0, done.stderr
        assert all(word not in done.stderr for word in ("Traceback", "raylet", "ray::"))
        info = json.loads((tmp_path / name / "run.json").read_text())
        return info["result"]["hash"], info.get("nodes", 1)

    one, two = trained("one"), trained("two", "--nodes", "2", "--on", nodes.address)
    assert (one[1], two[1]) == (1, 2)
    assert one[0] == two[0]
