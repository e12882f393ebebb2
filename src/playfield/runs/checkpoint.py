"""A tree of tensors, arrays and JSON, saved atomically and verified when loaded. No pickle anywhere.

A checkpoint is a directory:

    ckpt-000000012288/
        tree.json             the tree, with a reference wherever a tensor stands (see _tree.py)
        tensors.safetensors   every tensor, keyed by its path in the tree
        manifest.json         format, step, meta, versions, tensor shapes, size and sha256 of the files above

`save` writes it under a temporary name, syncs each file, writes the manifest last and renames the
directory. A process killed at any moment leaves the previous checkpoint, the new one, or both. `load` takes
the newest one whose every byte has the right sha256. Loading only parses JSON and copies bytes, so a file
from a stranger runs no code.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
import os
import re
import shutil
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from playfield.errors import DataError
from playfield.runs import origin, storage, tensor_file
from playfield.runs.storage import (
    as_storage_error,
    atomic_write,
    fsync_directory,
    open_regular,
    preflight,
    read_json,
    remove,
    remove_leftovers,
    replace_directory,
    write_file,
)
from playfield.runs.strict_json import dump_json
from playfield.runs.tree import decode, encode, encode_plain, select, tree_hash
from playfield.runs.weights import export_weights, import_weights

__all__ = [
    "Checkpoint", "UnfitError", "atomic_write", "checkpoints", "export_weights", "import_weights", "load",
    "mark_best", "preflight", "read_best", "read_manifest", "remove_leftovers", "save", "take_over", "tree_hash",
]  # fmt: skip

FORMAT = 1
_FILES = ("tree.json", "tensors.safetensors")
_NAME = re.compile(r"ckpt-(\d{12})(\.old)?")


@dataclass(frozen=True)
class Checkpoint:
    """What `load` returns. `skipped` says, one line each, why newer checkpoints could not be used."""

    step: int
    tree: dict[str, Any]
    meta: dict[str, Any]
    path: Path
    skipped: list[str] = field(default_factory=list)


Check = Callable[[Checkpoint], None]


class UnfitError(DataError):
    """A checkpoint that is whole but not for this run or this version: an older one is no way out."""


def _prepare(directory: Path) -> None:
    """Make the directory, clear what dead writers left, and put back an `.old` whose successor never came."""
    directory.mkdir(parents=True, exist_ok=True)
    remove_leftovers(directory)
    for old in directory.glob("*.old"):
        final = old.with_name(old.name.removesuffix(".old"))
        if final.exists():
            remove(old)
        else:
            os.rename(old, final)


def _seal_of(body: bytes) -> bytes:
    return f',"manifest_sha256":"{hashlib.sha256(body).hexdigest()}"}}\n'.encode()


def _seal(manifest: dict[str, Any]) -> bytes:
    """The manifest's text with the sha256 of itself as last line. Formats to come must keep that."""
    body = dump_json(manifest, "manifest.json")[:-1] + b"\n"
    return body + _seal_of(body)


def save(
    directory: Path | str,
    step: int,
    tree: dict[str, Any],
    meta: dict[str, Any],
    keep: int = 3,
    before: Callable[[], None] = lambda: None,
) -> Path:
    """Save `tree` as the checkpoint of `step` and return its path, `<directory>/ckpt-<step, 12 digits>`.

    `tree` is nested dicts (str or int keys), lists and tuples with leaves torch.Tensor, np.ndarray, int (of
    any size), float, str, bool, None; NumPy scalars become Python's. `meta` is the same without tensors; it
    can be read without the tree. Afterwards the file `last` names the checkpoint, and of it and older ones
    the newest `keep` stay, besides the one that `best` was made from. `before` is called once all is written and
    nothing is renamed yet: what it raises leaves everything as it was.

    Raises TypeError naming the path of a leaf that cannot be saved, and StorageError if the disk is full or
    refuses; older checkpoints are then as they were and nothing temporary is left.
    """
    directory = Path(directory)
    if not 0 <= step < 10**12:
        raise ValueError(f"step must be between 0 and 10**12, got {step}")
    if keep < 1:
        raise ValueError(f"keep must be at least 1, got {keep}")
    if not isinstance(tree, dict):
        raise TypeError(f"the tree is a {type(tree).__name__}, not a dict")
    value, tensors = encode(tree)
    shapes = {key: tensor_file.describe(leaf, key) for key, leaf in tensors.items()}
    manifest: dict[str, Any] = {
        "playfield_checkpoint": FORMAT,
        "step": int(step),
        "meta": encode_plain(meta, "meta"),
    }
    manifest |= {"created": time.time(), "versions": origin.packages()}
    manifest["tensors"] = {key: {"dtype": code, "shape": list(shape)} for key, (code, shape) in shapes.items()}
    text = dump_json(value, "tree.json")
    final = directory / f"ckpt-{step:012d}"
    temporary = directory / f"{final.name}.tmp-{os.getpid()}"
    with as_storage_error(f"cannot save a checkpoint in {directory}"):
        _prepare(directory)
        try:
            storage.fault_point(f"create {final.name}")
            temporary.mkdir()
            manifest["files"] = {
                "tree.json": write_file(temporary / "tree.json", [text]),
                "tensors.safetensors": write_file(
                    temporary / "tensors.safetensors", tensor_file.chunks(tensors, {"format": "pt"})
                ),
            }
            write_file(temporary / "manifest.json", [_seal(manifest)])
            fsync_directory(temporary)
            before()
            replace_directory(temporary, final)
        except (Exception, KeyboardInterrupt):
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        atomic_write(directory / "last", final.name + "\n")
        _prune(directory, step, keep)
    return final


def _prune(directory: Path, step: int, keep: int) -> None:
    """Remove the oldest checkpoints up to `step` beyond `keep`. Later ones are not this save's.

    Those that a look at manifest and sizes finds damaged take no good one's place: they stay, uncounted.
    """
    best = ""
    with contextlib.suppress(DataError, OSError):
        best = read_best(directory).get("checkpoint", "")
    whole = []
    for path in checkpoints(directory):
        with contextlib.suppress(DataError):
            if path.name <= f"ckpt-{step:012d}":
                _check_sizes(path)
                whole.append(path)
    for path in whole[:-keep]:
        if path.name != best:
            remove(path)


def _check_sizes(path: Path) -> None:
    """DataError unless the manifest is good and each file of a checkpoint has the size that it states."""
    files = read_manifest(path)["files"]
    for name in _FILES:
        with open_regular(path, name) as file:
            if os.fstat(file.fileno()).st_size != files[name].get("size"):
                raise DataError(f"{name} is damaged: its size differs from the manifest's")


def _set_aside(path: Path) -> Path:
    """Rename a damaged checkpoint so that nothing takes it for one. Nobody removes it: it may be of use yet."""
    for number in itertools.count(1):  # pragma: no branch
        aside = path.with_name(f"{path.name}.damaged" + (f"-{number}" if number > 1 else ""))
        if not os.path.lexists(aside):
            break
    storage.fault_point(f"rename {path.name} aside")
    os.rename(path, aside)
    fsync_directory(path.parent)
    return aside


def take_over(directory: Path | str, check: Check | None = None) -> Checkpoint | None:
    """`load` the newest good checkpoint for a run that goes on from it; None if there is none at all.

    For the holder of the run's lock. Damaged checkpoints that are newer, and a damaged `best`, are renamed to
    `<name>.damaged`: they would be counted among the newest to keep while good ones are removed, and an
    `.old` that is good would give way to them. `skipped` says what was renamed and why. Raises DataError as
    `load` does, and then renames nothing; StorageError if the disk refuses.
    """
    directory = Path(directory)
    if not directory.is_dir() or not _candidates(directory):
        return None
    found = load(directory, None, check)
    notes = []
    with as_storage_error(f"cannot set a damaged checkpoint in {directory} aside"):
        for note in found.skipped:
            notes.append(f"{note}; moved to {_set_aside(directory / note.partition(':')[0]).name}")
        if notes and (directory / "best").exists():
            try:
                _load_one(directory / "best", ())
            except DataError as error:
                notes.append(f"best: {error}; moved to {_set_aside(directory / 'best').name}")
    return replace(found, skipped=notes)


def mark_best(directory: Path | str, ckpt_path: Path | str, score: float, meta: dict[str, Any]) -> Path:
    """Keep the checkpoint `ckpt_path` as `<directory>/best` with a `best.json`, replacing an older one.

    A full copy: hard links where the file system has them. Raises ValueError if `score` is not finite,
    DataError if `ckpt_path` is no checkpoint, StorageError if the disk refuses.
    """
    directory, source = Path(directory), Path(ckpt_path)
    if not math.isfinite(score):
        raise ValueError(f"the best score must be finite, got {score}")
    manifest = read_manifest(source)
    best = {
        "score": float(score),
        "step": manifest["step"],
        "checkpoint": source.name,
        "meta": encode_plain(meta, "meta"),
    }
    temporary = directory / f"best.tmp-{os.getpid()}"
    with as_storage_error(f"cannot mark {source.name} as best"):
        _prepare(directory)
        try:
            temporary.mkdir()
            for name in (*_FILES, "manifest.json"):
                open_regular(source, name).close()
                storage.fault_point(f"link {name}")
                try:
                    os.link(source / name, temporary / name)
                except OSError:  # no hard links here: copy; a full disk shows itself again
                    with open_regular(source, name) as file:
                        write_file(temporary / name, iter(partial(file.read, tensor_file.CHUNK), b""))
            write_file(temporary / "best.json", [dump_json(best, "best.json")])
            fsync_directory(temporary)
            replace_directory(temporary, directory / "best")
        except (Exception, KeyboardInterrupt):
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return directory / "best"


def read_manifest(path: Path | str) -> dict[str, Any]:
    """The verified manifest of one checkpoint: step, meta, versions, tensors, files. Reads nothing else.

    For a look before loading: which algorithm, env and shapes. Raises DataError.
    """
    path = Path(path)
    data, manifest = read_json(path, "manifest.json")
    version = manifest.get("playfield_checkpoint") if isinstance(manifest, dict) else None
    if type(version) is not int:
        raise DataError("manifest.json is not the manifest of a playfield checkpoint")
    body = data.rpartition(b"\n,")[0] + b"\n"
    sealed = data == body + _seal_of(body)
    if version > FORMAT:
        versions = manifest.get("versions")
        maker = versions.get("playfield", "?") if isinstance(versions, dict) else "?"
        text = f"made by a newer playfield, {maker}: format {version}, this one reads up to {FORMAT}; upgrade"
        raise UnfitError(text) if sealed else DataError(f"{text} (or manifest.json is damaged)")
    if not sealed:
        raise DataError("manifest.json is damaged: its sha256 differs")
    match manifest:
        case {
            "step": int(),
            "meta": dict(),
            "tensors": dict(),
            "files": {"tree.json": dict(), "tensors.safetensors": dict(), **others},
        } if not others:
            return dict(manifest)
    raise DataError(f"manifest.json must list exactly the files {' and '.join(_FILES)}")


def _load_one(path: Path, only: Collection[str] | None) -> Checkpoint:
    manifest = read_manifest(path)

    def check(name: str, size: int, digest: str) -> None:
        if manifest["files"][name] != {"size": size, "sha256": digest}:
            raise DataError(f"{name} is damaged: its size or sha256 differs from the manifest's")

    data, value = read_json(path, "tree.json")
    check("tree.json", len(data), hashlib.sha256(data).hexdigest())
    if not isinstance(value, dict):
        raise DataError("tree.json is not an object")
    if only is not None:
        value = select(value, only)
    kinds: dict[str, str] = {}
    decode(value, lambda kind, key: kinds.__setitem__(key, kind))
    with open_regular(path, "tensors.safetensors") as file:
        size = os.fstat(file.fileno()).st_size
        if size != manifest["files"]["tensors.safetensors"].get("size"):
            raise DataError(f"tensors.safetensors is damaged: {size} bytes, not the manifest's")
        try:
            tensors, _, digest = tensor_file.read(
                file, size, "tensors.safetensors", lambda key: kinds.get(key, "skip")
            )
        except OSError as error:
            raise DataError(f"tensors.safetensors: {error.strerror}") from None
    check("tensors.safetensors", size, digest)
    if missing := kinds.keys() - tensors.keys():
        raise DataError(f"tensors.safetensors lacks {min(missing)}")
    meta = decode(manifest["meta"], lambda kind, key: None)
    tree = decode(value, lambda kind, key: tensors[key])
    if not isinstance(tree, dict):
        raise DataError("tree.json does not hold a dict")
    return Checkpoint(manifest["step"], tree, meta, path)


def _candidates(directory: Path) -> list[Path]:
    """Checkpoint directories, newest first; a replaced one (`.old`) comes after its replacement."""
    try:
        found = [path for path in directory.iterdir() if _NAME.fullmatch(path.name)]
    except OSError as error:
        raise DataError(f"cannot read {directory}: {error.strerror}") from None
    return sorted(found, key=lambda path: (path.name[:17], not path.name.endswith(".old")), reverse=True)


def checkpoints(directory: Path | str) -> list[Path]:
    """The checkpoints of a directory, oldest first, not verified."""
    return [path for path in reversed(_candidates(Path(directory))) if not path.name.endswith(".old")]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path / "manifest.json")
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def load(path: Path | str, only: Collection[str] | None = None, check: Check | None = None) -> Checkpoint:
    """Load one checkpoint, or the newest good one of a directory, every byte of it verified.

    `only` names parts of the tree, such as `parts/learner/weights`: the rest is verified but takes no memory
    (a policy without its replay), and a part that is not there is left out. `check` raises DataError for one
    that files outside it make unusable, UnfitError for one of another run. Arrays and CPU tensors are returned, new
    and writable. Raises DataError (exit code 3), naming the file and what is wrong, if nothing can be loaded, and at
    once if the newest is unfit, or was made by a newer playfield.
    """
    path = Path(path)
    if not path.exists() and path.with_name(path.name + ".old").exists():
        path = path.with_name(path.name + ".old")  # a crash came between the two renames of a replacement
    single = bool(_NAME.fullmatch(path.name)) or _identity(path) is not None
    skipped: list[str] = []
    for attempt in range(3):  # pragma: no branch
        names = [path] if single else _candidates(path)
        before = [_identity(name) for name in names]
        skipped = []
        for name in names:
            try:
                if not single and name.is_symlink():
                    raise DataError("is a symbolic link")
                found = _load_one(name, only)
                if not single and name.name[5:17] != f"{found.step:012d}":
                    raise DataError(f"holds step {found.step}, which is not its name")
                if check is not None:
                    check(found)
            except DataError as error:
                skipped.append(f"{name.name}: {error}")
                if isinstance(error, UnfitError):  # going back to an older one would lose work, or hide it
                    break
            else:
                return Checkpoint(found.step, found.tree, found.meta, found.path, skipped)
        # A training run may have replaced what was being read: look again.
        if attempt == 2 or before == [_identity(name) for name in ([path] if single else _candidates(path))]:
            break
    if not skipped:
        raise DataError(f"no checkpoint in {path}")
    raise DataError(f"not loaded: {path if not single else path.parent}: {'; '.join(skipped)}")


def read_best(directory: Path | str) -> dict[str, Any]:
    """What `mark_best` noted: score, step, checkpoint (a directory name), meta. Raises DataError."""
    path = Path(directory) / "best"
    best = read_json(path if path.exists() else path.with_name("best.old"), "best.json")[1]
    match best:
        case {"score": float(), "step": int(), "checkpoint": str(), "meta": dict(meta)}:
            return {**best, "meta": decode(meta, lambda kind, key: None)}
    raise DataError("best.json is malformed")
