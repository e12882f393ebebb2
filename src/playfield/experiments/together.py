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


def places(nodes: list[dict[str, Any]], count: int, cores: int, gpus: int = 0) -> list[dict[str, Any]]:
    """A node for each of `count` machines that need so many cores and GPUs.

    Those of other hosts come first, each once if possible.

    Raises UsageError where there is no room for them, or others use it now.
    """
    here = socket.gethostname()

    def turns(cpus: int, gpu: int) -> int:
        return min(cpus // cores, gpu // gpus) if gpus else cpus // cores

    rooms, whole, used = [], 0, []
    for one in nodes:
        has = one["cpus"], one.get("gpus", 0)
        taken = one.get("taken", (0, 0))
        left = has[0] - taken[0], has[1] - taken[1]
        whole += turns(*has)
        rooms += [(turn, one["host"] == here, one["id"], one) for turn in range(turns(*left))]
        if taken[0] > 0:
            used.append(f"{taken[0]} of {has[0]} on {one['host']}")
        elif gpus and taken[1] > 0:
            used.append(f"{taken[1]} of {has[1]} GPUs on {one['host']}")
    rooms.sort(key=lambda room: room[:3])
    needs = f"{cores} core{'s' * (cores > 1)}{' and a GPU' if gpus else ''}"
    less = (
        "add nodes, lower --nodes or --workers, or use --device cpu"
        if gpus
        else ("add nodes, or lower --nodes or --workers")
    )
    if len(rooms) < count <= whole:
        raise UsageError(
            f"--nodes {count + 1}: there is room for {len(rooms)} machines of {needs} beside this one now, for "
            f"others use {'cores or GPUs' if gpus else 'cores'} ({', '.join(used)}): try again later, {less}"
        )
    if len(rooms) < count:
        raise UsageError(
            f"--nodes {count + 1}: the cluster has room for {len(rooms)} machines of {needs} beside this one: {less}"
        )
    return [room[3] for room in rooms[:count]]


@contextlib.contextmanager
def gathered(
    cluster: str, given: Address | None, count: int, cores: int, say: Say, gpus: int = 0
) -> Iterator[Address]:
    """Inside, the other machines join the training that waits at the address that this yields.

    Args:
        cluster: address of the cluster, as `ray_link.asked` returns it.
        given: where it is to wait; None: at an address of this machine that nodes reach.
        count: other machines.
        cores, gpus: that each of them needs.
        say: receives what is said of them.
    """
    for line in ray_words.beginning(cluster):
        say(line)
    at = f" --rendezvous {shlex.quote(str(given))}" if given else ""
    meeting.begin(f"--on {'ray' if cluster == 'local' else shlex.quote(cluster)}{at}")
    with contextlib.closing(ray_link.RayLink(cluster)) as link:
        watch = _Watch(link)
        found = places(watch.nodes(count), count, cores, gpus)
        where = given
        if given is None or given.host in ANY:  # which is none that others could be told
            where = own_address(cluster, [place["host"] for place in found], given.port if given else 0)
        assert where is not None
        watch.start(where, found, cores, gpus)
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

    def start(self, where: Address, found: list[dict[str, Any]], cores: int, gpus: int) -> None:
        """Start a task on each of these nodes, which joins the training that waits at an address."""
        told = {
            "words": ["train", "--join", str(where)],
            "cwd": os.getcwd(),
            "threads": node.threads(),
            "variables": {TOKEN: meeting.token().decode()},
        }
        for place in found:
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
