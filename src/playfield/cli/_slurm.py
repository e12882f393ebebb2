"""`python -m playfield.cli._slurm FILE NUMBER`: one training of an experiment, as a task of a job array."""

from __future__ import annotations

import sys
from pathlib import Path

from playfield.cli import main
from playfield.errors import PlayfieldError
from playfield.experiments import slurm
from playfield.runs.output import complain


def run(path: Path, number: int) -> int:
    """Train what is in a line of the file; returns the exit code."""
    try:
        words = slurm.begin(path, number)
    except PlayfieldError as error:
        complain(f"playfield: {error}")
        return error.exit_code
    return 0 if words is None else main(words)


if __name__ == "__main__":
    raise SystemExit(run(Path(sys.argv[1]), int(sys.argv[2])))
