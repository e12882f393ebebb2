"""Storage of a replay buffer's observations: each frame once, or whole stacks compressed.

* `Frames` stores the newest frame of each observation (7,056 bytes on Atari) and rebuilds the stack when sampled.
* `Packed` stores the whole stack, compressed by LZ4: decompressing one block is about as fast as joining four frames,
  and takes about 1.3 kB on Breakout. The size depends on the game's frames.

Both address an entry by its lane and its number in that lane, which counts up forever.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import cv2
import lz4.block
import numpy as np

from playfield.compute import readable_size
from playfield.errors import DataError
from playfield.runs.storage import as_storage_error


class Frames:
    """The newest frame of each observation, 1 / `stack` of its last axis; the others are in the entries before it."""

    def __init__(
        self, lanes: int, size: int, shape: tuple[int, ...], dtype: str, stack: int, mapped: Path | None = None
    ) -> None:
        self.stack, self.size, self._shape = stack, size, shape
        self._channels = shape[-1] // stack
        part = (*shape[:-1], self._channels)
        whole = (lanes, size, *part)
        self.data = np.zeros(whole, dtype) if mapped is None else _mapped(mapped, whole, dtype)

    def put(self, lanes: np.ndarray, index: np.ndarray, obs: np.ndarray) -> bytes:
        """Store observations [n, ...]; returns the bytes that identify what was stored."""
        newest = obs[..., -self._channels :]
        self.data[lanes, index % self.size] = newest
        return newest.tobytes()

    def get(self, lanes: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Observations [B, ...] of entries whose whole stack is in the ring."""
        if self.stack == 1:
            whole: np.ndarray = self.data[lanes, index % self.size]
            return whole
        where = index[:, None] + np.arange(1 - self.stack, 1)
        parts = self.data[lanes[:, None], where % self.size]  # [B, stack, H, W, C]
        if self._channels > 1:
            return np.concatenate(list(parts.swapaxes(0, 1)), axis=-1)
        out = np.empty((len(index), *self._shape), self.data.dtype)
        for row, to in zip(parts[..., 0], out, strict=True):
            cv2.merge(list(row), dst=to)  # 4x faster than a transpose
        return out

    def pack(self, lane: int, index: int) -> bytes:
        """One entry, compressed, for a file."""
        packed: bytes = lz4.block.compress(self.data[lane, index % self.size].tobytes(), store_size=False)
        return packed

    def unpack(self, lane: int, index: int, packed: bytes) -> None:
        """Restore an entry that `pack` returned."""
        entry = self.data[lane, index % self.size]
        raw = lz4.block.decompress(packed, uncompressed_size=entry.nbytes)
        self.data[lane, index % self.size] = np.frombuffer(raw, self.data.dtype).reshape(entry.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames."""
        return self.data.nbytes


def _mapped(directory: Path, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """An array of zeros in an unnamed file in `directory`, which is deleted when the process ends, however it ends.

    Raises StorageError where the disk is too small: a write to a missing page would kill the process later.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with as_storage_error(f"cannot make a replay buffer of {readable_size(size)} in {directory}"):
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory) as file:
            if sys.platform == "linux":
                os.posix_fallocate(file.fileno(), 0, size)
            return np.memmap(file, dtype, "w+", shape=shape)


class Packed:
    """Each observation compressed: whole, or with `stack` only its newest frame, as in the files of `Frames`."""

    def __init__(self, lanes: int, size: int, shape: tuple[int, ...], dtype: str, stack: int = 1) -> None:
        self.stack, self.size, self._shape, self._dtype = stack, size, shape, np.dtype(dtype)
        self._length = int(np.prod(shape)) * self._dtype.itemsize // stack
        self.data: list[list[bytes]] = [[b""] * size for _ in range(lanes)]

    def put(self, lanes: np.ndarray, index: np.ndarray, obs: np.ndarray) -> bytes:
        """Store observations [n, ...]; returns the bytes that identify what was stored."""
        blocks = [lz4.block.compress(np.ascontiguousarray(one), store_size=False) for one in obs]
        for lane, i, block in zip(lanes.tolist(), (index % self.size).tolist(), blocks, strict=True):
            self.data[lane][i] = block
        return b"".join(blocks)

    def get(self, lanes: np.ndarray, index: np.ndarray) -> np.ndarray:
        """Observations [B, ...]. Raises DataError where a restored one is none."""
        if self.stack > 1:
            parts = [self._whole(lanes, index - k) for k in reversed(range(self.stack))]
            return np.concatenate(parts, axis=-1)
        return self._whole(lanes, index)

    def _whole(self, lanes: np.ndarray, index: np.ndarray) -> np.ndarray:
        out = np.empty((len(index), self._length), np.uint8)
        for lane, i, to in zip(lanes.tolist(), (index % self.size).tolist(), out, strict=True):
            try:
                plain = lz4.block.decompress(self.data[lane][i], uncompressed_size=self._length)
            except lz4.block.LZ4BlockError:
                plain = b""
            if len(plain) != self._length:  # restored from a file of something else
                raise DataError("the replay buffer's files hold no observations of this size")
            to[:] = np.frombuffer(plain, np.uint8)
        return out.view(self._dtype).reshape(len(index), *self._shape[:-1], self._shape[-1] // self.stack)

    def pack(self, lane: int, index: int) -> bytes:
        """One entry, as it is stored."""
        return self.data[lane][index % self.size]

    def unpack(self, lane: int, index: int, packed: bytes) -> None:
        """Restore an entry that `pack` returned."""
        self.data[lane][index % self.size] = packed

    @property
    def nbytes(self) -> int:
        """Bytes of all entries, with CPython's 33 of each object and 8 of the pointer to it."""
        return sum(41 + len(one) for lane in self.data for one in lane)
