"""The directory of a new run."""

from __future__ import annotations

import contextlib
import re
import shlex
from pathlib import Path
from typing import Any

from playfield.envs.base import EnvSpec
from playfield.replay import saved
from playfield.runs import checkpoint
from playfield.runs.storage import as_storage_error, remove_leftovers
from playfield.training import meeting
from playfield.training.request import Request


def make_directory(request: Request, spec: EnvSpec) -> Path:
    """The run directory: the one asked for, or the next free number under runs/ENV/ALGO/."""
    if request.run is not None:
        with as_storage_error(f"create {request.run}"):
            request.run.mkdir(parents=True, exist_ok=True)
        return request.run
    root = Path("runs") / spec.id.replace("/", "-").replace(":", "-") / request.algo
    with as_storage_error(f"create {root}"):
        root.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(p.name) for p in root.iterdir() if re.fullmatch("[0-9]{1,9}", p.name)), default=0)
        while True:
            try:
                (root / str(number)).mkdir()
                return root / str(number)
            except FileExistsError:
                number += 1


def kept(directory: Path, env: str, request: Request) -> str:
    """What is left of a training that cannot go on, as a clause."""
    step = last_step(directory)
    if step is None:
        return "nothing had been saved"
    return f"step {step:,} is saved, go on with: {resuming(directory, env, request)}"


def last_good(directory: Path) -> str:
    """What is left of a training that has diverged, as a clause; to go on from it would diverge again."""
    step = last_step(directory)
    if step is None:
        return "nothing had been saved"
    return f"the last good checkpoint, of step {step:,}, is in {directory / 'checkpoints'}"


def last_step(directory: Path) -> int | None:
    """Training step of the newest checkpoint, None without one."""
    folder = directory / "checkpoints"
    steps = [int(path.name[5:]) for path in checkpoint.checkpoints(folder)] if folder.is_dir() else []
    return steps[-1] if steps else None


def resuming(directory: Path, env: str = "", request: Request | None = None) -> str:
    """The command that goes on with a run, on as many machines as the training has that was asked for."""
    words = f"playfield train --resume {shlex.quote(str(directory))}{trusting(env)}"
    if request is None or request.nodes == 1:
        return words
    others = meeting.started_on() or f"--rendezvous {shlex.quote(str(request.rendezvous))}"
    return f"{words} --nodes {request.nodes} {others}"


def trusting(env: str) -> str:
    """What a command about a run needs besides its directory: leave to import the module of `module:Id`."""
    return " --trust" if ":" in env else ""


def sweep(directory: Path) -> None:
    """Remove the temporary files that killed writers left in a run directory; a live one's stay."""
    for folder in (directory, directory / "films", directory / "eval"):
        with contextlib.suppress(OSError):  # not there; or nothing that going on depends on
            remove_leftovers(folder)


def next_commands(directory: Path, info: dict[str, Any], film: bool = True) -> list[str]:
    """What can be done with a finished run, a line each; `film`: its environment can draw itself."""
    run = shlex.quote(str(directory)) + trusting(info["env"])
    result = info["result"]
    total = f"--steps {2 * max(info['steps'], result['steps'])}"
    if result["stop"] == "target":
        total = "--target-score none" if result["steps"] < info["steps"] else f"--target-score none {total}"
    lines = [f"watch it:     playfield watch {run}"]
    if any(directory.glob("events.out.tfevents.*")):
        lines.append(f"curves:       tensorboard --logdir {shlex.quote(str(directory))}")
    lines.append(f"evaluate it:  playfield eval {run} --games 100")
    if film:
        lines.append(f"film it:      playfield record {run}")
    lines.append(f"train longer: playfield train --resume {run} {total}{saved.closing(directory)}")
    return lines
