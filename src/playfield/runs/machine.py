"""Another machine of a training: whether it still answers, and its workers as the leader sees them.

Both sides say every few seconds that they are there, on a line of its own, from a thread: so a machine that is
switched off or a process that is stopped is found, however long a rollout takes.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from playfield.envs import hang
from playfield.errors import EnvError
from playfield.runs.group import Link
from playfield.runs.line import Far

logger = logging.getLogger(__name__)

PERIOD = 2.0  # seconds between two signs of life
SILENCE = 30.0  # seconds without any after which the other side is lost


class Pulse:
    """Signs of life on a line to another machine, and the few words that may come at any time.

    Args:
        line: for this alone.
        heard: is called with each word that comes, from a thread.
        lost: is called once with the reason, from a thread, when the other side is gone or silent.
    """

    def __init__(self, line: Far, heard: Callable[[Any], None], lost: Callable[[str], None]) -> None:
        self._line, self._heard, self._lost = line, heard, lost
        self._lock = threading.RLock()
        self._over = False
        self._thread = threading.Thread(target=self._beat, name="playfield-pulse", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def send(self, word: Any) -> None:
        """Send a word; nothing where the other side is gone."""
        with self._lock, contextlib.suppress(OSError):
            self._line.send(word)

    def _beat(self) -> None:
        last = sent = time.monotonic()
        while not self._over:
            now = time.monotonic()
            if now - sent >= PERIOD:
                self.send("alive")
                sent = now
            try:
                if self._line.poll(max(0.0, min(PERIOD, sent + PERIOD - now))):
                    word = self._line.receive()
                    last = time.monotonic()
                    if word != "alive":
                        self._heard(word)
                elif time.monotonic() - last > SILENCE:
                    return self._end(f"has not answered for {SILENCE:.0f} s")
            except (OSError, EOFError, ValueError):
                return self._end("is gone: its connection has ended")

    def _end(self, why: str) -> None:
        if not self._over:
            self._over = True
            self._lost(why)

    def wait(self, seconds: float) -> None:
        """Wait until the other side has ended the line, at most so long."""
        self._thread.join(max(0.0, seconds))

    def close(self) -> None:
        """End it: nothing is lost by that."""
        self._over = True
        self._line.cut()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(PERIOD)
        self._line.close()


class Machine:
    """Another machine, as the leader sees it.

    Args:
        number: 2 for the first one that joined.
        host: its name.
        line: the one for signs of life.
        workers: numbers of its workers.

    Attributes:
        links: its workers.
        note: why bits may differ there; empty where there is nothing to say.
        on_stop: is called with the number of a signal by which it was asked to stop.
    """

    def __init__(self, number: int, host: str, line: Far, workers: range) -> None:
        self.number, self.host, self.workers = number, host, workers
        self.links: list[Away] = []
        self.on_stop: Callable[[int], bool] | None = None
        self.note = self._why = ""
        self._code = EnvError.exit_code
        self._pulse = Pulse(line, self._heard, self.lose)
        self._pulse.start()

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"machine {self.number} ({self.host})"

    def begin(self, lines: Sequence[Far]) -> None:
        """Its workers have joined, one with each of these lines."""
        self.links = [Away(rank, line, self) for rank, line in zip(self.workers, lines, strict=True)]
        if self._why:
            self.lose(self._why)

    @property
    def lost(self) -> bool:
        """Whether it is gone or silent."""
        return bool(self._why)

    def _heard(self, word: Any) -> None:
        kind, content = word
        if kind == "worker":  # of that machine, which is not gone itself
            self.lose(f"lost a worker process, which {content}")
        elif kind == "stop":
            signum = int(content)
            name = signal.Signals(signum).name
            logger.warning("%s was asked to stop by %s", self.name, name)
            if not (self.on_stop and self.on_stop(signum)):
                self._code = 128 + signum  # there is no training yet that could be stopped: this ends it as well
                self.lose(f"was stopped by {name}")

    def lose(self, why: str) -> None:
        """It is gone: whoever waits for it need not wait any more."""
        self._why = self._why or why
        for link in self.links:
            link.far.cut()

    def error(self) -> EnvError:
        """What there is to say once it is lost."""
        if not self._why:  # its line ended first; the other one says why in a moment
            self._pulse.wait(PERIOD)
        error = EnvError(f"{self.name} {self._why or 'is gone: a connection of its workers has ended'}")
        error.exit_code = self._code
        return error

    def signal(self, signum: int) -> None:
        """Let its processes know of a signal."""
        self._pulse.send(("signal", signum))

    def end(self, code: int, why: str) -> None:
        """The training has ended, with this exit code and for this reason; the machine may go."""
        self._pulse.send(("end", code, why))

    def close(self, seconds: float) -> None:
        """Close its lines, after it had so many seconds to do so."""
        self._pulse.wait(seconds)
        for link in self.links:
            link.far.close()
        self._pulse.close()


class Away(Link):
    """A worker process on another machine."""

    def __init__(self, rank: int, line: Far, machine: Machine) -> None:
        super().__init__(rank, line, machine.workers)
        self.far, self.machine = line, machine

    def gone(self) -> EnvError:
        """See `Link`."""
        return self.machine.error()

    def expect(self, gradients: Sequence[memoryview]) -> None:
        """See `Link`."""
        self.far.expect(gradients)

    def send_weights(self, weights: Sequence[memoryview]) -> None:
        """See `Link`."""
        if self.rank == self.home.start:
            try:
                self.far.send_bulk(weights)
            except OSError:
                self.usable = False

    def signal(self, signum: int) -> None:
        """See `Link`."""
        if self.rank == self.home.start:
            self.machine.signal(signum)

    def kill(self) -> None:
        """See `Link`."""
        self.machine.lose(f"did not end its training in {hang.time_limit():.0f} s")
