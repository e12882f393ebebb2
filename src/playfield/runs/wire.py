"""Messages between the processes of one training: plain values, arrays and tensors as bytes.

Nothing is pickled here either: a message holds values only, whoever sends it. Between processes of one machine it is
read by the same Python that wrote it, so `marshal` will do, which is many times as fast as JSON. Between machines it
is JSON, with the bytes of arrays and tensors after it.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import marshal
import math
import struct
from typing import Any

import numpy as np
import torch

from playfield.envs.base import Episode

_EPISODE = tuple(field.name for field in dataclasses.fields(Episode))
_PLAIN = (type(None), bool, int, float, str, bytes)
_LENGTH = struct.Struct(">Q")
_TENSORS = ("float32", "float64", "bfloat16", "float16", "uint8", "int8", "int16", "int32", "int64", "bool")


class Message:
    """A message for several processes, which is made into bytes once for each way that it goes."""

    def __init__(self, value: Any) -> None:
        self._value = value

    @functools.cached_property
    def near(self) -> bytes:
        """For processes of this machine, see `to_bytes`."""
        return to_bytes(self._value)

    @functools.cached_property
    def far(self) -> bytes:
        """For other machines, see `to_json`."""
        return to_json(self._value)


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


def to_json(message: Any) -> bytes:
    """As `to_bytes`, for another machine: the length of the JSON, the JSON, and the bytes that it refers to."""
    buffers: list[bytes] = []
    text = json.dumps(_tagged(message, buffers)).encode()
    return b"".join((_LENGTH.pack(len(text)), text, *buffers))


def from_json(data: bytes | bytearray) -> Any:
    """The message again; arrays and tensors are new ones. ValueError for bytes that are none."""
    try:
        view = memoryview(data)
        (length,) = _LENGTH.unpack_from(view)
        reader = _Reader(view[_LENGTH.size + length :])
        found = reader.value(json.loads(bytes(view[_LENGTH.size : _LENGTH.size + length])))
    except (ValueError, TypeError, KeyError, IndexError, struct.error, RecursionError, OverflowError) as error:
        raise ValueError(f"no message: {error}") from None
    if reader.left:
        raise ValueError("no message: it is longer than it says")
    return found


def _tagged(value: Any, buffers: list[bytes]) -> Any:
    """What JSON can hold as itself; an object with one key, its kind, for all else."""
    kind = type(value)
    if kind is list:
        return [_tagged(item, buffers) for item in value]
    if kind is tuple:
        return {"tuple": [_tagged(item, buffers) for item in value]}
    if kind is dict:
        return {"dict": [[_tagged(key, buffers), _tagged(item, buffers)] for key, item in value.items()]}
    if kind is bytes:
        buffers.append(value)
        return {"bytes": len(value)}
    if kind in _PLAIN:
        return value
    if kind is Episode:
        return {"episode": [_tagged(getattr(value, name), buffers) for name in _EPISODE]}
    _, name, dtype, shape, content = _plain(value)
    buffers.append(content)
    return {name: [dtype, list(shape)]}


class _Reader:
    """Values of tagged JSON, with the bytes that follow it."""

    def __init__(self, rest: memoryview) -> None:
        self._rest, self._at = rest, 0

    @property
    def left(self) -> int:
        """Bytes that nothing has asked for."""
        return len(self._rest) - self._at

    def _take(self, size: int) -> bytearray:
        if type(size) is not int or not 0 <= size <= self.left:
            raise ValueError("it is shorter than it says")
        self._at += size
        return bytearray(self._rest[self._at - size : self._at])

    def value(self, given: Any) -> Any:
        if isinstance(given, list):
            return [self.value(item) for item in given]
        if not isinstance(given, dict):
            return given
        ((kind, content),) = given.items()
        if kind == "tuple":
            return tuple(self.value(item) for item in content)
        if kind == "dict":
            return {self.value(key): self.value(item) for key, item in content}
        if kind == "bytes":
            return bytes(self._take(content))
        if kind == "episode":
            return Episode(*(self.value(item) for item in content))
        name, shape = content
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("a shape has whole numbers")
        count = math.prod(shape)
        if kind == "torch" and name in _TENSORS:
            dtype = getattr(torch, name)
            data = self._take(count * dtype.itemsize)
            return torch.frombuffer(data, dtype=dtype).view(shape) if data else torch.empty(shape, dtype=dtype)
        numbers = np.dtype(name)
        if kind not in ("numpy", "number") or numbers.kind not in "biuf":
            raise ValueError(f"a {kind} of {name}")
        found = np.frombuffer(self._take(count * numbers.itemsize), numbers).reshape(shape)
        return found if kind == "numpy" else found[()]
