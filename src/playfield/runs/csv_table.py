"""A CSV file that grows with a run, survives a kill and a full disk, and can be cut back to a step."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from playfield.errors import DataError, StorageError
from playfield.runs.storage import atomic_chunks, lines_of, open_regular


def plain(value: Any, name: str = "value") -> int | float | str:
    """A logged value as a Python number or text: NumPy and torch scalars converted, bool as 0 or 1."""
    if isinstance(value, str):
        return value.replace("\r", " ").replace("\n", " ")
    if isinstance(value, bool | int | np.integer | np.bool_):
        return int(value)
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(f"cannot log {name}: a {type(value).__name__} is not one number") from None


def to_text(value: int | float | str) -> str:
    return repr(value) if isinstance(value, float) else str(value)  # repr: the float reads back exactly


def _csv(rows: Iterable[Iterable[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def whole_number(text: str) -> int:
    """A number of steps in a table: not negative, of at most 18 digits. Raises ValueError."""
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ValueError(f"{text[:40]!r} is no whole number")
    return int(text)


def cells_of(line: bytes) -> list[str]:
    """The cells of one line; empty where it is not CSV."""
    try:
        return next(csv.reader([line.decode("utf-8", "replace").rstrip("\r\n")]), [])
    except csv.Error:
        return []


class Table:
    """A CSV file that grows by rows and columns; what cannot be written waits in memory.

    `preamble` is text before the header line. A half-written last line, left by a kill, is ignored and
    removed. `good` says whether a row read from the file, {column: text}, is one that was written here.

    Raises DataError where the file is no regular file or no such table, StorageError where it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        columns: list[str],
        preamble: str = "",
        good: Callable[[dict[str, str]], bool] = lambda row: True,
    ) -> None:
        self.path, self.columns, self.preamble = path, list(columns), preamble
        self._good = good
        self._pending: list[dict[str, str]] = []
        self._error: OSError | StorageError | None = None
        self._file: IO[bytes] | None = None
        self._size = 0
        if not os.path.lexists(path):
            return
        lines = lines_of(path.parent, path.name)
        first = next(lines, b"")
        if preamble and first.startswith(b"#") and first.endswith(b"\n"):
            self.preamble = first.decode("utf-8", "replace")
            first = next(lines, b"")
        header = cells_of(first) if first.endswith(b"\n") else []
        if not header:
            return  # killed before the header was there
        if "step" not in header:
            raise DataError(f"{path} is not a table of this run: its header has no column step")
        self.columns = header
        half = not all(line.endswith(b"\n") for line in lines)
        self._open()
        if half:
            self._rewrite(self.read())

    def read(self) -> Iterator[dict[str, str]]:
        """The rows on disk, one after another, as {column: text}, empty cells left out; none without a file."""
        if not os.path.lexists(self.path):
            return
        lines = (line for line in lines_of(self.path.parent, self.path.name) if line.endswith(b"\n"))
        first = next(lines, b"")
        columns = cells_of(next(lines, b"") if self.preamble and first.startswith(b"#") else first)
        for line in lines:
            yield {k: v for k, v in zip(columns, cells_of(line), strict=False) if v != ""}

    def rows(self) -> list[dict[str, str]]:
        """All rows on disk, see `read`."""
        return list(self.read())

    def start(self) -> None:
        """Write the header, if the file is not there yet. Never raises for the disk's sake: `flush` does."""
        if self._file is None:
            try:
                self._rewrite([])
            except (OSError, StorageError) as error:
                self._error = error

    def append(self, row: dict[str, str]) -> None:
        """Add a row. Never raises for the disk's sake: `flush` does."""
        self._pending.append(row)
        try:
            self._write()
        except (OSError, StorageError) as error:
            self._error = error

    def _write(self) -> None:
        new = list(dict.fromkeys(k for row in self._pending for k in row if k not in self.columns))
        if new or self._file is None:
            old, self.columns = self.columns, self.columns + new
            try:
                self._rewrite(itertools.chain(self.read(), self._pending) if self._file else self._pending)
            except (OSError, StorageError):
                self.columns = old
                raise
        else:
            data = _csv([row.get(k, "") for k in self.columns] for row in self._pending).encode()
            try:
                done = 0
                while done < len(data):
                    done += self._file.write(data[done:])
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(self._size)  # no half lines
                raise
            self._size += len(data)
        self._pending = []
        self._error = None

    def _rewrite(self, rows: Iterable[dict[str, str]]) -> None:
        def text() -> Iterator[bytes]:
            yield (self.preamble + _csv([self.columns])).encode()
            rest = iter(rows)
            while block := list(itertools.islice(rest, 1000)):
                yield _csv([row.get(k, "") for k in self.columns] for row in block).encode()

        if self._file is not None:
            self._file.close()
            self._file = None
        try:
            atomic_chunks(self.path, text())
        finally:
            if self.path.exists():
                self._open()

    def _open(self) -> None:
        self._file = open_regular(self.path.parent, self.path.name, append=True)
        self._size = os.fstat(self._file.fileno()).st_size

    def truncate_after(self, step: int, first: int) -> int:
        """Drop rows later than `step`, and columns beyond the `first` that then are empty.

        Returns how many rows were dropped because they are damaged: not what was written here.
        """
        self._pending = []
        if self._file is None:
            return 0
        used: set[str] = set()
        damaged, dropped = 0, False
        for row in self.read():
            kept, bad = self._fits(row, step)
            damaged += bad
            dropped |= not kept
            used |= row.keys() if kept else set()
        columns = [k for i, k in enumerate(self.columns) if i < first or k in used]
        if dropped or columns != self.columns:
            self.columns = columns
            self._rewrite(row for row in self.read() if self._fits(row, step)[0])
        return damaged

    def _fits(self, row: dict[str, str], step: int) -> tuple[bool, bool]:
        """Whether a row stays in a table that ends with `step`, and whether it is damaged."""
        try:
            good, at = self._good(row), whole_number(row["step"])
        except (KeyError, ValueError, OverflowError):
            return False, True
        return good and at <= step, not good

    def flush(self) -> None:
        """Write what waits and sync. Raises StorageError if there is something that cannot be written."""
        try:
            if self._pending:
                self._write()
            if self._file is not None:
                os.fsync(self._file.fileno())
        except OSError as error:
            raise StorageError(f"cannot write {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        try:
            self.flush()
        finally:
            if self._file is not None:
                self._file.close()
                self._file = None
