"""What compiles the scalar loops of the linear methods.

Compiled code is kept on disk beside the source (or in the user's cache), so only the first use on a machine waits for
it. It computes what the same function computes in plain Python (`fn.py_func`), bit for bit: no fast mathematics, no
fused operations. Functions as arguments would not be kept on disk, so problems, coders and traces are integer codes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def jit(function: F) -> F:
    """Compile `function`; it releases the interpreter lock while it runs."""
    return cast(F, numba.njit(cache=True, nogil=True, error_model="numpy")(function))
