"""`python -m playfield.cli._slurm FILE NUMBER TASK`: one training of an experiment, as a task of a job array."""

from __future__ import annotations

import sys
from pathlib import Path

from playfield.cli import main
from playfield.errors import PlayfieldError, UsageError
from playfield.experiments import slurm_task
from playfield.runs.output import complain


def run(path: Path, number: str, task: str = "") -> int:
    """Train what is in a line of the file; returns the exit code. For `task` see `slurm_task.begun`."""
    try:
        if not number.isdecimal():
            raise UsageError("this script is a job array: submit it with sbatch")
        with slurm_task.begun(path, int(number), task) as words:
            return 0 if words is None else main(words)
    except PlayfieldError as error:
        complain(f"playfield: {error}")
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(run(Path(sys.argv[1]), *sys.argv[2:4]))
