"""What is said of Ray clusters: one that runs on this machine, and why one cannot be joined. Imports no Ray."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import sys
from pathlib import Path

CLIENT_PORT = 10001  # of Ray's client server, unless it was started with another one
KNOCK = 0.5  # seconds that a cluster on this machine may take to answer
ADDRESS = re.compile(r"(ray://)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):(\d{1,5})")


def beginning(address: str) -> list[str]:
    """What is said before a cluster is joined or started; `address`: as `ray_link.asked` returns it."""
    if address != "local":
        return [f"joining {address} ..."]
    other = "" if os.environ.get("RAY_ADDRESS") else running()  # else it says that none is to be joined
    told = [f"note: a Ray cluster runs on this machine already, and is not used: --on {other} uses it"]
    return [*(told if other else []), "starting Ray here ..."]


def running() -> str:
    """The address of a cluster that `ray start` has begun on this machine, and that answers; empty without one."""
    ours = os.environ.get("TMPDIR") if sys.platform.startswith("linux") else None
    folder = Path(os.environ.get("RAY_TMPDIR") or ours or "/tmp", "ray")  # as Ray finds it
    with contextlib.suppress(OSError, ValueError, OverflowError):
        found = ADDRESS.fullmatch((folder / "ray_current_cluster").read_text("utf-8")[:300].strip())
        if found is not None:  # the file stays where a machine is switched off
            socket.create_connection((found[2].strip("[]"), int(found[3])), timeout=KNOCK).close()
            return found[0]
    return ""


def token() -> str:
    """Where the token is that Ray shows to a cluster; empty where it shows none."""
    mode = os.environ.get("RAY_AUTH_MODE", "")
    if mode and mode.lower() != "token":
        return ""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or _own())
    return str(path) if path.is_file() else ""


def no_token() -> str:
    """A clause for a cluster that wants another token than it was shown, or one at all."""
    if shown := token():
        return f"it has another token than {shown}"
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        where = os.environ.get("RAY_AUTH_TOKEN_PATH")
        named = f"{where}, which RAY_AUTH_TOKEN_PATH names" if where else str(_own())
        return f"RAY_AUTH_MODE is token, and there is no token in {named}: copy that of the cluster there"
    return "it wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH as it has them"


def hint(address: str) -> str:
    """What may be the matter where a cluster does not answer at an address, as a clause."""
    if address == "auto" and not running():  # what a file or a process says of it is left of one that has ended
        return "; no Ray cluster seems to run on this machine any more: --on HOST:PORT names one"
    if other := port_of(address):
        return other
    if shown := token():
        return f", or it has another token than {shown}"
    return "; if it wants a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN_PATH as it has them"


def port_of(address: str) -> str:
    """What to try instead of an address whose port belongs to another way of joining; empty where it may be right."""
    found = ADDRESS.fullmatch(address)
    if found is None or (int(found[3]) == CLIENT_PORT) == bool(found[1]):
        return ""
    if found[1]:
        return f". ray:// wants the port of Ray's client, by default ray://{found[2]}:{CLIENT_PORT}"
    return f". Port {CLIENT_PORT} is that of Ray's client: --on ray://{found[0]}"


def _own() -> Path:
    return Path.home() / ".ray" / "auth_token"
