"""Trials 4 and 5: a full disk, a read-only one, and errors of the disk at every write of every command."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playfield.errors import PlayfieldError
from playfield.runs import storage
from trials.registry import Ask, Seen, trial
from trials.saves import newest
from trials.tools import Done, ended, fork, forked, inside, leftovers, training

RUN, DATA = "run", "data"
# What each command writes, below the folder `out`; `run` and `data` are finished ones beside it.
VERBS: dict[str, list[str]] = {
    "train": [
        "train",
        "CartPole-v1",
        "--steps",
        "600",
        "--num-envs",
        "2",
        "--rollout-steps",
        "64",
        "--games",
        "2",
        "--save-seconds",
        "0",
        "--run",
        "out/new",
    ],
    "resume": ["train", "--resume", "out/run", "--steps", "900", "--games", "2", "--no-film", "--save-seconds", "0"],
    "eval": ["eval", "out/run", "--games", "2"],
    "record": ["record", "run", "--steps", "20", "--out", "out/film.mp4"],
    "record-gif": ["record", "run", "--steps", "20", "--out", "out/film.gif"],
    "explain": ["explain", "breakout", "--moments", "1", "--method", "gradient", "--out", "out/why"],
    "collect": ["collect", "pong", "--agent", "random", "--steps", "64", "--out", "out/set", "--quiet"],
    "autoencoder": ["autoencoder", "data", "--epochs", "1", "--split", "frames", "--out", "out/encoder", "--quiet"],
    "compare": [
        "compare",
        "CartPole-v1",
        "--dir",
        "out/compare",
        "--algo",
        "random",
        "--seeds",
        "1",
        "--steps",
        "2000",
    ],
    "preprocess": ["preprocess", "pong", "--steps", "3", "--out", "out/picture.png"],
    "replay": ["replay", "out/run", "--drop", "--yes"],
    "lesson": ["lesson", "random-agent", "--episodes", "2", "--out", "out/lessons", "--quiet"],
}


def verbs() -> list[str]:
    """The commands that write."""
    return list(VERBS)


def prepare(ask: Ask) -> Path:
    """A folder with a finished run and a dataset; what a command needs is in place, and imported here."""
    home = ask.folder / "home"
    home.mkdir()
    os.chdir(home)
    log = ask.folder / "log"
    wanted = [training("dqn", Path(RUN), "--save-seconds", "0")]
    if ask.part == "autoencoder":
        wanted.append(["collect", "pong", "--agent", "random", "--steps", "64", "--out", DATA, "--quiet"])
    for words in wanted:
        done = inside(words, log)
        if done.code:
            raise RuntimeError(f"{words[0]} ended with {done.code}: {done.last}")
    return home


def fresh(out: Path) -> None:
    """Empty `out`; a copy of the run is in it."""
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(RUN, out / RUN)


TOLD = (
    "cannot",
    "could not",
    "not saved",
    "not written",
    "no space",
    "error",
    "failed",
    "read-only",
    "too large",
    "without",
    "skipped",
)


def judge(done: Done, out: Path, hit: bool = True) -> str:
    """What is wrong with how a command ended whose writing failed; empty if nothing is."""
    if not done.plain:
        return f"traceback or crash, exit {done.code}: {done.last}"
    if done.code == 124:
        return "did not end"
    if done.code not in (0, 5):
        return f"exit {done.code}: {done.last}"
    said = (done.out + done.err).lower()
    if hit and done.code == 0 and not any(word in said for word in TOLD):
        return f"success without a word: {done.last!r}"
    if hit and done.code == 5 and not done.last.strip():
        return "exit 5 without a word"
    for folder in (RUN, "new"):
        if (out / folder / "checkpoints").is_dir():
            try:
                newest(out / folder)
            except PlayfieldError as error:
                return f"the checkpoints of {folder}: {error}"
    return ""


WRITES = {"os.rename", "os.link", "os.mkdir", "os.truncate", "os.symlink"}


def failing(out: Path, at: int, number: int, hits: Path) -> Callable[[], None]:
    """For a fork: the `at`-th operation that writes below `out` fails with `number`, and so do all after it.

    An audit hook sees every file that Python opens, renames or makes; fault points see writes and fsyncs.
    """
    top = str(out.absolute())

    def install() -> None:
        state = {"count": 0, "busy": False}

        def operation() -> None:
            state["count"] += 1
            if state["count"] > at:
                state["busy"] = True
                with open(hits, "w") as file:
                    file.write("hit")
                state["busy"] = False
                raise OSError(number, os.strerror(number))

        def hook(event: str, args: tuple[Any, ...]) -> None:
            if state["busy"] or not args or not isinstance(args[0], str | bytes | os.PathLike):
                return
            written = event in WRITES or (
                event == "open"
                and (
                    any(c in str(args[1] or "") for c in "wxa+")
                    or bool((args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
                )
            )
            if written and os.path.abspath(os.fsdecode(args[0])).startswith(top):
                operation()

        sys.addaudithook(hook)
        storage.fault_point = lambda name: operation()  # type: ignore[assignment]

    return install


@trial(
    5,
    "io-error",
    "the disk answers EIO from the n-th write on, for every n: exit 5, or done and said what is missing; "
    "no traceback, older checkpoints load",
    short=1,
    long=150,
    parts=verbs,
    short_parts=("eval",),
)
def io_error(ask: Ask) -> Seen:
    """`count` values of n for each command, all if there are fewer."""
    seen, home = Seen(), prepare(ask)
    out, hits, log = home / "out", ask.folder / "hits", ask.folder / "log"
    out.mkdir()
    rng, n, last = random.Random(ask.part), 0, 0
    for _ in ask.rounds():
        fresh(out)
        hits.unlink(missing_ok=True)
        done = forked(VERBS[ask.part], log, failing(out, n, errno.EIO, hits))
        hit = hits.exists()
        if not hit:  # it ended before the n-th write
            if not seen.count:
                seen.check(done.code == 0, f"without an error it ended with {done.code}: {done.last}")
            seen.all_there_is = last + 1 == seen.count
            break
        wrong = judge(done, out)
        seen.check(not wrong, f"{ask.part}, write {n}: {wrong}")
        last = n
        n += 1 if ask.count > 40 else rng.randrange(1, 4)
    seen.figures["first writes that failed"] = last + 1
    return seen


def used(place: Path) -> int:
    """Bytes of the pages that the files below `place` take."""
    return sum(-(-p.stat().st_size // 4096) * 4096 for p in place.rglob("*") if p.is_file())


def small_disk(place: Path, size: int) -> str:
    """Mount a file system of `size` bytes at `place`; why it cannot be done, or nothing."""
    place.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True
    )
    return done.stderr.strip()


def unmount(place: Path) -> None:
    """Unmount, also where a process is still there."""
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


@trial(
    4,
    "full-disk",
    "the disk (a small file system) becomes full while a command writes: exit 5, or done and said what "
    "is missing; older checkpoints load; trainings refuse to start on it",
    short=1,
    long=12,
    parts=verbs,
    short_parts=("record-gif",),
)
def full_disk(ask: Ask) -> Seen:
    """There is room for 0, 1, ... parts of what the command writes; a training's disk is filled under it."""
    seen, home, rng = Seen(), prepare(ask), random.Random(ask.part)
    out, log, filled = home / "out", ask.folder / "log", ask.part in ("train", "resume", "compare")
    out.mkdir()
    fresh(out)
    before = used(out)
    free = forked(VERBS[ask.part], log)
    if free.code:
        return Seen(1, [f"with room it ended with {free.code}: {free.last}"])
    need = max(0, used(out) - before)
    fresh(out)
    shutil.rmtree(out)
    for n in ask.rounds():
        if reason := small_disk(out, 300_000_000 if filled else before + 4096 + int(n / max(1, ask.count) * need)):
            return Seen(not_run=f"no small disk can be mounted: {reason}")
        try:
            fresh(out)
            fill = out / "fill"
            if filled and n == 0:
                _fill(fill)
            pid = fork(VERBS[ask.part], log)
            if filled and n:
                threading.Event().wait(rng.uniform(0, free.seconds))
                _fill(fill)
            code, _ = ended(pid)
            done = Done(code, "", log.read_text(errors="replace"), 0)
            wrong = judge(done, out, hit=False)
            if filled and n == 0 and code != 5 and ask.part != "compare":
                wrong = wrong or f"began on a full disk: exit {code}"
            fill.unlink(missing_ok=True)
            left = [p for p in leftovers(out) if "checkpoints" not in p]
            seen.check(not (wrong or left), f"{ask.part}, try {n}: {wrong or left}")
        finally:
            unmount(out)
    seen.figures["bytes that it writes"] = need
    return seen


def _fill(path: Path) -> None:
    """Fill the disk that `path` is on."""
    try:
        with open(path, "wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                while True:
                    try:
                        file.write(bytes(size))
                    except OSError:
                        break
    except OSError:
        pass


@trial(
    5,
    "read-only",
    "what is to be written lies on a read-only disk: exit 5 and one line, or done and said what is missing",
    short=1,
    long=1,
    parts=verbs,
    short_parts=("preprocess",),
)
def read_only(ask: Ask) -> Seen:
    """Mounted read-only: root ignores permissions."""
    seen, home = Seen(), prepare(ask)
    out, log = home / "out", ask.folder / "log"
    if reason := small_disk(out, 300_000_000):
        return Seen(not_run=f"no disk can be mounted: {reason}")
    try:
        fresh(out)
        subprocess.run(["mount", "-o", "remount,ro", str(out)], check=True)
        start = time.monotonic()
        done = forked(VERBS[ask.part], log)
        wrong = judge(done, out)
        seen.check(not wrong, f"{ask.part}: {wrong}")
        seen.figures["seconds"] = round(time.monotonic() - start, 2)
    finally:
        unmount(out)
    return seen
