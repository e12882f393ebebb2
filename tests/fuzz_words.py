"""Command lines at random: for each, the exit code and what it says, and that nothing is left behind.

`python tests/fuzz_words.py --count 10000` tries that many and prints what failed; `test_fuzz_words.py` tries some.
What a correct line would start (a training, games, a film, a server) is replaced by an exception at the place where
the work begins, so that everything before it is the real thing.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import os
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import playfield
from playfield.cli import VERBS, main
from playfield.cli.parser import Parser, parser_of
from playfield.runs import catalog

ODD = [
    *["", " ", "-", "--", "=", "--=", "--=1", "-1", "0", "1", "2.5", "1,2", "0,001", "²", "٣", "nan", "inf", "-inf"],
    *["1e400", "1e-400", "9" * 5000, "x" * 300, "x/" * 3000, "../..", "/", ".", "..", "~", "*", "é", "\udcff", "\n"],
    *[
        "a\nb",
        "\x1b[31mred",
        "[red]",
        "[/]",
        "%s",
        "%(prog)s",
        "{}",
        "{0}",
        "None",
        "true",
        "no",
        ":",
        "a:b",
        "os:X-v0",
    ],
    *[
        "no_such_module:X-v0",
        "breakout",
        "ALE/Pong-v5",
        "CartPole-v1",
        "ppo",
        "dqn --double",
        "'",
        '"',
        "\\",
        "1x1",
        "84x84x4",
    ],
    *[
        "new/x.gif",
        "new/x.zzz",
        "new/x.png",
        "x.mp4",
        "last",
        "best",
        "random",
        "mlp:width=",
        "nature:width=2",
        "all",
    ],
    *[
        "-h",
        "--help",
        "--quiet",
        "--json",
        "--debug",
        "--résumé",
        "/dev/null",
        "/dev/null/x",
        "/proc/x",
        "@file",
        "-x",
        "1:2",
    ],
]
RUN = "runs/CartPole-v1/random/1"
RIGHT = {
    "train": ["CartPole-v1", "breakout", "ALE/Pong-v5", "MountainCar-v0", "FrozenLake-v1"],
    "nets": ["mlp", "nature", "impala:width=2"],
    "lesson": ["figure-10-1", "random-agent", "mountain-car-tilings"],
    "games": ["breakout", "CartPole-v1"],
    "compare": ["CartPole-v1"],
    "preprocess": ["breakout", "pong"],
    "bench": ["ppo", "dqn", "kill"],
}  # what a command is about
COMMON = [
    "breakout",
    "CartPole-v1",
    RUN,
    "last",
    "last",
    RUN,
    "runs/none",
    "mlp",
    "mountain-car-tilings",
    "ppo",
    "10",
    "1",
    "0.5",
    "cpu",
]


class Reached(BaseException):
    """The words were understood, and the work would begin now."""


def _reached(*_args: Any, **_kwargs: Any) -> Any:
    raise Reached


WORK = [
    "playfield.training.train.checkpoint.preflight",
    "playfield.training.train._resume_locked",
    "playfield.play.evaluate.make_from",
    "playfield.show.record.film_moments",
    "playfield.show.record.film_mosaic",
    "playfield.show.record.Player",
    "playfield.show.explain._report",
    "playfield.show.watch.server.uvicorn.Server",
    "playfield.datasets.collect.play",
    "playfield.experiments.local.run_jobs",
    "playfield.lessons.run",
    "playfield.bench.main",
    "playfield.show.games.print_check",
    "playfield.show.preprocess.play",
    "playfield.nets.summary.print_nets",
    "playfield.nets.summary.print_net",
]


@contextlib.contextmanager
def no_work() -> Iterator[None]:
    """Inside, nothing is trained, played, filmed, served or measured: `Reached` is raised instead."""
    with contextlib.ExitStack() as stack:
        for name in WORK:
            stack.enter_context(mock.patch(name, _reached))
        yield


class Lines:
    """Random command lines; equal for equal seeds."""

    def __init__(self, seed: int) -> None:
        self.random, self.good = random.Random(seed), False
        self.parsers: dict[str, Parser] = {
            v: parser_of(c) for v, c in VERBS.items() if v not in ("train", "completion")
        }
        self.parsers |= {
            f"train {algo}": parser_of(VERBS["train"], ["--algo", algo]) for algo in catalog.algorithms()
        }

    def value(self, action: argparse.Action) -> str:
        """A value for an option: often one that it takes."""
        kind = 0.0 if self.good else self.random.random()
        if kind < 0.7:
            if action.metavar == "BOOL":
                return self.random.choice(["true", "false", "yes", "0"])
            if action.metavar and "|" in str(action.metavar):
                return self.random.choice(str(action.metavar).split("|"))
            if action.type is not None:
                return self.random.choice(["1", "2", "10", "0.5", "100", "1e3", "1k", "new/x.gif", "new/x.png"])
            return self.random.choice(COMMON)
        return self.random.choice(ODD if kind < 0.9 else COMMON)

    def line(self) -> list[str]:
        """The words of one command line; two in five are nearly right."""
        self.good = self.random.random() < 0.4
        name = self.random.choice(list(self.parsers))
        verb, _, algo = name.partition(" ")
        words = [verb] if self.random.random() < 0.98 else [self.random.choice(ODD)]
        if algo and self.random.random() < 0.9:
            words += ["--algo", algo]
        parser = self.parsers[name]
        flags = [a for a in parser._actions if a.option_strings and a.dest not in ("help", "algo")]
        if self.good:
            words += [self.random.choice(RIGHT.get(verb, [RUN, "breakout"]))]
        elif self.random.random() < 0.85:
            words.append(self.random.choice(COMMON if self.random.random() < 0.9 else ODD))
        counts = [0, 1, 1, 2] if self.good else [0, 1, 1, 1, 2, 2, 3, 4, 8]
        for _ in range(self.random.choice(counts)):
            action = self.random.choice(flags)
            flag = action.option_strings[-1]
            shape = self.random.random()
            if self.good:
                shape = min(shape, 0.7)
            if action.nargs == 0 and shape < 0.9:
                words.append(flag)
            elif shape < 0.8:
                words += [flag, self.value(action)]
            elif shape < 0.96:
                words.append(f"{flag}={self.value(action)}")
            elif shape < 0.98:
                words.append(flag)
            else:
                at = self.random.randrange(2, len(flag) + 1)
                words += [flag[:at] + self.random.choice("xz-_=é") + flag[at:], self.value(action)]
        if self.good:
            return words
        if self.random.random() < 0.05:
            words.insert(self.random.randrange(1, len(words) + 1), self.random.choice(ODD))
        if self.random.random() < 0.03:
            self.random.shuffle(words)
        return words


def contents(folder: Path) -> set[str]:
    """Names and sizes of all files and directories in a folder, but for time stamps."""
    return {f"{p.relative_to(folder)} {p.stat().st_size if p.is_file() else ''}" for p in folder.rglob("*")}


def prepare(folder: Path) -> None:
    """Make `folder`, with one small run in it."""
    folder.mkdir()
    playfield.train("CartPole-v1", "random", steps=64, games=0, run=folder / RUN, quiet=True, tensorboard=False)


def tried(words: list[str], folder: Path) -> tuple[str, str]:
    """(how it ended, what is wrong with that) of a command line in a folder."""
    found = contents(folder)
    out, err = io.StringIO(), io.StringIO()
    before, wrong = os.getcwd(), []
    os.chdir(folder)
    start = time.monotonic()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code: int | str = main(words)
    except Reached:
        code = "reached"
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0
    except BaseException:
        code = "raised"
        wrong.append(traceback.format_exc(limit=-4))
    finally:
        os.chdir(before)
    seconds = time.monotonic() - start
    said = err.getvalue()
    if code == "reached" or code == 0:
        pass
    elif code not in (2, 3, 4, 5, 6):
        wrong.append(f"exit code {code}: {said}")
    else:
        lines = said.strip("\n").split("\n")
        if "--debug" not in " ".join(words) and (len(lines) != 1 or not lines[0].startswith("playfield: ")):
            wrong.append(f"not one line: {said!r}")
        if len(said) > 1500 and "--debug" not in " ".join(words):
            wrong.append(f"{len(said)} characters: {said[:300]}")
        if "Traceback" in said and "--debug" not in " ".join(words):
            wrong.append(said)
        if left := sorted(contents(folder) - found):
            wrong.append(f"left behind: {left}")
    if seconds > 10:
        wrong.append(f"took {seconds:.1f} s")
    return str(code), "\n".join(wrong)


def fuzz(count: int, seed: int = 1) -> tuple[collections.Counter[str], list[tuple[list[str], str]]]:
    """How many of `count` random command lines ended how, and (words, what is wrong) of those that failed."""
    lines, ends, failed = Lines(seed), collections.Counter[str](), []
    with tempfile.TemporaryDirectory(prefix="fuzz-words-") as root:
        start, folder = Path(root) / "start", Path(root) / "now"
        prepare(start)
        shutil.copytree(start, folder)
        fresh = contents(start)
        with no_work():
            for _ in range(count):
                words = lines.line()
                code, wrong = tried(words, folder)
                ends[code] += 1
                if wrong:
                    failed.append((words, wrong))
                if contents(folder) != fresh:
                    shutil.rmtree(folder)
                    shutil.copytree(start, folder)
    return ends, failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    ended, problems = fuzz(asked.count, asked.seed)
    for words, wrong in problems:
        print(
            [w if len(w) < 100 else f"{w[:20]}... ({len(w)})" for w in words], "\n   ", wrong.replace("\n", "\n    ")
        )
    print(f"{asked.count} command lines: {dict(ended)}; {len(problems)} failed")
    sys.exit(1 if problems else 0)
