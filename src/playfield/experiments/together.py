"""`playfield train --nodes N --on PLACE`: the other machines of one training are tasks of a Ray cluster.

The first machine is the one where the command is typed: the run is written there. Each task runs
`playfield train --join` on its node, and ends with it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from playfield.errors import UsageError
from playfield.experiments import node, ray_link
from playfield.experiments.ray_link import ADDRESS, ANSWER, Link
from playfield.runs.console import Say
from playfield.training import meeting
from playfield.training.meeting import TOKEN, Address

POLL = 0.2  # seconds between two looks at the tasks


def own_address(cluster: str) -> Address:
    """An address of this machine that nodes of a cluster reach, with a free port."""
    host = "127.0.0.1"
    if found := ADDRESS.fullmatch(cluster):
        there = found[2].strip("[]")
        with socket.socket(socket.AF_INET6 if ":" in there else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((there, int(found[3])))  # nothing is sent
            host = probe.getsockname()[0]
    with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        return Address(host, server.getsockname()[1])


def secret() -> None:
    """Make a secret for this training, unless there is one."""
    if not os.environ.get(TOKEN) and not os.environ.get(meeting.TOKEN_FILE):
        os.environ[TOKEN] = secrets.token_hex(32)


def places(nodes: list[dict[str, Any]], count: int, cores: int) -> list[dict[str, Any]]:
    """A node for each of `count` machines that need so many cores: those of other hosts first, each once if possible.

    Raises UsageError where there is no room for them.
    """
    here = socket.gethostname()
    rooms = [(turn, one["host"] == here, one["id"], one) for one in nodes for turn in range(one["cpus"] // cores)]
    rooms.sort(key=lambda room: room[:3])
    if len(rooms) < count:
        raise UsageError(
            f"--nodes {count + 1}: the cluster has room for {len(rooms)} machines of {cores} core{'s' * (cores > 1)} "
            "beside this one: add nodes, or lower --nodes or --workers"
        )
    return [room[3] for room in rooms[:count]]


@contextlib.contextmanager
def gathered(cluster: str, where: Address, count: int, cores: int, say: Say) -> Iterator[None]:
    """Inside, the other machines join the training that waits at an address.

    Args:
        cluster: address of the cluster, as `ray_link.asked` returns it.
        count: other machines.
        cores: that each of them needs.
        say: receives what is said of them.
    """
    say(f"{'starting Ray here' if cluster == 'local' else f'joining {cluster}'} ...")
    meeting.begin()
    with contextlib.closing(ray_link.RayLink(cluster)) as link:
        watch = _Watch(link, say)
        watch.start(where, count, cores)
        try:
            yield
        finally:
            watch.close()


class _Watch:
    """Looks after the tasks."""

    def __init__(self, link: Link, say: Say) -> None:
        self._link, self._say = link, say
        self._hosts: dict[int, str] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="playfield-together", daemon=True)

    def start(self, where: Address, count: int, cores: int) -> None:
        """Start the tasks. Raises UsageError where the cluster has no room for them, or says nothing."""
        told = {
            "words": ["train", "--join", str(where)],
            "cwd": os.getcwd(),
            "threads": node.threads(),
            "variables": {TOKEN: meeting.token().decode()},
        }
        for place in places(self._nodes(count), count, cores):
            self._hosts[self._link.submit("join", place["id"], json.dumps(told), cores)] = place["host"]
        self._thread.start()

    def _nodes(self, count: int) -> list[dict[str, Any]]:
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
            return f"the task on {host} {next((f'{k}: {v}' for k, v in event.items() if k != 'task'), 'ended')}"
        result = json.loads(event["text"])
        return f"{host}: {result['last'] or 'exit code ' + str(result['code'])}" if result["code"] else ""

    def close(self) -> None:
        """The training is over."""
        self._over.set()
        self._thread.join(5.0)
