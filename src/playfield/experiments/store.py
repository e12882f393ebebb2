"""The driver's side of a cluster without a shared directory: run directories grow by the files that nodes send.

A node asks with a line of JSON and bytes, and is answered in the same way (`Store.answer`). It fetches what a run has
before it goes on there, and sends what is new: rows of tables as they come, each new checkpoint's files in pieces.
These are put aside until all are there, the manifest last, each with the sha256 that it had on the node; only then is
the checkpoint published, by a rename. A transfer that was torn leaves nothing but files put aside.

Each question carries the number of its attempt, see `runs.fence`: a node whose run went on elsewhere is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from playfield.errors import DataError, PlayfieldError, StorageError, shown
from playfield.experiments.job import log_of
from playfield.runs import fence, storage
from playfield.runs.storage import atomic_write, fsync_directory, open_regular, read_json, remove

PIECE = 4_000_000
"""Bytes that go with one question or answer at most."""
ASIDE = ".store"  # in the directory of the experiment: files of which more are to come
OWN = ("lock", fence.FILE)  # files of a run directory that belong to the machine that they are on
CHECKPOINT, SEGMENT = re.compile(r"ckpt-\d{12}"), re.compile(r"\d{8}\.seg")
_TEMPORARY = re.compile(r".*\.tmp-\d+(-\d+)?|.*\.old|.*\.damaged(-\d+)?")
OLD = 60.0  # seconds after which nobody completes what was put aside
LEFT_OUT = ("films", "explain")  # folders that no training goes on from


class Store:
    """Answers what nodes ask about the runs of an experiment.

    Args:
        root: directory of the experiment.
        tell: receives a line for a person where files could not be kept, once until it works again.
    """

    def __init__(self, root: Path, tell: Callable[[str], None] = lambda line: None) -> None:
        self.root, self.tell = Path(root), tell
        self._told: dict[str, str] = {}
        self._sums: dict[Path, Any] = {}  # of files that are put aside, so far
        self._grown: dict[Path, set[Path]] = {}  # tables with rows that may not be on the disk yet, of each run
        self._runs: set[Path] = set()

    def answer(self, text: str, data: bytes = b"") -> tuple[str, bytes]:
        """What a node is told.

        Args:
            text: JSON with `do`, the name of a method below without its underscore; `run`, the run's directory below
                `root`; `attempt`; and what else the method takes.
            data: of a file.

        Returns:
            (JSON, bytes). JSON with `error` and `code`, an exit code, where it could not be done; with `fenced`, the
            number of the later attempt, where the run went on elsewhere.
        """
        asked = json.loads(text)
        do, run, attempt = asked.pop("do"), str(asked.pop("run")), int(asked.pop("attempt"))
        try:
            directory = _inside(self.root, run)
            if (now := fence.read(directory)) != attempt:
                return json.dumps({"fenced": now}), b""
            self._runs.add(directory)
            told, out = self._do(do, directory, asked | ({"data": data} if data else {}))
        except PlayfieldError as error:
            if self._told.get(run) != str(error):
                self.tell(f"{run}: what its node sends is not kept: {error}")
            self._told[run] = str(error)
            return json.dumps({"error": str(error), "code": error.exit_code}), b""
        if do == "publish":
            self._told.pop(run, None)
        return json.dumps(told), out

    def _do(self, do: str, directory: Path, asked: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        methods: dict[str, Callable[..., tuple[dict[str, Any], bytes]]] = {
            "begin": self._begin, "read": self._read, "clear": self._clear, "put": self._put, "link": self._link,
            "publish": self._publish, "append": self._append, "log": self._log,
        }  # fmt: skip
        try:
            return methods[do](directory, **asked)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._clear(directory)  # a full disk has the more room for others
            verb = "read" if do in ("begin", "read") else "write"
            raise StorageError(f"cannot {verb} {directory}: {error.strerror or error}") from error
        except StorageError:
            self._clear(directory)
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"cannot answer {shown(do)}: {error}") from None

    def forget(self) -> None:
        """Remove what was put aside, which nobody will complete."""
        for directory in self._runs:
            self._clear(directory)

    def sweep(self) -> None:
        """Remove what was put aside for a store that was killed: nothing came for a minute.

        A node that is only slow loses nothing by it: it is told so when it goes on, and sends its files again.
        """
        for aside in (self.root / ASIDE).glob("*"):
            with contextlib.suppress(OSError):  # of others, who remove it at this moment
                if time.time() - max(path.stat().st_mtime for path in (aside, *aside.rglob("*"))) > OLD:
                    remove(aside)
        with contextlib.suppress(OSError):  # not there, or there is more in it
            (self.root / ASIDE).rmdir()

    # What nodes ask for ----------------------------------------------------------------------------------

    def _begin(self, directory: Path) -> tuple[dict[str, Any], bytes]:
        """An attempt begins: what the run has, as (path, bytes)."""
        self._clear(directory)
        left_out = [directory / name for name in LEFT_OUT]
        files = [path for path in held(directory) if not any(folder in path.parents for folder in left_out)]
        return {"files": [[path.relative_to(directory).as_posix(), path.stat().st_size] for path in files]}, b""

    def _clear(self, directory: Path) -> tuple[dict[str, Any], bytes]:
        """Remove what was put aside of a run."""
        aside = self._aside(directory)
        shutil.rmtree(aside, ignore_errors=True)
        self._sums = {path: digest for path, digest in self._sums.items() if aside not in path.parents}
        with contextlib.suppress(OSError):  # of other runs there is more
            aside.parent.rmdir()
        return {}, b""

    def _read(self, directory: Path, path: str, offset: int) -> tuple[dict[str, Any], bytes]:
        """A piece of a file."""
        where = _inside(directory, path)
        with open_regular(where.parent, where.name) as file:
            file.seek(offset)
            return {}, file.read(PIECE)

    def _put(
        self, directory: Path, path: str, offset: int, data: bytes = b"", sha256: str | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """Put a piece of a file aside; with `sha256`, that of the whole file, it is the last one."""
        where = _inside(self._aside(directory), _of_all(path))
        where.parent.mkdir(parents=True, exist_ok=True)
        digest = self._sums.setdefault(where, hashlib.sha256()) if offset else hashlib.sha256()
        self._sums[where] = digest
        with where.open("ab" if offset else "wb", buffering=0) as file:
            if file.tell() != offset:
                raise DataError(f"{path}: a piece that begins at byte {offset} came after {file.tell()} bytes")
            rest = memoryview(data)
            digest.update(rest)
            while rest:
                storage.fault_point(f"write {where.name}")
                rest = rest[file.write(rest) :]
            if sha256 is not None:
                storage.fault_point(f"fsync {where.name}")
                os.fsync(file.fileno())
        if sha256 is not None and self._sums.pop(where).hexdigest() != sha256:
            where.unlink()
            raise DataError(f"{path} was damaged on its way")
        return {}, b""

    def _link(self, directory: Path, path: str, to: str) -> tuple[dict[str, Any], bytes]:
        """Put a file aside that the run has under another name."""
        source, where = _inside(directory, path), _inside(self._aside(directory), _of_all(to))
        where.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            where.unlink()
        storage.fault_point(f"link {where.name}")
        try:
            os.link(source, where)
        except OSError:  # no hard links here
            shutil.copyfile(source, where)
            _sync(where)
        return {}, b""

    def _append(self, directory: Path, path: str, offset: int, data: bytes) -> tuple[dict[str, Any], bytes]:
        """Add rows to a table that has `offset` bytes; otherwise nothing is written, and `has` is how many it has.

        They are on the disk before the checkpoint that follows them is published.
        """
        where = _inside(directory, _of_all(path))
        if not where.is_file() or (has := where.stat().st_size) != offset:
            return {"has": has if where.is_file() else -1}, b""
        self._grown.setdefault(directory, set()).add(where)
        with open_regular(where.parent, where.name, append=True) as file:
            try:
                rest = memoryview(data)
                while rest:
                    storage.fault_point(f"write {where.name}")
                    rest = rest[file.write(rest) :]
            except OSError:
                file.truncate(offset)  # no half rows
                raise
        return {}, b""

    def _publish(
        self, directory: Path, names: list[str] | None = None, files: list[str] | None = None
    ) -> tuple[dict[str, Any], bytes]:
        """Give all files that were put aside their places: replay files first, then checkpoints.

        With `names`, the checkpoints and replay files that the node has, others are removed after that. `files` are
        those that the node has put aside.
        """
        aside = self._aside(directory)
        if lost := [path for path in files or () if not _inside(aside, path).is_file()]:
            raise DataError(f"{lost[0]} is missing")
        for table in sorted(self._grown.get(directory, ())):
            with contextlib.suppress(FileNotFoundError):
                _sync(table)
        self._grown.pop(directory, None)
        found = [path for path in sorted(aside.rglob("*")) if path.is_file()]
        folders = sorted(one for one in aside.glob("checkpoints/*") if one.is_dir())
        for folder in folders:
            _complete(folder)
        for path in found:
            if path.parent not in folders:
                where = directory / path.relative_to(aside)
                where.parent.mkdir(parents=True, exist_ok=True)
                storage.fault_point(f"rename {path.name}")
                os.replace(path, where)
                fsync_directory(where.parent)
        for folder in folders:
            fsync_directory(folder)
            (directory / "checkpoints").mkdir(exist_ok=True)
            storage.replace_directory(folder, directory / "checkpoints" / folder.name)
            if CHECKPOINT.fullmatch(folder.name):
                atomic_write(directory / "checkpoints" / "last", folder.name + "\n")
        self._clear(directory)
        if names is not None:
            _keep(directory, set(names))
        return {}, b""

    def _log(self, directory: Path, data: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """What the training wrote to standard error."""
        log = log_of(directory)
        log.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(log, data)
        return {}, b""

    def _aside(self, directory: Path) -> Path:
        name = hashlib.sha256(str(directory.relative_to(self.root)).encode()).hexdigest()[:16]
        return self.root / ASIDE / name


def held(directory: Path) -> Iterator[Path]:
    """The files of a run directory that are the same on every machine."""
    for folder, folders, names in os.walk(directory):
        top = Path(folder) == directory
        folders[:] = sorted(name for name in folders if not _TEMPORARY.fullmatch(name))
        for name in sorted(names):
            path = Path(folder) / name
            if not (_TEMPORARY.fullmatch(name) or (top and name in OWN) or path.is_symlink()):
                yield path


def _inside(directory: Path, path: str) -> Path:
    """A path below a directory. Raises DataError for one that leads out of it."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or not {"..", "\0"}.isdisjoint(parts):
        raise DataError(f"{shown(path)} is no file of a run")
    return directory.joinpath(*parts)


def _of_all(path: str) -> str:
    """A path that nodes may write. Raises DataError for a file that belongs to this machine."""
    if PurePosixPath(path).parts in [(name,) for name in OWN]:
        raise DataError(f"{shown(path)} is no file that nodes send")
    return path


def _sync(path: Path) -> None:
    """Make the content of a file durable."""
    storage.fault_point(f"fsync {path.name}")
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _complete(folder: Path) -> None:
    """Raise DataError unless a checkpoint has its manifest, and all files that this lists with their sizes."""
    match read_json(folder, "manifest.json")[1]:
        case {"files": dict(files)}:
            sizes = {name: told.get("size") for name, told in files.items()}
        case _:
            raise DataError(f"{folder.name}/manifest.json lists no files")
    for name, size in sizes.items():
        with open_regular(folder, name) as file:
            if os.fstat(file.fileno()).st_size != size:
                raise DataError(f"{folder.name}/{name} is not whole")


def _keep(directory: Path, names: set[str]) -> None:
    """Remove the checkpoints and replay files that are not among these."""
    for path in [*directory.glob("checkpoints/ckpt-*"), *directory.glob("replay/*/*.seg")]:
        ours = CHECKPOINT.fullmatch(path.name) or SEGMENT.fullmatch(path.name)
        if ours and path.relative_to(directory).as_posix() not in names:
            remove(path)
