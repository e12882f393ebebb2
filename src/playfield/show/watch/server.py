"""The web server of `playfield watch`. It runs in its own process and only reads run directories.

One static page and one WebSocket. The server sends the latest frame once the page has acknowledged the one before:
a slow page skips frames, and never delays the game or fills memory. Nothing that a client sends becomes part of a
path: it chooses from lists of the server, an agent's checkpoints and, where a folder is watched, its runs by number.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Sequence
from importlib import resources
from typing import Any

import torch
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from playfield.errors import PlayfieldError, UsageError
from playfield.play.player import fps_of
from playfield.play.statistics import MEAN, Statistic
from playfield.show.watch.board import Board, BoardClient, Looked
from playfield.show.watch.connection import BadMessage, received, together
from playfield.show.watch.game import KEYS, Session, Source, pack
from playfield.show.watch.guard import PROTOCOL, Guard, hosts_for

CLIENTS = 8  # tabs at once; each has its own game
ACK_TIMEOUT = 10.0  # seconds without an acknowledgement after which a client is disconnected
POLL_PERIOD = 2.0  # seconds between two reads of the run directory
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 0.0)  # relative to the game's own; 0 is as fast as possible
OVERLAYS = ("off", "value", "policy")
PAGE = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/runs.js": ("runs.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}


class Client:
    """The connection of one tab: four tasks play, send frames, send the run's status and receive commands."""

    def __init__(self, socket: WebSocket, session: Session) -> None:
        self.socket, self.session = socket, session
        self.speed, self.playing = 1.0, True
        self._steps = 0  # single steps requested while paused
        self._wake, self._new_frame, self._acknowledged = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._acknowledged.set()
        self._session_lock = asyncio.Lock()  # one call of the session at a time
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Serve the tab until it disconnects. Raises BadMessage, WebSocketDisconnect, TimeoutError or OSError."""
        await self._send(self.session.hello())
        await together(self._play, self._send_frames, self._receive, self._send_status)

    async def _call(self, work: Callable[..., Any], *args: Any) -> Any:
        async with self._session_lock:
            running = asyncio.ensure_future(asyncio.to_thread(work, *args))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])  # a thread cannot be cancelled: wait before the session is closed
                raise

    async def _send(self, data: bytes) -> None:
        # Not wait_for: until Python 3.12 it can swallow a cancellation, and this task would never end.
        async with self._sending, asyncio.timeout(ACK_TIMEOUT):
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
            self._new_frame.set()
            pause = 0.0 if self.speed == 0 else 1 / (fps_of(self.session.spec) * self.speed)
            due = max(due + pause, clock() - 0.1)  # catch up after a late step, but not after a long pause
            await asyncio.sleep(max(0.0, due - clock()))

    async def _send_frames(self) -> None:
        while True:
            await self._new_frame.wait()
            try:
                async with asyncio.timeout(ACK_TIMEOUT):
                    await self._acknowledged.wait()
            except TimeoutError:
                raise BadMessage(1008, "no acknowledgement from the page") from None
            self._new_frame.clear()
            self._acknowledged.clear()
            await self._send(await self._call(self.session.frame))

    async def _send_status(self) -> None:
        while True:
            try:
                await self._call(self.session.follow)
            except PlayfieldError as error:
                await self._send(pack({"kind": "note", "text": str(error)}))
            await self._send(await self._call(self.session.run_status))
            await asyncio.sleep(POLL_PERIOD)

    async def _receive(self) -> None:
        async for message in received(self.socket):
            try:
                await self._handle(message)
            except PlayfieldError as error:
                await self._send(pack({"kind": "note", "text": str(error)}))

    async def _handle(self, message: dict[str, Any]) -> None:
        """Execute one command. Values out of range are ignored; an unknown command raises BadMessage."""
        session = self.session
        match message:
            case {"command": "ack"}:
                self._acknowledged.set()
                return
            case {"command": "play"}:
                self.playing = True
            case {"command": "pause"}:
                self.playing = False
            case {"command": "step"}:
                self.playing, self._steps = False, min(self._steps + 1, 4)
            case {"command": "speed", "speed": int() | float() as speed}:
                if speed in SPEEDS:
                    self.speed = float(speed)
            case {"command": "restart"}:
                await self._call(session.restart, secrets.randbelow(2**31 - 1))
                self._steps = 1
            case {"command": "overlay", "overlay": str(overlay)}:
                if overlay in OVERLAYS:
                    session.overlay = overlay
                    self._new_frame.set()
            case {"command": "checkpoint", "choice": str(choice)}:
                if choice in await self._call(session.source.choices):
                    await self._call(session.choose, choice)
            case {"command": "human", "on": bool(on)}:
                session.take_over(on)
            case {"command": "keys", "keys": [*keys]}:
                session.press([key for key in keys if key in KEYS])
                return
            case {"command": "speed" | "overlay" | "checkpoint" | "human" | "keys"}:
                return
            case _:
                raise BadMessage(1008, "unknown command")
        self._wake.set()


class Hub:
    """The application: static page, WebSocket, and the number of clients.

    Args:
        source: the agent, or a folder of runs.
        seed: of the first game of each tab.
        hosts, token: see `Guard`.
    """

    def __init__(self, source: Source | Board, seed: int, hosts: frozenset[str], token: str) -> None:
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
            text = f"{CLIENTS} tabs are open already, the maximum: close one"
            await socket.send_bytes(pack({"kind": "error", "text": text}))
            await socket.close(1013, "too many tabs")
            return
        self.clients += 1
        session: Session | None = None
        code, reason = 1000, ""
        try:
            chosen, number = self.source, socket.query_params.get("run")
            if isinstance(chosen, Board):
                if number is None:
                    await BoardClient(socket, chosen).run()
                    return
                chosen = await asyncio.to_thread(chosen.source, number)
            session = await asyncio.to_thread(Session, chosen, self.seed)
            await Client(socket, session).run()
        except BadMessage as error:
            code, reason = error.code, str(error)
        except (WebSocketDisconnect, TimeoutError, OSError):
            code = 0
        except PlayfieldError as error:
            with contextlib.suppress(Exception):
                await socket.send_bytes(pack({"kind": "error", "text": str(error)}))
            code, reason = 1011, "see the error message"
        finally:
            self.clients -= 1
            if session is not None:
                session.close()
        if code:
            with contextlib.suppress(Exception):  # the client may have disconnected meanwhile
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
    """The uvicorn configuration for `hub`."""
    made = uvicorn.Config(
        hub.app,
        http="h11",
        ws="websockets-sansio",
        ws_max_size=65_536,
        ws_max_queue=8,
        ws_per_message_deflate=False,  # compression costs more than it saves on the loopback
        limit_concurrency=64,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        lifespan="off",
        access_log=False,
        log_level="error",
        timeout_graceful_shutdown=1,
    )
    logging.getLogger("uvicorn.error").addFilter(_worth_telling)
    return made


def _worth_telling(record: logging.LogRecord) -> bool:
    """Not the traceback of a text message that is not UTF-8: its connection is closed with status 1007."""
    return record.exc_info is None or not isinstance(record.exc_info[1], UnicodeDecodeError)


def watch(
    source: str,
    *,
    look: Callable[[], Looked] | None = None,
    which: str = "last",
    host: str = "127.0.0.1",
    port: int = 0,
    allow_host: Sequence[str] = (),
    temperature: float | None = None,
    seed: int = 0,
    agent: str | None = None,
    trust: bool = False,
    open_browser: bool = True,
    statistic: Statistic = MEAN,
) -> None:
    """Serve the live page until Ctrl-C (KeyboardInterrupt) or SIGTERM.

    Args:
        source: a run, a checkpoint or a shipped agent (see `play.agent.find_agent`); an environment with
            `agent="random"`; with `look`, the name of a folder of runs.
        look: reads the runs of the folder, for a table and a chart of all of them; each can be opened.
        which: `last` (follows a training run), `best` or a step.
        host, port: address to listen on; port 0 chooses a free one.
        allow_host: more host names that the page may be opened under.
        temperature: of the sampled actions, 0 is greedy; None: the agent's default.
        seed: of the first game of each tab.
        agent: `random` for random play.
        trust: import the module of an environment `module:Id` that only the run's files name.
        open_browser: open the page in a browser, where there is a display.
        statistic: of a run's last games, what its learning curve shows; with `look`, what that reads.

    Raises:
        UsageError: no such agent, or the port is taken. DataError: a damaged checkpoint.
    """
    listening = listen(host, port)
    if agent is None:
        torch.set_num_threads(1)  # leave the other cores to training; small batches do not gain from more threads
    with contextlib.closing(listening):
        options: dict[str, Any] = {"which": which, "temperature": temperature, "seed": seed, "trust": trust}
        chosen: Source | Board = (
            Source(source, agent=agent, statistic=statistic, **options)
            if look is None
            else Board(source, look, options, statistic)
        )
        number = listening.getsockname()[1]
        token = secrets.token_urlsafe(24)
        hub = Hub(chosen, seed, hosts_for(host, number, allow_host), token)
        name = "127.0.0.1" if host in ("0.0.0.0", "::", "localhost") else f"[{host}]" if ":" in host else host
        url = f"http://{name}:{number}/#t={token}"
        if host not in ("127.0.0.1", "localhost", "::1"):
            print(
                f"warning: this page is reachable from other machines ({host}), unencrypted, by anyone who has the "
                "address below. Add --allow-host NAME for each host name they use.",
                file=sys.stderr,
            )
        print(chosen.about)
        print(f"{url}\nPress Ctrl-C to stop.", flush=True)
        if open_browser and _has_display():
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
        server = uvicorn.Server(configure(hub))
        server.run(sockets=[listening])
        if server.should_exit:  # stopped by a signal, which uvicorn re-raises or not, depending on timing
            raise KeyboardInterrupt


def _has_display() -> bool:
    return os.name != "posix" or sys.platform == "darwin" or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
