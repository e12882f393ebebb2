"""The names of Ray's errors."""

from __future__ import annotations


class RayError(Exception):
    pass


class NodeDiedError(RayError):
    pass


class TaskUnschedulableError(RayError):
    pass


class WorkerCrashedError(RayError):
    pass


class LocalRayletDiedError(RayError):
    pass


class OutOfMemoryError(RayError):
    pass


class OwnerDiedError(RayError):
    pass


class TaskCancelledError(RayError):
    pass


class RayTaskError(RayError):
    def __init__(self, text):
        super().__init__(f"\x1b[36mray::run()\x1b[39m (pid=1)\n  File x\nValueError: {text}")
        self.cause = ValueError(text) if text != "no cause" else None
