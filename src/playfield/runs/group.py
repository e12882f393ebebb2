"""Worker processes that train together: one leads, the others do the same in lockstep, each its own share.

Every process runs the same code of an algorithm. Where one worker needs what another one has computed, all meet:
`gather` gives each what everyone brought, in the order of the workers. Weights and gradients lie in memory that all
processes of a machine map (`memory`), so only small values travel there. Between machines gradients travel to the one
that leads and weights from it, see `lend`. Between two rollouts the others wait for the leader's word: to go on, to
say what a checkpoint needs, or to end. What a worker raises is raised by the leader, with the same words.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from playfield.envs import hang
from playfield.errors import EnvError, StorageError
from playfield.runs.line import Far, Line
from playfield.runs.notes import Note, answer, say_again, unpacked
from playfield.runs.signals import ended_by
from playfield.runs.wire import Message

PATIENCE = 5.0  # seconds that a worker may take to end, beside what closing an environment may take
PAGE = 2**16


class Ended(BaseException):
    """The leader is done with this training; no `Exception`, so that no code on the way takes it for an error."""


class Group:
    """What one process sees of the workers of one training.

    Attributes:
        rank: its number; 0 leads.
        size: number of workers.
        home: the workers of its machine, which share memory.
        lead: the workers of the machine of worker 0.
    """

    def __init__(self, rank: int, size: int, file: int, home: range, lead: range) -> None:
        self.rank, self.size, self._file, self._end = rank, size, file, 0
        self.home, self.lead = home, lead
        if self.rank == home.start:
            os.ftruncate(file, 0)  # what a training before this one has left

    def gather(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """What every worker brought, in their order; the own value is the very object.

        In the leader it raises the error of the lowest-numbered worker that brought one.
        """
        raise NotImplementedError

    def lend(self, gradients: Sequence[Sequence[memoryview]], weights: Sequence[memoryview]) -> None:
        """Where each worker's gradients are and where all weights are, as bytes: what travels between machines."""

    def gather_gradients(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """`gather`; gradients of other machines lie in the leader's memory then."""
        return self.gather(value, error)

    def gather_weights(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        """`gather`; weights of the leader lie in the memory of every machine then."""
        return self.gather(value, error)

    @property
    def settles(self) -> bool:
        """Whether workers must wait until the first one of their machine has the weights for all."""
        return self.size > len(self.lead) > 1

    def share(self, rank: int) -> range:
        """Of what is done once for each worker, where weights are updated, the part of the process `rank`."""
        return range(rank, self.size, len(self.lead)) if rank in self.lead else range(0)

    def memory(self, size: int) -> mmap.mmap:
        """So many bytes, zeros at first, that the workers of a machine see. All ask for the same, in one order."""
        length = max(PAGE, -(-size // PAGE) * PAGE)
        failed = None
        if self.rank == self.home.start:
            try:
                os.ftruncate(self._file, self._end + length)
                if hasattr(os, "posix_fallocate"):  # none left is an error here: mostly, no signal later
                    os.posix_fallocate(self._file, self._end, length)
            except OSError as error:
                less = "use --workers-as threads" if self.size == len(self.lead) else "use fewer workers"
                failed = StorageError(f"no memory for {length:,} bytes that workers share: {error.strerror}; {less}")
        self.gather(None, failed)
        mapped = mmap.mmap(self._file, length, offset=self._end)
        self._end += length
        return mapped


class Link:
    """The leader's connection to one worker process.

    Attributes:
        rank: number of the worker.
        home: the workers of its machine.
        usable: False: a message broke off, or the process is gone.
    """

    def __init__(self, rank: int, line: Line, home: range) -> None:
        self.rank, self.line, self.home, self.usable = rank, line, home, True

    def send(self, message: Any) -> None:
        """Send a message."""
        try:
            self.line.send(message)
        except (OSError, ValueError):
            self.usable = False  # what it said last, or that it is gone, is found when it is asked

    def receive(self) -> Any:
        """The value that a worker answers with.

        Raises what the worker raised, and EnvError where its process is gone.
        """
        usable, self.usable = self.usable, False
        try:
            kind, value, notes = self.line.receive()
        except (EOFError, OSError, ValueError):
            raise self.gone() from None
        self.usable = usable
        for note in notes:
            say_again(note)
        if kind == "done":
            return value
        raise unpacked(value)

    def gone(self) -> EnvError:
        """Why there is no answer any more."""
        raise NotImplementedError

    def expect(self, gradients: Sequence[memoryview]) -> None:
        """Where gradients of the worker go, if it is on another machine."""

    def send_weights(self, weights: Sequence[memoryview]) -> None:
        """Send weights, if it is the first one of another machine."""

    def signal(self, signum: int) -> None:
        """Let the process know of a signal."""

    def kill(self) -> None:
        """End the process now."""

    def waits(self, seconds: float) -> bool:
        """Whether there is something to receive within that time."""
        try:
            return self.line.poll(seconds)
        except (OSError, EOFError, ValueError):
            return True


class Child(Link):
    """A worker process that this one has started."""

    def __init__(self, rank: int, process: Any, line: Line, home: range) -> None:
        super().__init__(rank, line, home)
        self.process = process

    def gone(self) -> EnvError:
        """See `Link`."""
        code: int | None = None
        with contextlib.suppress(Exception):
            code = self.process.wait(timeout=PATIENCE)
        return EnvError(f"the process of worker {self.rank} {'has ended' if code is None else ended_by(code)}")

    def signal(self, signum: int) -> None:
        """See `Link`."""
        with contextlib.suppress(OSError, AttributeError):
            if self.process.poll() is None:
                os.kill(self.process.pid, signum)

    def kill(self) -> None:
        """See `Link`."""
        with contextlib.suppress(OSError):
            self.process.kill()


class Leader(Group):
    """The group as the process sees it that leads, and that is worker 0."""

    def __init__(self, links: Sequence[Link], file: int, home: range) -> None:
        super().__init__(0, len(links) + 1, file, home, home)
        self._links = list(links)
        self._weights: Sequence[memoryview] = ()
        self.on_stop: Callable[[int], None] | None = None  # a worker was asked to stop by this signal

    def lend(self, gradients: Sequence[Sequence[memoryview]], weights: Sequence[memoryview]) -> None:
        """See `Group`."""
        self._weights = weights
        for link in self._links:
            link.expect(gradients[link.rank])

    def gather(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        values = self._collect(value, error)
        self._give(values)
        return values

    def gather_weights(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        values = self._collect(value, error)
        for link in self._links:
            link.send_weights(self._weights)
        self._give(values)
        if self.settles:
            self.gather()
        return values

    def _collect(self, value: Any, error: BaseException | None) -> list[Any]:
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
        return values

    def _give(self, values: list[Any]) -> None:
        message = Message(("all", values))
        for link in self._links:
            link.send(message)

    def order(self, word: str, *content: Any) -> None:
        """Send all workers a word, to which they do not answer."""
        message = Message((word, *content))
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

    def begin_elsewhere(self, weights: dict[str, Any]) -> None:
        """Let other machines begin with these weights: they may have drawn others, on another processor."""
        away = [link.rank for link in self._links if link.home != self.lead]
        for rank in away:
            self.send(rank, "begin", weights)
        self.receive(away)

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

    def asked_to_stop(self, signum: int) -> bool:
        """Another machine was asked to stop by a signal; whether there is a training that can be stopped."""
        if self.on_stop is None:
            return False
        self.on_stop(signum)
        return True

    def forward(self, signum: int) -> None:
        """Let the workers know of a signal: none of their environments may take long from now on."""
        for link in self._links:
            link.signal(signum)

    def end(self) -> None:
        """End the training in the workers, which close their environments."""
        self.on_stop = None  # there is nothing left that could be stopped
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
        link.kill()


class Member(Group):
    """The group as a worker sees it that does not lead."""

    def __init__(
        self, rank: int, size: int, file: int, line: Line, notes: list[Note], home: range, lead: range
    ) -> None:
        super().__init__(rank, size, file, home, lead)
        self._line, self._notes = line, notes
        self._gradients: Sequence[memoryview] = ()

    @property
    def far(self) -> bool:
        """Whether this is another machine than the leader's."""
        return isinstance(self._line, Far)

    def gather(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        self.answer(value, error)
        values: list[Any] = self.listen("all")[0]
        values[self.rank] = value
        return values

    def lend(self, gradients: Sequence[Sequence[memoryview]], weights: Sequence[memoryview]) -> None:
        """See `Group`."""
        if isinstance(self._line, Far):
            self._gradients = gradients[self.rank]
            if self.rank == self.home.start:
                self._line.expect(weights)

    def gather_gradients(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        if isinstance(self._line, Far) and error is None:
            with contextlib.suppress(OSError):  # the leader is gone, which is found by waiting for its word
                self._line.send_bulk(self._gradients)
        return self.gather(value, error)

    def gather_weights(self, value: Any = None, error: BaseException | None = None) -> list[Any]:
        values = self.gather(value, error)
        if self.settles:
            self.gather()
        return values

    def answer(self, value: Any = None, error: BaseException | None = None) -> None:
        """Answer the leader: a value, or what was raised."""
        answer(self._line, value, error, self._notes)

    def listen(self, *words: str) -> tuple[Any, ...]:
        """The content of the leader's next message, after its word where there are several to choose from.

        Raises Ended where the leader ends the training.
        """
        try:
            word, *content = self._line.receive()
        except (EOFError, OSError, ValueError):
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
