"""The run lock, tried with real processes."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from playfield.errors import DataError, StorageError
from playfield.runs import lock
from playfield.runs.lock import RunLock

HOLD = """
import os, sys, time
from playfield.errors import PlayfieldError
from playfield.runs.lock import RunLock
lock = RunLock(sys.argv[1])
try:
    with lock:
        print("held", os.getpid(), lock.note, flush=True)
        if sys.argv[2] == "fork" and os.fork() == 0:
            print("child", flush=True)
            time.sleep(20)
            os._exit(0)
        if sys.argv[2] != "once":
            time.sleep(20)
except PlayfieldError as error:
    print(error, flush=True)
    sys.exit(error.exit_code)
"""


@contextmanager
def start(run_dir: Path, how: str = "once") -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLD, str(run_dir), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_second_process_is_refused_at_once_and_named(tmp_path: Path) -> None:
    with start(tmp_path, "stay") as holder:
        assert first_line(holder).startswith("held")
        note = json.loads((tmp_path / "lock").read_text())
        assert (note["pid"], note["host"]) == (holder.pid, socket.gethostname())
        began = time.monotonic()
        with start(tmp_path) as second:
            text = first_line(second)
            assert second.wait(10) == 3
        assert time.monotonic() - began < 2
        for word in (str(tmp_path), f"process {holder.pid} on {socket.gethostname()}", note["started"]):
            assert word in text
        with pytest.raises(DataError, match="is in use by process"):
            RunLock(tmp_path).acquire()
        assert json.loads((tmp_path / "lock").read_text()) == note  # the losers wrote nothing
        holder.kill()
        holder.wait()
    with start(tmp_path) as third:
        assert f"took over the lock of process {holder.pid}" in first_line(third)
        assert third.wait(10) == 0
    with RunLock(tmp_path) as free:
        assert free.note == ""


@pytest.mark.skipif(os.name == "nt", reason="needs fork")
def test_an_orphaned_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with start(tmp_path, "fork") as holder:
        assert first_line(holder).startswith("held")
        assert first_line(holder) == "child"
        holder.kill()
        holder.wait()
        os.killpg(holder.pid, 0)  # the child lives on
        with RunLock(tmp_path) as taken:
            assert str(holder.pid) in taken.note


def test_same_process_twice_and_release_on_error(tmp_path: Path) -> None:
    with RunLock(tmp_path / "new" / "run") as held:
        with pytest.raises(DataError, match=f"process {os.getpid()}"), RunLock(tmp_path / "new" / "run"):
            pass
        with pytest.raises(DataError, match="already"):
            held.acquire()
    with pytest.raises(RuntimeError), RunLock(tmp_path):
        raise RuntimeError
    with RunLock(tmp_path) as again:
        assert again.note == ""
    again.release()


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 60_000, '{"pid": "x", "host": "h", "started": ""}', "\0\xff"])
def test_nonsense_in_the_file_does_no_harm(tmp_path: Path, text: str) -> None:
    (tmp_path / "lock").write_text(text)
    with RunLock(tmp_path) as held:
        assert held.note == ""


def test_escape_codes_are_not_passed_on(tmp_path: Path) -> None:
    holder = {"pid": 999999999, "host": "\x1b[2Jevil", "started": "x", "command": "a\nb"}
    (tmp_path / "lock").write_text(json.dumps(holder))
    with RunLock(tmp_path) as held:
        assert "?[2Jevil" in held.note
        assert held.note.isprintable()


def test_file_system_without_locks_uses_the_process_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(fd: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock, "_lock_file", refuse)
    holder = {"pid": os.getppid(), "host": socket.gethostname(), "started": "today"}
    (tmp_path / "lock").write_text(json.dumps(holder))
    with pytest.raises(DataError, match=f"process {os.getppid()}"):
        RunLock(tmp_path).acquire()
    (tmp_path / "lock").write_text(json.dumps(holder | {"host": "elsewhere"}))
    with pytest.raises(DataError, match="elsewhere"):
        RunLock(tmp_path).acquire()
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    (tmp_path / "lock").write_text(json.dumps(holder | {"pid": process.pid}))
    with RunLock(tmp_path) as held:
        assert str(process.pid) in held.note


def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError):
        RunLock(tmp_path / "file").acquire()
    (tmp_path / "lock").symlink_to(tmp_path / "target")
    with pytest.raises(StorageError):
        RunLock(tmp_path).acquire()
    assert not (tmp_path / "target").exists()
