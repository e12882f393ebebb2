"""A cluster without Ray: nodes that are told what they are, whose tasks end when a test says so, or are processes."""

from __future__ import annotations

import copy
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from playfield.experiments.cluster import Cluster
from playfield.experiments.cluster_state import Pins
from playfield.experiments.job import Job
from playfield.experiments.store import Store

C = "CartPole-v1"
WORDS = (C, "--workers", "1", "--algo", "ppo")
HERE = {
    "versions": {"playfield": "1", "torch": "2.13.0", "processor": "AVX2"},
    "processor": {"model": "One", "features": "avx2"},
    "bf16": False,
    "packages": {"mujoco": "3.2"},
    "memory": 4_000_000_000,
    "total": 8_000_000_000,
    "disk": 10**12,
    "sees": True,
    "cwd": True,
}
PINS = Pins("cpu", "fp32", 1, 10**9)

RUN = "import sys; from playfield.experiments import node; print(node.run(sys.argv[1]))"
AWAY = """
import sys
from cluster_link import asking
from playfield.experiments import away, node
away.PERIOD = 0.05
print(node.run_with(sys.argv[1], asking(int(sys.argv[2]))))
"""


def send(sock, text, data):
    sock.sendall(struct.pack("<II", len(text.encode()), len(data)) + text.encode() + data)


def receive(file):
    """What was sent, None at the end of the connection."""
    head = file.read(8)
    if len(head) < 8:
        return None
    text, data = (file.read(size) for size in struct.unpack("<II", head))
    return text.decode(), data


def asking(port):
    """Asks the store behind a port of this machine, a connection for each question."""

    def ask(text, data):
        with socket.create_connection(("127.0.0.1", port)) as sock, sock.makefile("rb") as file:
            send(sock, text, data)
            told = receive(file)
            if told is None:
                raise ConnectionError("the store hung up")
            return told

    return ask


class Stores:
    """Stores behind a port, each question answered in turn, as by the driver.

    Attributes:
        cut: attempts whose questions get no answer: they are cut off.
        asked: the questions, in order.
    """

    def __init__(self, store):
        self.store, self.cut, self.asked = store, set(), []
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                sock, _ = self.listening.accept()
            except OSError:
                return
            with sock, sock.makefile("rb") as file:
                found = receive(file)
                if found is None or json.loads(found[0])["attempt"] in self.cut:
                    continue
                self.asked.append(json.loads(found[0]) | {"bytes": len(found[1])})
                send(sock, *self.store.answer(*found))

    def close(self):
        self.listening.close()
        self.store.forget()


class Told:
    """A link whose nodes answer at once that they are as `facts`, changed as given; tasks are only written down.

    Attributes:
        tasks: number -> what was submitted: do, node, text, cpus, gpus.
        interrupted: numbers, in order, and whether they were to end at once.
    """

    def __init__(self, facts: dict[str, Any], **nodes: dict[str, Any]) -> None:
        self.facts, self.nodes = facts, dict(nodes)
        self.tasks: dict[int, dict[str, Any]] = {}
        self.interrupted: list[tuple[int, bool]] = []
        self.waiting: list[dict[str, Any]] = []
        self.tell_nodes()

    def tell_nodes(self) -> None:
        found = [
            {
                "id": name,
                "host": name,
                "cpus": given.get("cpus", 1),
                "gpus": given.get("gpus", 0),
                "taken": given.get("taken", [0, 0]),
            }
            for name, given in self.nodes.items()
        ]
        self.waiting.append({"nodes": found})

    def add(self, name: str, **given: Any) -> None:
        self.nodes[name] = given
        self.tell_nodes()

    def lose(self, name: str) -> None:
        """The node is gone, and so are its tasks."""
        del self.nodes[name]
        for number, task in list(self.tasks.items()):
            if task["node"] == name and not task.get("ended"):
                self.end(number, lost="its node died")
        self.tell_nodes()

    def submit(self, do: str, node: str, text: str, cpus: int = 0, gpus: int = 0) -> int:
        number = len(self.tasks) + 1
        self.tasks[number] = {"do": do, "node": node, "text": json.loads(text), "cpus": cpus, "gpus": gpus}
        if do == "probe":
            given = self.nodes[node]
            if given.get("refuses", 0):
                given["refuses"] -= 1
                self.end(number, refused="The task is not schedulable")
            elif "failed" in given:
                self.end(number, failed=given["failed"])
            else:
                facts = copy.deepcopy(self.facts) | {"time": time.time() + given.get("clock", 0)}
                for key, value in given.items():
                    if isinstance(facts.get(key), dict):
                        facts[key] |= value
                    elif key in facts:
                        facts[key] = value
                self.end(number, text=json.dumps(facts))
        else:
            self.begin(number)
        return number

    def begin(self, number: int) -> None:
        pass

    def end(self, number: int, **how: Any) -> None:
        self.tasks[number]["ended"] = True
        self.waiting.append({"task": number, **how})

    def interrupt(self, task: int, kill: bool = False) -> None:
        self.interrupted.append((task, kill))

    def serve(self, root: str) -> None:
        self.stores = Stores(Store(Path(root), lambda line: self.waiting.append({"note": line})))

    def events(self) -> list[dict[str, Any]]:
        found, self.waiting = self.waiting, []
        return found

    def close(self) -> None:
        pass

    def runs(self) -> list[dict[str, Any]]:
        """What was started on nodes, in order."""
        return [{"number": n, **task} for n, task in self.tasks.items() if task["do"].startswith("run")]


class Processes(Told):
    """Nodes whose tasks are processes of this machine; with a node that is lost they go on, as on one cut off."""

    def begin(self, number: int) -> None:
        task = self.tasks[number]
        code = (RUN,) if task["do"] == "run" else (AWAY,)
        port = () if task["do"] == "run" else (str(self.stores.port),)
        words = [sys.executable, "-c", *code, json.dumps(task["text"]), *port]
        paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        task["process"] = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": paths}
        )

    def interrupt(self, task: int, kill: bool = False) -> None:
        self.tasks[task]["process"].send_signal(signal.SIGINT)

    def events(self) -> list[dict[str, Any]]:
        for number, task in self.tasks.items():
            if task["do"].startswith("run") and "said" not in task and task["process"].poll() is not None:
                task["said"] = json.loads(task["process"].communicate()[0])
                self.end(number, text=json.dumps(task["said"]))
        return super().events()

    def close(self) -> None:
        for task in self.runs():
            if "said" not in task:
                task["process"].kill()
                task["process"].communicate()
        if hasattr(self, "stores"):
            self.stores.close()


def job(root, seed=1, steps=4000, *more):
    return Job(C, "ppo", (*WORDS, *more), seed, steps, root / "grid" / str(seed))


def place(root, link, pins=PINS, store="auto"):
    """An open place, and the lines that it said."""
    said = []
    made = Cluster(link, root, lambda job: pins, said.append, store)
    made.open()
    return made, said


def begun(one, **info):
    """Make the run directory of a job that has begun."""
    spec = {"kind": "classic", "id": C}
    stored = {"algo": "ppo", "spec": spec, "steps": one.steps, "processor": HERE["processor"]}
    stored |= {"compute": {"device": "cpu", "precision": "fp32", "workers": 1}, **info}
    one.directory.mkdir(parents=True, exist_ok=True)
    (one.directory / "run.json").write_text(json.dumps(stored))
