"""Reads checkpoints and learning curve from a run directory, for the live page. Nothing is written there."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from playfield.errors import PlayfieldError
from playfield.runs import checkpoint
from playfield.runs.logger import WINDOW, read_monitor
from playfield.runs.storage import open_regular
from playfield.show.plots import moving_mean

POINTS = 300  # of the learning curve on the page
MAX_BYTES = 64 << 20  # of a file that is read


def kept_steps(run: Path) -> list[int]:
    """Training steps of the run's checkpoints, oldest first; empty where they cannot be read."""
    try:
        return [int(path.name[5:17]) for path in checkpoint.checkpoints(run / "checkpoints")]
    except PlayfieldError:
        return []


def has_best(run: Path) -> bool:
    """Whether the run has a best checkpoint."""
    return (run / "checkpoints" / "best").is_dir()


def learning_curve(run: Path) -> dict[str, Any] | None:
    """`points` [[step, mean score], ...], number of `games` and last `step`; None while there is nothing to show.

    Scores come from monitor.csv, as means over `WINDOW` games; without it, means come from metrics.csv.
    """
    try:
        found = _from_monitor(run) or _from_metrics(run)
    except (PlayfieldError, OSError, ValueError, csv.Error):
        return None  # incomplete or malformed file: the page works without the curve
    if found is None:
        return None
    steps, means, games = found
    return {"points": thinned(steps, means, POINTS), "games": games, "step": int(steps[-1])}


def thinned(steps: np.ndarray, means: np.ndarray, most: int) -> list[list[float]]:
    """At most `most` points [[step, mean], ...] of a line, its first and its last among them."""
    pick = np.unique(np.linspace(0, len(steps) - 1, min(most, len(steps))).round().astype(int))
    return [[int(steps[i]), round(float(means[i]), 3)] for i in pick]


def _text(run: Path, name: str) -> str | None:
    try:
        with open_regular(run, name) as file:  # symbolic links are refused: they could lead out of the run
            if os.fstat(file.fileno()).st_size > MAX_BYTES:
                return None
            return (file.read() or b"").decode("utf-8", "replace")
    except PlayfieldError:
        return None


def _from_monitor(run: Path) -> tuple[np.ndarray, np.ndarray, int] | None:
    if _text(run, "monitor.csv") is None:
        return None
    games = read_monitor(run / "monitor.csv")
    if not games:
        return None
    table = np.array([(step, score) for step, score, _, _ in games], np.float64)
    return table[:, 0], moving_mean(table[:, 1], WINDOW), len(games)


def _from_metrics(run: Path) -> tuple[np.ndarray, np.ndarray, int] | None:
    text = _text(run, "metrics.csv")
    if not text:
        return None
    rows = []
    for row in csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])):
        try:
            pair = float(row["step"]), float(row["rollout/ep_rew_mean"])
        except (KeyError, TypeError, ValueError):
            continue
        if all(map(math.isfinite, pair)):
            rows.append(pair)
    if not rows:
        return None
    table = np.array(rows)
    return table[:, 0], table[:, 1], 0
