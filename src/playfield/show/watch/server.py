"""The live page: `playfield watch`. A process of its own that only reads run directories.

One static page and one WebSocket. The server sends a frame when the page has acknowledged the one before, and
always the latest: a slow page skips frames, it never delays the game or fills memory. Nothing that a client sends
becomes part of a path: it picks from lists that the server made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from playfield.errors import PlayfieldError, UsageError
from playfield.play.player import fps_of
from playfield.show.watch.game import KEYS, Session, Source, pack
from playfield.show.watch.guard import PROTOCOL, Guard, hosts_for

CLIENTS = 8  # tabs at once; each plays a game of its own
MESSAGES = 200  # per second and client
SILENCE = 10.0  # seconds without an acknowledgement after which a client is dropped
NEWS_PERIOD = 2.0  # seconds between two looks at the run directory
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 0.0)  # times the game's own; 0 is as fast as it goes
OVERLAYS = ("off", "value", "policy")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


class BadMessage(Exception):
    """A message that the page would never send; the connection is closed with `code`."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def parse(text: str) -> dict[str, Any]:
    """A client's message: {"verb": ..., ...}. Raises BadMessage."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage(1007, "not JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("verb"), str):
        raise BadMessage(1008, "not a message of this page")
    return message


class Client:
    """One connected tab: plays, sends, and listens until one of the three ends."""

    def __init__(self, socket: WebSocket, session: Session) -> None:
        self.socket, self.session = socket, session
        self.speed, self.playing = 1.0, True
        self._steps = 0  # asked for while paused
        self._wake, self._fresh, self._credit = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._credit.set()
        self._busy = asyncio.Lock()  # one call of the session at a time
        self._sending = asyncio.Lock()
        self._last_ack = time.monotonic()

    async def run(self) -> None:
        await self._send(self.session.hello())
        tasks = [asyncio.create_task(work()) for work in (self._play, self._show, self._listen, self._report)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _call(self, work: Callable[..., Any], *args: Any) -> Any:
        async with self._busy:
            running = asyncio.ensure_future(asyncio.to_thread(work, *args))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])  # a thread cannot be cancelled: the session must outlive it
                raise

    async def _send(self, data: bytes) -> None:
        # Not wait_for: until Python 3.12 it can swallow a cancellation, and this task would never end.
        async with self._sending, asyncio.timeout(SILENCE):
            await self.socket.send_bytes(data)

    async def _play(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock()
        while True:
            if not self.playing and self._steps == 0:
                self._wake.clear()
                await self._wake.wait()
                due = clock()
                continue
            self._steps = max(0, self._steps - 1)
            await self._call(self.session.advance)
            self._fresh.set()
            pause = 0.0 if self.speed == 0 else 1 / (fps_of(self.session.spec) * self.speed)
            due = max(due + pause, clock() - 0.1)  # a late step is made up for, a long halt is not
            await asyncio.sleep(max(0.0, due - clock()))

    async def _show(self) -> None:
        while True:
            await self._fresh.wait()
            try:
                async with asyncio.timeout(SILENCE):
                    await self._credit.wait()
            except TimeoutError:
                raise BadMessage(1008, "the page no longer answers") from None
            self._fresh.clear()
            self._credit.clear()
            await self._send(await self._call(self.session.frame))

    async def _report(self) -> None:
        while True:
            try:
                await self._call(self.session.follow)
            except PlayfieldError as error:
                await self._send(pack({"kind": "note", "text": str(error)}))
            await self._send(await self._call(self.session.news))
            await asyncio.sleep(NEWS_PERIOD)

    async def _listen(self) -> None:
        allowance, then = float(MESSAGES), time.monotonic()
        while True:
            message = await self.socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            now = time.monotonic()
            allowance, then = min(MESSAGES, allowance + (now - then) * MESSAGES), now
            allowance -= 1
            if allowance < 0:
                raise BadMessage(1008, "too many messages")
            text = message.get("text")
            if text is None:
                raise BadMessage(1003, "only text messages")
            try:
                await self._obey(parse(text))
            except PlayfieldError as error:
                await self._send(pack({"kind": "note", "text": str(error)}))

    async def _obey(self, message: dict[str, Any]) -> None:
        """Carry out one verb. Values out of range are ignored; an unknown verb raises BadMessage."""
        session = self.session
        match message:
            case {"verb": "ack"}:
                self._credit.set()
                return
            case {"verb": "play"}:
                self.playing = True
            case {"verb": "pause"}:
                self.playing = False
            case {"verb": "step"}:
                self.playing, self._steps = False, min(self._steps + 1, 4)
            case {"verb": "speed", "speed": int() | float() as speed}:
                if speed in SPEEDS:
                    self.speed = float(speed)
            case {"verb": "restart"}:
                await self._call(session.restart, secrets.randbelow(2**31 - 1))
                self._steps = 1
            case {"verb": "overlay", "overlay": str(overlay)}:
                if overlay in OVERLAYS:
                    session.overlay = overlay
                    self._fresh.set()
            case {"verb": "checkpoint", "choice": str(choice)}:
                if choice in await self._call(session.source.choices):
                    await self._call(session.choose, choice)
            case {"verb": "human", "on": bool(on)}:
                session.take_over(on)
            case {"verb": "keys", "keys": [*keys]}:
                session.press([key for key in keys if key in KEYS])
                return
            case {"verb": "speed" | "overlay" | "checkpoint" | "human" | "keys"}:
                return
            case _:
                raise BadMessage(1008, "unknown verb")
        self._wake.set()


class Hub:
    """The application: static page, WebSocket, and the count of clients."""

    def __init__(self, source: Source, seed: int, hosts: frozenset[str], token: str) -> None:
        self.source, self.seed, self.clients = source, seed, 0
        folder = resources.files("playfield.show.watch").joinpath("page")
        self._files = {path: (folder.joinpath(name).read_bytes(), kind) for path, (name, kind) in PAGE.items()}
        routes = [Route(path, self._file, methods=["GET"]) for path in PAGE]
        app = Starlette(routes=[*routes, WebSocketRoute("/ws", self._socket)])
        app.router.redirect_slashes = False
        self.app = Guard(app, hosts, token)

    async def _file(self, request: Request) -> Response:
        data, kind = self._files[request.url.path]
        return Response(data, media_type=kind)

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol=PROTOCOL)
        if self.clients >= CLIENTS:
            text = f"{CLIENTS} tabs are watching already, the most this page serves: close one"
            await socket.send_bytes(pack({"kind": "error", "text": text}))
            await socket.close(1013, "too many tabs")
            return
        self.clients += 1
        session: Session | None = None
        code, reason = 1000, ""
        try:
            session = await asyncio.to_thread(Session, self.source, self.seed)
            await Client(socket, session).run()
        except BadMessage as error:
            code, reason = error.code, str(error)
        except (WebSocketDisconnect, TimeoutError, OSError):
            code = 0
        except PlayfieldError as error:
            with contextlib.suppress(Exception):
                await socket.send_bytes(pack({"kind": "error", "text": str(error)}))
            code, reason = 1011, "see the message before"
        finally:
            self.clients -= 1
            if session is not None:
                session.close()
        if code:
            with contextlib.suppress(Exception):  # it may have gone meanwhile
                await socket.close(code, reason)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UsageError, naming the next free port, where `port` is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return _bound(family, host, port)
    except OSError as error:
        if port == 0:
            raise UsageError(f"cannot listen on {host}: {error.strerror or error}") from None
        for other in range(port + 1, min(port + 100, 65536)):
            with contextlib.suppress(OSError):
                _bound(family, host, other).close()
                raise UsageError(f"port {port} cannot be used ({error.strerror}): --port {other} is free") from None
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None


def _bound(family: int, host: str, port: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(64)
    except OSError:
        made.close()
        raise
    return made


def configure(hub: Hub) -> uvicorn.Config:
    """How uvicorn serves `hub`."""
    return uvicorn.Config(
        hub.app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=65_536,
        ws_max_queue=8,
        ws_per_message_deflate=False,  # the loopback is faster than any compression
        limit_concurrency=64,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="off",
        access_log=False,
        log_level="error",
        timeout_graceful_shutdown=1,
    )


def watch(
    source: str,
    *,
    which: str = "last",
    host: str = "127.0.0.1",
    port: int = 0,
    allow_host: Sequence[str] = (),
    temperature: float | None = None,
    seed: int = 0,
    agent: str | None = None,
    open_browser: bool = True,
) -> None:
    """Serve the live page until Ctrl-C (KeyboardInterrupt) or SIGTERM.

    Args:
        source: a run, a checkpoint or a shipped agent (see `policy.find_agent`); an environment with
            `agent="random"`.
        which: `last` (follows a training run), `best` or a step.
        host, port: where to listen; port 0 takes a free one.
        allow_host: more names that the page may be reached under.
        temperature: of the agent's sampling, 0 is greedy; None: its own default.
        seed: of the first game of each tab.
        open_browser: also open the page, where there is a screen.

    Raises:
        UsageError: no such agent, or the port is taken. DataError: a damaged one.
    """
    listening = listen(host, port)
    if agent is None:
        import torch

        torch.set_num_threads(1)  # leave the other cores to a training; more threads would wait for each other
    with contextlib.closing(listening):
        chosen = Source(source, which, agent, temperature, seed)
        number = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        hub = Hub(chosen, seed, hosts_for(host, number, allow_host), token)
        name = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else f"[{host}]" if ":" in host else host
        url = f"http://{name}:{number}/#t={token}"
        if host not in ("127.0.0.1", "localhost", "::1"):
            print(
                f"warning: other machines can reach this page at {host}; whoever has the address below may watch, "
                "and it travels unencrypted. They need --allow-host NAME for the name they use.",
                file=sys.stderr,
            )
        print(f"{chosen.spec.id}: {chosen.policy(chosen.first).label}")
        print(f"{url}\nCtrl-C ends it.", flush=True)
        if open_browser and _has_screen():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        server = uvicorn.Server(configure(hub))
        server.run(sockets=[listening])
        if server.should_exit:  # a signal ended it; whether uvicorn raises it again depends on its timing
            raise KeyboardInterrupt


def _has_screen() -> bool:
    return os.name != "posix" or sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
