"""`playfield train --join`: a machine that takes part in a training which another one leads."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from playfield import compute
from playfield.envs import hang
from playfield.errors import EnvError, PlayfieldError, UsageError
from playfield.runs import signals
from playfield.runs.console import Say
from playfield.runs.line import Far
from playfield.runs.machine import Pulse
from playfield.runs.output import complain
from playfield.runs.signals import SAME, ended_by, stopping
from playfield.training.children import Children
from playfield.training.meeting import AGAIN, ANSWER, Address, connect, token
from playfield.training.processes import work
from playfield.training.rendezvous import Refused, facts, greet

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
    secret, hello = token(), facts()  # which take their time: before the first machine waits for them
    line = _greeted(where, secret, hello)
    with _asked(where, line):
        taken = line.receive()
        if "refused" in taken:
            raise Refused(str(taken["refused"])[:500])
        number, session, workers = int(taken["machine"]), str(taken["session"]), int(taken["workers"])
    compute.setup()
    children = Children()
    side = _Side(where, line, children)
    try:
        with side.signals():
            own = {"session": session, "machine": number}
            lines = [_greeted(where, secret, {**own, "worker": k}, side.over) for k in range(workers)]
            side.own = lines[0]
            for one in lines[1:]:
                children.start(one.fileno(), far=True)
                one.let_go()
            say(f"joined the training of {where} as machine {number}, with {workers} worker{'s' * (workers > 1)}")
            work(lines[0], children.file)
            side.result()
    except PlayfieldError as error:
        if (left := side.left()) and not isinstance(error, Left):
            raise left from None
        raise
    finally:
        side.close()
    say(f"the training of {where} has ended")


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


def _greeted(
    where: Address, secret: bytes, hello: Mapping[str, Any], over: Callable[[], bool] = lambda: False
) -> Far:
    """A line to the first machine, once both have shown the token.

    Where too many come to it at once, or strangers hold it up, it ends a line before that: then another one is tried,
    for `ANSWER` seconds, and until `over` says that it is of no use.
    """
    end = time.monotonic() + ANSWER
    while True:
        line = Far(connect(where))
        with _asked(where, line):
            try:
                greet(line, secret, hello)
                return line
            except (EOFError, ConnectionError):
                if time.monotonic() > end or over():
                    raise
        line.close()
        time.sleep(AGAIN)


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
        children.ended = self._worker_ended

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
            complain(f"\nasking the first machine to save and stop; {signals.AGAIN}")
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

    def _worker_ended(self, code: int) -> None:
        if code < 0:  # it could not say why itself: the first machine would see no more than the end of its line
            self._pulse.send(("worker", ended_by(code)))

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
        error = self.left() or self._lost_error()
        complain(f"playfield: {error}")
        os._exit(error.exit_code)

    def _lost_error(self) -> EnvError:
        return EnvError(
            f"the first machine ({self._where}) {self._lost or 'is gone'}; when it goes on with --resume, let this "
            "one join again"
        )

    def over(self) -> bool:
        """Whether the first machine has ended the training here, or is gone."""
        return self._over.is_set()

    def left(self) -> Left | None:
        """The error that says that this process was asked to stop, if it was."""
        if not self._signum:
            return None
        why = (self._end[1] if self._end else self._lost) or "has ended"
        left = Left(f"stopped by {signal.Signals(self._signum).name}; the first machine: {why}")
        left.exit_code = 128 + self._signum
        return left

    def result(self) -> None:
        """How the training has ended; it has for the worker that is this process. Raises as `join` does."""
        self._over.wait(ANSWER)
        if left := self.left():
            raise left
        if self._end is None:
            raise self._lost_error()
        code, why = self._end
        if code:
            ended = EnvError(f"the first machine has ended the training here: {why or f'exit code {code}'}")
            ended.exit_code = code
            raise ended

    def close(self) -> None:
        """End what is left here."""
        if self.own is not None:
            self.own.close()
        self._children.close()
        self._pulse.close()
