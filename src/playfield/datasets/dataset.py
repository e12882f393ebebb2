"""Recorded play: every screen once, with what was done and what came of it, in files that hold no code.

A dataset is a directory of two files: `data.safetensors`, and `dataset.json`, which says who played what, and the
size and sha256 of the data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import DataError, UsageError, nearest, unknown
from playfield.runs import tensor_file
from playfield.runs.encoder import SIDE, SPLITS
from playfield.runs.storage import (
    as_storage_error,
    claim_temporary,
    open_regular,
    read_json,
    release_temporary,
    remove,
    write_file,
)

FORMAT = 1
DATA, MANIFEST = "data.safetensors", "dataset.json"
COLUMNS = {
    "frames": ("uint8", (SIDE, SIDE)),
    "ram": ("uint8", (128,)),
    "actions": ("int16", ()),
    "rewards": ("float32", ()),
    "terminated": ("bool", ()),
    "truncated": ("bool", ()),
    "starts": ("bool", ()),
}


@dataclass(frozen=True)
class Dataset:
    """Rows of recorded play, episode after episode.

    Row i is a screen; `actions[i]` was chosen there and led to row i + 1 with `rewards[i]`. The last screen of an
    episode is a row too, in which nothing was done: its action is -1. An episode is a whole game, all lives.

    Attributes:
        frames: uint8 [rows, 84, 84], grey, max-pooled over the last two frames of a step.
        ram: uint8 [rows, 128], the console's memory at the same moment.
        actions: int16 [rows]; rewards: float32 [rows], raw.
        terminated: bool [rows], do not bootstrap after this action: the game was over, or a life was lost.
        truncated: bool [rows], the recording or a time limit cut the game here: bootstrap from the next row.
        starts: bool [rows], first row of an episode.
        meta: what `dataset.json` says.
    """

    path: Path
    meta: dict[str, Any]
    frames: np.ndarray
    ram: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.frames)

    @property
    def episodes(self) -> np.ndarray:
        """The number of each row's episode, int64 [rows], from 0."""
        return np.cumsum(self.starts) - 1

    def split(self, how: str = "episodes", *, test: float = 0.3, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
        """Rows to learn from and rows to judge by, int64, both in order.

        Args:
            how: `episodes` puts whole episodes into one part or the other. `frames` draws single frames, the very
                rows that scikit-learn's `train_test_split(..., random_state=seed)` draws: the neighbours of nearly
                every test frame, a few pixels different, are then learnt from, so the test error flatters.
            test: share of the rows in the second part; with whole episodes as near to it as drawing them allows.

        Raises:
            UsageError: another name, a share that is none, or too few episodes.
        """
        if how not in SPLITS:
            raise unknown("split", how, SPLITS)
        if not 0 < test < 1:
            raise UsageError(f"--test must be between 0 and 1, not {test:g}")
        rows = len(self)
        if how == "frames":
            order, count = np.random.RandomState(seed).permutation(rows), int(np.ceil(test * rows))
            return np.sort(order[count:]), np.sort(order[:count])
        episodes = self.episodes
        lengths = np.bincount(episodes)
        if len(lengths) < 2:
            raise UsageError(
                f"{self.path} has only one episode, which cannot be split: collect more steps, or add --split frames"
            )
        order = np.random.default_rng(seed).permutation(len(lengths))
        sums = np.cumsum(lengths[order])
        count = 1 + int(np.abs(sums[:-1] - test * rows).argmin())
        held = np.isin(episodes, order[:count])
        return np.flatnonzero(~held), np.flatnonzero(held)

    def stacks(self, rows: np.ndarray, k: int = 4) -> np.ndarray:
        """What an agent saw in `rows`: uint8 [n, 84, 84, k], oldest first, black before an episode's start."""
        rows, first = np.asarray(rows), np.flatnonzero(self.starts)
        begin = first[np.searchsorted(first, rows, "right") - 1]
        out = np.zeros((len(rows), SIDE, SIDE, k), np.uint8)
        for back in range(k):
            there = rows - back >= begin
            out[there, ..., k - 1 - back] = self.frames[rows[there] - back]
        return out


def locate(path: str | Path) -> Path:
    """The dataset directory called `path`; raises UsageError where there is none. Reads nothing."""
    path = Path(path)
    if not (path / MANIFEST).exists():
        close = nearest(str(path), [str(p.parent) for p in Path("datasets").glob(f"*/{MANIFEST}")])
        hint = f"did you mean {', '.join(close)}?" if close else "collect one: playfield collect breakout"
        raise UsageError(f"no dataset {path}: {hint}")
    return path


def refuse_existing(path: Path, flag: str = "--out") -> None:
    """Raise UsageError where something called `path` exists already."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already and is not overwritten: delete it, or name another with {flag}")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill that becomes `path` at the end; after an error nothing of it is left."""
    refuse_existing(path)
    with as_storage_error(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = claim_temporary(path)
        temporary.mkdir()
        try:
            yield temporary
            refuse_existing(path)
            os.rename(temporary, path)
        except BaseException:
            remove(temporary)
            raise
        finally:
            release_temporary(temporary)


def save(path: Path, columns: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
    """Write a dataset. Raises UsageError where `path` exists, StorageError where the disk refuses."""
    _check(columns, "the columns")
    with new_directory(path) as folder:
        entry = write_file(folder / DATA, tensor_file.chunks(columns, {"format": "np"}))
        manifest = {"format": FORMAT, **meta, "rows": len(columns["frames"]), "files": {DATA: entry}}
        write_file(folder / MANIFEST, [json.dumps(manifest, indent=2).encode() + b"\n"])


def load(path: str | Path) -> Dataset:
    """Read a dataset into memory and verify every byte.

    Raises:
        UsageError: there is none. DataError: it is damaged, or of a newer playfield.
    """
    folder = locate(path)
    try:
        meta = read_json(folder, MANIFEST)[1]
        match meta:
            case {"format": int(version)} if version > FORMAT:
                raise DataError("made by a newer playfield; upgrade")
            case {"format": int(), "files": {"data.safetensors": {"size": int(size), "sha256": str(expected)}}}:
                pass
            case _:
                raise DataError(f"{MANIFEST} is not that of a dataset")
        with open_regular(folder, DATA) as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise DataError(f"{DATA} has {found} bytes, {MANIFEST} says {size}")
            columns, _, digest = tensor_file.read(file, size, DATA, lambda key: "numpy" if key in COLUMNS else "skip")
        if digest != expected:
            raise DataError(f"{DATA} is damaged: its sha256 differs from that in {MANIFEST}")
        _check(columns, DATA)
    except DataError as error:
        raise DataError(f"not loaded: {folder}: {error}") from None
    return Dataset(folder, meta, **columns)


def _check(columns: dict[str, np.ndarray], name: str) -> None:
    """Raise DataError unless these are the columns of a dataset."""
    rows = len(columns.get("frames", ()))
    for key, (dtype, shape) in COLUMNS.items():
        column = columns.get(key)
        if column is None or column.dtype != dtype or column.shape != (rows, *shape):
            raise DataError(f"{name}: no {key} of type {dtype} and shape {[rows, *shape]}")
    if not rows or not columns["starts"][0]:
        raise DataError(f"{name}: does not begin with an episode")
