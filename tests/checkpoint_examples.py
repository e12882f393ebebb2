"""Trees to save, and an equality for them that is written apart from the package."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import torch


def same(a: Any, b: Any) -> bool:
    """Equality that sees types, dtypes, shapes and bits (also of NaN and -0.0)."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, torch.Tensor):
        bits = [bytes(t.clone(memory_format=torch.contiguous_format).untyped_storage()) for t in (a, b)]
        return a.dtype == b.dtype and a.shape == b.shape and bits[0] == bits[1]
    if isinstance(a, float):
        return struct.pack("d", a) == struct.pack("d", b) or (math.isnan(a) and math.isnan(b))
    return bool(a == b)


def example(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    return {
        "net": {"w": rng.normal(size=(8, 5)).astype(np.float32), "b": rng.normal(size=5)},
        "rng": rng.bit_generator.state,
        "replay": [rng.integers(0, 255, 300, dtype=np.uint8), {"head": step}],
    }
