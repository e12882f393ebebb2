"""Trials 9, 10 and 34: wrong names, wrong options, fuzzed command lines, odd names of runs."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

from playfield.cli import VERBS
from trials.registry import Ask, Seen, trial
from trials.tools import TRACEBACK, forked, hash_of, inside, run, training

NAMES = [
    "Brekout", "BREAKOUTT", "breakout-v9", "ALE/Brekout-v5", "Cartpole-v7", "CartPol-v1", "cart_pole_v1x", "Pongg",
    "pong2", "mspacmann", "Ms Pac Man 3", "ALE/", "/", "ALE/ALE/Pong-v5", "nosuchmodule:Env-v0", "module:", ":Env",
    "a:b:c", "MountainCarr-v0", "Acrobott-v1", "LunarLander-v99", "Taxi-v77", "", " ", "-", "--", "..", "../x",
    "~", "*", "\N{SNOWMAN}", "breakout\x07", "x" * 300, "x" * 5000, "BreakoutNoFrameskip-v99",
    "None", "nan", "0", "breakout,pong",
]  # fmt: skip
TRAIN = ["train", "CartPole-v1", "--steps", "64", "--games", "0", "--quiet", "--no-film", "--no-tensorboard"]


@trial(
    9,
    "wrong-names",
    "an unknown environment: exit 2 in 2 s, one line, no run directory, torch is not imported",
    short=2,
    long=len(NAMES),
)
def wrong_names(ask: Ask) -> Seen:
    """In a process of its own each, so that times and imports are those of a user."""
    seen, slowest, torch = Seen(), 0.0, 0
    for n in ask.rounds():
        name = NAMES[n % len(NAMES)]
        done = run(["train", name, "--steps", "64"], ask.folder, env={"PYTHONPROFILEIMPORTTIME": "1"})
        lines = [line for line in done.err.splitlines() if not line.startswith("import time:")]
        torch += any(line.endswith("| torch") for line in done.err.splitlines())
        slowest = max(slowest, done.seconds)
        seen.check(
            done.code == 2 and len(lines) == 1 and TRACEBACK not in done.err and not (ask.folder / "runs").exists(),
            f"{name[:30]!r}: exit {done.code}, {len(lines)} lines: {lines[-1:]}",
        )
        shutil.rmtree(ask.folder / "runs", ignore_errors=True)
    if torch:
        seen.failures.append(f"torch was imported {torch} times")
    seen.figures["slowest, s"] = round(slowest, 2)
    return seen


VALUES = [
    "",
    " ",
    "0",
    "-1",
    "1",
    "2",
    "0.5",
    "-0.0",
    "nan",
    "inf",
    "-inf",
    "1e400",
    "1e-400",
    "1_0",
    "1,5",
    "0,001",
    "1,2,3",
    "\N{SUPERSCRIPT TWO}",
    "\N{ARABIC-INDIC DIGIT THREE}",
    "9" * 40,
    "9" * 5000,
    "0x10",
    "1k",
    "1M",
    "1kk",
    "true",
    "maybe",
    "None",
    "[]",
    "{}",
    "../x",
    "/dev/null",
    "/nonexistent/x",
    "x" * 300,
    "x" * 5000,
    "\x1b[31m",
    "\N{SNOWMAN}",
    "\udcff",
    "a\nb",
    "--",
    "-",
    "last",
    "best",
    "breakout",
    "pong",
    "CartPole-v1",
    "run",
    "random",
    "ppo",
    "dqn",
    "all",
    "nature",
    "84x84x4",
    "out.mp4",
    "module:X-v0",
]
OPTIONS = [
    "--steps",
    "--seed",
    "--algo",
    "--games",
    "--lr",
    "--gamma",
    "--num-envs",
    "--net",
    "--run",
    "--resume",
    "--init-from",
    "--minutes",
    "--workers",
    "--workers-as",
    "--device",
    "--precision",
    "--keep",
    "--save-seconds",
    "--target-score",
    "--target-games",
    "--protocol",
    "--sticky",
    "--view",
    "--size",
    "--stack",
    "--colour",
    "--obs",
    "--checkpoint",
    "--agent",
    "--temperature",
    "--port",
    "--host",
    "--out",
    "--show",
    "--mosaic",
    "--fps",
    "--moments",
    "--method",
    "--seeds",
    "--jobs",
    "--dir",
    "--window",
    "--epsilon",
    "--latent",
    "--epochs",
    "--sample",
    "--lane",
    "--drop",
    "--json",
    "--quiet",
    "--shape",
    "--actions",
    "--runs",
    "--episodes",
    "--about",
    "--check",
    "--help",
    "--lerning-rate",
    "--",
    "--x",
    "-x",
    "--lr=",
    "--steps=1,5",
]
SKIPPED = ("bench", "watch")  # measure for long, or wait for a browser: only with an option that is refused


def command_lines(count: int, seed: int) -> Iterator[list[str]]:
    """Fuzzed words, seeded."""
    rng = random.Random(seed)
    for _ in range(count):
        verb = rng.choice([*VERBS, *VERBS, "train", "trian", ""])
        words = [verb]
        if rng.random() < 0.8:
            words.append(rng.choice(VALUES))
        for _ in range(rng.randrange(4)):
            words.append(rng.choice(OPTIONS))
            if rng.random() < 0.8:
                words.append(rng.choice(VALUES))
        if verb == "train" and rng.random() < 0.7:
            words = [*TRAIN[:2], *words[2:]]
        if verb in SKIPPED:
            words.append("--no-such-option")
        if rng.random() < 0.05:
            rng.shuffle(words)
            if words[0] in SKIPPED:
                words.append("--no-such-option")
        yield words


@trial(
    10,
    "command-lines",
    "fuzzed command lines: exit 0, 2, 3, 5 or 6, no traceback; after exit 2 nothing new lies on the disk",
    short=30,
    long=10_000,
)
def fuzzed(ask: Ask) -> Seen:
    """Each in a fork, in a folder with a run; one that still works after 2 s is stopped: that is right, too."""
    seen, worked = Seen(), 0
    home = ask.folder / "home"
    home.mkdir()
    os.chdir(home)
    log = ask.folder / "log"
    made = inside(training("random", Path("run")), log)
    if made.code:
        return Seen(1, [made.last])
    before = sorted(os.listdir(home))
    ends: dict[int, int] = {}
    lines = command_lines(10**9, 1)
    for _ in ask.rounds():
        words = next(lines)
        done = forked(words, log, timeout=2)
        ends[done.code] = ends.get(done.code, 0) + 1
        worked += done.code == 124
        new = [name for name in sorted(os.listdir(home)) if name not in before]
        wrong = ""
        if done.code != 124 and (done.code not in (0, 2, 3, 4, 5, 6) or not done.plain):
            wrong = f"exit {done.code}: {done.last}"
        elif done.code == 2 and new:
            wrong = f"exit 2 left {new}"
        seen.check(not wrong, f"{' '.join(words)[:120]!r}: {wrong}")
        for name in new:
            path = home / name
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if not (home / "run" / "run.json").exists():
            inside(training("random", Path("run")), log)
    seen.figures |= {f"exit {code}": n for code, n in sorted(ends.items()) if code != 124}
    seen.figures["still at work"] = worked
    return seen


RUNS = [
    "../../x",
    "-rf",
    "CON",
    "n" * 255,
    "n" * 256,
    "n" * 4097,
    "\N{SNOWMAN}",
    "a b",
    " a",
    "a ",
    "'",
    '"',
    "$HOME",
    "`id`",
    "a;b",
    "a\nb",
    "a\tb",
    "\x1b[31m",
    ".",
    "..",
    "",
    "/",
    "run.",
    ".hidden",
    "a/b/c/d",
    "~",
    "~root",
    "*",
    "%s%n",
    "\udcff",
    "ckpt-1",
    "last",
    "best",
]


@trial(
    34,
    "run-names",
    "odd names of run directories: they train, resume and are evaluated after a move, or are refused with exit 2 "
    "or 5 in one line",
    short=2,
    long=len(RUNS),
)
def run_names(ask: Ask) -> Seen:
    """The run is moved to `moved` after its training."""
    seen, log = Seen(), ask.folder / "log"
    deep = ask.folder / "a" / "b" / "c"
    deep.mkdir(parents=True)
    os.chdir(deep)
    inside(training("random", ask.folder / "warm"), log)
    refused = 0
    for n in ask.rounds():
        name = RUNS[n % len(RUNS)]
        target = name if name not in ("/", "~", "~root") else f"x{name}"
        done = forked(
            ["train", "CartPole-v1", "--algo", "random", "--steps", "2048", f"--run={target}", *TRAIN[4:]], log
        )
        wrong = ""
        if done.code == 0:
            directory, moved = Path(target), deep / "moved"
            if not hash_of(directory):
                wrong = "exit 0 without a result there"
            elif directory.name not in ("", ".", ".."):
                directory.rename(moved)
                for words in (
                    ["eval", "moved", "--games", "1"],
                    ["train", "--resume", "moved", "--steps", "4096", *TRAIN[4:]],
                ):
                    after = forked(words, log)
                    if after.code:
                        wrong = f"{words[0]} after the move: exit {after.code}: {after.last}"
                shutil.rmtree(moved)
        elif done.code in (2, 5):
            refused += 1
        else:
            wrong = f"exit {done.code}: {done.last}"
        seen.check(not wrong and done.plain, f"{name[:30]!r}: {wrong or done.last}")
    seen.figures["refused"] = refused
    return seen
