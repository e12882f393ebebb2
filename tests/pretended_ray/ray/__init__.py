"""What `ray_bridge` uses of Ray, on one machine without Ray: a task does what its text says, in a thread.

`PRETENDED_RAY` is what `init` raises, or `hangs`.
"""

from __future__ import annotations

import json
import os
import threading
import time

from ray import exceptions

__version__ = "0.pretended"
_how: dict[str, object] = {}


def init(**how):
    print("Ray says hello on standard output")
    trouble = os.environ.get("PRETENDED_RAY")
    if trouble == "hangs":
        time.sleep(600)
    if trouble:
        raise RuntimeError(trouble)
    _how.update(how, auth=os.environ.get("RAY_AUTH_MODE"), token=len(os.environ.get("RAY_AUTH_TOKEN", "")))


def shutdown():
    pass


def nodes():
    one = {"NodeID": "n1", "NodeManagerHostname": json.dumps(_how), "Alive": True, "Resources": {"CPU": 3.0}}
    return [one, {**one, "NodeID": "n2", "Alive": False}]


class Ref:
    """A task that has begun."""

    def __init__(self, function, options, text):
        self.done, self.cancelled, self.result = threading.Event(), threading.Event(), None
        threading.Thread(target=self._work, args=(function, options, text), daemon=True).start()

    def _work(self, function, options, text):
        told = json.loads(text)
        if "mark" in told:
            self.result = function(text)
        elif told["do"] == "wait":
            self.cancelled.wait()
            self.result = exceptions.TaskCancelledError()
        elif told["do"] == "options":
            where = options.pop("scheduling_strategy")
            self.result = json.dumps({**options, "node": where.node_id, "soft": where.soft})
        elif told["do"] == "die":
            os._exit(7)
        else:
            self.result = getattr(exceptions, told["do"])(told["text"])
        self.done.set()


class Function:
    """A function that runs elsewhere."""

    def __init__(self, function, options):
        self.function, self.given = function, options

    def options(self, **more):
        return Function(self.function, {**self.given, **more})

    def remote(self, text):
        if "cannot be submitted" in text:
            raise ValueError("cannot be submitted")
        return Ref(self.function, dict(self.given), text)


def remote(**options):
    return lambda function: Function(function, options)


def wait(refs, num_returns, timeout):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not all(ref.done.is_set() for ref in refs):
        time.sleep(0.01)
    ready = [ref for ref in refs if ref.done.is_set()][:num_returns]
    return ready, [ref for ref in refs if ref not in ready]


def get(ref):
    if isinstance(ref.result, Exception):
        raise ref.result
    return ref.result


def cancel(ref, force):
    assert force is False
    ref.cancelled.set()
