"""The directory of a new run."""

from __future__ import annotations

import re
from pathlib import Path

from playfield.envs.base import EnvSpec
from playfield.runs.storage import as_storage_error
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
