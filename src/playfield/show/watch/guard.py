"""Access rules of the live page, checked before any handler runs.

A page of another site can make a browser send requests to this machine (cross-site requests, DNS rebinding). So
the Host header must name the address that was printed, the Origin of a WebSocket must be the same address, the
token must be right, and only GET and HEAD are allowed: state is read and changed only through the WebSocket.
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import Iterable, Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
PROTOCOL = "playfield"  # WebSocket subprotocol; the token is a second one, since scripts cannot set headers
METHODS = ("GET", "HEAD")


def hosts_for(host: str, port: int, extra: Iterable[str] = ()) -> frozenset[str]:
    """Host headers that are accepted for the page at `host`:`port`, lower case, each with its port.

    `extra` are more names, `name` or `name:port`. For port 80 names without a port are included, as browsers send.
    """
    names = ["127.0.0.1", "localhost", "[::1]"]
    if host not in ("0.0.0.0", "::", ""):
        names.append(f"[{host}]" if ":" in host and not host.startswith("[") else host)
    allowed = {f"{name}:{port}" for name in names}
    for name in extra:
        has_port = ":" in name.rpartition("]")[2]
        allowed.add(name if has_port else f"{name}:{port}")
    if port == 80:
        allowed |= {name.removesuffix(":80") for name in allowed if name.endswith(":80")}
    return frozenset(name.lower() for name in allowed)


class Guard:
    """ASGI middleware that applies the rules above.

    Args:
        app: the protected application.
        hosts: accepted Host headers, see `hosts_for`.
        token: secret that a WebSocket must offer as the subprotocol `token.<secret>`.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str], token: str) -> None:
        self.app, self.hosts, self.token = app, hosts, token

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """(status, reason) for a request that is refused, None for one that is allowed."""
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            return 400, "unknown type of request"
        found = _values(scope, b"host")
        if len(found) != 1 or found[0].lower() not in self.hosts:
            return 421, "wrong Host header: open the address that playfield printed (see --allow-host)"
        origins = _values(scope, b"origin")
        same = len(origins) == 1 and origins[0].lower() == f"http://{found[0].lower()}"
        if kind == "websocket":
            if not same:
                return 403, "cross-origin WebSocket refused"
            return None if self._has_token(scope) else (403, "wrong token")
        if scope["method"] not in METHODS:
            return (405, "only GET and HEAD are allowed") if same else (403, "cross-origin request refused")
        if origins and not same:
            return 403, "cross-origin request refused"
        return None

    def _has_token(self, scope: Scope) -> bool:
        offered = [p.strip() for line in _values(scope, b"sec-websocket-protocol") for p in line.split(",")]
        tokens = [p.removeprefix("token.") for p in offered if p.startswith("token.")]
        return (
            PROTOCOL in offered and len(tokens) == 1 and hmac.compare_digest(tokens[0].encode(), self.token.encode())
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = self.refusal(scope)
        if scope["type"] == "websocket":
            if refused:
                await send({"type": "websocket.close", "code": 1008})  # before accepting: the client gets a 403
            else:
                with _client_may_leave():
                    await self.app(scope, receive, send)
            return
        if refused:
            status, reason = refused
            body = f"{reason}\n".encode()
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
            if status == 405:
                headers.append((b"allow", b"GET, HEAD"))
            await send({"type": "http.response.start", "status": status, "headers": headers + _header_list()})
            await send({"type": "http.response.body", "body": body})
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_header_list()]}
            await send(message)

        with _client_may_leave():
            await self.app(scope, receive, with_headers)


@contextlib.contextmanager
def _client_may_leave() -> Iterator[None]:
    """Inside, sending to a client that has closed its connection is no error."""
    try:
        yield
    except OSError:
        return
    except RuntimeError as error:  # so uvicorn calls it where it has noticed already
        if not str(error).startswith("Unexpected ASGI message"):
            raise


def _header_list() -> list[tuple[bytes, bytes]]:
    return [(k.encode(), v.encode()) for k, v in HEADERS.items()]


def _values(scope: Scope, name: bytes) -> list[str]:
    return [v.decode("latin-1").strip() for k, v in scope["headers"] if k.lower() == name]
