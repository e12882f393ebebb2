"""Runs the package as a user does, in processes of its own, and looks at what they left."""

from __future__ import annotations

import csv
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playfield.cli import main
from playfield.runs import catalog

PYTHON = [sys.executable, "-m", "playfield"]
QUIET = ["--games", "0", "--no-film", "--no-tensorboard", "--quiet"]
TRACEBACK = "Traceback (most recent call last)"
# Small and quick, yet with many rollouts, so that many saves lie within a second.
SMALL = {
    "ppo": ["--num-envs", "2", "--rollout-steps", "16", "--steps", "640"],
    "a2c": ["--num-envs", "2", "--steps", "600"],
    "pqn": ["--num-envs", "2", "--rollout-steps", "16", "--steps", "640"],
    "random": ["--steps", "20000"],
}


def algorithms() -> list[str]:
    """Every algorithm of the installed package."""
    return sorted(catalog.algorithms())


def training(algo: str, directory: Path, *more: str) -> list[str]:
    """Words of a small training of CartPole."""
    small = SMALL.get(algo, ["--steps", "640"])
    return ["train", "CartPole-v1", "--algo", algo, *small, "--seed", "1", "--run", str(directory), *QUIET, *more]


@dataclass(frozen=True)
class Done:
    """How a process ended. `memory` is its largest resident size in bytes."""

    code: int
    out: str
    err: str
    seconds: float
    memory: int = 0

    @property
    def plain(self) -> bool:
        """No traceback, and not killed by a signal of its own making."""
        return TRACEBACK not in self.err + self.out and self.code not in (-11, -6, 139, 134)

    @property
    def last(self) -> str:
        return (self.err.strip().splitlines() or self.out.strip().splitlines() or [""])[-1][:200]


def run(
    words: Sequence[str],
    cwd: Path,
    *,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    prefix: Sequence[str] = (),
    command: Sequence[str] = PYTHON,
    preexec: Callable[[], None] | None = None,
) -> Done:
    """`python -m playfield WORDS` in `cwd`; a process that outlives `timeout` is killed: code 124."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.monotonic()
        process = subprocess.Popen(
            [*prefix, *command, *words], cwd=cwd, env={**os.environ, **(env or {})}, stdin=subprocess.DEVNULL,
            stdout=out, stderr=err, start_new_session=True, preexec_fn=preexec,
        )  # fmt: skip
        timer = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        late = not timer.is_alive()
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(10_000_000).decode(errors="replace"))
    code = 124 if late else process.returncode
    return Done(code, texts[0], texts[1], seconds, usage.ru_maxrss * 1024)


def inside(words: Sequence[str], log: Path) -> Done:
    """The command line in this process: what it imports and compiles, later forks have. Torch keeps to one thread."""
    start = time.monotonic()
    with open(log, "w", encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        try:
            code = main(list(words))
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
    if (alive := threading.active_count()) > 1:
        raise RuntimeError(f"{alive} threads are left: a fork would lack them")
    return Done(code, "", log.read_text(errors="replace"), time.monotonic() - start)


def fork(
    words: Sequence[str], log: Path, before: Callable[[], None] = lambda: None, *, cwd: Path | None = None
) -> int:
    """Start the command line in a fork of this process, which has everything imported; its process id.

    Its standard output and error go to `log`. `before` is called in the fork first.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        os.setsid()
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        if cwd is not None:
            os.chdir(cwd)
        before()
        code = main(list(words))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def ended(pid: int, timeout: float = 120) -> tuple[int, int]:
    """Wait for a fork; (its exit code or minus its signal, its largest resident size). 124 after `timeout`."""
    until = time.monotonic() + timeout
    pause = 0.001
    while True:
        found, status, usage = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
            os.wait4(pid, 0)
            return 124, 0
        time.sleep(pause)
        pause = min(0.02, 1.3 * pause)


def forked(
    words: Sequence[str],
    log: Path,
    before: Callable[[], None] = lambda: None,
    *,
    timeout: float = 120,
    cwd: Path | None = None,
) -> Done:
    """The command line in a fork of this process, from start to end. `memory` counts what this process has, too."""
    start = time.monotonic()
    code, memory = ended(fork(words, log, before, cwd=cwd), timeout)
    return Done(code, "", log.read_text(errors="replace"), time.monotonic() - start, memory)


def resident() -> int:
    """Bytes of this process that are in memory at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def info_of(directory: Path) -> dict[str, Any]:
    """`run.json`, or an empty table."""
    path = directory / "run.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return found


def hash_of(directory: Path) -> str:
    """The final hash of a finished run; empty for one that is not."""
    return str(info_of(directory).get("result", {}).get("hash", ""))


def rows_of(directory: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without the columns of time."""
    with open(directory / "metrics.csv", newline="", encoding="utf-8") as file:
        return [{k: v for k, v in row.items() if not k.startswith("time/")} for row in csv.DictReader(file)]


def difference(directory: Path, reference: Path) -> str:
    """How a finished run differs from the uninterrupted one; empty if it does not."""
    if not hash_of(directory):
        return "not finished"
    if hash_of(directory) != hash_of(reference):
        return "another final hash"
    return "" if rows_of(directory) == rows_of(reference) else "other rows in metrics.csv"


def leftovers(directory: Path) -> list[str]:
    """Temporary files and half-replaced directories below `directory`."""
    return [str(p) for p in directory.rglob("*") if ".tmp" in p.name or p.name.endswith(".old")]
