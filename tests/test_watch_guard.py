"""The live page's guards against a real server over raw sockets: hosts, origins, methods, paths, tokens."""

from __future__ import annotations

import base64
import socket

import pytest

from playfield.show.watch.game import Source
from playfield.show.watch.guard import HEADERS, hosts_for
from watch_fixtures import TOKEN, served


@pytest.fixture(scope="module")
def page():
    with served(Source("CartPole-v1", agent="random")) as found:
        yield found


def ask(port: int, head: str) -> tuple[int, str, bytes]:
    """Send a request as it stands; (status, headers, body)."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as s:
        s.sendall(head.encode("latin-1"))
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = s.recv(65536)
            if not chunk:
                break
            data += chunk
        top, _, body = data.partition(b"\r\n\r\n")
        headers = top.decode("latin-1").lower()
        for line in headers.split("\r\n"):
            if line.startswith("content-length:") and not head.startswith("HEAD"):
                while len(body) < int(line.split(":")[1]):
                    body += s.recv(65536)
    return int(headers.split()[1]), headers, body


def request(port, path="/", method="GET", host=None, extra=()):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host or f'127.0.0.1:{port}'}", "Connection: close", *extra]
    return ask(port, "\r\n".join(lines) + "\r\n\r\n")


def upgrade(port, origin="same", token=TOKEN, host=None, protocols=None, path="/ws"):
    protocols = f"playfield, token.{token}" if protocols is None else protocols
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {host or f'127.0.0.1:{port}'}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {base64.b64encode(b'0123456789abcdef').decode()}",
    ]
    if origin == "same":
        origin = f"http://127.0.0.1:{port}"
    lines += [f"Origin: {origin}"] if origin else []
    lines += [f"Sec-WebSocket-Protocol: {protocols}"] if protocols else []
    return ask(port, "\r\n".join(lines) + "\r\n\r\n")[0]


BAD_HOSTS = [
    "evil.example", "evil.example:{port}", "localhost.evil.example:{port}", "127.0.0.1.:{port}", "127.0.0.1",
    "localhost", "127.0.0.1:1", "[::1]", "[::1]:1", "127.0.0.1:{port}@evil.example", "0.0.0.0:{port}",
    "127.0.0.2:{port}", "127.0.0.1:{port}.evil.example", "2130706433:{port}", "127.1:{port}",
    "127.0.0.1:{port}, evil.example",
]  # fmt: skip


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_another_host_is_misdirected(page, host):
    host = host.format(port=page.port)
    status, _, body = request(page.port, host=host)
    assert status in (400, 421)
    assert b"<html" not in body
    assert upgrade(page.port, host=host) in (400, 403, 421)


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "[::1]:{port}", "LOCALHOST:{port}"])
def test_the_printed_hosts_are_served(page, host):
    status, headers, body = request(page.port, host=host.format(port=page.port))
    assert status == 200
    assert b"<title>playfield</title>" in body
    for name, value in HEADERS.items():
        assert f"{name}: {value}".lower() in headers
    assert "access-control" not in headers
    assert "server:" not in headers


def test_two_hosts_or_none_are_refused(page):
    good = f"Host: 127.0.0.1:{page.port}"
    for lines in ([good, "Host: evil.example"], [good, good], []):
        assert ask(page.port, "\r\n".join(["GET / HTTP/1.1", *lines, "Connection: close"]) + "\r\n\r\n")[0] in (
            400,
            421,
        )
    assert ask(page.port, "GET / HTTP/1.0\r\n\r\n")[0] in (400, 421)


PATHS = [
    "/../server.py", "/%2e%2e/server.py", "/%2e%2e%2fserver.py", "/..%2fserver.py", "/%252e%252e%252fserver.py",
    "/..%5cserver.py", "/..\\server.py", "/page/../../server.py", "//etc/passwd", "/etc/passwd", "///etc/passwd",
    "/page.js/../../../etc/passwd", "/page.js/..", "/page.js/", "/page.js%00", "/page.js%00.html", "/%00",
    "/\\\\host\\share", "/..%c0%afetc/passwd", "/%c0%ae%c0%ae/etc/passwd", "/%e0%80%ae/", "/./server.py", "/page",
    "/page/", "/page/index.html", "/index.html", "/static/../static_x", "/static/", "/ws/../x", "/..;/x", "/~root",
    "/.git/config", "/run.json", "/monitor.csv", "/checkpoints/last", "/PAGE.JS", "/page.js.map", "/favicon.ico",
    "/page.css/%2e%2e/%2e%2e/game.py", "/?../x/../../y/%2e/z" + "/a" * 2000,
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "RANGE"])
def test_no_path_leads_anywhere_else(page, path, method):
    extra = ["Range: bytes=0-99"] if method == "RANGE" else []
    status, _, body = request(page.port, path, "GET" if method == "RANGE" else method, extra=extra)
    if path.startswith("/?"):
        assert status == 200  # the page itself: a query is ignored
        return
    assert status in (400, 404)
    assert b"import" not in body
    assert b"root:" not in body


ORIGINS = [
    "same",
    "http://evil.example",
    "null",
    "https://127.0.0.1:{port}",
    "http://127.0.0.1",
    "http://localhost:{port}",
    "",
]


@pytest.mark.parametrize("origin", ORIGINS)
@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "PROPFIND", "get"]
)
@pytest.mark.parametrize("path", ["/", "/ws"])
def test_only_get_and_head_exist(page, method, origin, path):
    real = f"http://127.0.0.1:{page.port}" if origin == "same" else origin.format(port=page.port)
    status, headers, _ = request(page.port, path, method, extra=[f"Origin: {real}"] if real else [])
    assert status in ((405,) if origin == "same" else (403,))
    assert "access-control" not in headers


@pytest.mark.parametrize("origin", ORIGINS)
def test_origin_of_a_websocket(page, origin):
    real = origin if origin == "same" else origin.format(port=page.port)
    assert upgrade(page.port, origin=real) == (101 if origin == "same" else 403)


@pytest.mark.parametrize(
    "protocols",
    ["", "playfield", f"token.{TOKEN}", "playfield, token.", "playfield, token.wrong", f"playfield, token.{TOKEN}x",
     f"playfield, token.wrong, token.{TOKEN}", f"playfield, {TOKEN}", f"other, token.{TOKEN}",
     "playfield, token.caf\xe9"],
)  # fmt: skip
def test_a_wrong_token_is_refused_before_accepting(page, protocols):
    assert upgrade(page.port, protocols=protocols) in (400, 403)


def test_websocket_elsewhere_is_refused(page):
    assert upgrade(page.port, path="/") in (403, 404)
    assert upgrade(page.port, path="/ws/") in (403, 404)


def test_a_cross_origin_get_is_refused(page):
    assert request(page.port, extra=["Origin: http://evil.example"])[0] == 403


def test_hosts_for():
    assert hosts_for("127.0.0.1", 8) == {"127.0.0.1:8", "localhost:8", "[::1]:8"}
    more = hosts_for("0.0.0.0", 80, ("Me.Lan", "box:9", "[fe80::1]"))
    assert {"me.lan:80", "me.lan", "box:9", "[fe80::1]:80"} <= more
    assert not any(h.startswith("0.0.0.0") for h in more)
