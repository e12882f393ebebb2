"""`playfield train --nodes N --on PLACE`: the other machines of one training are tasks of a Ray cluster.

The first machine is the one where the command is typed: the run is written there. Each task runs
`playfield train --join` on its node, and ends with it.
"""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Collection, Iterator
from typing import Any

from playfield.errors import UsageError
from playfield.experiments import node, ray_link, ray_words
from playfield.experiments.ray_link import ANSWER, Link
from playfield.experiments.ray_words import ADDRESS
from playfield.runs.console import Say
from playfield.training import meeting
from playfield.training.meeting import ANY, TOKEN, Address

POLL = 0.2  # seconds between two looks at the tasks


def own_address(cluster: str, hosts: Collection[str], port: int = 0) -> Address:
    """An address of this machine at which nodes reach it; its port is a free one unless it is given.

    Args:
        cluster: address of the cluster, as `ray_link.asked` returns it.
        hosts: names of the nodes.

    Raises:
        UsageError: none is found.
    """
    others = sorted(set(hosts) - {socket.gethostname()}) if cluster != "local" else []
    found = ADDRESS.fullmatch(cluster)
    routes = map(_route, [*([found[2].strip("[]")] if found else []), *others])
    # Other machines do not reach this one at 127.0.0.1, which is where a cluster's head may be asked.
    host = next((one for one in routes if one and not (others and ipaddress.ip_address(one).is_loopback)), "")
    if not host and others:
        raise UsageError(
            f"no address of this machine is known at which {others[0]} reaches it: give one with --rendezvous "
            "HOST:PORT"
        )
    host = host or "127.0.0.1"
    if port:
        return Address(host, port)
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        return Address(host, server.getsockname()[1])


def _route(there: str) -> str:
    """The address of this machine from which packets to a host go; empty where that is not known."""
    with contextlib.suppress(OSError, UnicodeError):
        for family, kind, _, _, where in socket.getaddrinfo(there, 9, type=socket.SOCK_DGRAM):
            with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
                probe.connect(where)  # nothing is sent
                return str(probe.getsockname()[0])
    return ""


def secret() -> None:
    """Make a secret for this training, unless there is one."""
    if not os.environ.get(TOKEN) and not os.environ.get(meeting.TOKEN_FILE):
        os.environ[TOKEN] = secrets.token_hex(32)


def places(nodes: list[dict[str, Any]], count: int, cores: int, gpu: bool = False) -> list[dict[str, Any]]:
    """A node for each of `count` machines that need so many cores: those of other hosts first, each once if possible.

    With `gpu` each is a node of another host and has a GPU: this one computes on its own, of which Ray does not know.

    Raises UsageError where there is no room for them, or others use it now.
    """
    here = socket.gethostname()
    able = [one for one in nodes if not gpu or (one["host"] != here and one.get("gpus", 0))]
    rooms, whole, used = [], 0, list[str]()
    for one in able:
        taken = one.get("taken", (0, 0))
        turns, left = one["cpus"] // cores, (one["cpus"] - taken[0]) // cores
        if gpu:  # one machine computes on all GPUs of its node
            turns, left = min(1, turns), min(1, left) if free_gpus(one) else 0
        whole += turns
        rooms += [(turn, one["host"] == here, one["id"], one) for turn in range(left)]
        used += [f"{taken[0]} of {one['cpus']} on {one['host']}"] * (taken[0] > 0)
        used += [f"{taken[1]} of {one.get('gpus', 0)} GPUs on {one['host']}"] * (gpu and taken[1] > 0)
    rooms.sort(key=lambda room: room[:3])
    if len(rooms) >= count:
        return [room[3] for room in rooms[:count]]
    machines = f"{len(rooms)} machines of {cores} core{'s' * (cores > 1)}{' and a GPU' * gpu} beside this one"
    less = "lower --nodes, or begin the training with --device cpu" if gpu else "or lower --nodes or --workers"
    if count <= whole:
        busy = f"others use {'cores or GPUs' if gpu else 'cores'} ({', '.join(used)})"
        raise UsageError(
            f"--nodes {count + 1}: there is room for {machines} now, for {busy}: try again later, add nodes, {less}"
        )
    raise UsageError(f"--nodes {count + 1}: the cluster has room for {machines}: add nodes, {less}")


def free_gpus(one: dict[str, Any]) -> int:
    """GPUs of a node that nobody uses."""
    return int(one.get("gpus", 0) - one.get("taken", (0, 0))[1])


@contextlib.contextmanager
def gathered(
    cluster: str, given: Address | None, count: int, cores: int, say: Say, gpu: bool = False
) -> Iterator[Address]:
    """Inside, the other machines join the training that waits at the address that this yields.

    Args:
        cluster: address of the cluster, as `ray_link.asked` returns it.
        given: where it is to wait; None: at an address of this machine that nodes reach.
        count: other machines.
        cores: that each of them needs, one for each of its workers.
        gpu: whether they compute on GPUs: on as many as they have workers, if their nodes have so many.
        say: receives what is said of them.
    """
    for line in ray_words.beginning(cluster):
        say(line)
    at = f" --rendezvous {shlex.quote(str(given))}" if given else ""
    meeting.begin(f"--on {'ray' if cluster == 'local' else shlex.quote(cluster)}{at}")
    with contextlib.closing(ray_link.RayLink(cluster)) as link:
        watch = _Watch(link)
        found = places(watch.nodes(count), count, cores, gpu)
        where = given
        if given is None or given.host in ANY:  # which is none that others could be told
            where = own_address(cluster, [place["host"] for place in found], given.port if given else 0)
        assert where is not None
        watch.start(where, found, cores, gpu)
        try:
            yield given or where
        finally:
            watch.close()
            meeting.begin()  # what became of these machines does not concern another training


class _Watch:
    """Looks after the tasks."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._hosts: dict[int, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="playfield-together", daemon=True)

    def start(self, where: Address, found: list[dict[str, Any]], cores: int, gpu: bool) -> None:
        """Start a task on each of these nodes, which joins the training that waits at an address."""
        told = {
            "words": ["train", "--join", str(where)],
            "cwd": os.getcwd(),
            "threads": node.threads(),
            "variables": {TOKEN: meeting.token().decode()},
        }
        for place in found:
            gpus = min(cores, free_gpus(place)) if gpu else 0
            self._hosts[self._link.submit("join", place["id"], json.dumps(told), cores, gpus)] = place["host"]
        self._thread.start()

    def nodes(self, count: int) -> list[dict[str, Any]]:
        """The nodes of the cluster, more than `count` where they come in time. Raises UsageError where it is gone."""
        end, found = time.monotonic() + ANSWER, list[dict[str, Any]]()
        while time.monotonic() < end and len(found) <= count:  # more may come in a moment
            for event in self._link.events():
                if "gone" in event:
                    raise UsageError(f"the Ray cluster is gone: {event['gone']}")
                found = event.get("nodes", found)
            if found and time.monotonic() > end - ANSWER + 2.0:
                break
            time.sleep(POLL)
        return found

    def _look(self) -> None:
        while not self._over.wait(POLL):
            for event in self._link.events():
                why = event.get("gone") and f"the Ray cluster is gone: {event['gone']}"
                if event.get("task") in self._hosts:
                    why = self._ended(self._hosts[event["task"]], event)
                if why and not self._over.is_set():
                    meeting.give_up(why)
                    if "gone" in event:
                        return

    def _ended(self, host: str, event: dict[str, Any]) -> str:
        """Why a machine has ended, where it should not have."""
        if "text" not in event:
            if "refused" in event:  # in whole sentences
                return f"the task on {host}: {event['refused']}"
            return f"the task on {host} {next((f'{k}: {v}' for k, v in event.items() if k != 'task'), 'ended')}"
        result = json.loads(event["text"])
        return f"{host}: {result['last'] or 'exit code ' + str(result['code'])}" if result["code"] else ""

    def close(self) -> None:
        """The training is over."""
        self._over.set()
        self._thread.join(5.0)
