"""What `ray_bridge` uses of Ray, on one machine without Ray: a task does what its text says, in a thread.

`PRETENDED_RAY` is what `init` raises, or `hangs`. `PRETENDED_FREE` is a file that says what is free on nodes,
`PRETENDED_MAILBOX` makes actors fail, and `PRETENDED_BEGIN` are the seconds after which a task that has not begun is
taken back.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time

from playfield.experiments import mailbox, ray_cores
from ray import exceptions

__version__ = "0.pretended"
_how: dict[str, object] = {}


def init(**how):
    print("Ray says hello on standard output")
    trouble = os.environ.get("PRETENDED_RAY")
    if seconds := os.environ.get("PRETENDED_BEGIN"):
        ray_cores.BEGIN = mailbox.WAIT = float(seconds)
    if trouble == "hangs":
        time.sleep(600)
    if trouble:
        raise RuntimeError(trouble)
    _how.update(how, auth=os.environ.get("RAY_AUTH_MODE"), token=len(os.environ.get("RAY_AUTH_TOKEN", "")))

    return Joined()


class Joined:
    """Where the cluster is."""

    dashboard_url = "127.0.0.1:8265"


def shutdown():
    pass


class Context:
    """Where this process is."""

    def get_node_id(self):
        return "n1"


def get_runtime_context():
    return Context()


def nodes():
    one = {"NodeID": "n1", "NodeManagerHostname": json.dumps(_how), "Alive": True, "Resources": {"CPU": 3.0}}
    return [one, {**one, "NodeID": "n2", "Alive": False}]


class Ref:
    """A task that has begun."""

    def __init__(self, function, options, text, *more):
        self.done, self.cancelled, self.result = threading.Event(), threading.Event(), None
        self.forced, self.cancels = threading.Event(), []
        threading.Thread(target=self._work, args=(function, options, text, *more), daemon=True).start()

    def _work(self, function, options, text, *more):
        if function.__name__ == "working":
            number, text, mailbox = more
            more = ()
            if json.loads(text).get("begins", True):
                mailbox.begun.remote(number)
        told = json.loads(text)
        if more:
            (mailbox,) = more
            how = dict(mailbox.options)
            where = how.pop("scheduling_strategy")
            how |= {"node": where.node_id, "soft": where.soft}
            question = json.dumps({"do": told["do"], "run": told["run"], "attempt": 1, **told["more"]})
            answers = [mailbox.ask.remote(question, b"x" * told["bytes"]) for _ in range(told["times"])]
            self.result = json.dumps([how, *(ref.future().result(30)[0] for ref in answers)])
        elif "mark" in told:
            self.result = function(text)
        elif told["do"] == "wait":
            self.cancelled.wait()
            self.result = exceptions.TaskCancelledError()
        elif told["do"] == "stubborn":
            self.forced.wait()
            self.result = exceptions.WorkerCrashedError(f"after {self.cancels}")
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

    def remote(self, *given):
        if isinstance(self.function, type):
            return Actor(self.function, dict(self.given))
        if "cannot be submitted" in json.dumps(given[:3], default=str):
            raise ValueError("cannot be submitted")
        return Ref(self.function, dict(self.given), *given)


class Actor:
    """An object whose asynchronous methods run in one loop."""

    def __init__(self, made, options):
        self.options, self.object, self.loop = options, made(), asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def __getattr__(self, name):
        return Method(self, getattr(self.object, name))


class Method:
    """A method of an actor."""

    def __init__(self, actor, method):
        self.actor, self.method = actor, method

    def remote(self, *given):
        if os.environ.get("PRETENDED_MAILBOX"):
            raise exceptions.RayError("The actor cannot be restarted. See ray")
        return Called(asyncio.run_coroutine_threadsafe(self.method(*given), self.actor.loop))


class Called:
    """What an actor was asked."""

    def __init__(self, future):
        self.answer = future

    def future(self):
        return self.answer


def remote(**options):
    return lambda function: Function(function, options)


def wait(refs, num_returns, timeout):
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline and not all(ref.done.is_set() for ref in refs):
        time.sleep(0.01)
    ready = [ref for ref in refs if ref.done.is_set()][:num_returns]
    return ready, [ref for ref in refs if ref not in ready]


def get(ref):
    if isinstance(ref, Called):
        return ref.answer.result()
    if isinstance(ref.result, Exception):
        raise ref.result
    return ref.result


def cancel(ref, force, recursive):
    assert recursive is False, "what it asks an actor goes on"
    ref.cancels.append(force)
    ref.cancelled.set()
    if force:
        ref.forced.set()
