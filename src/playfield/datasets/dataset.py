"""Datasets of recorded play: screens, RAM, actions and rewards, in files that contain no code.

A dataset is a directory of two files: `data.safetensors`, and `dataset.json` with the agent, the environment, the
protocol, and the size and sha256 of the data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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
    folder_for,
    open_regular,
    read_json,
    release_temporary,
    remove,
    remove_leftovers,
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

    Row i holds a screen, the action taken there, which led to row i + 1, and its reward. The last screen of an
    episode has a row without an action (-1). An episode is a full game, all lives.

    Attributes:
        path: the directory.
        meta: contents of `dataset.json`.
        frames: uint8 [rows, 84, 84], grey, max-pooled over the last two frames of a step.
        ram: uint8 [rows, 128], the console's RAM after the same frame.
        actions: int16 [rows], as executed by the emulator.
        rewards: float32 [rows], raw.
        terminated: bool [rows], do not bootstrap after this action: the game ended, or a life was lost.
        truncated: bool [rows], the recording or a time limit ended here: bootstrap from the next row.
        starts: bool [rows], first row of an episode.
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
        """Episode index of each row, int64 [rows], from 0."""
        return np.cumsum(self.starts) - 1

    def split(self, how: str = "episodes", *, test: float = 0.3, seed: int = 42) -> tuple[np.ndarray, np.ndarray]:
        """Split into training and test rows, each int64 and increasing.

        Args:
            how: `episodes` keeps episodes whole. `frames` samples single frames, the same rows as scikit-learn's
                `train_test_split(..., random_state=seed)`: nearly every test frame then has neighbours in the
                training set that differ by a few pixels, so the test error is too optimistic.
            test: fraction of test rows; with whole episodes the nearest that their order allows.
            seed: of the sampling.

        Raises:
            UsageError: another `how`, `test` outside (0, 1), or too few episodes.
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
                f"{self.path} has a single episode, which cannot be split: collect more steps, or add --split frames"
            )
        order = np.random.default_rng(seed).permutation(len(lengths))
        sums = np.cumsum(lengths[order])
        count = 1 + int(np.abs(sums[:-1] - test * rows).argmin())
        held = np.isin(episodes, order[:count])
        return np.flatnonzero(~held), np.flatnonzero(held)

    def stacks(self, rows: np.ndarray, k: int = 4) -> np.ndarray:
        """Frame stacks of `rows` [n]: uint8 [n, 84, 84, k], oldest first, black before the start of an episode."""
        rows, first = np.asarray(rows), np.flatnonzero(self.starts)
        begin = first[np.searchsorted(first, rows, "right") - 1]
        out = np.zeros((len(rows), SIDE, SIDE, k), np.uint8)
        for back in range(k):
            there = rows - back >= begin
            out[there, ..., k - 1 - back] = self.frames[rows[there] - back]
        return out


def locate(path: str | Path) -> Path:
    """The dataset directory `path`, without reading it. Raises UsageError where there is none."""
    path = Path(path)
    if not (path / MANIFEST).exists():
        close = nearest(str(path), [str(p.parent) for p in Path("datasets").glob(f"*/{MANIFEST}")])
        hint = f"did you mean {', '.join(close)}?" if close else "collect one: playfield collect breakout"
        raise UsageError(f"no dataset {path}: {hint}")
    return path


def refuse_existing(path: Path, flag: str = "--out") -> None:
    """Raise UsageError where `path` exists already."""
    if path.exists() or path.is_symlink():
        raise UsageError(f"{path} exists already and is not overwritten: delete it, or choose another with {flag}")


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A temporary directory that is renamed to `path` at the end, or deleted after an exception."""
    refuse_existing(path)
    with folder_for(path.parent), as_storage_error(f"cannot write {path}"):
        with suppress(OSError):  # of writers that were killed; what cannot be removed does no harm
            remove_leftovers(path.parent, path.name)
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
    """Write a dataset to the directory `path`.

    Args:
        path: a new directory.
        columns: arrays as in `Dataset`.
        meta: further contents of `dataset.json`.

    Raises:
        UsageError: `path` exists. DataError: wrong columns. StorageError: it cannot be written.
    """
    _check(columns, "the columns")
    with new_directory(path) as folder:
        entry = write_file(folder / DATA, tensor_file.chunks(columns, {"format": "np"}))
        manifest = {"format": FORMAT, **meta, "rows": len(columns["frames"]), "files": {DATA: entry}}
        write_file(folder / MANIFEST, [json.dumps(manifest, indent=2).encode() + b"\n"])


def load(path: str | Path) -> Dataset:
    """Read a dataset into memory and verify its checksum.

    Raises:
        UsageError: no such dataset. DataError: it is damaged, or was made by a newer playfield.
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
                raise DataError(f"{MANIFEST} does not describe a dataset")
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
    """Raise DataError unless these are the columns of a dataset; `name` is used in the message."""
    rows = len(columns.get("frames", ()))
    for key, (dtype, shape) in COLUMNS.items():
        column = columns.get(key)
        if column is None or column.dtype != dtype or column.shape != (rows, *shape):
            raise DataError(f"{name}: expected {key} of type {dtype} and shape {[rows, *shape]}")
    if not rows or not columns["starts"][0]:
        raise DataError(f"{name}: the first row does not start an episode")
