"""Worker processes that train together: one leads, the others do the same in lockstep, each its own share.

Every process runs the same code of an algorithm. Where one worker needs what another one has computed, all meet:
`gather` gives each what everyone brought, in the order of the workers. Weights and gradients lie in memory that all
map (`memory`), so only small values travel. Between two rollouts the others wait for the leader's word: to go on, to
say what a checkpoint needs, or to end. What a worker raises is raised by the leader, with the same words.
"""

from __future__ import annotations

import builtins
import contextlib
import logging
import mmap
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any

from playfield import errors
from playfield.envs import hang
from playfield.errors import EnvError, PlayfieldError, StorageError
from playfield.runs.wire import from_bytes, to_bytes

PATIENCE = 5.0  # seconds that a worker may take to end, beside what closing an environment may take
PAGE = 2**16

Note = tuple[Any, ...]
"""A warning or a line of the log that a worker wants said."""


class Ended(BaseException):
    """The leader is done with this training; no `Exception`, so that no code on the way takes it for an error."""


class Group:
    """What one process sees of the workers of one training.

    Attributes:
        rank: its number; 0 leads.
        size: number of workers.
    """

    def __init__(self, rank: int, size: int, file: int) -> None:
        self.rank, self.size, self._file, self._end = rank, size, file, 0

    def gather(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """What every worker brought, in their order; the own value is the very object.

        In the leader it raises the error of the lowest-numbered worker that brought one.
        """
        raise NotImplementedError

    def memory(self, size: int) -> mmap.mmap:
        """So many bytes, zeros at first, that all workers see. All ask for the same, in the same order."""
        length = max(PAGE, -(-size // PAGE) * PAGE)
        failed = None
        if self.rank == 0:
            try:
                os.ftruncate(self._file, self._end + length)
                if hasattr(os, "posix_fallocate"):  # none left is an error here: mostly, no signal later
                    os.posix_fallocate(self._file, self._end, length)
            except OSError as error:
                failed = StorageError(
                    f"no memory for {length:,} bytes that workers share: {error.strerror}; lower --workers, or leave "
                    "out --workers-as"
                )
        self.gather(None, failed)
        mapped = mmap.mmap(self._file, length, offset=self._end)
        self._end += length
        return mapped


class Link:
    """The leader's connection to one worker process."""

    def __init__(self, rank: int, process: Any, connection: Connection) -> None:
        self.rank, self.process, self._connection = rank, process, connection
        self.usable = True  # False: a message broke off, or the process is gone

    def send(self, message: Any) -> None:
        """Send a message, which may be in bytes already."""
        data = message if isinstance(message, bytes) else to_bytes(message)
        try:
            self._connection.send_bytes(data)
        except (OSError, ValueError):
            self.usable = False  # what it said last, or that it is gone, is found when it is asked

    def receive(self) -> Any:
        """The value that a worker answers with.

        Raises what the worker raised, and EnvError where its process is gone.
        """
        usable, self.usable = self.usable, False
        try:
            kind, value, notes = from_bytes(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise self._gone() from None
        self.usable = usable
        for note in notes:
            say_again(note)
        if kind == "done":
            return value
        raise unpacked(value)

    def _gone(self) -> EnvError:
        code: int | None = None
        with contextlib.suppress(Exception):
            code = self.process.wait(timeout=PATIENCE)
        if code is not None and code < 0:
            why = f"was ended by {signal.Signals(-code).name}"
            why += " (the memory may have run out)" if -code == getattr(signal, "SIGKILL", 9) else ""
        else:
            why = "has ended" if code is None else f"has ended with exit code {code}"
        return EnvError(f"the process of worker {self.rank} {why}")

    def waits(self, seconds: float) -> bool:
        """Whether there is something to receive within that time."""
        try:
            return self._connection.poll(seconds)
        except (OSError, EOFError):
            return True

    def close(self) -> None:
        """Nothing is sent any more."""
        self._connection.close()


class Leader(Group):
    """The group as the process sees it that leads, and that is worker 0."""

    def __init__(self, links: Sequence[Link], file: int) -> None:
        super().__init__(0, len(links) + 1, file)
        self._links = list(links)
        os.ftruncate(file, 0)  # what a training before this one has left

    def gather(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        values, failed = [value], [error]
        for link in self._links:
            try:
                values.append(link.receive())
                failed.append(None)
            except Exception as other:
                values.append(None)
                failed.append(other)
        for found in failed:
            if found is not None:
                raise found
        message = to_bytes(("all", values))
        for link in self._links:
            link.send(message)
        return values

    def order(self, word: str, *content: Any) -> None:
        """Send all workers a word, to which they do not answer."""
        message = to_bytes((word, *content))
        for link in self._links:
            link.send(message)

    def send(self, rank: int, word: str, *content: Any) -> None:
        """Send worker `rank` a word, to which it answers."""
        self._links[rank - 1].send((word, *content))

    def receive(self, ranks: Sequence[int]) -> list[Any]:
        """The answers of some workers; raises the error of the lowest-numbered one that has one."""
        values, failed = [], []
        for rank in ranks:
            try:
                values.append(self._links[rank - 1].receive())
            except Exception as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return values

    def remote_parts(self, name: str, saved: Sequence[Any]) -> dict[str, Remote]:
        """The parts `name` of the others; those that go on from something `saved` begin to."""
        for rank in range(1, self.size):
            if saved[rank] is not None:
                self.send(rank, "restore", saved[rank])
        return {f"{name}-{rank}": Remote(self, rank, f"{name}-{rank}") for rank in range(1, self.size)}

    def ask(self, rank: int, word: str, *content: Any) -> Any:
        """What worker `rank` answers."""
        self.send(rank, word, *content)
        return self.receive([rank])[0]

    def ask_all(self, word: str, *content: Any) -> None:
        """Let all do something."""
        self.order(word, *content)
        self.receive(range(1, self.size))

    def forward(self, signum: int) -> None:
        """Let the workers know of a signal: none of their environments may take long from now on."""
        for link in self._links:
            with contextlib.suppress(OSError, AttributeError):
                if link.process.poll() is None:
                    os.kill(link.process.pid, signum)

    def end(self) -> None:
        """End the training in the workers, which close their environments."""
        for link in self._links:
            if link.usable:
                link.send(("end",))
        for link in self._links:
            self._leave(link)

    def _leave(self, link: Link) -> None:
        limit = hang.time_limit()
        until = time.monotonic() + PATIENCE + limit if limit else None
        while link.usable:
            if not link.waits(PATIENCE if until is None else max(0.0, until - time.monotonic())):
                if until is not None:
                    link.usable = False
                continue
            try:
                if link.receive() == "ended":
                    return
            except Exception:  # what it raises now has no say any more
                continue
        with contextlib.suppress(OSError):
            link.process.kill()


class Member(Group):
    """The group as a worker sees it that does not lead."""

    def __init__(self, rank: int, size: int, file: int, connection: Connection, notes: list[Note]) -> None:
        super().__init__(rank, size, file)
        self._connection, self._notes = connection, notes

    def gather(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        self.answer(value, error)
        values: list[Any] = self.listen("all")[0]
        values[self.rank] = value
        return values

    def answer(self, value: Any = None, error: BaseException | None = None) -> None:
        """Answer the leader: a value, or what was raised."""
        answer(self._connection, value, error, self._notes)

    def listen(self, *words: str) -> tuple[Any, ...]:
        """The content of the leader's next message, after its word where there are several to choose from.

        Raises Ended where the leader ends the training.
        """
        try:
            word, *content = from_bytes(self._connection.recv_bytes())
        except (EOFError, OSError):
            raise Ended from None
        if word not in words:
            raise Ended
        return (word, *content) if len(words) > 1 else tuple(content)


class Elsewhere(SimpleNamespace):
    """What a process knows of another worker's part: what that told all of it."""

    def __init__(self, num_envs: int) -> None:
        super().__init__(env=SimpleNamespace(num_envs=num_envs), episodes=[], seconds={})


class Remote:
    """A part of a checkpoint that another worker has, as the leader sees it."""

    def __init__(self, group: Leader, rank: int, name: str) -> None:
        self._group, self._rank, self._name = group, rank, name

    def state(self) -> dict[str, Any]:
        """Ask the worker for it."""
        found: dict[str, Any] = self._group.ask(self._rank, "state", self._name)
        return found

    def restore(self, state: dict[str, Any]) -> None:
        """Let the worker go on from it."""
        self._group.ask(self._rank, "restore", state)


def answer(connection: Connection, value: Any, error: BaseException | None, notes: list[Note]) -> None:
    """Send a worker's answer; nothing where the leader is gone, which ends this process in any case."""
    message = ("done", value, tuple(notes)) if error is None else ("failed", packed(error), tuple(notes))
    notes.clear()
    try:
        data = to_bytes(message)
    except (TypeError, ValueError) as problem:  # too large, or no plain value: the leader waits for an answer
        data = to_bytes(("failed", packed(problem), ()))
    with contextlib.suppress(OSError, ValueError):
        connection.send_bytes(data)


def packed(error: BaseException) -> tuple[str, str, int, str]:
    """An error for another process: its class, its words, its exit code, and its traceback."""
    known = [c for c in type(error).__mro__ if c.__module__ in (errors.__name__, "builtins")]
    trace = "" if isinstance(error, PlayfieldError) else "".join(traceback.format_exception(error))
    same = known[0] is type(error) or isinstance(error, PlayfieldError)
    text = str(error) if same else f"{type(error).__name__}: {error}"
    return known[0].__name__, text, getattr(error, "exit_code", 1), trace


def unpacked(value: tuple[str, str, int, str]) -> Exception:
    """The error again."""
    name, text, code, trace = value
    made: Any = getattr(errors, name, None) or getattr(builtins, name, RuntimeError)
    if not issubclass(made, Exception) or issubclass(made, UnicodeError):
        made, text = RuntimeError, f"{name}: {text}"
    error: Exception = made(text)
    if isinstance(error, PlayfieldError):
        error.exit_code = code
    if trace:
        error.add_note(f"in a worker process:\n{trace}")
    return error


def collect_notes(notes: list[Note]) -> None:
    """From now on, this process says no warning and no line of playfield's log itself: they become notes."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(("log", record.name, record.levelno, record.getMessage()))

    def warned(
        message: Any, category: type[Warning], filename: str, lineno: int, file: Any = None, line: Any = None
    ) -> None:
        notes.append(("warning", str(message), category.__name__, filename, lineno))

    log = logging.getLogger("playfield")
    log.addHandler(Handler())
    log.propagate = False
    warnings.showwarning = warned


def say_again(note: Note) -> None:
    """Say in this process what a worker wanted said; once, where several say the same."""
    if note[0] == "log":
        _, name, level, text = note
        if text not in hang.told:
            hang.told.add(text)
            logging.getLogger(name).log(level, text)
        return
    _, text, name, filename, line = note
    category = getattr(builtins, name, UserWarning)
    made_in = [m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == filename]
    registry = vars(made_in[0]).setdefault("__warningregistry__", {}) if made_in else {}
    warnings.warn_explicit(text, category, filename, line, registry=registry)
