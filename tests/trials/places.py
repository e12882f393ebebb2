"""Trials 31 to 38: no network, no display, no optional package, films, clocks, other machines."""

from __future__ import annotations

import csv
import os
import random
import re
import shutil
import signal
import threading
import time
from pathlib import Path

from trials.registry import Ask, Seen, not_run, trial
from trials.tools import QUIET, ended, fork, forked, inside, run, training

WORK = {
    "train": ["train", "CartPole-v1", "--steps", "1024", "--games", "1", "--run", "run"],
    "eval": ["eval", "breakout", "--games", "1"],
    "record": ["record", "pong", "--steps", "10", "--out", "film.mp4"],
    "explain": ["explain", "breakout", "--moments", "1", "--out", "why"],
    "games": ["games"],
    "collect": ["collect", "pong", "--agent", "random", "--steps", "64", "--out", "set"],
    "compare": ["compare", "CartPole-v1", "--algo", "random", "--seeds", "1", "--steps", "2000"],
    "lesson": ["lesson", "random-agent", "--episodes", "1"],
}


@trial(
    31,
    "no-network",
    "without any network (a namespace of its own) every command works",
    short=0,
    long=1,
    parts=lambda: list(WORK),
)
def no_network(ask: Ask) -> Seen:
    """`unshare -n` needs root."""
    seen = Seen()
    probe = run(["true"], ask.folder, command=["unshare", "-n"])
    if probe.code:
        return Seen(not_run=f"no namespace can be made: {probe.last}")
    for n in ask.rounds():
        place = ask.folder / str(n)
        place.mkdir()
        done = run(WORK[ask.part], place, prefix=["unshare", "-n"], timeout=300)
        seen.check(done.code == 0 and done.plain, f"exit {done.code}: {done.last}")
    return seen


BLOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in %r.split(","):
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Block())
"""
MISSING = [
    "matplotlib",
    "tensorboard",
    "av",
    "pygame",
    "PIL",
    "cv2",
    "lz4",
    "numba",
    "rich",
    "websockets",
    "display",
    "home",
]


@trial(
    32,
    "without",
    "no display, no home, or one package missing: the command works, or ends in one line that names the package",
    short=0,
    long=3,
    parts=lambda: MISSING,
)
def without(ask: Ask) -> Seen:
    """A missing package is one that cannot be imported; a training, an evaluation and a film each."""
    seen = Seen()
    site = ask.folder / "site"
    site.mkdir()
    env = {"PYTHONPATH": f"{site}:{os.environ.get('PYTHONPATH', '')}"}
    if ask.part == "display":
        env |= {"DISPLAY": "", "WAYLAND_DISPLAY": "", "SDL_VIDEODRIVER": ""}
    elif ask.part == "home":
        env |= {
            "HOME": "/nonexistent",
            "XDG_CACHE_HOME": "/nonexistent",
            "MPLCONFIGDIR": "/nonexistent",
            "NUMBA_CACHE_DIR": "",
        }
    else:
        (site / "sitecustomize.py").write_text(BLOCK % ask.part)
    chosen = [WORK["train"], training("sarsa", Path("linear")), WORK["record"]]
    for n in ask.rounds():
        words, place = chosen[n % 3], ask.folder / str(n)
        place.mkdir()
        done = run(words, place, env=env, timeout=300)
        named = ask.part.lower() in (done.err + done.out).lower() or (ask.part == "PIL" and "pillow" in done.err)
        good = done.plain and (done.code == 0 or (done.code in (2, 6) and named))
        seen.check(good, f"{words[0]} {words[1]}: exit {done.code}: {done.last}")
    return seen


FILMS = [
    ["--steps", "1"],
    ["--steps", "2"],
    ["--steps", "33"],
    ["--games", "1", "--steps", "50"],
    ["--mosaic", "4", "--steps", "10"],
    ["--show", "all", "--steps", "10"],
    ["--fps", "7", "--steps", "20"],
    ["--start", "5", "--steps", "5"],
]


def frames_of(path: Path) -> int:
    """Pictures in a film, all decoded."""
    import av

    with av.open(str(path)) as film:
        return sum(1 for _ in film.decode(video=0))


@trial(
    33,
    "films",
    "films of every kind can be decoded to their last picture; killed while filming, no film has its final name",
    short=2,
    long=40,
)
def films(ask: Ask) -> Seen:
    """Odd tries are killed at a random time."""
    seen, log, rng = Seen(), ask.folder / "log", random.Random(0)
    os.chdir(ask.folder)
    warm = inside(["record", "pong", "--agent", "random", "--steps", "3", "--out", "warm.gif"], log)
    if warm.code:
        return Seen(1, [warm.last])
    for n in ask.rounds():
        path = Path(f"film-{n}.{'mp4' if n // 2 % 2 else 'gif'}")
        words = ["record", "pong", "--agent", "random", "--out", str(path), *FILMS[n // 4 % len(FILMS)]]
        if n % 2:
            pid = fork(words, log)
            time.sleep(rng.uniform(0, 1.5))
            os.kill(pid, signal.SIGKILL)
            ended(pid)
        else:
            done = forked(words, log, timeout=300)
            if done.code:
                seen.check(False, f"{' '.join(words[4:])}: exit {done.code}: {done.last}")
                continue
        try:
            good = not path.exists() if n % 2 and not path.exists() else frames_of(path) > 0
        except Exception as error:
            seen.check(False, f"{' '.join(words[4:])}: {error}")
            continue
        seen.check(good, f"{' '.join(words[4:])}: no picture")
    return seen


NO_GUARD = """
import playfield
result = playfield.train("CartPole-v1", steps=2048, games=1, film=False, tensorboard=False)
print("finished", result.steps)
"""


@trial(
    38,
    "no-guard",
    "a script without `if __name__` and Python from standard input train and evaluate",
    short=0,
    long=2,
)
def no_guard(ask: Ask) -> Seen:
    """Notebooks are executed by the tests."""
    import sys

    seen = Seen()
    (ask.folder / "script.py").write_text(NO_GUARD)
    for n in ask.rounds():
        words = ["script.py"] if n % 2 else ["-c", NO_GUARD]
        done = run(words, ask.folder, command=[sys.executable])
        seen.check(done.code == 0 and "finished 2048" in done.out, f"exit {done.code}: {done.last}")
    return seen


@trial(34, "moved-run", "a run that is moved, copied or renamed goes on to the same hash", short=0, long=15)
def moved(ask: Ask) -> Seen:
    """Killed by SIGTERM halfway, moved to an odd name, resumed."""
    from trials.processes import signalled
    from trials.tools import difference

    seen, log = Seen(), ask.folder / "log"
    os.chdir(ask.folder)
    words = training("ppo", Path("good"), "--save-seconds", "0")
    inside(words, log)
    names = ["a b", "'", "\N{SNOWMAN}", "x;y", "deep/er/est", "$HOME", "-rf"]
    for n in ask.rounds():
        shutil.rmtree("run", ignore_errors=True)
        stopped = forked(
            training("ppo", Path("run"), "--save-seconds", "0"), log, signalled("update", signal.SIGTERM, 0.0)
        )
        if stopped.code == 0:
            seen.check(False, "could not be stopped")
            continue
        place = Path("moved") / str(n) / names[n % len(names)]
        place.parent.mkdir(parents=True)
        Path("run").rename(place)
        done = forked(["train", f"--resume={place}", *QUIET], log)
        end = difference(place, Path("good")) if done.code == 0 else f"exit {done.code}: {done.last}"
        seen.check(not end, f"{place}: {end}")
    return seen


FAKETIME = Path("/usr/lib") / f"{os.uname().machine}-linux-gnu" / "faketime" / "libfaketimeMT.so.1"
JUMPS = ["-3600", "+3600", "-86400", "+604800", "-315360000"]  # seconds; the last one is ten years


@trial(
    35,
    "clock",
    "the clock of the day jumps while it trains: its times do not, none is negative; what was saved in the future is "
    "resumed to the same hash",
    short=0,
    long=10,
)
def clock(ask: Ask) -> Seen:
    """libfaketime moves the clock of the day, not the monotonic one: as an administrator or NTP does."""
    from trials.tools import difference

    if not FAKETIME.exists():
        return Seen(not_run="needs libfaketime")
    seen, log, most = Seen(), ask.folder / "log", 0.0
    on = ["--steps", "640", *QUIET]
    inside(training("ppo", ask.folder / "good", "--steps", "320"), log)
    inside(["train", "--resume", str(ask.folder / "good"), *on], log)
    for n in ask.rounds():
        jump = JUMPS[n % len(JUMPS)]
        now = ask.folder / f"clock-{n}"
        now.write_text("+0")
        faked = {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(now),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }
        timed = ask.folder / f"timed-{n}"
        words = ["train", "CartPole-v1", "--minutes", "0.1", "--eval-every", "5k", "--run", str(timed)]
        words += ["--games", "2", "--no-film", "--no-tensorboard"]
        timer = threading.Timer(5.0, now.write_text, (jump,))  # in the middle of the six seconds
        timer.start()
        done = run(words, ask.folder, env=faked)
        timer.cancel()
        wrong = f"exit {done.code}: {done.last}" if done.code or not done.plain else ""
        if not wrong:
            with open(timed / "metrics.csv", newline="", encoding="utf-8") as file:
                times = [float(row["time/time_elapsed"]) for row in csv.DictReader(file)]
            most = max(most, abs(done.seconds - times[-1]))
            if times != sorted(times) or times[0] < 0 or times[-1] > done.seconds:
                wrong = f"seconds from {times[0]} to {times[-1]}, in a process that ran {done.seconds:.1f} s"
        if not wrong and (minus := re.search(r".* -[0-9].* (s|min|h|steps/s)\b.*", done.out)):
            wrong = f"a negative time: {minus[0]}"
        seen.check(not wrong, f"jump of {jump} s: {wrong}")

        directory = ask.folder / f"run-{n}"
        now.write_text(jump)
        first = run(training("ppo", directory, "--steps", "320"), ask.folder, env=faked)
        last = run(["train", "--resume", str(directory), *on], ask.folder)
        end = difference(directory, ask.folder / "good") if first.code == last.code == 0 else last.last or first.last
        seen.check(not end, f"saved with a clock of {jump} s, resumed with the true one: {end}")
    seen.figures["most seconds outside the training"] = round(most, 1)
    return seen


not_run(36, "distributed", "lost actors and learners, partitions", "there is no distributed training yet")
not_run(38, "systems", "Windows and macOS", "needs other operating systems; hosted CI runs a few tests there")
not_run(23, "gpu", "the same seed on a GPU: the same up to its declared operations", "needs a GPU")
