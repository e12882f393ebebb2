"""Trials 1, 2 and 3: trainings killed at any time and inside saves, and damaged checkpoints and replay files."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import statistics
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from playfield.errors import DataError, PlayfieldError
from playfield.replay.saved import open_replay
from playfield.runs import checkpoint, storage
from playfield.runs.info import is_run
from trials.registry import Ask, Seen, trial
from trials.tools import QUIET, algorithms, difference, ended, fork, forked, inside, leftovers, training

OFTEN = ["--save-seconds", "0"]  # a save after every rollout
ATARI = [f"{algo} on breakout" for algo in ("ppo", "dqn")]
PROCESSES = [f"{algo} with processes" for algo in ("a2c", "ppo", "pqn")]
END_GAMES = ["ppo with end games", "ppo with end games and processes"]


def words_of(part: str, directory: Path) -> list[str]:
    """The words that start the small training of `part` in `directory`, or resume it."""
    if is_run(directory):
        return ["train", "--resume", str(directory), *QUIET, *OFTEN]
    algo, _, game = part.partition(" on ")
    processes = ["--workers", "2", "--workers-as", "processes"] if part.endswith("processes") else []
    if part in END_GAMES:
        small = ["--steps", "2048", "--num-envs", "4", "--rollout-steps", "32", "--net", "nips", "--seed", "1"]
        small += ["--replay-failures", "0.5", *processes, "--run", str(directory), *QUIET, *OFTEN]
        return ["train", "breakout", "--algo", "ppo", *small]
    if part in PROCESSES:
        return training(algo.split()[0], directory, *OFTEN, *processes)
    if not game:
        return training(algo, directory, *OFTEN)
    small = ["--num-envs", "4"] if algo == "ppo" else ["--capacity", "4000", "--learning-starts", "500"]
    return ["train", game, "--algo", algo, "--steps", "2000", *small, "--run", str(directory), *QUIET, *OFTEN]


def reference(ask: Ask, seen: Seen) -> Path | None:
    """A finished run that nothing interrupted, trained in this process so that its forks have all it loads."""
    directory = ask.folder / "reference"
    done = inside(words_of(ask.part, directory), ask.folder / "log")
    if done.code:
        seen.check(False, f"the reference run ended with {done.code}: {done.last}")
        return None
    return directory


def newest(directory: Path) -> int:
    """The step of the newest checkpoint, which must load with nothing skipped; 0 before the first save ended."""
    folder = directory / "checkpoints"
    if not any(storage_name.startswith("ckpt-") and ".tmp" not in storage_name for storage_name in names(folder)):
        return 0
    found = checkpoint.load(folder)
    if found.skipped:
        raise DataError(f"skipped {found.skipped}")
    return found.step


def names(folder: Path) -> list[str]:
    """What lies in a directory; nothing if there is none."""
    return os.listdir(folder) if folder.is_dir() else []


def finish(part: str, directory: Path, good: Path, log: Path) -> str:
    """Resume a killed run to its end; how it differs from `good`, and what it left behind."""
    if not is_run(directory):
        shutil.rmtree(directory, ignore_errors=True)
    if difference(directory, good):
        done = forked(words_of(part, directory), log, timeout=600)
        if done.code:
            return f"resuming ended with {done.code}: {done.last}"
    return difference(directory, good) or ", ".join(leftovers(directory / "checkpoints"))


Kill = Callable[[Path, random.Random, list[int]], bool]


def campaign(ask: Ask, seen: Seen, good: Path, kill: Kill) -> None:
    """Kill and resume one run after the other until `ask.count` kills are done; each kill and each end is judged."""
    rng, directory, low, runs, same = random.Random(ask.part), ask.folder / "run", 0, 0, 0
    log = ask.folder / "log"
    pids: list[int] = []
    for n in ask.rounds():
        tries = 0
        while not kill(directory, rng, pids):  # it was over before it could be killed
            end = finish(ask.part, directory, good, log)
            runs, same = runs + 1, same + (end == "")
            if end:
                seen.failures.append(f"kill {n}: {end}")
            shutil.rmtree(directory, ignore_errors=True)
            low, tries = 0, tries + 1
            if tries > 20:
                seen.failures.append(f"kill {n}: cannot be killed in time")
                return
        try:
            step = newest(directory)
            seen.check(step >= low, f"kill {n}: step {step} after {low} was on the disk")
            low = step
        except PlayfieldError as error:
            seen.check(False, f"kill {n}: {error}")
            shutil.rmtree(directory, ignore_errors=True)
            low = 0
    end = finish(ask.part, directory, good, log)
    runs, same = runs + 1, same + (end == "")
    if end:
        seen.failures.append(f"after the last kill: {end}")
    seen.figures |= {"runs ended": runs, "with equal hash and metrics": same}


@trial(
    1,
    "kill",
    "kill -9 at random times, resumed until done: final hash and metrics equal those of an uninterrupted run",
    short=1,
    long=100,
    parts=lambda: algorithms() + ATARI + PROCESSES + END_GAMES,
    short_parts=("sarsa",),
    fewer=dict.fromkeys(ATARI + PROCESSES + END_GAMES, 30),
)
def kill_anywhere(ask: Ask) -> Seen:
    """SIGKILL at a time drawn uniformly from the length of a training."""
    seen = Seen()
    good = reference(ask, seen)
    if good is None:
        return seen
    again = forked(words_of(ask.part, ask.folder / "again"), ask.folder / "log")
    if end := difference(ask.folder / "again", good):
        return Seen(1, [f"the same training again: {end}"])
    length, redone = again.seconds, []

    def kill(directory: Path, rng: random.Random, _pids: list[int]) -> bool:
        if not is_run(directory):
            shutil.rmtree(directory, ignore_errors=True)
        pid = fork(words_of(ask.part, directory), ask.folder / "log")
        wait, began = rng.uniform(0, 0.9 * length), time.monotonic()
        while time.monotonic() < began + wait:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return False
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        last = directory / "checkpoints" / "last"
        if last.exists():
            redone.append(max(0.0, time.time() - last.stat().st_mtime))
        return True

    campaign(ask, seen, good, kill)
    if redone:
        seen.figures["median seconds done again"] = round(statistics.median(redone), 3)
    return seen


@trial(
    2,
    "kill-in-save",
    "kill -9 inside a save: the previous or the new checkpoint loads; resumed, the final hash is equal",
    short=4,
    long=200,
    parts=algorithms,
    short_parts=("sarsa",),
)
def kill_in_save(ask: Ask) -> Seen:
    """SIGKILL from outside, at a random time after a save began and before 1.2 times its usual length is over."""
    seen = Seen()
    good = reference(ask, seen)
    if good is None:
        return seen
    inside: Counter[str] = Counter()

    def kill(directory: Path, rng: random.Random, _pids: list[int]) -> bool:
        if not is_run(directory):
            shutil.rmtree(directory, ignore_errors=True)
        receive, send = os.pipe()
        which, after = rng.randrange(1, 4), rng.randrange(16)

        def before() -> None:
            saves, points = iter(range(1, 10**6)), iter(range(10**9))
            state = {"on": False}

            def point(name: str) -> None:
                if name.startswith("create ckpt-") and next(saves) == which:
                    state["on"] = True
                if state["on"] and next(points) == after:
                    os.write(send, name.encode()[:200])
                    state["on"] = False

            storage.fault_point = point  # type: ignore[assignment]

        pid = fork(words_of(ask.part, directory), ask.folder / "log", before)
        os.close(send)
        name = os.read(receive, 200)  # empty when the process ends
        os.close(receive)
        if not name:
            ended(pid)
            return False
        time.sleep(rng.uniform(0, 0.004))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed = os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        inside[kind(name.decode())] += killed
        return killed

    campaign(ask, seen, good, kill)
    seen.figures["points after which it was killed"] = len(inside)
    return seen


def kind(point: str) -> str:
    """The name of a fault point without its numbers."""
    return re.sub(r"\d+", "N", point)


@trial(
    2,
    "fault-points",
    "killed at every named point between two writes of a save, each 3 times: as above",
    short=1,
    long=3,
    parts=algorithms,
    short_parts=("sarsa",),
)
def fault_points(ask: Ask) -> Seen:
    """The process ends itself with SIGKILL at a point; every kind of point is tried at `count` of its places."""
    seen, log = Seen(), ask.folder / "points"
    good = reference(ask, seen)
    if good is None:
        return seen
    probe = ask.folder / "probe"

    def listen() -> None:
        file = open(log, "a", buffering=1)  # noqa: SIM115 - the process ends with it
        storage.fault_point = lambda name: file.write(name + "\n") and None  # type: ignore[assignment]

    forked(words_of(ask.part, probe), ask.folder / "log", listen)
    places: dict[str, list[int]] = {}
    for n, name in enumerate(log.read_text().splitlines()):
        places.setdefault(kind(name), []).append(n)
    rng = random.Random(ask.part)
    plan = [(k, n) for k, found in places.items() for n in rng.sample(found, min(ask.count, len(found)))]
    directory = ask.folder / "run"
    if ask.count == 1:
        plan = plan[::7]
    for i in ask.rounds(len(plan)):
        name, at = plan[i]
        shutil.rmtree(directory, ignore_errors=True)

        def end_there(at: int = at) -> None:
            left = iter(range(at + 1))

            def point(_name: str) -> None:
                if next(left) == at:
                    os.kill(os.getpid(), signal.SIGKILL)

            storage.fault_point = point  # type: ignore[assignment]

        done = forked(words_of(ask.part, directory), ask.folder / "log", end_there)
        wrong = "" if done.code == -signal.SIGKILL else f"it ended with {done.code}"
        try:
            newest(directory)
        except PlayfieldError as error:
            wrong = str(error)
        wrong = wrong or finish(ask.part, directory, good, ask.folder / "log")
        seen.check(not wrong, f"{name} (point {at}): {wrong}")
    seen.figures["kinds of points"] = len(places)
    return seen


def spoil(file: Path, rng: random.Random, n: int, total: int) -> str:
    """Damage a file: a fifth of the time cut short, else one bit flipped; the first two: empty, and missing."""
    data = bytearray(file.read_bytes())
    if n == 0:
        file.write_bytes(b"")
        return "empty"
    if n == 1:
        file.unlink()
        return "missing"
    at = rng.randrange(len(data))
    if n < 2 + total // 5:
        file.write_bytes(data[:at])
        return f"cut at {at}"
    data[at] ^= 1 << rng.randrange(8)
    file.write_bytes(data)
    return f"bit flipped in byte {at}"


@trial(
    3,
    "damage",
    "a damaged newest checkpoint, or a replay file that only it needs, is found; the previous one is "
    "used with one warning; "
    "if none is left: exit 3",
    short=8,
    long=250,
    parts=lambda: ["checkpoint", "replay", "all"],
    short_parts=("checkpoint",),
)
def damage(ask: Ask) -> Seen:
    """Every tenth damage is also met by `eval` and `train --resume` in a process."""
    seen, rng, silent = Seen(), random.Random(0), 0
    good = ask.folder / "reference"
    made = inside(training("dqn", good, "--save-seconds", "0"), ask.folder / "log")
    if made.code:
        return Seen(1, [f"the reference run ended with {made.code}: {made.last}"])
    directory = ask.folder / "run"
    for n in ask.rounds():
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(good, directory)
        every = checkpoint.checkpoints(directory / "checkpoints")
        before = every[-1]
        if ask.part == "replay":
            # The newest file of all is needed by the newest checkpoint alone.
            targets = [max((directory / "replay").rglob("*.seg"))]
        elif ask.part == "all":
            targets = [sorted(p.iterdir())[n % 3] for p in every]
        else:
            targets = [sorted(before.iterdir())[n % 3]]
        what = " and ".join(f"{t.parent.name}/{t.name} {spoil(t, rng, n // 3, ask.count)}" for t in targets)
        wrong = ""
        try:
            if ask.part == "replay":
                replay = open_replay(directory)
                for i in range(len(replay)):
                    replay[i]
                wrong = "opened the damaged replay without a word"
            found = checkpoint.load(directory / "checkpoints")
            if ask.part != "replay" and (not found.skipped or found.path == before):
                wrong = "loaded silently"
        except PlayfieldError as error:
            if error.exit_code != 3 or (ask.part == "checkpoint"):
                wrong = f"exit {error.exit_code}: {error}"
        if ask.part == "replay" and wrong == "opened the damaged replay without a word":
            wrong = ""  # an older checkpoint's buffer may have been opened: the process below must say so
        if n % 10 == 0 or ask.part == "replay":
            log = ask.folder / "log"
            resumed = forked(["train", "--resume", str(directory), *QUIET, "--steps", "700"], log)
            said = resumed.err.lower()
            if ask.part == "all":
                wrong = wrong or ("" if resumed.code == 3 and resumed.plain else f"resume: exit {resumed.code}")
            elif resumed.code or ("damaged" not in said and "missing" not in said and "skipped" not in said):
                wrong = wrong or f"resume: exit {resumed.code}, said {resumed.last!r}"
        silent += "silent" in wrong
        seen.check(not wrong, f"{what}: {wrong}")
    seen.figures["silent loads"] = silent
    return seen
