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


# What Ray raises where a node cannot import a function, see `fetch_and_register_remote_function`.
IMPORT = (
    "The remote function failed to import on the worker. This may be because needed library dependencies are not "
    "installed in the worker environment or cannot be found from sys.path ['/usr/lib/python3.11']:\n\n"
    "Traceback (most recent call last):\n"
    '  File "/usr/lib/python3.11/ray/_private/function_manager.py", line 311, in fetch_and_register_remote_function\n'
    "    function = pickle.loads(serialized_function)\n"
    "               ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^\n"
    "ModuleNotFoundError: No module named 'playfield'\n"
)


class RayTaskError(RayError):
    def __init__(self, text):
        super().__init__(f"\x1b[36mray::run()\x1b[39m (pid=1)\n  File x\nValueError: {text}")
        self.cause = {"no cause": None, "import": RuntimeError(IMPORT)}.get(text, ValueError(text))
