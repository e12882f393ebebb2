"""Trials 11 to 15: two writers, many starts at once, signals in every phase, closed terminals and outputs."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playfield.errors import PlayfieldError
from playfield.runs import storage
from playfield.runs.info import is_run
from trials.registry import Ask, Seen, trial
from trials.saves import newest
from trials.tools import PYTHON, QUIET, TRACEBACK, difference, ended, fork, forked, hash_of, inside, run, training

WORDS = ["train", "CartPole-v1", "--steps", "1200", "--num-envs", "2", "--rollout-steps", "32", "--games", "2",
         "--no-tensorboard", "--save-seconds", "0", "--no-film", "--run"]  # fmt: skip


@trial(
    11,
    "two-writers",
    "a second training of a run directory ends with exit 3 in 2 s and names the process; the first one's "
    "hash is as without it; a killed process's lock is taken over",
    short=1,
    long=20,
)
def two_writers(ask: Ask) -> Seen:
    """Each time: a second start and a second resume while the first trains, then kill -9 and a resume."""
    seen, log, slowest = Seen(), ask.folder / "log", 0.0
    good = ask.folder / "good"
    inside([*WORDS, str(good)], log)
    for n in ask.rounds():
        directory = ask.folder / f"run-{n}"

        def slow() -> None:
            storage.fault_point = lambda name: time.sleep(0.005)  # type: ignore[assignment]

        first = fork([*WORDS, str(directory)], ask.folder / "first", slow)
        while not is_run(directory):
            time.sleep(0.005)
        for words in (["train", "--resume", str(directory), *QUIET], [*WORDS, str(directory)]):
            second = forked(words, log)
            slowest = max(slowest, second.seconds)
            good_end = (second.code == 3 and str(first) in second.err) or "holds a run already" in second.err
            seen.check(
                good_end and second.plain and second.seconds < 2,
                f"second {words[1]}: exit {second.code} in {second.seconds:.1f} s: {second.last}",
            )
        if n % 2:
            os.kill(first, signal.SIGKILL)
            ended(first)
            resumed = forked(["train", "--resume", str(directory), *QUIET], log)
            seen.check(resumed.code == 0, f"after kill -9: exit {resumed.code}: {resumed.last}")
        else:
            ended(first)
        end = difference(directory, good)
        seen.check(not end, f"the first run: {end}")
    seen.figures["slowest refusal, s"] = round(slowest, 2)
    return seen


@trial(
    12,
    "starts-at-once",
    "trainings that start at the same time without a name get a run directory each, and all finish",
    short=4,
    long=50,
)
def starts_at_once(ask: Ask) -> Seen:
    """All are forked before the first one has a directory."""
    seen = Seen()
    words = ["train", "CartPole-v1", "--algo", "random", "--steps", "2048", *QUIET]
    inside([*words, "--run", str(ask.folder / "warm")], ask.folder / "log")
    pids = [fork(words, ask.folder / f"log-{n}", cwd=ask.folder) for n in range(ask.count)]
    codes = [ended(pid)[0] for pid in pids]
    root = ask.folder / "runs" / "CartPole-v1" / "random"
    finished = [p for p in root.iterdir() if hash_of(p)] if root.is_dir() else []
    for n, code in enumerate(codes):
        log = (ask.folder / f"log-{n}").read_text(errors="replace")
        seen.check(code == 0 and TRACEBACK not in log, f"start {n}: exit {code}: {log.strip()[-200:]}")
    if len(finished) != ask.count:
        seen.failures.append(f"{len(finished)} finished directories of {ask.count}")
    seen.figures["directories"] = len(finished)
    return seen


PHASES = ["import", "plan", "directory", "environments", "update", "save", "evaluation", "film", "curve", "any time"]
SAVES = ("update", "save")  # elsewhere nothing is to be saved, and the signal itself may end the process
TRAIN = "playfield.training.train"  # by name: the package has a function of that name
PLACES = {
    "plan": (TRAIN, "prepare"),
    "directory": (TRAIN, "make_directory"),
    "environments": (TRAIN, "Run"),
    "evaluation": (TRAIN, "evaluate_and_save"),
    "film": ("playfield.show.film", "film_best_game"),
    "curve": ("playfield.show.plots", "save_curve"),
}


def signalled(phase: str, number: int, delay: float, twice: bool = False) -> Callable[[], None]:
    """For a fork: send itself `number` some time after it enters a phase."""

    def send() -> None:
        os.kill(os.getpid(), number)
        if twice:
            time.sleep(0.7)
            os.kill(os.getpid(), number)

    def later() -> None:
        threading.Timer(delay, send).start()

    def install() -> None:
        if phase == "any time":
            later()
        elif phase in ("save", "update"):
            points = iter(range(10**9))
            at = 40 if phase == "save" else 45

            def point(name: str) -> None:
                if next(points) == at:
                    later() if phase == "update" else send()

            storage.fault_point = point  # type: ignore[assignment]
        else:
            where, name = PLACES[phase]
            module = importlib.import_module(where)
            original: Any = getattr(module, name)

            def wrapped(*args: Any, **kwargs: Any) -> Any:
                later()
                return original(*args, **kwargs)

            setattr(module, name, wrapped)

    return install


def _signals(ask: Ask, number: int) -> Seen:
    seen, log, rng, slowest = Seen(), ask.folder / "log", random.Random(ask.part), 0.0
    good = ask.folder / "good"
    words = [w for w in WORDS if w != "--no-film"] if ask.part in ("film", "any time") else WORDS
    inside([*words, str(good)], log)
    length = forked([*words, str(ask.folder / "again")], log).seconds if ask.part == "any time" else 0.0
    directory = ask.folder / "run"
    for n in ask.rounds():
        shutil.rmtree(directory, ignore_errors=True)
        delay = rng.uniform(0, length if ask.part == "any time" else 0.15)
        start = time.monotonic()
        if ask.part == "import":
            delay = rng.uniform(0.05, 1.5)
            process = subprocess.Popen(
                [*PYTHON, *words, str(directory)], cwd=ask.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            time.sleep(delay)
            process.send_signal(number)
            text = process.communicate(timeout=60)[0].decode(errors="replace")
            code = process.returncode
            allowed = {128 + number, 0, -number}
        else:
            twice = number == signal.SIGINT and n % 5 == 4
            done = forked([*words, str(directory)], log, signalled(ask.part, number, delay, twice))
            text, code = done.err, done.code
            allowed = {128 + number, 0}
            if number == signal.SIGTERM and ask.part not in SAVES:
                allowed.add(-number)  # which a shell shows as 143
        took = time.monotonic() - start - delay
        slowest = max(slowest, took)
        wrong = ""
        if code not in allowed:
            wrong = f"exit {code}: {text.strip()[-150:]}"
        elif TRACEBACK in text:
            wrong = f"traceback, exit {code}: {text.strip()[-150:]}"
        elif code and took > 10:
            wrong = f"ended {took:.1f} s after the signal"
        elif is_run(directory):
            wrong = _resumes(directory, good, log)
        seen.check(not wrong, f"{signal.Signals(number).name} after {delay:.2f} s: {wrong}")
    seen.figures["slowest end, s"] = round(slowest, 2)
    return seen


def _resumes(directory: Path, good: Path, log: Path) -> str:
    """How a stopped run that is resumed differs from one that was not stopped."""
    try:
        newest(directory)
    except PlayfieldError as error:
        return str(error)
    if not hash_of(directory):
        done = forked(["train", "--resume", str(directory), *QUIET], log)
        if done.code:
            return f"resuming: exit {done.code}: {done.last}"
    return difference(directory, good)


@trial(
    13,
    "ctrl-c",
    "SIGINT in every phase, sometimes twice: it saves and ends with 130 in 10 s without a traceback; "
    "resumed, the hash is equal",
    short=1,
    long=10,
    parts=lambda: PHASES,
    short_parts=("update",),
)
def ctrl_c(ask: Ask) -> Seen:
    """0 is right too: the signal came when everything was done."""
    return _signals(ask, signal.SIGINT)


@trial(
    14,
    "sigterm",
    "SIGTERM in every phase: it saves if it trains, and ends with 143 in 10 s without a traceback; resumed, the hash "
    "is equal",
    short=1,
    long=10,
    parts=lambda: PHASES,
    short_parts=("save",),
)
def sigterm(ask: Ask) -> Seen:
    """Where nothing is to be saved the signal itself may end the process; a shell shows 143, too."""
    return _signals(ask, signal.SIGTERM)


OUTPUTS = [
    "SIGHUP",
    "closed output",
    "full output",
    "head",
    "closed error",
    "dumb terminal",
    "no terminal",
    "latin-1",
]


@trial(
    15,
    "outputs",
    "a closed terminal, a closed or full standard output, a pipe into head, odd terminals: the work is "
    "finished or saved, without a traceback",
    short=1,
    long=2,
    parts=lambda: OUTPUTS,
    short_parts=("no terminal",),
)
def outputs(ask: Ask) -> Seen:
    """Not quiet: it prints a plan, its progress and its result."""
    seen = Seen()
    words = " ".join([sys.executable, "-m playfield", *WORDS])
    shell = {
        "closed output": f"{words} run >&-",
        "full output": f"{words} run >/dev/full",
        "head": f"set -o pipefail; {words} run | head -1; exit ${{PIPESTATUS[0]}}",
        "closed error": f"{words} run 2>&-",
        "dumb terminal": f"TERM=dumb script -qec '{words} run' /dev/null",
        "no terminal": f"{words} run </dev/null | cat; exit ${{PIPESTATUS[0]}}",
        "latin-1": f"PYTHONIOENCODING=latin-1 LC_ALL=C {words} run",
    }
    for _ in ask.rounds():
        shutil.rmtree(ask.folder / "run", ignore_errors=True)
        directory = ask.folder / "run"
        if ask.part == "SIGHUP":
            log = ask.folder / "log"
            if not (ask.folder / "good").exists():
                inside([*WORDS, str(ask.folder / "good")], log)
            done = forked([*WORDS, str(directory)], log, signalled("update", signal.SIGHUP, 0.05))
            wrong = "" if done.code in (0, 129) and done.plain else f"exit {done.code}: {done.last}"
            wrong = wrong or _resumes(directory, ask.folder / "good", log)
        else:
            done = run(["-c", shell[ask.part]], ask.folder, command=["bash"])
            complete = hash_of(directory) and any((directory / "eval").glob("*.json"))
            wrong = "" if complete and done.plain else f"exit {done.code}, evaluated: {bool(complete)}: {done.last}"
        seen.check(not wrong, f"{ask.part}: {wrong}")
    return seen


@trial(13, "held", "SIGINT ten times in a row: it ends, the older checkpoints load", short=0, long=10)
def held(ask: Ask) -> Seen:
    """As a key that is held down."""
    seen, log = Seen(), ask.folder / "log"
    inside(training("ppo", ask.folder / "warm"), log)
    for n in ask.rounds():
        directory = ask.folder / f"run-{n}"

        def hold() -> None:
            def press() -> None:
                for _ in range(10):
                    os.kill(os.getpid(), signal.SIGINT)
                    time.sleep(0.1)

            points = iter(range(10**9))

            def point(_name: str) -> None:
                if next(points) == 60:
                    threading.Thread(target=press, daemon=True).start()

            storage.fault_point = point  # type: ignore[assignment]

        done = forked([*WORDS, str(directory)], log, hold)
        wrong = "" if done.code in (130, 0) and done.plain else f"exit {done.code}: {done.last}"
        try:
            newest(directory)
        except PlayfieldError as error:
            wrong = str(error)
        seen.check(not wrong, wrong)
    return seen
