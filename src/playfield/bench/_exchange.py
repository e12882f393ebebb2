"""`python -m playfield.bench._exchange SIDE RATE JSON`: what travels between two machines in an update, timed.

`lead` starts `follow` and prints JSON. With a rate both have a network of their own, joined by a virtual cable that
`tc` holds to that rate in each direction: run it as `unshare -rn`. Rate 0 is loopback.
"""

from __future__ import annotations

import datetime
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed

from playfield.runs.group import Leader, Member
from playfield.runs.line import Far
from playfield.runs.machine import Machine, Pulse

HOSTS = ("10.213.0.1", "10.213.0.2")
MOST = 60.0  # seconds that one side waits for the other
METRICS = dict.fromkeys(
    ("loss", "policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction"), 0.123456789
)


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True)


def cable(pid: int, rate: int) -> None:
    """Join this network to that of another process, at `rate` Mbit/s in each direction."""
    own, end = os.readlink("/proc/self/ns/net"), time.monotonic() + MOST
    while os.readlink(f"/proc/{pid}/ns/net") == own:
        if time.monotonic() > end:
            raise TimeoutError("no network of its own for the other side")
        time.sleep(0.02)
    _run("ip", "link", "add", "pf0", "type", "veth", "peer", "name", "pf1")
    _run("ip", "link", "set", "pf1", "netns", str(pid))
    there = ("nsenter", "-t", str(pid), "-n")
    for prefix, host, name in (((), HOSTS[0], "pf0"), (there, HOSTS[1], "pf1")):
        _run(*prefix, "ip", "link", "set", "lo", "up")
        _run(*prefix, "ip", "addr", "add", f"{host}/24", "dev", name)
        _run(*prefix, "ip", "link", "set", name, "up")
        burst = f"{max(64, rate // 4)}kb"
        _run(*prefix, *f"tc qdisc add dev {name} root tbf rate {rate}mbit burst {burst} latency 100ms".split())


def update(group: Any, take: Callable[[Any], Any]) -> None:
    """What `Learner.update` says to the other workers, and the bytes that go with it."""
    take(group.gather_gradients(METRICS))
    take(group.gather([0.5] if group.rank == 0 else []))
    take(group.gather_weights())


def all_reduce(rank: int, host: str, own: str, port: int, size: int, rounds: int) -> list[float]:
    """Seconds of each all-reduce of `size` bytes by gloo, for comparison."""
    limit = datetime.timedelta(seconds=MOST)
    store = distributed.TCPStore(host, port, 2, rank == 0, limit)
    kind: Any = distributed.ProcessGroupGloo
    options = kind._Options()
    options._devices, options._timeout = [kind.create_device(hostname=own)], limit
    gloo = kind(store, rank, 2, options)
    vector, seconds = torch.zeros(size // 2, dtype=torch.bfloat16), []
    for _ in range(rounds):
        begin = time.perf_counter()
        gloo.allreduce([vector]).wait()
        seconds.append(time.perf_counter() - begin)
    gloo.barrier().wait()
    return seconds


def _buffers(size: int) -> memoryview:
    return memoryview(bytearray(size))


def lead(rate: int, told: dict[str, Any]) -> None:
    """Measure each size of `told["sizes"]` `told["rounds"]` times; prints JSON."""
    host = HOSTS[0] if rate else "127.0.0.1"
    prefix = ["unshare", "-n"] if rate else []
    command = [
        *prefix,
        sys.executable,
        "-P",
        "-m",
        "playfield.bench._exchange",
        "follow",
        str(rate),
        json.dumps(told),
    ]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, encoding="utf-8") as other,
        tempfile.TemporaryFile() as file,
    ):
        try:
            if rate:
                cable(other.pid, rate)
            found = []
            with socket.create_server((host, 0)) as server:
                server.settimeout(MOST)
                port = server.getsockname()[1]
                assert other.stdin is not None
                other.stdin.write(f"{port}\n")
                other.stdin.flush()
                lines = [Far(server.accept()[0]) for _ in range(2)]
            machine = Machine(2, "bench", lines[0], range(1, 2))
            machine.begin([lines[1]])
            for size in told["sizes"]:
                leader = Leader(machine.links, file.fileno(), range(1))
                leader.lend([[_buffers(size)], [_buffers(size)]], [_buffers(size)])
                line, seconds = lines[1], []
                update(leader, id)
                before = line.sent + line.received
                for _ in range(told["rounds"]):
                    begin = time.perf_counter()
                    update(leader, id)
                    seconds.append(time.perf_counter() - begin)
                travelled = (line.sent + line.received - before) / told["rounds"]
                found.append({"size": size, "seconds": seconds, "bytes": travelled})
            for row in found:
                row["gloo"] = all_reduce(0, host, host, port + 1, row["size"], told["rounds"])
                port += 1
            print(json.dumps(found), flush=True)
            machine.end(0, "")
            machine.close(1.0)
        finally:
            other.kill()


def follow(rate: int, told: dict[str, Any]) -> None:
    """The other side."""
    host, own = HOSTS if rate else ("127.0.0.1", "127.0.0.1")
    port = int(sys.stdin.readline())
    lines = [Far(socket.create_connection((host, port), timeout=MOST)) for _ in range(2)]
    for line in lines:
        line.timeout(None)
    Pulse(lines[0], lambda _word: None, lambda _why: os._exit(0)).start()
    with tempfile.TemporaryFile() as file:
        for size in told["sizes"]:
            member = Member(1, 2, file.fileno(), lines[1], [], range(1, 2), range(1))
            member.lend([[_buffers(size)], [_buffers(size)]], [_buffers(size)])
            for _ in range(1 + told["rounds"]):
                update(member, id)
    for number, size in enumerate(told["sizes"]):
        all_reduce(1, host, own, port + 1 + number, size, told["rounds"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"lead": lead, "follow": follow}[sys.argv[1]](int(sys.argv[2]), json.loads(sys.argv[3]))
