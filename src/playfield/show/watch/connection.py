"""What all connections of the live page share: messages of the page, checked, and tasks that end together."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket

MESSAGES = 200  # per second and client, at most


class BadMessage(Exception):
    """A message that the page never sends; the connection is closed with the WebSocket status `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def parse(text: str) -> dict[str, Any]:
    """Parse a client's message, {"command": ..., ...}. Raises BadMessage."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage(1007, "not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("command"), str):
        raise BadMessage(1008, "message without a command")
    return message


async def received(socket: WebSocket) -> AsyncIterator[dict[str, Any]]:
    """The messages of a client until it disconnects. Raises BadMessage, also for more than `MESSAGES` a second."""
    allowance, then = float(MESSAGES), time.monotonic()
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        now = time.monotonic()
        allowance, then = min(MESSAGES, allowance + (now - then) * MESSAGES), now
        allowance -= 1
        if allowance < 0:
            raise BadMessage(1008, "too many messages")
        text = message.get("text")
        if text is None:
            raise BadMessage(1003, "binary message")
        yield parse(text)


async def together(*works: Callable[[], Awaitable[None]]) -> None:
    """Do all of these at once until one ends, and cancel the others; raises what that one raises."""
    tasks = [asyncio.ensure_future(work()) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
