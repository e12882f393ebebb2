"""`--nodes`, `--rendezvous` and `--join`: where machines meet, and the secret that they have in common.

Nothing here imports torch: a mistake is reported at once.
"""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from playfield.errors import UsageError, shown

TOKEN, TOKEN_FILE = "PLAYFIELD_TOKEN", "PLAYFIELD_TOKEN_FILE"  # variables of the environment
SHORTEST = 16  # characters of a token
PORT = 29500  # as torchrun has it
ANSWER = 10.0  # seconds that an address may take to answer
AGAIN = 0.25  # seconds between two tries to connect
ANY = ("", "0.0.0.0", "::")  # hosts that mean all addresses of the machine that listens
ADDRESS = re.compile(r"(\[[0-9a-fA-F:.%\w]*\]|[^\s:/\[\]]*)(?::(\d{1,5}))?")


@dataclass(frozen=True)
class Address:
    """Where machines meet; as text HOST:PORT."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address(flag: str, text: str) -> Address:
    """The address that is given as HOST:PORT, HOST or :PORT. Raises UsageError for what is none."""
    found = ADDRESS.fullmatch(text)
    if found is None or not text or not 0 < int(found[2] or PORT) < 65536:
        raise UsageError(f"{flag} {shown(text, plain=True)}: an address is written as HOST:PORT")
    return Address(found[1].strip("[]"), int(found[2] or PORT))


def connect(where: Address) -> socket.socket:
    """A connection to the first machine, which may begin to listen within `ANSWER` seconds. Raises UsageError."""
    end, why = time.monotonic() + ANSWER, ""
    while (left := end - time.monotonic()) > 0:
        try:
            return socket.create_connection((where.host or "localhost", where.port), timeout=left)
        except TimeoutError:
            break
        except (OSError, UnicodeError) as error:
            why = f": {getattr(error, 'strerror', None) or error}"
            if isinstance(error, socket.gaierror | UnicodeError):
                break
            time.sleep(AGAIN)
    raise UsageError(
        f"--join {where}: no training answers there{why or f' in {ANSWER:.0f} s'}; begin one on that machine with "
        f"--nodes N --rendezvous {where}"
    )


def token() -> bytes:
    """The secret that all machines of a training have. Raises UsageError where there is none."""
    found, where = os.environ.get(TOKEN, ""), TOKEN
    if not found and (name := os.environ.get(TOKEN_FILE)):
        where = f"{TOKEN_FILE} ({name})"
        try:
            found = Path(name).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise UsageError(f"{where} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    found = found.strip()
    if not found:
        raise UsageError(
            f"machines that train together need a secret in common: export {TOKEN}=$(openssl rand -hex 32) on the "
            f"first, the same {TOKEN} on the others (or {TOKEN_FILE}, the name of a file with it)"
        )
    if len(found) < SHORTEST:
        raise UsageError(f"{where} is too short for a secret: it needs {SHORTEST} characters or more")
    return found.encode()


@dataclass(frozen=True)
class Meeting:
    """Several machines that train together.

    Attributes:
        nodes: how many.
        where: the address at which the first one waits for the others.
    """

    nodes: int
    where: Address


def asked(nodes: int, rendezvous: str | None) -> Meeting | None:
    """What `--nodes` and `--rendezvous` ask for; None: one machine. Raises UsageError, also for a missing token."""
    if nodes == 1 and rendezvous is None:
        return None
    if nodes == 1:
        raise UsageError("--rendezvous is for several machines: say how many with --nodes")
    if rendezvous is None:
        raise UsageError(f"--nodes {nodes} needs --rendezvous HOST:PORT, the address at which this machine waits")
    found = Meeting(nodes, address("--rendezvous", rendezvous))
    token()
    return found


_trouble: list[str] = []
_on: list[str] = []


def begin(on: str = "") -> None:
    """Nothing hinders the other machines so far. `on`: words of `train` by which a cluster starts them, if any."""
    _trouble.clear()
    _on[:] = [on] if on else []


def started_on() -> str:
    """The words of `train` by which a cluster starts the other machines; empty where they are started by hand."""
    return _on[0] if _on else ""


def give_up(why: str) -> None:
    """Another machine will not come: the first one need not wait for it."""
    _trouble.append(why)


def trouble() -> str:
    """Why another machine will not come; empty where nothing is known of that."""
    return _trouble[0] if _trouble else ""
