"""Messages between the processes of one training: plain values, arrays and tensors as bytes.

Nothing is pickled here either: a message holds values only, whoever sends it. It is read by the same Python that
wrote it, so `marshal` will do, which is many times as fast as JSON.
"""

from __future__ import annotations

import dataclasses
import marshal
from typing import Any

import numpy as np
import torch

from playfield.envs.base import Episode

_EPISODE = tuple(field.name for field in dataclasses.fields(Episode))
_PLAIN = (type(None), bool, int, float, str, bytes)


def to_bytes(message: Any) -> bytes:
    """A message of dicts, lists, tuples, numbers, text, arrays, tensors and episodes. TypeError for other objects."""
    return marshal.dumps(_plain(message))


def from_bytes(data: bytes) -> Any:
    """The message again; arrays and tensors are new ones."""
    return _again(marshal.loads(data))


def _plain(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is dict:
        return {key: _plain(item) for key, item in value.items()}
    if kind is list:
        return [_plain(item) for item in value]
    if kind is tuple:
        return tuple(_plain(item) for item in value)
    if isinstance(value, np.ndarray | np.generic):
        return (..., "numpy" if kind is np.ndarray else "number", value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, torch.Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return (..., "torch", str(value.dtype).removeprefix("torch."), tuple(value.shape), flat.numpy().tobytes())
    if kind is Episode:
        return (..., "episode", *(_plain(getattr(value, name)) for name in _EPISODE))
    raise TypeError(f"a {kind.__module__}.{kind.__qualname__} cannot be sent to another process")


def _again(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: _again(item) for key, item in value.items()}
    if kind is list:
        return [_again(item) for item in value]
    if kind is not tuple:
        return value
    if not value or value[0] is not ...:
        return tuple(_again(item) for item in value)
    _, what, *rest = value
    if what == "episode":
        return Episode(*map(_again, rest))
    name, shape, data = rest
    if what == "torch":
        dtype = getattr(torch, name)
        empty = torch.empty(shape, dtype=dtype)
        return torch.frombuffer(bytearray(data), dtype=dtype).view(shape) if data else empty
    found = np.frombuffer(bytearray(data), name).reshape(shape)
    return found if what == "numpy" else found[()]
