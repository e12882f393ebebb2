"""Trials 6 and 7: hostile files in the place of every file that is opened, and checkpoints of other runs."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import playfield.play.agent
from trials.registry import Ask, Seen, trial
from trials.tools import QUIET, forked, inside, training

Payload = bytes | str | Callable[[Path], None]
CANARY = "canary"


class Bomb:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {CANARY}",)


def _zip(names: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in names.items():
            file.writestr(name, data)
    return out.getvalue()


def _array() -> bytes:
    out = io.BytesIO()
    np.save(out, np.array([Bomb()], dtype=object), allow_pickle=True)
    return out.getvalue()


def payloads() -> dict[str, Payload]:
    """Bytes, a target of a symbolic link, or a function that makes the file."""
    pickled = pickle.dumps(Bomb())
    deep = 100_000

    def sparse(path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(8 << 30)

    return {
        "pickle": pickled,
        "torch zip": _zip({"archive/data.pkl": pickled, "archive/version": b"3\n"}),
        "SB3 zip": _zip({"data": json.dumps({"policy_class": {":serialized:": "gASV"}}).encode(), "../../x": b"x"}),
        "object array": _array(),
        "object arrays": _zip({"a.npy": _array()}),
        "YAML tag": f"!!python/object/apply:os.system ['touch {CANARY}']\n".encode(),
        "Python": f"__import__('os').system('touch {CANARY}')\n".encode(),
        "Python in JSON": json.dumps(
            {"env": f"__import__('os').system('touch {CANARY}')", "algo": "os:system", "config": {}}
        ).encode(),
        "module in JSON": json.dumps(
            {
                "env": "evil:Env-v0",
                "algo": "evil",
                "kind": "gymnasium",
                "spec": {"id": "evil:Env-v0", "kind": "gymnasium"},
            }
        ).encode(),
        "deep JSON": b"[" * deep + b"]" * deep,
        "deep objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "long number": b'{"steps": ' + b"9" * 1_000_000 + b"}",
        "huge header": (2**63).to_bytes(8, "little") + b"{}",
        "zip bomb": gzip.compress(bytes(200 << 20)),
        "NUL": bytes(100_000),
        "escape sequences": b'{"env": "\\u001b]0;x\\u0007\\u001b[2J", "algo": "ppo"}',
        "wide table": b"a," * 2_000_000 + b"\n" + b"1," * 2_000_000,
        "long field": b'r,l,t,step\n"' + b"x" * 50_000_000,
        "8 GB of nothing": sparse,
        "FIFO": lambda path: os.mkfifo(path),
        "directory": lambda path: path.mkdir(),
        "device": lambda path: os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 5)),
        "link to /dev/zero": "/dev/zero",
        "link to /etc/passwd": "/etc/passwd",
        "link to itself": "loop",
        "empty": b"",
    }


RUN = "run"
EVAL = ["eval", RUN, "--games", "1"]
RESUME = ["train", "--resume", RUN, "--steps", "900", *QUIET]
ENCODE = ["autoencoder", "run/set", "--epochs", "1", "--split", "frames", "--out", "encoder", "--quiet"]
COMPARE = ["compare", "--dir", "run/compare"]
# kind of file: (path, the commands that open it)
KINDS: dict[str, tuple[str, list[list[str]]]] = {
    "checkpoint tensors": ("checkpoints/*/tensors.safetensors", [EVAL, RESUME]),
    "checkpoint tree": ("checkpoints/*/tree.json", [EVAL, RESUME]),
    "manifest": ("checkpoints/*/manifest.json", [EVAL, RESUME]),
    "best.json": ("checkpoints/best/best.json", [["eval", RUN, "--checkpoint", "best", "--games", "1"]]),
    "last": ("checkpoints/last", [EVAL]),
    "replay": ("replay/0/*.seg", [["replay", RUN], RESUME]),
    "config": ("config.json", [RESUME, EVAL]),
    "run.json": ("run.json", [EVAL, RESUME, ["replay", RUN], ["record", RUN, "--steps", "2"]]),
    "metrics": ("metrics.csv", [RESUME]),
    "monitor": ("monitor.csv", [RESUME]),
    "lock": ("lock", [RESUME]),
    "dataset.json": ("set/dataset.json", [ENCODE]),
    "dataset": ("set/data.safetensors", [ENCODE]),
    "experiment": ("compare/CartPole-v1/random/compare.json", [COMPARE]),
    "experiment's run": ("compare/CartPole-v1/random/1/run.json", [COMPARE]),
    "experiment's games": ("compare/CartPole-v1/random/1/monitor.csv", [COMPARE]),
    "agent card": ("agents/breakout/card.json", [["eval", "breakout", "--games", "1"]]),
    "agent weights": ("agents/breakout/agent.safetensors", [["eval", "breakout", "--games", "1"]]),
}  # fmt: skip
MOST = 200 << 20
EVIL = f"import os\nos.system('touch {CANARY}')\n"


def _place(path: Path, payload: Payload) -> None:
    """Put a payload where a file was."""
    path.unlink(missing_ok=True)
    if isinstance(payload, bytes):
        path.write_bytes(payload)
    elif isinstance(payload, str):
        path.symlink_to(path.name if payload == "loop" else payload)
    else:
        payload(path)


@trial(
    6,
    "hostile-files",
    "a hostile file in the place of one that is opened: nothing of it is executed, no traceback, "
    "exit 0, 2, 3 or 5 in 20 s, "
    "at most 200 MB more memory than with the good file",
    short=3,
    long=26,
    parts=lambda: list(KINDS),
    short_parts=("run.json", "monitor"),
)
def hostile_files(ask: Ask) -> Seen:
    """Every payload for each kind of file, each with every command that opens it."""
    seen, log, most = Seen(), ask.folder / "log", 0
    os.chdir(ask.folder)
    (ask.folder / "evil.py").write_text(EVIL)
    made = [training("dqn", ask.folder / "good", "--save-seconds", "0")]
    if "dataset" in ask.part:
        made.append(["collect", "pong", "--agent", "random", "--steps", "64", "--out", "good/set", "--quiet"])
    if "experiment" in ask.part:
        made.append(
            ["compare", "CartPole-v1", "--dir", "good/compare", "--algo", "random", "--seeds", "1", "--steps", "2000"]
        )
    for words in made:
        done = inside(words, log) if words[0] != "compare" else forked(words, log)
        if done.code:
            return Seen(1, [f"{words[0]} ended with {done.code}: {done.last}"])
    agents = Path(playfield.play.agent.__file__).parent / "agents"
    shutil.copytree(agents, ask.folder / "good" / "agents")
    pattern, commands = KINDS[ask.part]
    base: dict[int, int] = {}

    def at_home() -> None:
        if "agent" in ask.part:
            playfield.play.agent.SHIPPED = ask.folder / RUN / "agents"

    items: list[tuple[str, Payload | None]] = [("as it was", None), *payloads().items()]
    for n in ask.rounds(1 + ask.count):
        name, payload = items[n % len(items)]
        for which, words in enumerate(commands):
            shutil.rmtree(RUN, ignore_errors=True)
            shutil.copytree("good", RUN)
            shutil.rmtree("encoder", ignore_errors=True)
            targets = sorted(Path(RUN).glob(pattern))
            if not targets:
                return Seen(1, [f"no {pattern} in the run"])
            if payload is not None:
                for target in targets:
                    _place(target, payload)
            done = forked(words, log, at_home, timeout=40)
            if payload is None:
                base[which] = done.memory
                seen.check(done.code == 0, f"{ask.part} as it was, {words[0]}: exit {done.code}: {done.last}")
                continue
            extra = done.memory - base[which]
            most = max(most, extra)
            wrong = ""
            if Path(CANARY).exists():
                wrong = "EXECUTED"
                Path(CANARY).unlink()
            elif not done.plain or done.code not in (0, 2, 3, 5):
                wrong = f"exit {done.code}: {done.last}"
            elif done.seconds > 20:
                wrong = f"{done.seconds:.0f} s"
            elif extra > MOST:
                wrong = f"{extra / 1e6:.0f} MB more"
            elif "\x1b" in done.err:
                wrong = "printed its escape sequences"
            seen.check(not wrong, f"{name} as {ask.part}, {' '.join(words[:2])}: {wrong}")
    seen.figures["most memory beyond, MB"] = max(0, round(most / 1e6))
    return seen


OTHERS = {
    "another algorithm": ["a2c", "CartPole-v1", "1"],
    "another environment": ["ppo", "Acrobot-v1", "1"],
    "another seed": ["ppo", "CartPole-v1", "2"],
    "another network": ["ppo", "CartPole-v1", "1", "--net", "relu128"],
}


@trial(
    7,
    "other-checkpoint",
    "a checkpoint of another algorithm, environment, seed or network: exit 3 naming it, from train --resume; "
    "eval plays nothing of it",
    short=2,
    long=8,
)
def other_checkpoint(ask: Ask) -> Seen:
    """The checkpoints of one run are exchanged for those of another."""
    seen, log = Seen(), ask.folder / "log"
    os.chdir(ask.folder)
    inside(training("ppo", Path("good")), log)
    for n in ask.rounds():
        name = list(OTHERS)[n // 2 % len(OTHERS)]
        algo, env, seed, *more = OTHERS[name]
        for folder in ("other", RUN):
            shutil.rmtree(folder, ignore_errors=True)
        words = training(algo, Path("other"), *more)
        words[1], words[words.index("--seed") + 1] = env, seed
        made = forked(words, log)
        if made.code:
            seen.check(False, f"{name}: exit {made.code}: {made.last}")
            continue
        shutil.copytree("good", RUN)
        shutil.rmtree(f"{RUN}/checkpoints")
        shutil.copytree("other/checkpoints", f"{RUN}/checkpoints")
        command = EVAL if n % 2 else RESUME
        done = forked(command, log)
        seen.check(done.code == 3 and done.plain, f"{name}, {command[0]}: exit {done.code}: {done.last}")
    return seen
