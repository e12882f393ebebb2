"""Writing to disk without ever leaving half a file, and reading files that a stranger may have made."""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from playfield.compute import readable_size
from playfield.errors import DataError, StorageError
from playfield.runs.strict_json import MAX_JSON, parse_json

_TEMPORARY = re.compile(r".*\.tmp-(\d+)(-\d+)?")
_counter = itertools.count()
_claimed: set[str] = set()  # temporary files that this process has under its hands, absolute


def fault_point(point: str) -> None:
    """Called with a name before every write, fsync, rename and removal. Tests replace it to crash there."""


@contextlib.contextmanager
def as_storage_error(action: str) -> Iterator[None]:
    """Turn OSError into StorageError (exit code 5), keeping the system's words."""
    try:
        yield
    except OSError as error:
        raise StorageError(f"{action}: {error.strerror or error}") from error


def fsync_directory(path: Path) -> None:
    """Make the names in a directory durable, as fsync of a file does for its content."""
    fault_point(f"fsync {path.name}/")
    if os.name == "nt":  # directories cannot be opened there
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Write and sync a new file; returns its size and sha256."""
    digest, size = hashlib.sha256(), 0
    fault_point(f"create {path.name}")
    with open(path, "xb", buffering=0) as file:
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            rest = memoryview(chunk)
            while rest:
                fault_point(f"write {path.name}")
                rest = rest[file.write(rest) :]
        fault_point(f"fsync {path.name}")
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def claim_temporary(path: Path) -> Path:
    """A temporary name beside `path` that says who writes it; it is this process's until `release_temporary`."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{next(_counter)}")
    _claimed.add(os.path.abspath(temporary))
    return temporary


def release_temporary(temporary: Path) -> None:
    """Remove a claimed file if it is still there. Where that fails it is a leftover."""
    _claimed.discard(os.path.abspath(temporary))
    with contextlib.suppress(OSError):  # renamed already, or its folder is no folder
        temporary.unlink()


def atomic_chunks(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """`atomic_write` in pieces."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{next(_counter)}")
    with as_storage_error(f"cannot write {path}"):
        try:
            temporary.unlink(missing_ok=True)  # of a dead process that had the same id
            write_file(temporary, chunks)
            fault_point(f"rename {path.name}")
            os.replace(temporary, path)
            fsync_directory(path.parent)
        except (Exception, KeyboardInterrupt):
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def atomic_write(path: Path | str, data: bytes | str) -> None:
    """Write and sync a whole file so that a reader, or a crash, sees the old content or the new.

    Raises StorageError with the system's words; the old file is then untouched and no temporary file is left.
    """
    atomic_chunks(Path(path), [data.encode() if isinstance(data, str) else data])


def remove(path: Path) -> None:
    """Remove a file or directory. A directory is renamed first, so that half of one never has a good name."""
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    if not _TEMPORARY.fullmatch(path.name):
        condemned = path.with_name(f"{path.name}.gone.tmp-{os.getpid()}-{next(_counter)}")
        fault_point(f"rename {path.name} away")
        os.rename(path, condemned)
        path = condemned
    fault_point(f"remove {path.name.split('.tmp-')[0]}")
    shutil.rmtree(path)


def alive(pid: int) -> bool:
    """Whether a process of this machine has that id (always true on Windows, where one cannot ask safely)."""
    if os.name == "nt":  # os.kill would end the process there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True


def remove_leftovers(directory: Path, name: str | None = None) -> None:
    """Remove temporary files of writers that are gone, and what this process left without a claim on it.

    With `name`, only those that were to become that file.
    """
    for path in list(directory.iterdir()):
        match = _TEMPORARY.fullmatch(path.name)
        if match is None or (name is not None and not path.name.startswith(f".{name}.tmp-")):
            continue
        mine = int(match[1]) == os.getpid()
        if os.path.abspath(path) not in _claimed if mine else not alive(int(match[1])):
            remove(path)


@contextlib.contextmanager
def folder_for(folder: Path, names: Iterable[str] = ()) -> Iterator[None]:
    """Make a folder, and inside write the files `names` into it. After an exception nothing half-made stays.

    Of these files those are removed that were not there before, and so are folders that are new, unless another
    process has put something into them. Raises StorageError where the folder cannot be made.
    """
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    files = [path for name in names if not os.path.lexists(path := folder / name)]
    try:
        with as_storage_error(f"cannot write to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for path in files:
            with contextlib.suppress(OSError):
                path.unlink()
        for path in new:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def replace_directory(new: Path, final: Path) -> None:
    """Rename `new` to `final`. Until that is done an existing `final` waits as `final.old`."""
    old = final.with_name(final.name + ".old")
    if final.exists():
        if old.exists():
            remove(old)
        fault_point(f"rename {final.name} to .old")
        os.rename(final, old)
    try:
        fault_point(f"rename {final.name}")
        os.rename(new, final)
    except (Exception, KeyboardInterrupt):
        if old.exists():
            os.rename(old, final)
        raise
    fsync_directory(final.parent)
    if old.exists():
        remove(old)


def preflight(directory: Path | str, need_bytes: int) -> None:
    """Raise StorageError unless `directory` is writable and has `need_bytes` free. Creates nothing."""
    place = _existing(directory)
    if not os.access(place, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write in {place}: no permission, or a read-only disk")
    free = free_disk(place)
    if free < need_bytes:
        raise StorageError(
            f"{directory} needs {readable_size(need_bytes)} but the disk has {readable_size(free)} free"
        )


def free_disk(directory: Path | str) -> int:
    """Bytes free on the disk that `directory` is, or would be, on."""
    place = _existing(directory)
    with as_storage_error(f"cannot look at the disk of {place}"):
        return shutil.disk_usage(place).free


def _existing(directory: Path | str) -> Path:
    """`directory`, or the nearest above it that exists."""
    place = Path(directory).absolute()
    while not place.exists():
        place = place.parent
    return place


MAX_LINE = 1 << 20  # bytes of a line of a table


def open_regular(directory: Path, name: str, most: int | None = None, append: bool = False) -> IO[bytes]:
    """Open a regular file, unbuffered: to read, or with `append` to write at its end.

    Links, pipes and devices are refused: they could stand for any file of the reader's, or never end. Raises
    DataError for these, for a file of more than `most` bytes, and for one that cannot be read; StorageError for one
    that cannot be written.
    """
    path = directory / name
    flags = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if path.is_symlink():
            raise DataError(f"{name} is a symbolic link")
        fd = os.open(path, flags | (os.O_WRONLY | os.O_APPEND | os.O_CREAT if append else os.O_RDONLY), 0o666)
    except FileNotFoundError:
        raise DataError(f"{name} is missing") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"cannot write {path}: {reason}") if append else DataError(f"{name}: {reason}") from None
    found = os.fstat(fd)
    if stat.S_ISREG(found.st_mode) and (most is None or found.st_size <= most):
        return os.fdopen(fd, "ab" if append else "rb", buffering=0)
    os.close(fd)  # not by a file object: Python makes none of a directory
    regular = stat.S_ISREG(found.st_mode)
    raise DataError(
        f"{name} has {found.st_size:,} bytes, more than {most:,}" if regular else f"{name} is not a regular file"
    )


def lines_of(directory: Path, name: str) -> Iterator[bytes]:
    """The lines of a regular file, each with its line end, which the last one may lack; in constant memory.

    Raises DataError as `open_regular` does, and for a line longer than `MAX_LINE`.
    """
    with open_regular(directory, name) as raw:
        yield from lines_from(raw, name)


def lines_from(raw: IO[bytes], name: str) -> Iterator[bytes]:
    """`lines_of` an open, unbuffered file, from where it stands."""
    file = io.BufferedReader(cast(io.RawIOBase, raw))
    try:
        while line := file.readline(MAX_LINE + 1):
            if len(line) > MAX_LINE:
                raise DataError(f"{name} has a line of more than {MAX_LINE:,} bytes: it is damaged")
            yield line
    except OSError as error:
        raise DataError(f"{name}: {error.strerror}") from None
    finally:
        file.detach()  # whoever opened the file closes it


def read_bytes(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most `most`; DataError naming it, as `open_regular`."""
    with open_regular(path.parent, path.name, most) as file:
        try:
            return file.read(os.fstat(file.fileno()).st_size) or b""
        except OSError as error:
            raise DataError(f"{path.name}: {error.strerror}") from None


def refuse_links(run: Path) -> None:
    """Raise DataError where something that a run directory holds is a link: it would lead to files of others.

    The directory itself may be reached through one.
    """
    folders = [run / name for name in ("checkpoints", "replay", "eval", "films", "explain")]
    inside = [entry for folder in folders[:2] if folder.is_dir() for entry in folder.iterdir() if entry.is_dir()]
    for path in (*folders, *(entry for entry in inside if not entry.name.startswith("ckpt-"))):
        if path.is_symlink():
            raise DataError(
                f"{path} is a symbolic link, and what a run consists of must lie in its directory: "
                "put the folder there, or move the run as a whole"
            )


def read_json(directory: Path, name: str, constants: bool = False) -> tuple[bytes, Any]:
    """The bytes of a file and the JSON in them, see `parse_json`; DataError naming the file."""
    data = read_bytes(directory / name, MAX_JSON)
    return data, parse_json(data, name, constants)
