"""The node's side of a cluster without a shared directory: a run directory on this node, which the store has, too.

What the run has is fetched before the training begins, and what is new is sent while it trains, see `store`: tables
twice a second, each new checkpoint as soon as it is there. What cannot be sent is tried again, and training goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from playfield.errors import DataError, EnvError, PlayfieldError
from playfield.experiments.store import CHECKPOINT, PIECE, held
from playfield.runs import fence
from playfield.runs.lock import RunLock, in_use
from playfield.runs.storage import atomic_write

Ask = Callable[[str, bytes], tuple[str, bytes]]
"""Asks the store: text and bytes in, text and bytes out. Raises where it does not answer."""

PERIOD = 0.5  # seconds between two looks at what is new
POLL = 0.1  # seconds that a look at whether the last was sent may take
LAST_TRIES, AGAIN = 5, 2.0  # after the end of a training: tries to send it, and seconds between them
PREFIX = "playfield-node-"
YOUNG = 60.0  # seconds for which a directory of another process may have no lock yet
LOG = 1 << 20  # bytes of standard error that are sent
BEST = "checkpoints/best/"
REMOVED = ("checkpoints/ckpt-", "replay/")  # what trainings remove, and then the store, too
FIRST = ("checkpoints/", "eval/", "films/", "explain/")  # folders that wait for the first checkpoint
NOTHING = (0, 0, 0)  # identifies no file
EDGE = 4096  # bytes at the end of what was sent of a table by which it is known again


class RefusedError(PlayfieldError):
    """The store could not do what was asked; `exit_code` says why."""

    def __init__(self, line: str, code: int) -> None:
        super().__init__(line)
        self.exit_code = code


class LaterError(PlayfieldError):
    """The run went on elsewhere, as this attempt; with 0 its directory was removed. The text follows its name."""

    exit_code = DataError.exit_code

    def __init__(self, attempt: int) -> None:
        super().__init__(f"{fence.ELSEWHERE}as attempt {attempt}" if attempt else " was removed while it was trained")
        self.attempt = attempt


class Sending:
    """Sends what is new of a run again and again, in a thread, until it is ended."""

    def __init__(self, away: Away) -> None:
        self.away, self.error = away, None
        self._over, self._given_up = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    error: Exception | None
    """What went wrong last; None where all was sent."""

    def end(self) -> bool:
        """The training has ended: whether the last of it was sent, or given up; to be called until it is true."""
        self._over.set()
        self._thread.join(POLL)
        return not self._thread.is_alive()

    def give_up(self) -> None:
        """Try no more."""
        self._given_up.set()

    def _work(self) -> None:
        while not self._over.wait(PERIOD) and not isinstance(self.error, LaterError):
            self._try()
        for left in range(LAST_TRIES - 1, -1, -1):
            self._try()
            if self.error is None or isinstance(self.error, LaterError) or not left:
                return
            if self._given_up.wait(AGAIN):
                return

    def _try(self) -> None:
        try:
            self.away.send()
            self.error = None
        except Exception as error:  # whatever it is, training goes on and the next look tries again
            self.error = error


@contextlib.contextmanager
def room(prefix: str = PREFIX) -> Iterator[Path]:
    """A temporary directory, for as long as it is needed. What killed processes left of the kind is removed."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            if (
                time.time() - path.stat().st_mtime > YOUNG
                and os.access(path, os.W_OK)
                and not in_use(path)
                and not in_use(path / "run")
            ):
                shutil.rmtree(path, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        with RunLock(home):
            yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Away:
    """A run whose directory is `run` on this node.

    Args:
        ask: the store.
        name: of the run directory below that of the experiment.
        attempt: see `fence`.
        run: directory on this node.
        log: file of the training's standard error.
        known: the run directory where the command was typed, for messages.
    """

    def __init__(self, ask: Ask, name: str, attempt: int, run: Path, log: Path, known: str) -> None:
        self._ask, self.name, self.attempt = ask, name, attempt
        self.run, self.log, self.known = run, log, known
        self._sent: dict[str, tuple[int, int, int]] = {}  # path -> what identifies the file that the store has
        self._edges: dict[str, bytes] = {}  # path of a table -> the end of what the store has of it

    def fetch(self) -> None:
        """Get what the run has so far. Raises RefusedError, LaterError, and what `ask` raises."""
        self.run.mkdir(parents=True, exist_ok=True)
        for path, size in self._tell("begin")[0]["files"]:
            where = self.run / path
            where.parent.mkdir(parents=True, exist_ok=True)
            with open(where, "wb") as file:
                while file.tell() < size:
                    data = self._tell("read", path=path, offset=file.tell())[1]
                    if not data:
                        raise RefusedError(f"{path} has become shorter while it was fetched", EnvError.exit_code)
                    file.write(data)
            self._has(path)
        atomic_write(self.run / fence.FILE, f"{self.attempt}\n")

    def send(self) -> None:
        """Send what is new. Raises as `fetch`; what arrived stays, and the next call sends the rest."""
        try:
            self._send()
        except LaterError as later:  # the training looks at the file once a second, and ends
            atomic_write(self.run / fence.FILE, f"{max(later.attempt, self.attempt + 1)}\n")
            raise

    def last_line(self) -> str:
        """The last line that the training wrote to standard error; empty without one."""
        lines = self._log_text().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("playfield: ") if lines else ""

    # One look at the directory ---------------------------------------------------------------------------

    def _send(self) -> None:
        # A result in run.json is that of a checkpoint that is there by now: what the store has of it must be no newer
        # than the checkpoint that it has. A run begins with it, so the first one goes without its result.
        info = self.run / "run.json"
        mark = self._mark(info)
        written = info.read_bytes() if info.is_file() else None
        if written is None:
            return self._send_log()
        if "run.json" not in self._sent:
            self._send_others(FIRST)  # a run with a run.json is one that can go on
            first = _without_result(written)
            self._write("run.json", first, mark if first == written else NOTHING)
        whole = self._send_checkpoint()
        self._send_tables()
        self._send_others()
        if whole and self._sent.get("run.json") != mark:
            self._write("run.json", written, mark)
        self._send_log()

    def _send_checkpoint(self) -> bool:
        """Send the newest checkpoint, and all that it needs; whether the store has got it, if there is one."""
        newest = self._newest()
        if newest is None or self._same(f"{newest}/manifest.json"):
            return True
        files = [path for path in self._files() if path.startswith(("replay/", f"{newest}/"))]
        names = [path for path in self._files() if path.startswith("replay/")] + self._checkpoints()
        files.sort(key=lambda path: path.endswith("/manifest.json"))
        with contextlib.ExitStack() as stack:
            try:
                opened = self._opened(stack, [path for path in files if not self._same(path)])
            except FileNotFoundError:
                return False  # a newer one has taken its place
            if self._newest() != newest:  # else nothing that it needs was removed so far
                return False
            self._send_tables()  # they have the rows up to it
            self._tell("clear")
            for path, file, mark in opened:
                self._put(path, file, mark[2])
            self._tell("publish", names=names, files=[path for path, _, _ in opened])
            self._sent |= {path: mark for path, _, mark in opened}
        # What the node has no longer, the store has not either. Of what changed meanwhile it has what was sent.
        self._sent = {p: mark for p, mark in self._sent.items() if not p.startswith(REMOVED) or self._same(p)}
        return True

    def _send_others(self, left_out: tuple[str, ...] = ()) -> None:
        """Send all else that is new, whole, but for these folders; the folder `best` is one thing."""
        own = ("run.json", "checkpoints/last")
        left = [path for path in self._files() if not path.startswith((*REMOVED, *left_out)) and path not in own]
        new = [path for path in left if not self._table(path) and not self._same(path)]
        if any(path.startswith(BEST) for path in new):
            new = [path for path in left if path in new or path.startswith(BEST)]
        if not new:
            return
        new.sort(key=lambda path: path.endswith("/manifest.json"))
        best = self._mark(self.run / BEST / "manifest.json")
        with contextlib.ExitStack() as stack:
            try:
                opened = self._opened(stack, new)
            except FileNotFoundError:
                return
            if self._mark(self.run / BEST / "manifest.json") != best:
                return  # it was replaced while its files were opened
            self._tell("clear")
            twins = {mark: path for path, mark in self._sent.items() if path.startswith("checkpoints/ckpt-")}
            for path, file, mark in opened:
                twin = twins.get(mark)
                if twin is not None and self._same(twin):  # a link to the file of a checkpoint
                    self._tell("link", path=twin, to=path)
                else:
                    self._put(path, file, mark[2])
            self._tell("publish", files=[path for path, _, _ in opened])
            self._sent |= {path: mark for path, _, mark in opened}

    def _send_tables(self) -> None:
        """Send the new rows of tables, or all where earlier ones were dropped."""
        for path in sorted(one.name for one in self.run.glob("*.csv")):
            if not self._same(path):
                self._send_table(path)

    def _send_table(self, path: str) -> None:
        with open(self.run / path, "rb") as file:
            mark, before = _identity(os.fstat(file.fileno())), self._sent.get(path)
            edge = self._edges.get(path, b"")
            if before is not None and before[2] < mark[2]:
                file.seek(before[2] - len(edge))
                at = before[2]
                if file.read(len(edge)) == edge:
                    while data := file.read(min(PIECE, mark[2] - at)):
                        if self._tell("append", data, path=path, offset=at)[0]:
                            break  # the store has another one
                        at += len(data)
                    else:
                        self._remember(path, file, mark)
                        return
            self._tell("clear")
            self._put(path, file, mark[2])
            self._tell("publish", files=[path])
            self._remember(path, file, mark)

    def _send_log(self) -> None:
        mark = self._mark(self.log)
        if mark[2] and self._sent.get("") != mark:
            self._tell("log", self._log_text())
            self._sent[""] = mark

    def _log_text(self) -> bytes:
        """What the training wrote, with the paths of the machine where the command was typed."""
        try:
            data = self.log.read_bytes()[-LOG:]
        except OSError:
            return b""
        return data.replace(os.fsencode(self.run), os.fsencode(self.known))

    # Pieces ------------------------------------------------------------------------------------------------

    def _tell(self, do: str, data: bytes = b"", **more: Any) -> tuple[dict[str, Any], bytes]:
        text, out = self._ask(json.dumps({"do": do, "run": self.name, "attempt": self.attempt, **more}), data)
        told = json.loads(text)
        if "fenced" in told:
            raise LaterError(told["fenced"])
        if "error" in told:
            raise RefusedError(told["error"], told["code"])
        return told, out

    def _opened(
        self, stack: contextlib.ExitStack, paths: list[str]
    ) -> list[tuple[str, IO[bytes], tuple[int, int, int]]]:
        files = [(path, stack.enter_context(open(self.run / path, "rb"))) for path in paths]  # noqa: SIM115 - the stack closes
        return [(path, file, _identity(os.fstat(file.fileno()))) for path, file in files]

    def _put(self, path: str, file: IO[bytes], size: int) -> None:
        """Put a file aside at the store, in pieces; of one that grows only the first `size` bytes."""
        file.seek(0)
        digest, at = hashlib.sha256(), 0
        while True:
            data = file.read(min(PIECE, size - at))
            digest.update(data)
            last = at + len(data) >= size or not data
            self._tell("put", data, path=path, offset=at, **({"sha256": digest.hexdigest()} if last else {}))
            at += len(data)
            if last:
                return

    def _write(self, path: str, data: bytes, mark: tuple[int, int, int]) -> None:
        """Send a small file whose bytes were read before."""
        self._tell("clear")
        self._tell("put", data, path=path, offset=0, sha256=hashlib.sha256(data).hexdigest())
        self._tell("publish", files=[path])
        self._sent[path] = mark

    def _files(self) -> list[str]:
        return [path.relative_to(self.run).as_posix() for path in held(self.run)]

    def _table(self, path: str) -> bool:
        return "/" not in path and path.endswith(".csv")

    def _checkpoints(self) -> list[str]:
        found = (path.name for path in (self.run / "checkpoints").glob("ckpt-*"))
        return [f"checkpoints/{name}" for name in sorted(found) if CHECKPOINT.fullmatch(name)]

    def _newest(self) -> str | None:
        return next(iter(self._checkpoints()[::-1]), None)

    def _mark(self, path: Path) -> tuple[int, int, int]:
        try:
            return _identity(os.stat(path))
        except OSError:
            return NOTHING

    def _same(self, path: str) -> bool:
        return self._sent.get(path) == self._mark(self.run / path)

    def _has(self, path: str) -> None:
        """The store has this file as it is here."""
        with open(self.run / path, "rb") as file:
            self._remember(path, file, _identity(os.fstat(file.fileno())))

    def _remember(self, path: str, file: IO[bytes], mark: tuple[int, int, int]) -> None:
        self._sent[path] = mark
        if self._table(path):
            file.seek(max(0, mark[2] - EDGE))
            self._edges[path] = file.read(min(EDGE, mark[2]))


def _identity(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_mtime_ns, found.st_size


def _without_result(written: bytes) -> bytes:
    """The text of a run.json as it was before the training ended."""
    info = json.loads(written)
    if "result" not in info:
        return written
    return json.dumps({name: value for name, value in info.items() if name != "result"}, indent=2).encode() + b"\n"
