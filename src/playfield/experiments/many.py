"""Several trainings, each in a process of its own: what is new starts, what was cut off goes on, what is done stays.

The run directories are all that is kept, so the same call goes on after any stop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from playfield.errors import DataError, PlayfieldError, UsageError
from playfield.runs.console import format_seconds
from playfield.runs.info import read_info
from playfield.runs.storage import as_storage_error

PERIOD = 0.2  # seconds between two looks at the children
PATIENCE = 120.0  # seconds that a child may take to save after SIGTERM
ALONE = ("--games", "0", "--no-film", "--no-tensorboard", "--quiet")


class Interrupted(PlayfieldError):
    """SIGINT or SIGTERM ended the trainings; `exit_code` is 130 or 143."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.exit_code = 128 + signum


@dataclass(frozen=True)
class Training:
    """One run: the words of `playfield train` for it (without steps, seed and directory), and where it lies."""

    env: str
    label: str
    words: tuple[str, ...]
    seed: int
    steps: int
    directory: Path

    @property
    def name(self) -> str:
        return f"{self.label} on {self.env}, seed {self.seed}"

    def command(self) -> list[str]:
        """The words that start it or go on with it."""
        if (self.directory / "run.json").exists():
            return ["train", "--resume", str(self.directory), "--steps", str(self.steps), *ALONE]
        own = ["--steps", str(self.steps), "--seed", str(self.seed), "--run", str(self.directory)]
        return ["train", *self.words, *own, *ALONE]

    def check(self, extend: bool = False) -> None:
        """Raise UsageError where its directory holds a run of another length; with `extend`, only of a longer one."""
        info = self._info()
        if info is None:
            return
        has = info["steps"]
        if has > self.steps:
            raise UsageError(f"{self.directory} holds a run of {has:,} steps: use --steps {has}, or another --dir")
        if has < self.steps and not extend:
            raise UsageError(
                f"{self.directory} holds a run of {has:,} steps: use --steps {has}, another --dir, or --extend "
                f"to train it on to {self.steps:,} (schedules then follow the new total)"
            )

    def done(self) -> bool:
        """Whether it has all its steps."""
        info = self._info()
        return info is not None and finished(info) and info["steps"] >= self.steps

    def _info(self) -> dict[str, Any] | None:
        """Its `run.json`; None before there is one."""
        if not (self.directory / "run.json").exists():
            return None
        info = read_info(self.directory)
        if not isinstance(info.get("steps"), int):
            raise DataError(f"{self.directory / 'run.json'} does not say how many steps")
        return info


def finished(info: dict[str, Any]) -> bool:
    """Whether `run.json` tells of a run that has all its steps, or has reached its target."""
    result = info.get("result")
    return result is not None and (result["steps"] >= info["steps"] or result.get("stop") == "target")


def reached(directory: Path) -> tuple[int, float]:
    """(steps, seconds of training) that the last whole row of a run's metrics.csv tells; zeros before the first."""
    try:
        with open(directory / "metrics.csv", "rb") as file:
            header = file.readline().decode().rstrip("\n").split(",")
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            cells = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2].decode().split(",")
        row = dict(zip(header, cells, strict=False))
        return int(row["step"]), float(row.get("time/time_elapsed") or 0)
    except (OSError, ValueError, KeyError):
        return 0, 0.0


@dataclass
class _Child:
    training: Training
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    warned: bool = False

    def told(self) -> str:
        """The last line that it wrote on standard error."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("playfield: ") if lines else f"exit status {self.process.returncode}"


def train_all(trainings: Sequence[Training], jobs: int) -> list[tuple[Training, str, int]]:
    """Train what is not done yet, `jobs` at once, in the order given. Shows progress on standard error.

    The first SIGINT or SIGTERM is passed on to the children as SIGTERM, at which they save; the second kills them.

    Returns:
        (training, its last line on standard error, exit code) of each that failed; the others went on.

    Raises:
        Interrupted: a signal came. StorageError: a directory cannot be made.
    """
    waiting = [t for t in trainings if not t.done()]
    failed: list[tuple[Training, str, int]] = []
    running: list[_Child] = []
    with _signals() as seen, Progress(trainings) as progress:
        try:
            while (waiting and not seen) or running:
                while waiting and len(running) < jobs and not seen:
                    running.append(_start(waiting.pop(0)))
                    progress.started(running[-1].training)
                _pass_on(seen, running)
                for child in [c for c in running if c.process.poll() is not None]:
                    running.remove(child)
                    if child.process.returncode and not seen:
                        failed.append((child.training, child.told(), child.process.returncode))
                    child.errors.close()
                    progress.ended(child.training, child.process.returncode)
                progress.show([c.training for c in running], waiting, jobs)
                time.sleep(PERIOD)
        finally:
            _end(running)
    if seen:
        raise Interrupted(seen[0])
    return failed


def _start(training: Training) -> _Child:
    with as_storage_error(f"create {training.directory.parent}"):
        training.directory.parent.mkdir(parents=True, exist_ok=True)
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe nobody reads could fill up
    command = [sys.executable, "-m", "playfield.cli._child", str(os.getpid()), *training.command()]
    # A session of its own: Ctrl-C reaches only this process, which then tells the child.
    pipes: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": errors}
    return _Child(training, subprocess.Popen(command, start_new_session=True, **pipes), errors)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """The signals that came, newest last, instead of what they would do."""
    seen: list[int] = []
    try:
        old = {s: signal.signal(s, lambda s, _: seen.append(s)) for s in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: the host program handles signals
        old = {}
    try:
        yield seen
    finally:
        for s, previous in old.items():
            signal.signal(s, previous)


def _pass_on(seen: list[int], running: Sequence[_Child]) -> None:
    """Tell each child once that it is over; at a second signal, end them."""
    for child in running if seen else ():
        if len(seen) > 1:
            child.process.kill()
        elif not child.warned:  # a second SIGTERM would end it before it has saved
            child.process.terminate()
            child.warned = True


def _end(running: Sequence[_Child]) -> None:
    """However the loop ended: let the children save, and leave none behind."""
    _pass_on([signal.SIGTERM], running)
    for child in running:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(PATIENCE)
        child.process.kill()
        child.process.wait()
        child.errors.close()


class Progress:
    """All steps of all trainings on standard error: a bar that stays in place, or a line per run in a pipe."""

    def __init__(self, trainings: Sequence[Training]) -> None:
        from rich.console import Console

        self.trainings, self.total = trainings, sum(t.steps for t in trainings)
        self.ended_runs = sum(t.done() for t in trainings)
        self._console = Console(stderr=True, highlight=False)
        self._status = self._console.status("") if self._console.is_terminal else None
        self._steps: dict[Training, tuple[int, float]] = {t: reached(t.directory) for t in trainings}
        self._shown = 0.0

    def __enter__(self) -> Progress:
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def started(self, training: Training) -> None:
        verb = "going on with" if (training.directory / "run.json").exists() else "training"
        self._say(f"{verb} {training.name}")

    def ended(self, training: Training, code: int) -> None:
        self.ended_runs += not code
        self._steps[training] = reached(training.directory)
        steps, seconds = self._steps[training]
        how = f"done, {steps / max(seconds, 1e-9):,.0f} steps/s" if not code else f"ended with exit status {code}"
        self._say(f"{training.name}: {how}; {self.ended_runs} of {len(self.trainings)} runs")

    def show(self, running: Sequence[Training], waiting: Sequence[Training], jobs: int) -> None:
        """Draw the bar again, at most once a second."""
        if self._status is None or time.monotonic() - self._shown < 1:
            return
        self._shown = time.monotonic()
        self._steps.update((t, reached(t.directory)) for t in running)
        self._status.update(self._bar(running, seconds_left(self._steps, running, waiting, jobs)))

    def _bar(self, running: Sequence[Training], left: float | None) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done = sum(min(step, t.steps) for t, (step, _) in self._steps.items())
        width = max(10, min(60, self._console.width - 60))
        line = Table.grid(padding=(0, 1, 0, 0))
        line.add_row(
            ProgressBar(total=max(self.total, 1), completed=done, width=width, complete_style="green"),
            f"{done / max(self.total, 1):.0%} of {self.total:,} steps",
            "" if left is None else f"about {format_seconds(left)} left",
            f"{self.ended_runs} of {len(self.trainings)} runs",
        )
        texts = [Text(f"  {t.name}: {self._steps[t][0]:,} of {t.steps:,}", style="dim") for t in running]
        return Group(line, *texts)

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)


def seconds_left(
    steps: dict[Training, tuple[int, float]], running: Sequence[Training], waiting: Sequence[Training], jobs: int
) -> float | None:
    """Seconds until all is done, `jobs` at once; None while no speed is known.

    A run is taken to be as fast as it was so far; one that has not begun, as those with its label and environment,
    else as those in its environment, else as all.
    """

    def speed(chosen: Iterable[Training]) -> float:
        known = [steps[t] for t in chosen if steps[t][0] > 0 and steps[t][1] > 0]
        return sum(s for s, _ in known) / sum(seconds for _, seconds in known) if known else 0.0

    def left(t: Training) -> float:
        near = ([t], [o for o in steps if (o.env, o.label) == (t.env, t.label)], [o for o in steps if o.env == t.env])
        return max(t.steps - steps[t][0], 0) / next(v for c in (*near, steps) if (v := speed(c)))

    if not speed(steps):
        return None
    work = [left(t) for t in (*running, *waiting)]
    return max(sum(work) / jobs, *(left(t) for t in running), 0.0) if work else 0.0
