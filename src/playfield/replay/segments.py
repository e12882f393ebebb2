"""Files of a replay buffer that checkpoints refer to: written once and never changed.

A million observations are too many for every checkpoint. Each save writes only those since the previous one, to a new
file, and the checkpoint has the list of files (name, size, sha256). Files are removed only after a checkpoint is on
the disk, and only those that neither it nor the older kept ones need.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import DataError
from playfield.runs.storage import as_storage_error, atomic_chunks, open_regular, remove, remove_leftovers

_NAME = re.compile(r"\d{8}\.seg")


class Segments:
    """Files `00000001.seg`, ... in `directory`, which is created with the first of them.

    Attributes:
        listed: the files in use, each with its name, size, sha256 and the `note` of `write`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.listed: list[dict[str, Any]] = []
        self._next = 1

    def write(self, chunks: Iterable[bytes], note: dict[str, Any]) -> None:
        """Write `chunks` to a new file and list it with `note`. Raises StorageError; nothing is listed then."""
        name = f"{self._next:08d}.seg"
        digest, size = hashlib.sha256(), 0

        def counted() -> Iterable[bytes]:
            nonlocal size
            for chunk in chunks:
                digest.update(chunk)
                size += len(chunk)
                yield chunk

        with as_storage_error(f"cannot write {self.directory}"):
            self.directory.mkdir(parents=True, exist_ok=True)
        atomic_chunks(self.directory / name, counted())
        self._next += 1
        self.listed.append({"name": name, "size": size, "sha256": digest.hexdigest(), **note})

    def drop(self, unneeded: Iterable[dict[str, Any]]) -> None:
        """Remove files from the list and from the disk."""
        gone = {entry["name"] for entry in unneeded}
        self.listed = [entry for entry in self.listed if entry["name"] not in gone]
        for name in gone:
            with contextlib.suppress(OSError):  # no longer listed, so the next session removes it
                remove(self.directory / name)

    def read(self, entry: dict[str, Any]) -> bytes:
        """The bytes of a listed file. Raises DataError where its size or sha256 differs from the list."""
        name = str(entry["name"])
        _check(name)
        if not isinstance(entry["size"], int):
            raise DataError(f"{name} is listed without a size")
        with open_regular(self.directory, name) as file:
            try:
                whole = os.fstat(file.fileno()).st_size == entry["size"]
                data = file.read(entry["size"]) if whole else b""
            except OSError as error:
                raise DataError(f"{name}: {error.strerror}") from None
        if not whole or len(data) != entry["size"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise DataError(f"{self.directory / name} is damaged: its size or sha256 differs from the checkpoint's")
        return data

    def adopt(self, listed: list[dict[str, Any]]) -> None:
        """Continue with a checkpoint's list. Raises DataError for a name that is not of such a file."""
        for entry in listed:
            _check(str(entry["name"]))
        self.listed = [dict(entry) for entry in listed]  # files that only older checkpoints needed may be missing
        self._next = 1 + max((int(entry["name"][:8]) for entry in listed), default=0)

    def tidy(self) -> None:
        """Remove files that are not listed: they were written after the checkpoint that was resumed from."""
        names = {entry["name"] for entry in self.listed}
        if self.directory.is_dir():
            remove_leftovers(self.directory)
            for path in self.directory.iterdir():
                if _NAME.fullmatch(path.name) and path.name not in names:
                    remove(path)


def needed(state: dict[str, Any]) -> list[dict[str, Any]]:
    """The listed files from which a saved replay buffer can be restored, oldest first.

    Raises DataError where they lack entries of the buffer.
    """
    count = np.asarray(state["count"])
    covered, found = np.maximum(count - state["actions"].shape[1], 0), []  # up to where each lane is complete
    for entry in state["files"]["segments"]:
        first, last = span(entry, "first", len(count)), span(entry, "last", len(count))
        if (first > last).any():
            raise DataError("a listed file ends before it begins")
        if (last > covered).any():  # otherwise only older checkpoints need it
            found.append(entry)
            covered = np.where(first <= covered, np.maximum(covered, last), covered)
    if (covered != count).any():
        raise DataError("its files do not contain the whole replay buffer")
    return found


def span(entry: Any, end: str, lanes: int) -> np.ndarray:
    """Where a listed file begins or ends in each lane, int64 [lanes]. Raises DataError for anything else."""
    values = entry.get(end) if isinstance(entry, dict) else None
    good = (
        isinstance(values, list) and len(values) == lanes and all(type(v) is int and 0 <= v < 2**62 for v in values)
    )
    if not good:
        raise DataError(f"a listed file has no usable {end!r}")
    return np.array(values, np.int64)


def packed_blocks(entries: list[bytes]) -> Iterator[bytes]:
    """The content of a file: the lengths of its entries, then the entries, lane by lane."""
    yield np.array([len(entry) for entry in entries], "<u4").tobytes()
    for k in range(0, len(entries), 1024):
        yield b"".join(entries[k : k + 1024])


def blocks(data: bytes, entry: dict[str, Any]) -> Iterator[tuple[int, int, bytes]]:
    """The content of a listed file: (lane, number of the entry in its lane, bytes). Raises DataError."""
    spans = list(zip(entry["first"], entry["last"], strict=True))
    total = sum(last - first for first, last in spans)
    if 4 * total > len(data):
        raise DataError(f"{entry['name']} is not a file of this replay buffer")
    lengths = np.frombuffer(data[: 4 * total], "<u4").astype(np.int64)
    ends = (4 * total + np.cumsum(lengths)).tolist()
    if len(lengths) != total or (total and ends[-1] != len(data)):
        raise DataError(f"{entry['name']} is not a file of this replay buffer")
    at = 4 * total
    numbered = ((lane, i) for lane, (first, last) in enumerate(spans) for i in range(first, last))
    for (lane, i), end in zip(numbered, ends, strict=True):
        yield lane, i, data[at:end]
        at = end


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise DataError(f"{name!r} is not the name of a replay file")
