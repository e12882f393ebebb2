"""`playfield train --join`: a machine that takes part in a training which another one leads."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from playfield import compute
from playfield.envs import hang
from playfield.errors import EnvError, PlayfieldError, UsageError
from playfield.runs.console import Say
from playfield.runs.line import Far
from playfield.runs.machine import Pulse
from playfield.runs.output import complain
from playfield.runs.signals import SAME, stopping
from playfield.training.meeting import ANSWER, Address, token
from playfield.training.processes import Children, work
from playfield.training.rendezvous import Refused, facts, greet

AGAIN = 0.25  # seconds between two tries to connect
LEAVE = 10.0  # seconds that this process may take to end once the first machine is gone


class Left(PlayfieldError):
    """This machine was asked to stop; `exit_code` is 130, 143 or 129."""


def join(where: Address, say: Say) -> None:
    """Take part in the training that waits at an address until it ends.

    Raises:
        UsageError: nothing answers there, or there is no token.
        Refused: the first machine does not take this one.
        EnvError: it is gone, or what ended its training.
        Left: this process was asked to stop.
    """
    secret = token()
    line = Far(_connect(where))  # before torch is asked for anything: a mistake is reported at once
    with _asked(where, line):
        greet(line, secret, facts())
        taken = line.receive()
        if "refused" in taken:
            raise Refused(str(taken["refused"])[:500])
        number, session, workers = int(taken["machine"]), str(taken["session"]), int(taken["workers"])
    compute.setup()
    children = Children()
    side = _Side(where, line, children)
    try:
        with side.signals():
            lines = [_worker(where, secret, session, number, k) for k in range(workers)]
            side.own = lines[0]
            for one in lines[1:]:
                children.start(one.fileno(), far=True)
                one.let_go()
            say(f"joined the training of {where} as machine {number}, with {workers} worker{'s' * (workers > 1)}")
            work(lines[0], children.file)
            side.result()
    finally:
        side.close()
    say(f"the training of {where} has ended")


def _connect(where: Address) -> socket.socket:
    """A connection to the first machine, which may begin to listen within `ANSWER` seconds."""
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


@contextlib.contextmanager
def _asked(where: Address, line: Far) -> Iterator[None]:
    """Inside, the first machine is asked on a line: it may take `ANSWER` seconds, and errors say what it answers."""
    line.timeout(ANSWER)
    try:
        yield
        line.timeout(None)
    except BaseException as error:
        line.close()
        if isinstance(error, Refused):
            error.args = (f"--join {where}: this machine is not taken: {error}",)
        elif isinstance(error, TimeoutError):
            what = f"what answers there does not do so as a training in {ANSWER:.0f} s"
            raise UsageError(f"--join {where}: {what}") from None
        elif isinstance(error, OSError | EOFError | ValueError | KeyError | TypeError):
            what = "what answers there is no training that waits for machines"
            raise UsageError(f"--join {where}: {what}") from None
        raise


def _worker(where: Address, secret: bytes, session: str, number: int, worker: int) -> Far:
    """The line of a worker of this machine."""
    line = Far(_connect(where))
    with _asked(where, line):
        greet(line, secret, {"session": session, "machine": number, "worker": worker})
    return line


class _Side:
    """This machine's side of the signs of life, and the signals that it gets.

    Attributes:
        own: the line of the worker that is this process.
    """

    def __init__(self, where: Address, line: Far, children: Children) -> None:
        self._where, self._children = where, children
        self.own: Far | None = None
        self._signum, self._asked, self._passed_on = 0, 0.0, False
        self._lost = ""
        self._end: tuple[int, str] | None = None
        self._over = threading.Event()
        self._pulse = Pulse(line, self._heard, self._gone)
        self._pulse.start()

    @contextlib.contextmanager
    def signals(self) -> Iterator[None]:
        """Inside, a signal to this process is passed on to the first machine; the next one ends this process."""
        try:
            old = {signum: signal.signal(signum, self._signalled) for signum in stopping()}
        except ValueError:  # not in the main thread
            old = {}
        try:
            yield
        finally:
            for signum, handler in old.items():
                signal.signal(signum, handler)

    def _signalled(self, signum: int, _frame: Any) -> None:
        hang.raise_if_ended()
        if self._passed_on:  # the first machine's, by `_heard`
            self._passed_on = False
        elif not self._signum:
            self._signum, self._asked = signum, time.monotonic()
            self._pulse.send(("stop", signum))
            complain("\nasking the first machine to save and stop; press Ctrl-C again to quit now")
        elif time.monotonic() - self._asked > SAME:
            complain("playfield: quit; the first machine ends its training with an error")
            os._exit(128 + signum)

    def _heard(self, word: Any) -> None:
        kind, *content = word
        if kind == "end":
            self._end = (int(content[0]), str(content[1]))
            self._over.set()
        elif kind == "signal":  # no environment may take long from now on
            self._children.signal(int(content[0]))
            self._passed_on = True
            os.kill(os.getpid(), int(content[0]))

    def _gone(self, why: str) -> None:
        if self._end is None:
            self._lost = why
            if self.own is not None:
                self.own.cut()
            timer = threading.Timer(LEAVE, self._leave)  # what this process does now may hang
            timer.daemon = True
            timer.start()
        self._over.set()

    def _leave(self) -> None:
        complain(f"playfield: {self._lost_error()}")
        os._exit(EnvError.exit_code)

    def _lost_error(self) -> EnvError:
        return EnvError(
            f"the first machine ({self._where}) {self._lost or 'is gone'}; when it goes on with --resume, let this "
            "one join again"
        )

    def result(self) -> None:
        """How the training has ended; it has for the worker that is this process. Raises as `join` does."""
        self._over.wait(ANSWER)
        if self._end is None:
            raise self._lost_error()
        code, why = self._end
        if self._signum:
            left = Left(f"stopped by {signal.Signals(self._signum).name}; the first machine: {why or 'has ended'}")
            left.exit_code = 128 + self._signum
            raise left
        if code:
            ended = EnvError(f"the first machine has ended the training: {why or f'exit code {code}'}")
            ended.exit_code = code
            raise ended

    def close(self) -> None:
        """End what is left here."""
        if self.own is not None:
            self.own.close()
        self._children.close()
        self._pulse.close()
