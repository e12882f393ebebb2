"""A place whose trainings take no time: it writes run directories with scores that follow from the options.

The score is 100 where lr is 1e-3, or not searched, and falls with the distance of its logarithm; it rises linearly
over a training.
"""

from __future__ import annotations

import math
import os
import time
from pathlib import Path
from typing import Any

from compare_runs import write_run
from playfield.experiments.job import Job, reached
from playfield.experiments.places import Look, Outcome, stored_result

C = "CartPole-v1"


def option(job: Job, name: str, default: str) -> str:
    return next((w.partition("=")[2] for w in job.words if w.startswith(f"--{name}=")), default)


def score(job: Job) -> float:
    return 100 - 20 * abs(math.log10(float(option(job, "lr", "1e-3"))) + 3) + job.seed


class Instant:
    """Trainings that end at once, or after `delay` seconds; `codes`: (trial, seed) that fail, with their exit code.

    Each start is a line of `log`: trial, seed and process.
    """

    def __init__(self, log: Path, delay: float = 0.0, codes: dict[tuple[int, int], int] | None = None) -> None:
        self.log, self.delay, self.codes = log, delay, codes or {}

    def start(self, job: Job) -> dict[str, Any]:
        number = int(job.directory.parent.name)
        with open(self.log, "a") as file:
            file.write(f"{number} {job.seed} {os.getpid()}\n")
        started = {"job": job, "number": number, "end": time.monotonic() + self.delay, "stopped": False}
        self._write(started)
        return started

    def _write(self, started: dict[str, Any]) -> None:
        """A run that is as far as one that is looked at after a ninth of its time, or after all of it."""
        job, steps = started["job"], started["job"].steps or 900
        code = self.codes.get((started["number"], job.seed), 0)
        done = time.monotonic() >= started["end"] and not started["stopped"]
        last = steps if done else steps // 8
        games = [(n * steps // 90, score(job) * n / 90) for n in range(1, 91) if n * steps // 90 <= last]
        result = {"steps": steps, "seconds": 1.0, "stop": "steps"} if done and not code else None
        if job.directory.exists():
            for file in job.directory.iterdir():
                file.unlink()
            job.directory.rmdir()
        diverged = {"step": 7, "why": "too large"} if code == 4 else None
        write_run(
            job.directory, job.env, "ppo", job.seed, games, steps, result=result, reached=last, diverged=diverged
        )

    def look(self, started: dict[str, Any]) -> Look:
        job = started["job"]
        if started["stopped"]:
            return Look(143, *reached(job.directory))
        if time.monotonic() < started["end"]:
            return Look(None, *reached(job.directory))
        if not started.get("written"):
            started["written"] = True
            self._write(started)
        return Look(self.codes.get((started["number"], job.seed), 0), *reached(job.directory))

    def stop(self, started: dict[str, Any], kill: bool = False) -> None:
        started["stopped"] = started["stopped"] or not started.get("written", False)

    def collect(self, started: dict[str, Any]) -> Outcome:
        code = self.look(started).code
        assert code is not None
        return Outcome(code, f"line of {started['number']}", stored_result(started["job"]))
