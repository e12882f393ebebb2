"""Named tensors shipped as one safetensors file that other tools can read too."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from playfield.errors import DataError
from playfield.runs import tensor_file
from playfield.runs.info import stored
from playfield.runs.storage import atomic_chunks, open_regular
from playfield.runs.strict_json import dump_json, parse_json
from playfield.runs.tree import decode, encode_plain, mismatch, tree_hash, without

FORMAT = 1


def export_weights(path: Path | str, tensors: dict[str, Any], meta: dict[str, Any]) -> None:
    """Write named tensors (torch or NumPy) and JSON `meta` as one safetensors file, atomically.

    Raises TypeError for anything else, StorageError if the disk refuses.
    """
    for key, leaf in tensors.items():
        if not (tensor_file.is_torch(leaf) or tensor_file.is_array(leaf)) or key == "__metadata__":
            raise TypeError(f"{key}: not a tensor that can be exported")
    note = {
        "format": FORMAT,
        "meta": encode_plain(meta, "meta"),
        "hash": tree_hash({"tensors": tensors, "meta": meta}),
    }
    note["numpy"] = [key for key, leaf in tensors.items() if not tensor_file.is_torch(leaf)]
    header = {"format": "pt", "playfield": dump_json(note, "meta").decode()}
    atomic_chunks(Path(path), tensor_file.chunks(tensors, header))


def import_weights(path: Path | str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read and verify what `export_weights` wrote: (tensors, meta). Raises DataError; runs no code."""
    path = Path(path)
    try:
        with open_regular(path.parent, path.name) as file:
            size = os.fstat(file.fileno()).st_size
            kinds: dict[str, str] = {}
            _, header, _ = tensor_file.read(file, size, path.name, lambda key: "skip")
            note = parse_json(header.get("playfield", "null").encode(), "metadata")
            match note:
                case {"format": int(version)} if version > FORMAT:
                    raise DataError("made by a newer playfield; upgrade")
                case {"format": int(), "meta": dict(value), "hash": str(expected), "numpy": [*arrays]}:
                    kinds = {key: "numpy" for key in arrays if isinstance(key, str)}
                case _:
                    raise DataError("not weights that playfield exported")
            file.seek(0)
            tensors, _, _ = tensor_file.read(file, size, path.name, lambda key: kinds.get(key, "torch"))
        meta = decode(value, lambda kind, key: None)
        if tree_hash({"tensors": tensors, "meta": meta}) != expected:
            raise DataError("damaged: the hash differs")
    except OSError as error:
        raise DataError(f"not loaded: {path}: {error.strerror}") from None
    except DataError as error:
        raise DataError(f"not loaded: {path}: {error}") from None
    return tensors, meta


def begin_from(part: Any, weights: Mapping[str, Any]) -> None:
    """Let `part` of a run, its `learner`, start from `weights`. Raises DataError where they are for another one."""
    with stored("what the run began from"):
        if (begin := getattr(part, "begin", None)) is not None:
            begin(weights)
        else:  # another package's: its state has `weights`, see `Algorithm.load`
            part.restore({**part.state(), "weights": weights})


def restore(name: str, part: Any, saved: Any) -> None:
    """Let a part go on from what a checkpoint holds of it. Raises DataError where that is of another run."""
    with stored(f"the checkpoint's part {name}"):
        part.restore(saved)
        if where := mismatch(without(saved, "files"), part.state()):
            raise DataError(f"the checkpoint's part {name} is for another run: {where}")
