"""What runs on a node of a cluster: functions that take and return text, so that nothing is pickled but text.

`run` trains in a process of its own, with the same words and the same thread settings as on the machine of the
experiment. `python -m playfield.experiments.node` prints what decides bits there, for `probe`.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.errors import DataError, EnvError, PlayfieldError, StorageError, UsageError
from playfield.experiments import away
from playfield.runs import fence
from playfield.runs.info import VERSION, source
from playfield.runs.storage import free_disk

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Variables that decide how sums are split: on every node as on the machine of the experiment."""
POLL = 0.1  # seconds between two looks at a child
PATIENCE = 120.0  # seconds that the store may take to answer
LAST = 4096  # bytes of a failed probe's standard error that are looked at


def facts(mark: Path, cwd: Path = Path()) -> dict[str, Any]:
    """What decides bits on this machine, and what is free.

    Returns:
        `versions`, and those of all `packages` that are installed; `processor`; whether it has `bf16`; bytes of
        `memory` that are free, in `total`, and of `disk` that are free for temporary files; whether it `sees` the
        file `mark`, and the directory `cwd`; the `time` by its clock.
    """
    found = ((one.metadata["Name"], one.version) for one in importlib.metadata.distributions())
    return {
        "versions": {"playfield": VERSION, "playfield's source": source(), **compute.versions()},
        "packages": {name.lower(): version for name, version in found if name},
        "processor": compute.processor(),
        "bf16": compute.bf16_is_faster(),
        "memory": compute.free_memory(),
        "total": compute.total_memory(),
        "disk": free_disk(tempfile.gettempdir()),
        "sees": mark.is_file(),
        "cwd": cwd.is_dir(),
        "time": time.time(),
    }


def probe(text: str) -> str:
    """`facts` of this node as JSON, from a process that has torch only for that moment; `text`: see `run`."""
    told = json.loads(text)
    command = [sys.executable, "-P", "-m", "playfield.experiments.node", told["mark"], told.get("cwd", ".")]
    done = subprocess.run(command, env=_environment(told), capture_output=True, check=False)
    if done.returncode:
        lines = done.stderr[-LAST:].decode(errors="replace").strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit status {done.returncode}")
    return json.dumps({"host": socket.gethostname(), **json.loads(done.stdout)})


def run(text: str) -> str:
    """Run `playfield` on this node until it ends; returns its exit code as JSON.

    A KeyboardInterrupt asks it to save and end, a second one ends it. It saves and ends when this process is gone.
    Nothing begins where a file that the words name says something else on this node.

    Args:
        text: JSON with `words` of the command, the directory `cwd`, the file `log` for its standard error,
            `variables` of the environment, `threads`, the values of `THREADS` where they are set, and `given`, the
            texts of files that the words name.

    Returns:
        JSON with the exit `code`; where nothing began, `line` says why, and `unfit` that it is for this node.
    """
    told = json.loads(text)
    if not Path(told["cwd"]).is_dir():
        line = f"there is no {told['cwd']}, where the command was typed, on this node"
        return json.dumps({"code": EnvError.exit_code, "line": line, "unfit": True})
    for name, given in told.get("given", {}).items():
        if _text(Path(told["cwd"], name)) not in (None, given):
            line = f"{name} says something else on this node than where the command was typed"
            return json.dumps({"code": UsageError.exit_code, "line": line, "unfit": True})
    code, _ = _wait_for(told, told["words"], Path(told["cwd"]), Path(told["log"]))
    return json.dumps({"code": code})


def join(text: str) -> str:
    """As `run`, for a machine that takes part in a training: it needs no shared directory.

    Returns JSON with the exit `code`, and the `last` line of its standard error.
    """
    told = json.loads(text)
    with away.room() as own:
        log, cwd = own / "log.txt", Path(told["cwd"])
        code, _ = _wait_for(told, told["words"], cwd if cwd.is_dir() else own, log)
        lines = log.read_bytes()[-LAST:].decode(errors="replace").strip().splitlines()
    return json.dumps({"code": code, "last": lines[-1].removeprefix("playfield: ") if lines else ""})


def run_away(text: str, mailbox: Any) -> str:
    """`run_with` a store that is asked through a `Mailbox`, an actor."""

    def ask(question: str, data: bytes) -> tuple[str, bytes]:
        found = mailbox.ask.remote(question, data).future().result(PATIENCE)
        return str(found[0]), bytes(found[1])

    return run_with(text, ask)


def run_with(text: str, ask: away.Ask) -> str:
    """`run` on a node that does not see the directory of the experiment: the run's files come from the store.

    Args:
        text: as for `run`, without `log`. In `words` the directory stands for the one on this node. `store` has the
            `run`, its name below the directory of the experiment; its `directory`; and the number of the `attempt`.
            The names in `given` are relative.
        ask: the store.

    Returns:
        JSON with the exit `code`, and `line`, the last on standard error, or why files could not be sent or fetched.
    """
    told = json.loads(text)
    run, attempt, known = (told["store"][name] for name in ("run", "attempt", "directory"))
    try:
        with away.room() as home:
            there = away.Away(ask, run, attempt, home / "run", home / "log.txt", known)
            there.fetch()
            words = [str(there.run) if word == known else word for word in told["words"]]
            told["variables"] = {**told.get("variables", {}), **fence.told(attempt, there.run)}
            cwd = _with_given(told.get("given", {}), Path(told["cwd"]), home)
            code, error = _wait_for(told, words, cwd, there.log, there)
            line = there.last_line()
    except Exception as failure:
        code, error, line = 0, failure, ""
    if isinstance(error, away.LaterError):
        return json.dumps({"code": DataError.exit_code, "line": f"{known}{error}"})
    if error is not None and code in (0, 143):
        code, line = _why(error)
    return json.dumps({"code": code, "line": line})


def _with_given(given: dict[str, str], cwd: Path, home: Path) -> Path:
    """The directory to train in, in which these files are: that of the command, or else one of this node's own.

    That has as many folders above it, below `home`, as a name has `..`. Raises DataError for a name that is not
    relative.
    """
    if cwd.is_dir() and all(_text(cwd / name) == text for name, text in given.items()):
        return cwd
    up = max((Path(name).parts.count("..") for name in given), default=0)
    there = home.joinpath("cwd", *["up"] * up)
    there.mkdir(parents=True)
    for name, text in given.items():
        if Path(name).is_absolute():
            raise DataError(f"{name} is not below this node's own directory")
        (there / name).parent.mkdir(parents=True, exist_ok=True)
        (there / name).write_bytes(text.encode())
    return there


def _text(path: Path) -> str | None:
    """The text of a file, as the words of a training name it; None where there is none that can be read."""
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return None


def _why(error: Exception) -> tuple[int, str]:
    """The exit code and a line for what kept files from being fetched or sent."""
    if isinstance(error, PlayfieldError):
        return error.exit_code, f"its files were not kept where the command was typed: {error}"
    if isinstance(error, OSError) and not isinstance(error, TimeoutError | ConnectionError):
        return StorageError.exit_code, f"its files cannot be kept on this node: {error.strerror or error}"
    first = (str(error).strip().splitlines() or [""])[0]
    return EnvError.exit_code, f"the machine of the command does not take its files: {type(error).__name__} {first}"


def _wait_for(
    told: dict[str, Any], words: list[str], cwd: Path, log: Path, there: away.Away | None = None
) -> tuple[int, Exception | None]:
    """Train; returns the exit code, and what went wrong with sending last."""
    command = [sys.executable, "-P", "-m", "playfield.cli._child", str(os.getpid()), *words]
    child, asked, sending = None, False, None
    try:
        with open(log, "wb") as errors:
            child = subprocess.Popen(
                command,
                cwd=cwd,
                env=_environment(told),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        sending = None if there is None else away.Sending(there)
        while True:
            try:
                while child.poll() is None:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        child.wait(POLL)
                while sending is not None and not sending.end():
                    pass
                return child.returncode, None if sending is None else sending.error
            except KeyboardInterrupt:
                child.kill() if asked else child.terminate()
                if asked and sending is not None:
                    sending.give_up()
                asked = True
    finally:
        if child is not None and child.poll() is None:
            child.terminate()


def _environment(told: dict[str, Any]) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in THREADS}
    return {**kept, **told.get("threads", {}), **told.get("variables", {})}


def threads() -> dict[str, str]:
    """The values of `THREADS` in this process, where they are set."""
    return {name: os.environ[name] for name in THREADS if name in os.environ}


def working(do: str, task: int, text: str, mailbox: Any) -> str:
    """A function of this module as a task that says when it begins."""
    mailbox.begun.remote(task)
    return run_away(text, mailbox) if do == "run_away" else str(globals()[do](text))


if __name__ == "__main__":
    print(json.dumps(facts(Path(sys.argv[1]), Path(sys.argv[2]))))
