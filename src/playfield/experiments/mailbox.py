"""Questions of nodes, and the answers to them: text and bytes that wait beside the driver until they are taken.

Where nodes do not see the directory of the experiment, they send files to its machine and fetch files from it, see
`store`. Nodes can reach an actor of the cluster, and so can the driver, wherever it is; so this one stands between.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque

MOST = 16_000_000  # bytes that are taken at once, unless a single question has more
WAIT = 5.0  # seconds after which whoever takes is told that there is nothing


class Mailbox:
    """An actor whose methods run side by side in one event loop."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: deque[tuple[int, str, bytes]] = deque()
        self._answers: dict[int, asyncio.Future[tuple[str, bytes]]] = {}
        self._come = asyncio.Event()

    async def ask(self, text: str, data: bytes) -> tuple[str, bytes]:
        """The answer to a question, once there is one."""
        number = next(self._numbers)
        answer: asyncio.Future[tuple[str, bytes]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._waiting.append((number, text, data))
        self._come.set()
        try:
            return await answer
        finally:
            del self._answers[number]

    async def begun(self, task: int) -> None:
        """A task has begun. It is told before all questions, as one with the number 0 that wants no answer."""
        self._waiting.appendleft((0, str(task), b""))
        self._come.set()

    async def take(self) -> list[tuple[int, str, bytes]]:
        """The questions that wait, oldest first, each with its number; none after `WAIT` seconds without one."""
        if not self._waiting:
            self._come.clear()
            try:
                await asyncio.wait_for(self._come.wait(), WAIT)
            except TimeoutError:
                return []
        taken: list[tuple[int, str, bytes]] = []
        size = 0
        while self._waiting and (not taken or size + len(self._waiting[0][2]) <= MOST):
            taken.append(self._waiting.popleft())
            size += len(taken[-1][2])
        return taken

    async def answer(self, number: int, text: str, data: bytes) -> None:
        """Answer a question; nothing happens where nobody waits for it any more."""
        waiting = self._answers.get(number)
        if waiting is not None and not waiting.done():
            waiting.set_result((text, data))
