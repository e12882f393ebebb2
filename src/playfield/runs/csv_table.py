"""A CSV file that grows with a run, survives a kill and a full disk, and can be cut back to a step."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from playfield.errors import DataError, StorageError
from playfield.runs.storage import atomic_write


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


def _step_of(row: Mapping[str, str]) -> float:
    try:
        return int(row["step"])
    except (KeyError, ValueError):
        return math.inf  # a damaged row counts as later than everything


class Table:
    """A CSV file that grows by rows and columns; what cannot be written waits in memory.

    `preamble` is text before the header line. A half-written last line, left by a kill, is ignored and
    removed.
    """

    def __init__(self, path: Path, columns: list[str], preamble: str = "") -> None:
        self.path, self.columns, self.preamble = path, list(columns), preamble
        self._pending: list[dict[str, str]] = []
        self._error: OSError | StorageError | None = None
        self._file: IO[bytes] | None = None
        self._size = 0
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        whole = text[: text.rfind("\n") + 1]
        if preamble and whole.startswith("#"):
            self.preamble = whole[: whole.index("\n") + 1]
        header = next(csv.reader([whole.removeprefix(self.preamble).partition("\n")[0]]), [])
        if not header:
            return  # killed before the header was there
        if "step" not in header:
            raise DataError(f"{path} is not a table of this run: its header has no column step")
        self.columns = header
        self._open()
        if len(whole) < len(text):
            self._rewrite(self.rows())

    def rows(self) -> list[dict[str, str]]:
        """The rows on disk as {column: text}, empty cells left out."""
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return []
        lines = csv.reader(io.StringIO(text[: text.rfind("\n") + 1].removeprefix(self.preamble)))
        columns = next(lines, [])
        return [{k: v for k, v in zip(columns, line, strict=False) if v != ""} for line in lines]

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
                self._rewrite([*self.rows(), *self._pending] if self._file else self._pending)
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

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        body = _csv([self.columns, *([row.get(k, "") for k in self.columns] for row in rows)])
        if self._file is not None:
            self._file.close()
            self._file = None
        try:
            atomic_write(self.path, self.preamble + body)
        finally:
            if self.path.exists():
                self._open()

    def _open(self) -> None:
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        self._size = os.fstat(self._file.fileno()).st_size

    def truncate_after(self, step: int, first: int) -> None:
        """Drop rows later than `step`, and columns beyond the `first` that then are empty."""
        self._pending = []
        if self._file is None:
            return
        rows = [row for row in self.rows() if _step_of(row) <= step]
        used = {k for row in rows for k in row}
        self.columns = [k for i, k in enumerate(self.columns) if i < first or k in used]
        self._rewrite(rows)

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
