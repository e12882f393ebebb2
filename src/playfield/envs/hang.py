"""Environments that hang: a thread looks twice a second whether a call of a user's code takes too long.

A call only notes when it began, which costs a fraction of a microsecond. One that takes longer than the limit is
ended by the error `Hang`, which names the stack of the environment: it is raised in the thread of the call, and in
the main thread where that waits for it. What cannot be interrupted (it waits in C) ends with the process, if that is
the command line's. C code that keeps the interpreter's lock stops this thread as well: nothing here can end it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType

from playfield.envs.traces import stack
from playfield.errors import EnvError

LIMIT = 60.0  # seconds that one call may take, unless the user says otherwise
HURRY = 1.5  # and after the user asked the process to stop, unless calls took longer before
WAKE = 0.5  # seconds until a call that ends is woken
GRACE = 1.5  # and until the process ends with it
RECENT = 5.0  # for so long after it was woken a main thread raises, also where the call has ended meanwhile
PERIOD = 0.5  # seconds between two looks
_DEBUGGERS = ("pdb.py", "bdb.py", "pydevd.py")


class Hang(EnvError):
    """A call of an environment took longer than the limit; the exit code is 6, or that of the signal in a hurry."""

    def __init__(self) -> None:
        super().__init__(_state.text)
        self.exit_code = _state.code


class Call:
    """The calls of one environment, one at a time: `began` is when the present one did, 0 between two."""

    __slots__ = ("__weakref__", "began", "ended", "longest", "thread", "what", "woke")

    def __init__(self, what: str) -> None:
        self.what, self.began, self.longest = what, 0.0, 0.0
        self.thread, self.ended, self.woke = 0, False, False
        _state.watch(self)

    def begin(self) -> None:
        """A call begins in this thread."""
        self.thread = threading.get_ident()
        self.began = time.monotonic()

    def end(self) -> None:
        """It is over."""
        took = time.monotonic() - self.began
        self.began = 0.0
        if took > self.longest:
            self.longest = took

    def __enter__(self) -> Call:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self.end()
        if kind is KeyboardInterrupt and self.ended:  # sent by `_wake`
            raise Hang from None


def _print(text: str, _code: int) -> None:
    print(f"playfield: {text}", file=sys.stderr, flush=True)


class _State:
    """What the watching thread knows."""

    def __init__(self) -> None:
        self.limit, self.process_may_end = LIMIT, False
        self.last_words: Callable[[str, int], None] = _print
        self.text, self.code = "", EnvError.exit_code
        self.signum, self.signalled = 0, 0.0  # the user asked the process to stop, and when
        self.pipe = -1  # numbers of signals, where the main thread does not come to handle them
        self.pending: tuple[Call, float, float] | None = None  # the main thread is to raise: call, begin, woken when
        self.calls: weakref.WeakSet[Call] = weakref.WeakSet()
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def watch(self, call: Call) -> None:
        with self.lock:
            self.calls.add(call)
            if self.thread is None:
                self.thread = threading.Thread(target=_look, name="playfield-hang", daemon=True)
                self.thread.start()


_state = _State()
told: set[str] = set()
"""What was told of environments that cannot be closed, which is once in a training or a command."""
hung: set[str] = set()
"""The ids of those whose close has hung."""


@contextlib.contextmanager
def limited(seconds: float | None) -> Iterator[None]:
    """A call inside may take this long (0: as long as it likes; None: as before)."""
    before = _state.limit
    limit(seconds)
    if not _state.process_may_end:  # a command may have several of these
        told.clear()
        hung.clear()
    try:
        yield
    finally:
        _state.limit = before


def limit(seconds: float | None) -> None:
    """From now on a call may take this long (0: as long as it likes; None: as before)."""
    if seconds is not None:
        _state.limit = seconds


@contextlib.contextmanager
def of_command_line() -> Iterator[None]:
    """Inside, a call that cannot be interrupted ends the process; what `limit` says holds inside."""
    before, _state.process_may_end = _state.process_may_end, True
    told.clear()
    hung.clear()
    try:
        with limited(None), stopped_by_signals():
            yield
    finally:
        _state.process_may_end = before


def time_limit() -> float:
    """Seconds that a call may take at present; 0: as many as it likes."""
    return _state.limit


def of_worker(last_words: Callable[[str, int], None]) -> None:
    """This process is a worker's: before a call that cannot be interrupted ends it, `last_words` are said.

    They are given the text and the exit code.
    """
    _state.process_may_end, _state.last_words = True, last_words


def raise_if_ended() -> None:
    """For handlers of signals, which run in the main thread: raise `Hang` there if a call was ended.

    Where no handler was asked when that happened, it is over: the next signal is the user's.
    """
    if _state.pending is None:
        return
    call, began, woken = _state.pending
    _state.pending = None
    if call.began == began or time.monotonic() - woken < RECENT:
        raise Hang


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Inside, SIGINT or SIGTERM is to end what is being done, so no call may take long after it.

    A pipe tells of them, since handlers run only once the main thread is back from C code.
    """
    read, write = os.pipe()
    os.set_blocking(read, False)
    os.set_blocking(write, False)
    outer, before = _state.pipe, None
    with contextlib.suppress(ValueError):  # outside the main thread nothing is handled
        before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        _state.pipe = read
    try:
        yield
    finally:
        _state.pipe = outer
        if before is not None:
            signal.set_wakeup_fd(before)
        _state.signum, _state.signalled = 0, 0.0
        os.close(read)
        os.close(write)


def overdue(began: float) -> bool:
    """Whether a call since `began` takes too long; for those who wait for it in another thread."""
    _receive()
    now, asked = time.monotonic(), _state.signalled
    hurried = bool(asked) and now - max(began, asked) > HURRY
    return hurried or bool(_state.limit and now - began > _state.limit)


def debugged(thread: int) -> bool:
    """Whether a person looks at what this thread does with a debugger."""
    return _debugged(sys._current_frames().get(thread))


def _look() -> None:
    while True:
        time.sleep(PERIOD)
        with _state.lock:
            calls = list(_state.calls)
            if not calls:
                _state.thread = None
                return
        _receive()
        now = time.monotonic()
        for call in calls:
            began, asked = call.began, _state.signalled
            if not began or call.ended:
                continue
            hurried = bool(asked) and now - max(began, asked) > max(HURRY, 2 * call.longest)
            if hurried or (_state.limit and now - began > _state.limit):
                _end(call, began, now - began, hurried)


def _receive() -> None:
    """Signals that came since the last look."""
    if _state.pipe < 0:
        return
    with contextlib.suppress(OSError):
        for signum in os.read(_state.pipe, 64):
            if signum in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", 0)) and not _state.signalled:
                _state.signum, _state.signalled = signum, time.monotonic()


def _end(call: Call, began: float, seconds: float, hurried: bool) -> None:
    frame = sys._current_frames().get(call.thread)
    if frame is None or _debugged(frame):
        return
    why = "" if hurried else f", longer than --env-timeout {_state.limit:g}"
    where = ", called from ".join(stack(frame)[:4])
    _state.text = f"{call.what} has not returned for {seconds:.0f} s{why}: it hangs in {where}"
    _state.code = 128 + _state.signum if hurried else EnvError.exit_code
    call.ended = True
    raise_in(call.thread, Hang)
    threading.Thread(target=_insist, args=(call, began, _state.text, _state.code), daemon=True).start()


def _insist(call: Call, began: float, text: str, code: int) -> None:
    """Wake the main thread, then end the process, where the call goes on all the same."""
    time.sleep(WAKE)
    if call.began != began:
        return
    main = threading.main_thread().ident
    assert main is not None
    if call.thread == main:
        raise_in(main, None)  # the handler of the signal raises instead
    with _state.lock:  # one signal is enough where several calls hang
        wakes = not any(c.woke and c.began for c in _state.calls) and callable(signal.getsignal(signal.SIGINT))
        call.woke = wakes
    if wakes:
        _state.pending = (call, began, time.monotonic())
        signal.pthread_kill(main, signal.SIGINT)
    time.sleep(GRACE)
    if call.began == began and _state.process_may_end:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            _state.last_words(text, code)
        os._exit(code)


def raise_in(thread: int, error: type[Hang] | None) -> None:
    """Raise in another thread, at its next line of Python; None takes back what it did not come to.

    While an exception waits for a thread that does not run, or was taken back, CPython 3.11 keeps a flag for which it
    enters no traced or profiled function in any thread. An exception that arrives takes the flag away: so one is
    raised here, too. No Python function is called in between. The other thread looks at its own exception all the
    same, as soon as it gives way to another.
    """
    raise_later, own = ctypes.pythonapi.PyThreadState_SetAsyncExc, ctypes.c_ulong(threading.get_ident())
    other, sent, raised = ctypes.c_ulong(thread), error and ctypes.py_object(error), ctypes.py_object(Hang)
    try:
        raise_later(other, sent)
        raise_later(own, raised)
        while True:
            pass
    except Hang:
        return
    except BaseException:
        raise_later(own, None)
        raise


def _debugged(frame: FrameType | None) -> bool:
    """Does a person look at the environment with a debugger?"""
    while frame is not None:
        if frame.f_code.co_filename.endswith(_DEBUGGERS):
            return True
        frame = frame.f_back
    return False
