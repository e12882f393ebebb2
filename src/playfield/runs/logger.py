"""Where `log(step, {name: value})` goes: metrics.csv, monitor.csv, TensorBoard, the terminal.

The files continue exactly: `resume(step)` drops everything later than the checkpoint at `step`, and what a
resumed run then writes is what the uninterrupted run would have written, but for the columns `time/...`.
Call `flush` before saving a checkpoint, so that the rows up to it are on disk when it is.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TextIO

import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter

from playfield.errors import DataError, UsageError
from playfield.runs.console import Console
from playfield.runs.csv_table import Table, plain, to_text, whole_number
from playfield.runs.monitor import NO_MONITOR, Game, MonitorLines
from playfield.runs.output import reason
from playfield.runs.storage import as_storage_error, lines_of, remove_leftovers

EVALUATIONS = Path("eval") / "evaluations.csv"  # in a run directory
WINDOW = 100  # games that `rollout/ep_rew_mean` is the mean of, as in Stable-Baselines3


class MetricsCsv:
    """metrics.csv: one row for each `log`, the column `step` first, then the others as they first came up."""

    def __init__(self, path: Path | str) -> None:
        self._table = Table(Path(path), ["step"])

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Add a row; floats are written so that they read back exactly. Disk errors wait for `flush`."""
        self._table.append({"step": str(int(step))} | {k: to_text(plain(v, k)) for k, v in values.items()})

    def truncate_after(self, step: int) -> int:
        """Drop the rows later than `step`, and columns that only those had; returns how many were damaged."""
        return self._table.truncate_after(step, first=1)

    def rows(self) -> list[dict[str, str]]:
        """The rows as {column: text}, empty cells left out."""
        return self._table.rows()

    def last_time(self) -> float:
        """The largest `time/time_elapsed`; 0 without one."""
        return max((_seconds(row.get("time/time_elapsed", "")) for row in self._table.read()), default=0.0)

    def flush(self) -> None:
        """Sync to disk. Raises StorageError if rows could not be written."""
        self._table.flush()

    def close(self) -> None:
        """Flush and close."""
        self._table.close()


class MonitorCsv:
    """One row for each finished game, in the format of Stable-Baselines3's Monitor: plot tools read it.

    First line `#{"t_start": ..., "env_id": ...}`, columns `r` (raw score), `l` (steps), `t` (seconds since
    t_start), and `step` (of training). The name must end in monitor.csv. A file that exists keeps its first
    line.
    """

    def __init__(self, path: Path | str, env_id: str, t_start: float) -> None:
        if not str(path).endswith("monitor.csv"):
            raise ValueError(f"the name must end in monitor.csv, got {path}")
        first_line = "#" + json.dumps({"t_start": t_start, "env_id": env_id}) + "\n"
        self._table = Table(Path(path), ["r", "l", "t", "step"], first_line, _is_game)
        self._table.start()  # SB3's `load_results` reads it before the first game has ended
        self.flush = self._table.flush
        self.close = self._table.close
        self.rows = self._table.rows
        self.read = self._table.read

    def episode(self, step: int, score: float, length: int, seconds: float) -> None:
        """Add a game. Disk errors wait for `flush`."""
        row = {"r": repr(float(score)), "l": str(int(length)), "t": repr(round(float(seconds), 6))}
        self._table.append(row | {"step": str(int(step))})

    def truncate_after(self, step: int) -> int:
        """Drop the games that ended after `step`; returns how many rows were no games, and dropped too."""
        return self._table.truncate_after(step, first=4)


def _is_game(row: dict[str, str]) -> bool:
    """Whether a row of monitor.csv is a game as `MonitorCsv.episode` writes it. Raises KeyError or ValueError."""
    whole_number(row["l"])
    return math.isfinite(float(row["r"])) and math.isfinite(float(row["t"]))


def _seconds(text: str) -> float:
    """A time in a table; 0 for what is none."""
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if math.isfinite(value) else 0.0


class TensorBoard:
    """Scalars as TensorBoard event files in `run_dir`, written without threads and without torch.

    A file is opened at the first value. If the disk refuses, `error` says why and the rest is not written:
    the same numbers are in metrics.csv.
    """

    def __init__(self, run_dir: Path | str) -> None:
        self.run_dir = Path(run_dir)
        self.error = ""
        self._file: IO[bytes] | None = None
        self._purge: int | None = None

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write the numbers among `values` at `step`."""
        numbers = {k: v for k, v in ((k, plain(v, k)) for k, v in values.items()) if not isinstance(v, str)}
        if self.error or not numbers:
            return
        try:
            if self._file is None:
                self._start()
            summary = summary_pb2.Summary()
            for name, value in numbers.items():
                summary.value.add(tag=name, simple_value=value)
            self._write(event_pb2.Event(wall_time=time.time(), step=int(step), summary=summary))
        except Exception as error:  # whatever it is: the training goes on without
            self.error = f"TensorBoard is off: {reason(error)}"

    def _start(self) -> None:
        self.run_dir.mkdir(parents=True, exist_ok=True)
        # TensorBoard reads the files in the order of their names: a new one must come last.
        stamps = [re.fullmatch(r"events\.out\.tfevents\.(\d+)\..*", p.name) for p in self.run_dir.iterdir()]
        stamp = max([int(time.time()), *(int(m[1]) + 1 for m in stamps if m)])
        name = f"events.out.tfevents.{stamp:010d}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(self.run_dir / name, "xb", buffering=0)  # noqa: SIM115
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))
        if self._purge is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(event_pb2.Event(wall_time=time.time(), step=self._purge, session_log=start))

    def _write(self, event: Any) -> None:
        buffer = io.BytesIO()
        RecordWriter(buffer).write(event.SerializeToString())
        assert self._file is not None
        self._file.write(buffer.getvalue())

    def resume(self, step: int) -> None:
        """Hide what earlier files have after `step` (TensorBoard's purge_step)."""
        self.close()
        self._purge = step + 1

    def close(self) -> None:
        """Close the file; the next value would open another."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # some disks tell only now that they are full
                file.close()


class Sinks:
    """All sinks of a run. `rollout/ep_rew_mean`, `rollout/ep_len_mean` and `time/...` are added to what is
    logged.

    Args:
        run_dir: where metrics.csv, monitor.csv and the event files go.
        env_id: for monitor.csv.
        title, total_steps: for the console.
        tensorboard, console: whether to have them.
        stream: where the console writes; standard output by default.
    """

    def __init__(
        self,
        run_dir: Path | str,
        env_id: str = "",
        title: str = "",
        total_steps: int | None = None,
        tensorboard: bool = True,
        console: bool = True,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        run_dir = Path(run_dir)
        with as_storage_error(f"cannot write in {run_dir}"):
            run_dir.mkdir(parents=True, exist_ok=True)
            remove_leftovers(run_dir)
        self.metrics = MetricsCsv(run_dir / "metrics.csv")
        try:
            self.monitor = MonitorCsv(run_dir / "monitor.csv", env_id, time.time())
        except BaseException:
            self.metrics.close()
            raise
        self.tensorboard = TensorBoard(run_dir) if tensorboard else None
        self.console = Console(title, total_steps, stream, quiet=not console)
        self._clock = clock
        self._start = clock()
        self._before = 0.0  # seconds trained by earlier processes
        self._games: deque[tuple[float, int]] = deque(maxlen=WINDOW)
        self._best = -math.inf
        self._first_step = 0
        self._marks: deque[tuple[float, int]] = deque(maxlen=20)  # (seconds, step) of the last logs

    def elapsed(self) -> float:
        """Seconds of training, earlier processes included. Monotonic."""
        return self._before + self._clock() - self._start

    def begin(self) -> None:
        """Training begins now: what was spent on setting up does not count as its time."""
        self._start = self._clock()

    def episode(self, step: int, score: float, length: int) -> None:
        """A game ended at `step` with this raw score after `length` steps."""
        self._games.append((float(score), int(length)))
        self._best = max(self._best, float(score))
        self.monitor.episode(step, score, length, self.elapsed())

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Write values at `step`. A value is a number (NaN and inf too); None is left out. Never raises for
        disks.
        """
        now = self.elapsed()
        if not self._marks:
            self._marks.append((self._before, self._first_step))
        then, step_then = self._marks[0]
        self._marks.append((now, step))
        row: dict[str, int | float | str] = {}
        if self._games:
            row["rollout/ep_rew_mean"] = float(np.mean([score for score, _ in self._games]))
            row["rollout/ep_len_mean"] = float(np.mean([length for _, length in self._games]))
        row["time/fps"] = round((step - step_then) / (now - then)) if now > then else 0
        row["time/time_elapsed"] = round(now, 3)
        row |= {name: plain(value, name) for name, value in values.items() if value is not None}
        self.metrics.log(step, row)
        if self.tensorboard is not None:
            had = self.tensorboard.error
            self.tensorboard.log(step, row)
            if self.tensorboard.error != had:
                self.console.note(self.tensorboard.error)
        self.console.log(step, row, self._best)

    def resume(self, step: int) -> list[str]:
        """Go on from the checkpoint at `step`: drop what was logged later, and take up the running means.

        Returns a line for each table that had damaged rows, which were dropped too.
        """
        damaged = {
            "metrics.csv": self.metrics.truncate_after(step),
            "monitor.csv": self.monitor.truncate_after(step),
        }
        if self.tensorboard is not None:
            self.tensorboard.resume(step)
        self._games.clear()
        self._best, self._before = -math.inf, self.metrics.last_time()
        for game in self.monitor.read():
            self._games.append((float(game["r"]), int(game["l"])))
            self._best = max(self._best, self._games[-1][0])
            self._before = max(self._before, float(game["t"]))
        self._start = self._clock()
        self._marks.clear()
        self._first_step = step
        return [f"{name} had {n:,} damaged lines, which were left out" for name, n in damaged.items() if n]

    def flush(self) -> None:
        """Sync the tables to disk, before a checkpoint is saved. Raises StorageError if rows cannot be
        written.
        """
        self.metrics.flush()
        self.monitor.flush()

    def close(self) -> None:
        """Flush and close everything, the console first so that the terminal is free whatever the disk
        says.
        """
        self.console.close()
        if self.tensorboard is not None:
            self.tensorboard.close()
        try:
            self.metrics.close()
        finally:
            self.monitor.close()

    def __enter__(self) -> Sinks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_evaluations(path: Path) -> list[tuple[int, float, float, float]]:
    """(step, mean, low, high) of the evaluations during a training; without an interval low and high are the mean.

    Raises DataError for a damaged table.
    """
    return [
        (int(row["step"]), row["mean"], row.get("low", row["mean"]), row.get("high", row["mean"]))
        for row in evaluation_rows(path)
    ]


def evaluation_rows(path: Path) -> list[dict[str, float]]:
    """The evaluations during a training: `step`, `mean` and the other columns of each that are filled in.

    Raises DataError for a damaged table.
    """
    if not path.exists():
        return []
    found = []
    table = MetricsCsv(path)
    try:
        for row in table.rows():
            step, mean = whole_number(row["step"]), float(row["mean"])
            found.append({name: float(text) for name, text in row.items()} | {"step": step, "mean": mean})
    except (KeyError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}") from None
    finally:
        table.close()
    return found


def read_monitor(path: str | Path) -> list[Game]:
    """Read a monitor.csv: [(step, score, length, seconds), ...] of the games, in file order.

    The file starts with `#{json}` and a header with `r,l,t` and, in ours, `step`. Without `step` (files of
    Stable-Baselines3) the sum of lengths so far stands in for it, which is right for one env. A last line
    without its line end is a write that was cut off: it is left out.

    Raises:
        UsageError: no such file.
        DataError: not such a file, or a damaged line, with its number.
    """
    path = Path(path)
    if not os.path.lexists(path):
        raise UsageError(f"there is no file {path}")
    try:
        return _games_of(path)
    except DataError as error:
        raise DataError(f"cannot read {path}: {error}") from None


def _games_of(path: Path) -> list[Game]:
    lines, parser = lines_of(path.parent, path.name), MonitorLines()
    games = [
        game for line in lines if line.endswith(b"\n") and (game := parser.game(line))
    ]  # the last may be cut off
    if not parser.started:
        raise DataError(NO_MONITOR)
    return games
