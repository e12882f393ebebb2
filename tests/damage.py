"""Damaged and hostile files of a run, made from good ones; each generator is seeded and as long as is asked."""

from __future__ import annotations

import copy
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from playfield.runs import tensor_file
from playfield.runs.checkpoint import _seal
from playfield.runs.tree import decode, encode

VALUES: tuple[Any, ...] = (
    None, 0, -1, 1, 2**53, 2**63, 10**400, -(10**12), 0.5, float("nan"), float("inf"), True, "", "x", "\x1b[31mred",
    "a" * 100_000, "../../x", "module:Name-v0", [], [1], [None] * 3, {}, {"x": 1}, [[[[1]]]],
)  # fmt: skip
Change = Callable[[dict[str, Any]], None]


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside nested tables and lists."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths_of(item, (*path, key))


def changed(info: dict[str, Any], path: tuple[Any, ...], new: Any) -> dict[str, Any]:
    """A copy with another value at `path`; `...` removes it."""
    out = copy.deepcopy(info)
    place = out
    for key in path[:-1]:
        place = place[key]
    if new is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = new
    return out


def infos(info: dict[str, Any], count: int | None = None, seed: int = 0) -> Iterator[tuple[str, str]]:
    """(what was done, text of `run.json`): every value removed or replaced, or `count` of these at random."""
    every = [(path, new) for path in paths_of(info) for new in (..., *VALUES)]
    if count is not None:
        every = random.Random(seed).sample(every, min(count, len(every)))
    for path, new in every:
        shown = "removed" if new is ... else f"= {str(new)[:30]!r}"
        yield f"{'/'.join(map(str, path))} {shown}", json.dumps(changed(info, path, new))


BAD_CELLS = (
    b"\0", b"1e400", b"", b"nan", b"inf", b"-1", b"x" * 200_000, b"1e3", b"\xff\xfe", b'"', b'"a', b"9" * 5_000,
    b"0x10", b"1_000", b" ", b"\x1b[2J", b"=1+1", b"\xd9\xa3", b"1,2", b"None",
)  # fmt: skip


def tables(data: bytes, count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """(what was done, bytes) of a damaged table: cells, lines, the header, the end."""
    rng = random.Random(seed)
    lines = data.split(b"\n")
    for n in range(count):
        bad, out, at = rng.choice(BAD_CELLS), list(lines), rng.randrange(max(1, len(lines) - 1))
        cells = out[at].split(b",")
        column = rng.randrange(len(cells))
        how = n % 6
        if how < 3:
            cells[column] = bad
            out[at] = b",".join(cells)
        elif how == 3:
            out[at] = bad
        elif how == 4:
            out.insert(at, out[rng.randrange(len(out))])
        text = b"\n".join(out)
        if how == 5:
            text = text[: rng.randrange(len(text))] + bad
        yield f"{n}: {('cell', 'cell', 'cell', 'line', 'repeated', 'cut')[how]} {at} {bad[:12]!r}", text


def resealed(run: Path, count: int, seed: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """(what was done, a function that does it): the newest checkpoint with another tree and right checksums."""
    newest = sorted((run / "checkpoints").glob("ckpt-" + "[0-9]" * 12))[-1]
    value = json.loads((newest / "tree.json").read_bytes())
    data = (newest / "tensors.safetensors").read_bytes()
    manifest = json.loads((newest / "manifest.json").read_bytes())
    rng = random.Random(seed)
    places = list(paths_of(value))
    for n in range(count):
        path, new = rng.choice(places), rng.choice((..., *VALUES, {"$numpy": "nowhere"}, {"$torch": places[0][0]}))
        if new != new or new in (float("inf"), 10**400):
            new = {"$float": "nan"}

        def write(path: tuple[Any, ...] = path, new: Any = new) -> None:
            seal(newest, manifest, json.dumps(changed(value, path, new)).encode(), data)

        yield f"{n}: {'/'.join(map(str, path))} = {str(new)[:30]!r}", write


def retensored(run: Path, count: int, seed: int = 0) -> Iterator[tuple[str, Callable[[], None]]]:
    """As `resealed`, but with a tensor of another shape or dtype, or other content."""
    newest = sorted((run / "checkpoints").glob("ckpt-" + "[0-9]" * 12))[-1]
    value = json.loads((newest / "tree.json").read_bytes())
    manifest = json.loads((newest / "manifest.json").read_bytes())
    kinds: dict[str, str] = {}
    decode(value, lambda kind, key: kinds.setdefault(key, kind))
    with open(newest / "tensors.safetensors", "rb", buffering=0) as file:
        size = (newest / "tensors.safetensors").stat().st_size
        tensors, _, _ = tensor_file.read(file, size, "tensors", lambda key: kinds[key])
    rng = random.Random(seed)
    changes: tuple[tuple[str, Callable[[Any], Any]], ...] = (
        ("empty", lambda t: t[:0] if t.ndim else t),
        ("scalar", lambda t: t.reshape(-1)[0] if t.ndim and t.size else t),
        ("flat", lambda t: t.reshape(-1)),
        ("longer", lambda t: t.repeat(2, 0) if hasattr(t, "repeat") and t.ndim else t),
        ("negative", lambda t: -abs(t.astype("int64")) - 1 if t.ndim else t),
        ("huge", lambda t: (t.astype("float64") * 0 + 1e300) if t.ndim else t),
        ("int", lambda t: t.astype("int32")),
    )
    for n in range(count):
        key, (what, change) = rng.choice(sorted(kinds)), rng.choice(changes)

        def write(key: str = key, change: Callable[[Any], Any] = change) -> None:
            array = tensors[key].numpy() if kinds[key] == "torch" else tensors[key]
            new = change(array.copy())
            import numpy as np

            file = b"".join(bytes(c) for c in tensor_file.chunks({**tensors, key: np.asarray(new)}, {"format": "pt"}))
            seal(newest, manifest, (newest / "tree.json").read_bytes(), file)

        yield f"{n}: {key} {what}", write


def seal(path: Path, manifest: dict[str, Any], tree: bytes, tensors: bytes) -> None:
    """Write a checkpoint whose checksums are right."""
    (path / "tree.json").write_bytes(tree)
    (path / "tensors.safetensors").write_bytes(tensors)
    files = {
        name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for name, data in (("tree.json", tree), ("tensors.safetensors", tensors))
    }
    (path / "manifest.json").write_bytes(_seal({**manifest, "files": files}))


__all__ = ["changed", "encode", "infos", "paths_of", "resealed", "retensored", "seal", "tables"]
