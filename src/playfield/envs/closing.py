"""Closing a user's environment. It may raise or hang: that is told, and never decides what becomes of the work.

A close that waits in C code can be interrupted by nothing. On Linux it therefore runs in a thread of its own, while
the caller waits; if it takes too long, the work goes on without it. Some environments can be closed in the thread
that made them only: where the other thread gets an error, the caller tries again itself. Elsewhere windows belong to
the main thread, and closing happens there.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from typing import Any

from playfield.envs import hang
from playfield.envs.traces import stack, told
from playfield.envs.user_code import RAISED

logger = logging.getLogger(__name__)

AGAIN = 0.1  # seconds for the next environment of an id of which one has hung
LOOK = 0.05


def close(env: Any, id: str) -> None:
    """Close an env of this id. What it raises, or that it hangs, is told once and is no reason to end.

    Raises KeyboardInterrupt where the user presses Ctrl-C meanwhile.
    """
    if sys.platform == "linux" and _elsewhere(env, id):
        return
    try:
        with hang.Call(f"closing {id}"):
            env.close()
    except KeyboardInterrupt:
        raise
    except hang.Hang as error:
        _tell(f"{id} could not be closed: {error}")
    except RAISED as error:
        _tell(f"an environment could not be closed: {told(error)}")


def _elsewhere(env: Any, id: str) -> bool:
    """Close it in another thread; False where that raised. One that hangs is left as it is."""
    raised: list[BaseException] = []
    over = threading.Event()

    def work() -> None:
        with contextlib.suppress(hang.Hang):  # sent below: nobody waits any more
            try:
                env.close()
            except RAISED as error:
                raised.append(error)
            finally:
                over.set()

    thread = threading.Thread(target=work, name="playfield-close", daemon=True)
    begun = time.monotonic()
    thread.start()
    assert thread.ident is not None
    while not over.wait(LOOK):
        took = time.monotonic() - begun
        again = id in hang.hung and took > AGAIN
        if not (again or hang.overdue(begun)) or hang.debugged(thread.ident):
            continue
        frame = sys._current_frames().get(thread.ident)
        if frame is None:
            break
        where = ", called from ".join(stack(frame)[:4])
        if not again:
            _tell(f"{id} could not be closed: its close has not returned for {took:.0f} s. It hangs in {where}")
        hang.hung.add(id)
        hang.raise_in(thread.ident, hang.Hang)
        return True
    if raised and isinstance(raised[0], KeyboardInterrupt):
        raise raised[0]
    return not raised


def _tell(text: str) -> None:
    if text not in hang.told:
        hang.told.add(text)
        logger.warning(text)
