"""Trials 16 to 19: environments that return NaN, raise, hang, end the process, or lie."""

from __future__ import annotations

import os
import sys

from trials.registry import Ask, Seen, trial
from trials.tools import Done, forked, inside, training

MODULE = '''
import os, sys, time
import gymnasium as gym
import numpy as np

class Bad(gym.Env):
    """Fifty steps long; does what FAULT says at step AT."""
    observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self, fault="", at=30):
        self.fault, self.at, self.total = fault, at, 0
        self.buffer = np.zeros(3, np.float32)

    def observe(self):
        obs = self.np_random.uniform(-1, 1, 3).astype(np.float32)
        if self.fault == "one buffer":
            self.buffer[:] = obs
            return self.buffer
        return obs

    def reset(self, *, seed=None, options=None):
        super().reset(seed=None if self.fault == "seed ignored" else seed)
        self.t = 0
        if self.fault == "raise in reset" and self.total >= self.at:
            raise ValueError("broken reset")
        if self.fault == "reset without info":
            return self.observe()
        return self.observe(), {}

    def step(self, action):
        self.t += 1
        self.total += 1
        obs, reward, terminated, truncated, info = self.observe(), 1.0, self.t >= 50, False, {}
        if self.total >= self.at:
            match self.fault:
                case "NaN observation": obs[1] = np.nan
                case "inf observation": obs[1] = np.inf
                case "NaN reward": reward = float("nan")
                case "inf reward": reward = float("inf")
                case "outside the space": obs[1] = 5.0
                case "another dtype": obs = obs.astype("U8")
                case "another shape": obs = np.zeros(4, np.float32)
                case "raise": raise ValueError("broken step")
                case "raise KeyboardInterrupt": raise KeyboardInterrupt
                case "sys.exit": sys.exit(0)
                case "hang": time.sleep(3600)
                case "terminated None": terminated = None
                case "terminated no": terminated = "no"
                case "reward None": reward = None
                case "reward array": reward = np.ones(2)
                case "four values": return obs, reward, terminated, info
                case "None": return None
                case "info is a list": info = [1]
                case "prints": print("noise " * 1000)
                case "deep recursion": return self.step(action)
                case "memory": np.ones(10**14)
        return obs, reward, terminated, truncated, info

    def close(self):
        if self.fault == "raise in close":
            raise ValueError("broken close")

gym.register("Bad-v0", entry_point=Bad)
FAULT = os.environ.get("FAULT", "")
if FAULT == "no action space": del Bad.action_space
if FAULT == "no observation space": del Bad.observation_space
if FAULT == "space is no space": Bad.observation_space = 5
if FAULT == "reversed bounds":
    Bad.observation_space = gym.spaces.Box(-1.0, 1.0, (3,), np.float32)
    Bad.observation_space.low[:], Bad.observation_space.high[:] = 1.0, -1.0
if FAULT == "syntax": exec("def (")
if FAULT == "raises at import": raise RuntimeError("broken module")
if FAULT == "exits at import": sys.exit(0)
if FAULT not in ("", "no action space"):
    gym.registry.pop("Bad-v0")
    gym.register("Bad-v0", entry_point=Bad, kwargs={"fault": FAULT})
'''
NOT_FINITE = ["NaN observation", "inf observation", "NaN reward", "inf reward"]
RAISES = [
    "raise",
    "raise in reset",
    "raise KeyboardInterrupt",
    "sys.exit",
    "deep recursion",
    "memory",
    "raise in close",
]
LIES = [
    "outside the space",
    "another dtype",
    "another shape",
    "terminated None",
    "terminated no",
    "reward None",
    "reward array",
    "four values",
    "None",
    "info is a list",
    "reset without info",
    "one buffer",
    "seed ignored",
    "no action space",
    "no observation space",
    "space is no space",
    "reversed bounds",
    "syntax",
    "raises at import",
    "exits at import",
]
LEARNERS = ["ppo", "dqn", "sarsa", "a2c", "qlearning", "rainbow"]


def attempt(ask: Ask, fault: str, algo: str, timeout: float = 60) -> Done:
    """Train `algo` on the environment with `fault`."""
    (ask.folder / "bad.py").write_text(MODULE)
    words = training(algo, ask.folder / f"run-{algo}-{abs(hash(fault))}")
    words[1] = "bad:Bad-v0"

    def before() -> None:
        os.environ["FAULT"] = fault
        sys.path.insert(0, str(ask.folder))

    return forked(words, ask.folder / "log", before, timeout=timeout, cwd=ask.folder)


def _ready(ask: Ask, algo: str) -> None:
    inside(training(algo, ask.folder / f"warm-{algo}"), ask.folder / "log")


def _each(ask: Ask, faults: list[str], codes: tuple[int, ...], word: str = "") -> Seen:
    """Every fault with `ask.count` algorithms."""
    seen = Seen()
    for n in ask.rounds(ask.count * len(faults)):
        fault, algo = faults[n % len(faults)], LEARNERS[n // len(faults) % len(LEARNERS)]
        if n % len(faults) == 0:
            _ready(ask, algo)
        done = attempt(ask, fault, algo)
        good = done.code in codes and done.plain and (not word or word in done.err.lower())
        seen.check(good, f"{fault}, {algo}: exit {done.code}{'' if done.plain else ', traceback'}: {done.last}")
    return seen


@trial(
    16,
    "not-finite",
    "an observation or reward that is NaN or infinite: exit 4 (or 6), and it is named; no traceback",
    short=1,
    long=len(LEARNERS),
)
def not_finite(ask: Ask) -> Seen:
    """At step 30, with every algorithm of LEARNERS."""
    return _each(ask, NOT_FINITE, (4, 6))


@trial(
    18,
    "raising",
    "an environment that raises or exits: exit 6, one line with the file and line, no traceback",
    short=0,
    long=len(LEARNERS),
)
def raising(ask: Ask) -> Seen:
    """KeyboardInterrupt counts as a Ctrl-C; what `close` raises decides nothing."""
    seen = Seen()
    for n in ask.rounds(ask.count * len(RAISES)):
        fault, algo = RAISES[n % len(RAISES)], LEARNERS[n // len(RAISES) % len(LEARNERS)]
        if n % len(RAISES) == 0:
            _ready(ask, algo)
        done = attempt(ask, fault, algo)
        codes = {"raise KeyboardInterrupt": (6, 130), "raise in close": (0, 6)}.get(fault, (6,))
        named = "bad.py" in done.err or fault not in ("raise", "raise in reset")
        seen.check(
            done.code in codes and done.plain and named,
            f"{fault}, {algo}: exit {done.code}{'' if done.plain else ', traceback'}: {done.last}",
        )
    return seen


@trial(18, "hanging", "an environment that hangs in a step: exit 6 within 75 s, with its stack", short=0, long=2)
def hanging(ask: Ask) -> Seen:
    """Promised: a time limit of 60 s."""
    seen = Seen()
    for n in ask.rounds():
        algo = LEARNERS[n % len(LEARNERS)]
        _ready(ask, algo)
        done = attempt(ask, "hang", algo, timeout=90)
        seen.check(
            done.code == 6 and "bad.py" in done.err,
            f"{algo}: exit {done.code} after {done.seconds:.0f} s: {done.last}",
        )
    return seen


@trial(
    19,
    "lying",
    "an environment that breaks the contract: it is named (exit 2, 3 or 6), or said and trained on (one buffer, "
    "a seed that is ignored, values outside the space); no traceback",
    short=0,
    long=len(LEARNERS),
)
def lying(ask: Ask) -> Seen:
    """Twenty ways; trained on without a word is a failure."""
    seen = Seen()
    for n in ask.rounds(ask.count * len(LIES)):
        fault, algo = LIES[n % len(LIES)], LEARNERS[n // len(LIES) % len(LEARNERS)]
        if n % len(LIES) == 0:
            _ready(ask, algo)
        done = attempt(ask, fault, algo)
        told = done.code in (2, 3, 4, 6) or (
            done.code == 0
            and any(w in done.err.lower() for w in ("note", "warn", "outside", "seed", "buffer", "exact", "info"))
        )
        harmless = fault == "info is a list" and done.code == 0
        seen.check(
            (told or harmless) and done.plain,
            f"{fault}, {algo}: exit {done.code}{'' if done.plain else ', traceback'}: {done.last}",
        )
    return seen


@trial(
    17,
    "divergence",
    "a learning rate of a million: exit 4, or said at the end; never success without a word",
    short=0,
    long=1,
)
def divergence(ask: Ask) -> Seen:
    """Every algorithm that has a learning rate of a gradient method."""
    seen = Seen()
    algos = ["ppo", "a2c", "dqn", "pqn", "c51", "qrdqn", "rainbow", "hlgauss"]
    for n in ask.rounds(ask.count * len(algos)):
        algo = algos[n % len(algos)]
        words = training(algo, ask.folder / f"run-{n}", "--lr", "1e6")
        words[words.index("--steps") + 1] = "8000"
        words.remove("--quiet")
        done = forked(words, ask.folder / "log", timeout=120)
        said = any(w in done.err.lower() for w in ("diverge", "not finite", "large", "learning rate (--lr)"))
        seen.check(done.plain and done.code in (0, 4) and said, f"{algo}: exit {done.code}: {done.last}")
    return seen
