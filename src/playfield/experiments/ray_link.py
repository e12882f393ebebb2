"""A Ray cluster as lines of JSON: starts `ray_bridge` in a process of its own, and talks to it. Imports no Ray."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import queue
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from typing import Any, Protocol

from playfield import compute
from playfield.errors import UsageError, nearest
from playfield.experiments import ray_words
from playfield.experiments.ray_words import ADDRESS as ADDRESS

ANSWER = 10.0  # seconds that an address may take to answer
CLIENT = 60.0  # seconds that joining may take with ray://: the cluster starts a process for it, which imports Ray
START = 120.0  # seconds that importing Ray, or starting a cluster on this machine, may take
END = 15.0  # seconds that leaving it may take
DASHBOARD = "PLAYFIELD_RAY_DASHBOARD"


def dashboard() -> bool:
    """Whether a cluster that is started for the command is to have Ray's dashboard."""
    return os.environ.get(DASHBOARD, "0") not in ("", "0")


class Link(Protocol):
    """What a place needs of a cluster."""

    def submit(self, do: str, node: str, text: str, cpus: int = 0, gpus: int = 0) -> int:
        """Start the function `do` of `node` with a text on a node; returns the number of the task."""

    def interrupt(self, task: int, kill: bool = False) -> None:
        """Raise KeyboardInterrupt in a task; one that has not begun is dropped.

        With `kill` that is done again and again until it has ended, in the end by ending its process.
        """

    def serve(self, root: str) -> None:
        """Answer what nodes ask about the runs below this directory, see `store.Store`; `run_away` needs it."""

    def events(self) -> list[dict[str, Any]]:
        """What happened since the last call: `nodes`; a `note`; a `task` with `text`, `lost`, `failed` ... .

        A node has cores and GPUs that others use now: `taken`.

        A task that its node did not take, and that never began, is `refused`.

        `gone` with the reason, each time from then on, where there is no cluster any more.
        """

    def close(self) -> None:
        """Leave the cluster; one that was started for this is ended."""


def asked(on: str, names: Sequence[str] = ("ray",)) -> str:
    """The address that `--on` means; `local`: a cluster on this machine alone. Raises UsageError for no address.

    `names`: words that `--on` takes beside addresses, one of which may be meant where it is none of both.
    """
    address = os.environ.get("RAY_ADDRESS") or "local" if on == "ray" else on
    if address in ("local", "auto"):
        return address
    found = ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[3]) < 65536:
        if on != "ray" and ":" not in on and (close := nearest(on, names)):
            raise UsageError(f"--on {on}: did you mean {' or '.join(close)}? An address is written as HOST:PORT")
        named = f"RAY_ADDRESS is {address!r}: it" if on == "ray" else f"--on {on}: an address"
        raise UsageError(f"{named} is written as HOST:PORT or ray://HOST:PORT")
    return address


def require_ray() -> None:
    """Raise UsageError where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--on ray needs Ray: pip install 'playfield[ray]'")


class RayLink:
    """A cluster that was joined, or started on this machine; see `Link`.

    Args:
        address: as `asked` returns it.

    Raises:
        UsageError: it does not answer, or cannot be joined or started.
    """

    def __init__(self, address: str) -> None:
        if found := ADDRESS.fullmatch(address):
            _knock(address, found[2].strip("[]"), int(found[3]))
        self.address, self._number, self._gone = address, 0, ""
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        variables = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        if address == "local":  # nobody else on this machine may send it work
            own = os.environ.get("RAY_AUTH_TOKEN", "") if dashboard() else secrets.token_hex(32)
            if not own:  # which a browser is asked for, and which is said nowhere
                raise UsageError(
                    f"Ray's dashboard asks for a token: with {DASHBOARD}=1 set RAY_AUTH_TOKEN to one of your own, "
                    "such as $(openssl rand -hex 32)"
                )
            variables |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": own}
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe that nobody reads could fill up
        command = [sys.executable, "-P", "-m", "playfield.experiments.ray_bridge", address, str(compute.cores())]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=variables,
            start_new_session=True,  # Ctrl-C reaches only this process
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self._begin("imported", START)
            joins = CLIENT if address.startswith("ray://") else ANSWER
            self._begin("ready", START if address == "local" else joins)
        except BaseException:
            if address != "local":  # what was started here it must end itself
                self._process.kill()
            self.close()
            raise

    def _begin(self, word: str, seconds: float) -> None:
        """Wait for the next line, which has this word. Raises UsageError where another comes, or none."""
        what = "Ray could not be started here" if self.address == "local" else f"{self.address} cannot be joined"
        try:
            first = self._lines.get(timeout=seconds)
        except queue.Empty:
            joining = word == "ready" and self.address != "local"
            hint = ray_words.hint(self.address)
            why = (
                f"it does not answer as a Ray cluster does in {seconds:.0f} s{hint}"
                if joining
                else "it takes too long"
            )
            raise UsageError(f"{what}: {why}") from None
        if word not in first:
            hint = ray_words.hint(self.address) if "connection timeout" in first.get("error", "").lower() else ""
            raise UsageError(f"{what}: {first.get('error') or first.get('gone')}{hint}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):
                self._lines.put(json.loads(line))
        code = self._process.wait()
        self._lines.put({"gone": self._last_words() or f"its process ended with exit status {code}"})

    def _last_words(self) -> str:
        with contextlib.suppress(OSError, ValueError):
            self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
            lines = self._errors.read().decode(errors="replace").strip().splitlines()
            return re.sub(r"\x1b\[[0-9;]*m", "", lines[-1])[:300] if lines else ""
        return ""

    def _say(self, **what: Any) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, ValueError):  # it is gone, which `events` says
            self._process.stdin.write(json.dumps(what).encode() + b"\n")
            self._process.stdin.flush()

    def submit(self, do: str, node: str, text: str, cpus: int = 0, gpus: int = 0) -> int:
        """See `Link`."""
        self._number += 1
        self._say(do=do, task=self._number, node=node, text=text, cpus=cpus, gpus=gpus)
        return self._number

    def interrupt(self, task: int, kill: bool = False) -> None:
        """See `Link`."""
        self._say(do="kill" if kill else "interrupt", task=task)

    def serve(self, root: str) -> None:
        """See `Link`."""
        self._say(do="serve", root=root)

    def events(self) -> list[dict[str, Any]]:
        """See `Link`."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._lines.get_nowait())
        self._gone = next((one["gone"] for one in found if "gone" in one), self._gone)
        return [one for one in found if "gone" not in one] + ([{"gone": self._gone}] if self._gone else [])

    def close(self) -> None:
        """See `Link`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.close()
        try:
            self._process.wait(END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(END)
        if not self._reader.is_alive():  # else a process that Ray left behind has the other end
            self._process.stdout.close()
        self._errors.close()


def _knock(address: str, host: str, port: int) -> None:
    """Raise UsageError where nothing answers there."""
    try:
        socket.create_connection((host, port), timeout=ANSWER).close()
    except (OSError, UnicodeError) as error:
        reason = "no answer in 10 s" if isinstance(error, TimeoutError) else getattr(error, "strerror", None) or error
        raise UsageError(f"no Ray cluster answers at {address}: {reason}") from None
