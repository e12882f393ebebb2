"""A place that trains in this process: starting one for every training takes seconds, and is not what is tested."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest

from playfield.cli import main
from playfield.experiments import local
from playfield.experiments.job import Job, reached
from playfield.experiments.places import Look, Outcome, stored_result


class Here:
    """Trains each job at its start, to its end, with the words that its child would be given."""

    def start(self, job: Job) -> tuple[Job, int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = main(job.command())
        return job, code, said.getvalue()

    def look(self, started: tuple[Job, int, str]) -> Look:
        job, code, _ = started
        return Look(code, *reached(job.directory))

    def stop(self, started: Any, kill: bool = False) -> None:
        """It has ended."""

    def collect(self, started: tuple[Job, int, str]) -> Outcome:
        job, code, said = started
        return Outcome(code, (said.splitlines() or [""])[-1].removeprefix("playfield: "), stored_result(job))


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare` trains in this process."""
    monkeypatch.setattr(local, "Local", Here)
    monkeypatch.setattr(local, "POLL", 0.01)
