"""The safetensors file format, read and written in a stream.

Format: 8 bytes little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, then the
tensors' bytes without gaps (https://huggingface.co/docs/safetensors). The safetensors library reads these
files too. It is not used here because it needs all bytes in memory at once, which would double the memory
of a large replay buffer. Here one tensor at a time is copied to the file and the hash is taken on the way.
Torch is only imported when a torch tensor has to be read.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

import numpy as np

from playfield.compute import free_memory, readable_size
from playfield.errors import DataError
from playfield.runs.strict_json import parse_json

CHUNK = 4 << 20  # bytes read, written and hashed at a time
MAX_HEADER = 64 << 20  # bytes
SMALL = 64 << 20  # bytes of tensors that are read without a look at the free memory

_TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
}
_TORCH_ONLY = {"BF16", "F8_E4M3", "F8_E5M2"}
_NUMPY_NAMES = {code: name for code, name in _TORCH_NAMES.items() if code not in _TORCH_ONLY}
_CODES = {name: code for code, name in _TORCH_NAMES.items()}
_SIZES = {code: int("".join(c for c in code.split("_")[0] if c.isdigit()) or 8) // 8 for code in _TORCH_NAMES}


def is_torch(leaf: object) -> bool:
    """Whether `leaf` is a torch tensor, without importing torch (if it is not imported, nothing is one)."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(leaf, torch.Tensor)


def is_array(leaf: object) -> bool:
    """Whether `leaf` is a plain NumPy array. Subclasses (masked, matrix) would lose what makes them
    special.
    """
    return type(leaf) in (np.ndarray, np.memmap)


def describe(leaf: Any, path: str) -> tuple[str, tuple[int, ...]]:
    """The format's dtype code and the shape of a tensor or array; TypeError naming `path` if it has no
    code.
    """
    if is_torch(leaf):
        torch = sys.modules["torch"]
        if leaf.layout != torch.strided or leaf.is_quantized or leaf.device.type == "meta":
            raise TypeError(f"{path}: only dense torch tensors can be saved, got {leaf.layout} on {leaf.device}")
        name = str(leaf.dtype).removeprefix("torch.")
    else:
        name = leaf.dtype.name
    code = _CODES.get(name)
    if code is None or (not is_torch(leaf) and code in _TORCH_ONLY):
        raise TypeError(f"{path}: a tensor of dtype {name} cannot be saved")
    return code, tuple(leaf.shape)


def raw_bytes(leaf: Any) -> memoryview:
    """The elements in C order, little-endian, as flat bytes (a copy only where the memory is not so
    already).
    """
    if is_torch(leaf):
        torch = sys.modules["torch"]
        dense = leaf.detach().cpu().resolve_conj().resolve_neg().contiguous()
        # Contiguous tensors of 0 or 1 elements may have any stride, which a view as bytes does not take.
        array = dense.as_strided((dense.numel(),), (1,)).view(torch.uint8).numpy()
    else:
        array = leaf if leaf.dtype.isnative else leaf.astype(leaf.dtype.newbyteorder("="))
        array = array if array.flags.c_contiguous else array.copy(order="C")
        array = array.reshape(-1).view(np.uint8)
    data: memoryview = array.data
    return data


def chunks(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> Iterator[bytes | memoryview]:
    """The bytes of a safetensors file holding `tensors` (torch or NumPy), piece by piece."""
    described = {key: describe(leaf, key) for key, leaf in tensors.items()}
    # Widest elements first keeps every tensor aligned to its element size.
    order = sorted(described, key=lambda key: (-_SIZES[described[key][0]], key))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    offset = 0
    for key in order:
        code, shape = described[key]
        end = offset + _SIZES[code] * math.prod(shape)
        header[key] = {"dtype": code, "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for key in order:
        view = raw_bytes(tensors[key])
        for start in range(0, len(view), CHUNK):
            yield view[start : start + CHUNK]


def _check_header(header: Any, data_size: int, name: str) -> list[tuple[str, str, tuple[int, ...], int]]:
    """The tensors in file order as (key, code, shape, bytes); DataError unless they tile the data."""
    if not isinstance(header, dict):
        raise DataError(f"{name}: the header is not an object")
    found = []
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        match entry:
            case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(begin), int(end)]} if (
                code in _SIZES and len(shape) <= 64 and all(type(n) is int and 0 <= n < 2**60 for n in shape)
            ):
                size = _SIZES[code] * math.prod(shape)
            case _:
                raise DataError(f"{name}: the header's entry for {key!r} is malformed")
        if end - begin != size:
            raise DataError(f"{name}: {key!r} takes {size} bytes but its offsets span {end - begin}")
        found.append((begin, end, key, code, tuple(shape), size))
    found.sort(key=lambda entry: entry[:2])
    position = 0
    for begin, end, key, *_ in found:
        if begin != position:
            raise DataError(f"{name}: the bytes of {key!r} start at {begin}, expected {position}")
        position = end
    if position != data_size:
        raise DataError(f"{name}: the header describes {position} bytes of data, the file has {data_size}")
    return [(key, code, shape, size) for _, _, key, code, shape, size in found]


def _allocate(code: str, shape: tuple[int, ...], kind: str, name: str) -> tuple[Any, memoryview]:
    """An empty tensor or array and a view of its bytes."""
    try:
        if kind == "torch":
            import torch

            tensor = torch.empty(shape, dtype=getattr(torch, _TORCH_NAMES[code]))
            return tensor, memoryview(tensor.reshape(-1).view(torch.uint8).numpy().data)
        if code not in _NUMPY_NAMES:
            raise DataError(f"{name}: NumPy has no dtype {code}")
        array = np.empty(shape, _NUMPY_NAMES[code])
        return array, array.reshape(-1).view(np.uint8).data
    except (MemoryError, ValueError, RuntimeError, TypeError) as error:
        raise DataError(f"{name}: cannot hold a tensor of shape {shape}: {str(error)[:80]}") from None


def read(
    file: IO[bytes], size: int, name: str, kind_of: Callable[[str], str]
) -> tuple[dict[str, Any], dict[str, str], str]:
    """Read a safetensors file of `size` bytes in one pass.

    `kind_of(key)` says what to make of a tensor: "torch", "numpy" or "skip". Returns the tensors, the
    metadata and the sha256 of every byte of the file, so that what was hashed is what was read. DataError
    names `name`; also where the tensors are larger than the memory that is free.
    """
    digest = hashlib.sha256()

    def take(view: memoryview) -> None:
        done = 0
        while done < len(view):
            count = file.readinto(view[done : done + CHUNK])  # type: ignore[attr-defined]
            if not count:
                raise DataError(f"{name}: ends early")
            digest.update(view[done : done + count])
            done += count

    length = bytearray(min(8, size))
    take(memoryview(length))
    header_size = int.from_bytes(length, "little")
    if size < 8 or header_size > min(size - 8, MAX_HEADER):
        raise DataError(f"{name}: claims a header of {header_size} bytes in a file of {size}")
    text = bytearray(header_size)
    take(memoryview(text))
    header = parse_json(bytes(text), f"{name} (header)")
    layout = _check_header(header, size - 8 - header_size, name)
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise DataError(f"{name}: the header's metadata is malformed")
    need = sum(count for key, _, _, count in layout if kind_of(key) != "skip")
    free = free_memory() if need > SMALL else None
    if free is not None and need > free:  # the file may be sparse: its size costs its maker nothing
        raise DataError(
            f"{name}: it holds {readable_size(need)} of tensors, and {readable_size(free)} of memory are free"
        )
    tensors: dict[str, Any] = {}
    scratch = bytearray(0)
    for key, code, shape, count in layout:
        kind = kind_of(key)
        if kind == "skip":
            scratch = scratch or bytearray(CHUNK)
            for start in range(0, count, CHUNK):
                take(memoryview(scratch)[: min(CHUNK, count - start)])
        else:
            tensors[key], view = _allocate(code, shape, kind, name)
            take(view)
    return tensors, metadata, digest.hexdigest()
