"""Trials 22 and 23: the same seed gives the same bits whatever is beside it; memory is bounded and told."""

from __future__ import annotations

import shutil

from trials.registry import Ask, Seen, trial
from trials.tools import algorithms, difference, hash_of, run, training

VARIANTS: dict[str, tuple[list[str], dict[str, str]]] = {
    "again": ([], {}),
    "PYTHONHASHSEED=0": ([], {"PYTHONHASHSEED": "0"}),
    "PYTHONHASHSEED=1": ([], {"PYTHONHASHSEED": "1"}),
    "TensorBoard": (["-tensorboard"], {}),
    "printing": (["-quiet"], {}),
    "evaluated": (["+--games=2"], {}),
    "filmed": (["+--games=1", "-film"], {}),
    "saved always": (["+--save-seconds=0"], {}),
    "saved never": (["+--save-seconds=1e6"], {}),
    "one kept": (["+--keep=1", "+--save-seconds=0"], {}),
    "many BLAS threads": ([], {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}),
    "profiled": (["+--profile"], {}),
    "other language": ([], {"LC_ALL": "C", "TZ": "Asia/Tokyo"}),
    "python -O": (["O"], {}),
}


@trial(
    23,
    "same-seed",
    "the same seed gives the same hash and metrics with and without evaluation, film, TensorBoard, saves, hash seeds",
    short=0,
    long=len(VARIANTS),
    parts=algorithms,
)
def same_seed(ask: Ask) -> Seen:
    """Each in a process of its own."""
    seen = Seen()
    good = ask.folder / "good"
    first = run(training(ask.part, good), ask.folder)
    if first.code:
        return Seen(1, [f"exit {first.code}: {first.last}"])
    names = list(VARIANTS)
    for n in ask.rounds(min(ask.count, len(names))):
        changes, env = VARIANTS[names[n]]
        directory = ask.folder / "run"
        words = training(ask.part, directory)
        for change in changes:
            if change[0] == "+":
                words.append(change[1:])
            elif change[0] == "-":
                words = [w for w in words if w not in (f"--no{change}", f"-{change}")]
        env = {**env, "PYTHONOPTIMIZE": "1"} if "O" in changes else env
        done = run(words, ask.folder, env=env)
        end = difference(directory, good) if done.code == 0 else f"exit {done.code}: {done.last}"
        seen.check(not end, f"{names[n]}: {end}")
        shutil.rmtree(directory, ignore_errors=True)
    seen.figures["hash"] = hash_of(good)[:12] if not seen.failures else "differs"
    return seen


TOO_LARGE = [
    ["breakout", "--algo", "dqn", "--capacity", "1000000000"],
    ["breakout", "--algo", "rainbow", "--capacity", "500000000"],
    ["CartPole-v1", "--algo", "dqn", "--capacity", "9000000000"],
    ["breakout", "--algo", "ppo", "--num-envs", "16384", "--rollout-steps", "4096"],
    ["CartPole-v1", "--algo", "ppo", "--num-envs", "1048576", "--rollout-steps", "65536"],
]


@trial(
    22,
    "too-large",
    "more memory than the machine has: exit 2 in 5 s with the estimate, no run directory",
    short=0,
    long=len(TOO_LARGE),
)
def too_large(ask: Ask) -> Seen:
    """Refused before it is taken: the process stays small."""
    seen, largest = Seen(), 0.0
    for n in ask.rounds():
        words = TOO_LARGE[n % len(TOO_LARGE)]
        done = run(["train", *words, "--steps", "1000000"], ask.folder, timeout=60)
        largest = max(largest, done.memory / 1e9)
        left = (ask.folder / "runs").exists()
        seen.check(
            done.code in (2, 5) and "GB" in done.err and done.plain and not left and done.memory < 2e9,
            f"{' '.join(words)}: exit {done.code}, {done.memory / 1e9:.1f} GB, left {left}: {done.last}",
        )
    seen.figures["largest process, GB"] = round(largest, 2)
    return seen


@trial(
    22,
    "replay-memory",
    "the replay buffer takes what was estimated, not more than a tenth beyond it",
    short=0,
    long=2,
)
def replay_memory(ask: Ask) -> Seen:
    """Two fills of a buffer of Breakout, 5,000 and 25,000 observations: the difference of the processes' sizes."""
    seen, sizes, counts = Seen(), [], (5_000, 25_000)
    for n, capacity in enumerate(counts):
        directory = ask.folder / f"run-{n}"
        done = run(
            [
                "train",
                "breakout",
                "--algo",
                "dqn",
                "--capacity",
                str(capacity),
                "--steps",
                str(capacity),
                "--learning-starts",
                str(capacity),
                "--run",
                str(directory),
                "--games",
                "0",
                "--quiet",
                "--no-tensorboard",
            ],
            ask.folder,
            timeout=600,
        )
        seen.check(done.code == 0, f"exit {done.code}: {done.last}")
        sizes.append(done.memory)
    pure = 84 * 84 * (counts[1] - counts[0])
    seen.figures["bytes for an observation"] = round((sizes[1] - sizes[0]) / (counts[1] - counts[0]))
    seen.check(sizes[1] - sizes[0] < 1.1 * pure, f"{sizes[1] - sizes[0]} bytes for {pure} of observations")
    return seen
