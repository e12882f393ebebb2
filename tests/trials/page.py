"""Trial 29, and the long one of 22: the live page under load, and an hour of training while three clients watch."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import websockets

from trials.registry import Ask, Seen, trial
from trials.tools import PYTHON, TRACEBACK, run, training


class Page:
    """`playfield watch` in a process of its own."""

    def __init__(self, words: list[str], cwd: Path) -> None:
        self.log = cwd / f"watch-{time.monotonic_ns()}"
        with open(self.log, "wb") as file:
            self.process = subprocess.Popen(
                [*PYTHON, "watch", *words, "--no-browser"], cwd=cwd, stdout=file, stderr=file
            )
        until = time.monotonic() + 60
        while not (match := re.search(r"http://127\.0\.0\.1:(\d+)/#t=([\w-]+)", self.text())):
            if time.monotonic() > until or self.process.poll() is not None:
                raise RuntimeError(f"the page did not start: {self.text()[-300:]}")
            time.sleep(0.05)
        self.port, self.token = int(match[1]), match[2]

    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def connect(self) -> Any:
        """A WebSocket of the page, as its own script opens it."""
        return websockets.connect(
            f"ws://127.0.0.1:{self.port}/ws", origin=f"http://127.0.0.1:{self.port}",  # type: ignore[arg-type]
            subprotocols=["playfield", f"token.{self.token}"], max_size=None,  # type: ignore[list-item]
        )  # fmt: skip

    def end(self) -> int:
        """Ctrl-C; its exit code, 124 if it does not end in 15 s."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return 124


async def watch(page: Page, until: float) -> int:
    """One tab: acknowledges frames until a time, connects again when it is closed; how many frames came."""
    frames = 0
    while time.monotonic() < until:
        try:
            async with page.connect() as tab:
                while time.monotonic() < until:
                    data = await asyncio.wait_for(tab.recv(), 20)
                    if b'"frame"' in data[:200]:
                        frames += 1
                        await tab.send(json.dumps({"command": "ack"}))
        except (OSError, TimeoutError, websockets.WebSocketException):
            await asyncio.sleep(0.2)
    return frames


def opened(pid: int) -> frozenset[tuple[str, str]]:
    """(number, what it opens) of each open descriptor of a process."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed in between
            found.add((path.name, os.readlink(path)))
    return frozenset(found)


def size_of(pid: int) -> tuple[int, int]:
    """(resident bytes, open descriptors) of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))


@trial(
    22,
    "watched-training",
    "an hour of training (the count is minutes) while three clients watch it: memory grows by less than 1 %, "
    "no descriptor is left open",
    short=0,
    long=60,
)
def watched_training(ask: Ask) -> Seen:
    """DQN on CartPole; growth is from the mean of the second tenth of the time to that of the last one."""
    seen, run_dir = Seen(), ask.folder / "run"
    seconds = min(60.0 * ask.count, max(20.0, ask.deadline - time.monotonic()))
    words = [
        "train",
        "CartPole-v1",
        "--algo",
        "dqn",
        "--steps",
        "60M",  # the first row of its metrics comes within a minute
        "--capacity",
        "20000",
        "--run",
        str(run_dir),
        "--games",
        "0",
        "--quiet",
        "--save-seconds",
        "5",
    ]
    log = ask.folder / "train.log"
    with open(log, "wb") as file:
        training_process = subprocess.Popen([*PYTHON, *words], cwd=ask.folder, stdout=file, stderr=file)
    sizes: dict[str, list[int]] = {"training": [], "page": []}
    files: dict[str, list[frozenset[tuple[str, str]]]] = {"training": [], "page": []}
    try:
        until = time.monotonic() + 120
        while not ((run_dir / "checkpoints" / "last").exists() and (run_dir / "metrics.csv").exists()):
            if training_process.poll() is not None or time.monotonic() > until:
                return Seen(1, [f"the training did not start: {log.read_text(errors='replace')[-200:]}"])
            time.sleep(0.1)
        page = Page([str(run_dir)], ask.folder)

        async def all_of_it() -> list[int]:
            start = time.monotonic()
            end = start + seconds
            tabs = [asyncio.create_task(watch(page, end)) for _ in range(3)]
            while time.monotonic() < end:
                await asyncio.sleep(min(5.0, seconds / 60))
                for name, pid in (("training", training_process.pid), ("page", page.process.pid)):
                    sizes[name].append(size_of(pid)[0])
                    files[name].append(opened(pid))
                ask.show(max(1, int(time.monotonic() - start)), int(seconds))
            return list(await asyncio.gather(*tabs))

        frames = asyncio.run(all_of_it())
        alive = training_process.poll() is None and page.process.poll() is None
        seen.check(alive, f"ended early: training {training_process.poll()}, page {page.process.poll()}")
        code = page.end()
        seen.check(code in (0, 130) and TRACEBACK not in page.text(), f"the page: exit {code}: {page.text()[-300:]}")
        seen.check(min(frames) > seconds, f"frames of the clients: {frames}")
    finally:
        training_process.terminate()
        code = training_process.wait(60)
    seen.check(code == 143, f"the training: exit {code}: {log.read_text(errors='replace')[-200:]}")
    tenth = max(1, len(sizes["page"]) // 10)
    parts = slice(tenth, 2 * tenth), slice(-tenth, None)
    for name, memory in sizes.items():
        first, last = (sum(memory[part]) / len(memory[part]) for part in parts)
        growth = last / first - 1
        # What a save opens is closed again; what is left open is there in every sample.
        before, after = (frozenset.intersection(*files[name][part]) for part in parts)
        more = ", ".join(sorted(what for _, what in after - before))
        seen.check(growth < 0.01, f"the memory of the {name} grew by {growth:.2%}")
        seen.check(len(after) <= len(before), f"the {name} has more descriptors open: {more}")
        seen.figures[f"growth of the {name}, %"] = round(100 * growth, 2)
    seen.figures |= {"minutes": round(seconds / 60, 1), "frames": sum(frames)}
    seen.count = max(1, round(seconds / 60))
    return seen


@trial(
    29,
    "page-clients",
    "clients that come and go, also in the middle of a message: every later client is served, no traceback, "
    "descriptors are closed, the training goes on",
    short=0,
    long=200,
)
def page_clients(ask: Ask) -> Seen:
    """Half read three frames and close; half vanish without a word."""
    seen = Seen()
    page = Page(["CartPole-v1", "--agent", "random"], ask.folder)

    async def one(n: int) -> str:
        try:
            async with page.connect() as tab:
                for _ in range(3):
                    await asyncio.wait_for(tab.recv(), 10)
                    await tab.send(json.dumps({"command": "ack"}))
                if n % 2:
                    tab.transport.abort()
        except (OSError, TimeoutError, websockets.WebSocketException) as error:
            if n % 2 == 0 or isinstance(error, TimeoutError):
                return f"client {n}: {error!r}"
        return ""

    before = 0
    for n in ask.rounds():
        wrong = asyncio.run(one(n))
        seen.check(not wrong, wrong)
        if n == 10:
            time.sleep(0.5)
            before = size_of(page.process.pid)[1]
    time.sleep(1)
    after = size_of(page.process.pid)[1]
    code = page.end()
    seen.check(code in (0, 130) and TRACEBACK not in page.text(), f"exit {code}: {page.text()[-300:]}")
    seen.check(not before or after <= before + 1, f"{after} descriptors open, {before} after the tenth client")
    seen.figures["descriptors"] = after
    return seen


@trial(29, "page-port", "a port that is taken: exit 2 naming a free one", short=0, long=5)
def page_port(ask: Ask) -> Seen:
    """Taken by a socket of the trial."""
    seen = Seen()
    for _ in ask.rounds():
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            done = run(
                ["watch", "CartPole-v1", "--agent", "random", "--no-browser", "--port", port], ask.folder, timeout=30
            )
        good = done.code == 2 and done.plain and re.search(r"\d{4,5}", done.last.replace(port, ""))
        seen.check(bool(good), f"exit {done.code}: {done.last}")
    return seen


@trial(
    29,
    "page-cost",
    "eight clients that watch a training's page in another process: the training's hash is that without them",
    short=0,
    long=2,
)
def page_cost(ask: Ask) -> Seen:
    """The page reads the run directory while it is written."""
    seen = Seen()
    good = ask.folder / "good"
    slower = ["--save-seconds", "0.2", "--steps", "10000"]
    alone = run([w for w in training("ppo", good, *slower)], ask.folder)
    seen.check(alone.code == 0, alone.last)
    for n in ask.rounds():
        directory = ask.folder / f"run-{n}"
        process = subprocess.Popen(
            [sys.executable, "-m", "playfield", *training("ppo", directory, *slower)],
            cwd=ask.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (directory / "checkpoints" / "last").exists() and process.poll() is None:
            time.sleep(0.05)
        page = Page([str(directory)], ask.folder)

        async def crowd(page: Page = page) -> list[int]:
            return list(await asyncio.gather(*(watch(page, time.monotonic() + 8) for _ in range(8))))

        asyncio.run(crowd())
        process.wait(300)
        page.end()
        same = (
            json.loads((directory / "run.json").read_text())["result"]["hash"]
            == json.loads((good / "run.json").read_text())["result"]["hash"]
        )
        seen.check(same and TRACEBACK not in page.text(), f"hash equal: {same}; page: {page.text()[-200:]}")
    return seen
