"""JSON from files that may be damaged or hostile: strict, and bounded in size, depth and number of values."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from playfield.errors import DataError

MAX_JSON = 64 << 20  # bytes
MAX_DEPTH = 100  # nested brackets
MAX_VALUES = 2_000_000  # values in one text; bounds the memory that parsing takes
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)


def _too_complex(data: bytes) -> str:
    """Why parsing `data` would cost too much, or an empty string. Linear in time, constant in memory."""
    if len(data) > MAX_JSON:
        return f"{len(data)} bytes of JSON, more than {MAX_JSON}"
    bare = np.frombuffer(_STRING.sub(b"", data), np.uint8)
    depth = count = 0
    for start in range(0, len(bare), 1 << 20):
        part = bare[start : start + (1 << 20)]
        opening = (part == ord("[")) | (part == ord("{"))
        closing = (part == ord("]")) | (part == ord("}"))
        levels = depth + np.cumsum(opening.astype(np.int32) - closing.astype(np.int32))
        if levels.max(initial=0) > MAX_DEPTH:
            return f"JSON nested deeper than {MAX_DEPTH} levels"
        depth = int(levels[-1])
        count += int(opening.sum()) + int((part == ord(",")).sum())
    return f"{count} JSON values, more than {MAX_VALUES}" if count > MAX_VALUES else ""


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def parse_json(data: bytes, name: str, constants: bool = False) -> Any:
    """Parse JSON that may be hostile; DataError naming `name` if it is malformed, too deep or too large.

    `constants`: NaN and Infinity, which are not JSON, are read as Python writes them.
    """
    if reason := _too_complex(data):
        raise DataError(f"{name}: {reason}")
    try:
        return json.loads(data, parse_constant=float if constants else _no_constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{name}: not valid JSON: {error}") from None


def dump_json(value: Any, name: str) -> bytes:
    """Strict, compact JSON. ValueError if `parse_json` would refuse it: large lists belong in arrays."""
    data = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if reason := _too_complex(data):
        raise ValueError(f"{name}: {reason}; put large lists in arrays")
    return data
