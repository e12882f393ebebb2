"""How far the trainings of an experiment are: a live table on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from playfield.errors import DivergedError, visible
from playfield.experiments import heartbeat, node_shares
from playfield.experiments.job import Job, reached, score_of
from playfield.experiments.terminal import Terminal, columns
from playfield.runs.console import format_seconds, format_value
from playfield.runs.info import is_run

STOPPED = (129, 130, 143, -1, -2, -15)  # exit codes after a signal; below 0: it came while the process began
AROUND = 7  # lines of a terminal that are not rows of the table
HEADERS = ("environment", "algorithm", "seed", "progress", "", "score", "steps/s", "left")
NUMBERS = ("seed", "", "score", "steps/s", "left")


class Progress(Terminal):
    """Steps of all jobs on standard error: a table that stays in place, a row each; in a pipe a line per event.

    Nothing at all where it is `quiet`.
    """

    def __init__(self, jobs: Sequence[Job], quiet: bool = False) -> None:
        super().__init__(stays=False, quiet=quiet)
        self.jobs, self.total = jobs, sum(job.steps for job in jobs)
        self.finished_runs = sum(job.done() for job in jobs)
        self._steps: dict[Job, tuple[int, float]] = {job: reached(job.directory) for job in jobs}
        self._ended: dict[Job, str] = {job: "finished" for job in jobs if job.done()}
        self._shares = node_shares.Shares()

    def started(self, job: Job) -> None:
        """The job was started."""
        verb = "resuming" if is_run(job.directory) else "training"
        self.say(f"{verb} {job.name}", also_above=False)

    def elsewhere(self, job: Job, unsure: str = "") -> None:
        """Another process runs the job; `unsure`: who may do so."""
        self._shares.elsewhere(job)
        how = f"not released by {unsure}: looking for {heartbeat.WATCH:.0f} s whether that still runs"
        self.say(f"{job.name}: {how if unsure else 'running elsewhere, in another process'}", also_above=False)

    def look(self, job: Job, where: str, news: Sequence[str]) -> None:
        """The job is on this node (empty: there is only one, or it waits for one), and this is new of it."""
        self._shares.at(job, where)
        for line in news:
            self.say(line)

    def ended(self, job: Job, code: int, why: str = "") -> None:
        """The job ended with this exit code; `why` is its last line, for one that failed."""
        self.finished_runs += not code
        self._read(job)
        self._shares.ended(job, code)
        steps, seconds = self._steps[job]
        status = f"exit status {code}"
        reason = f": {visible(why)}" if why and status not in why else ""
        how = f"ended with {status}{reason}" if code else f"done, {steps / max(seconds, 1e-9):,.0f} steps/s"
        diverged = code == DivergedError.exit_code
        how = f"diverged after {steps:,} steps" if diverged else how
        stopped = code in STOPPED
        saved = f"at step {steps:,} and saved" if steps else "before it began"
        how = f"stopped {saved}" if stopped else how
        states = {diverged: "diverged", stopped: "stopped", not code: "finished"}
        self._ended[job] = states.get(True, f"failed ({code})")
        self.say(f"{job.name}: {how}; {self.finished_runs} of {len(self.jobs)} runs", also_above=bool(code))

    def show(
        self, running: Sequence[Job], waiting: Sequence[Job], elsewhere: Sequence[Job] = (), parallel: int = 1
    ) -> None:
        """Redraw the table, at most once per second."""
        self.draw(lambda: self._now(running, waiting, elsewhere, parallel))

    def _now(self, running: Sequence[Job], waiting: Sequence[Job], elsewhere: Sequence[Job], parallel: int) -> Group:
        for job in (*running, *elsewhere):
            self._read(job)
        left = seconds_left(self._steps, running, [*waiting, *elsewhere], parallel)
        return self.table(running, elsewhere, left, self.console.height)

    def _read(self, job: Job) -> None:
        """Look how far a job is; its node has trained what is new."""
        before, self._steps[job] = self._steps[job], reached(job.directory)
        self._shares.came(job, before[0], self._steps[job][0])

    def table(self, running: Sequence[Job], elsewhere: Sequence[Job], left: float | None, height: int) -> Group:
        """A bar for the whole, and a row for each training that fits: first those that run, then the last to end.

        Below, where there are several nodes, what each has done.
        """
        done = sum(min(step, job.steps) for job, (step, _) in self._steps.items())
        bar = Table.grid(padding=(0, 1, 0, 0))
        width = max(10, min(60, self.console.width - 60))
        bar.add_row(
            ProgressBar(total=max(self.total, 1), completed=done, width=width, complete_style="green"),
            f"{done / max(self.total, 1):.0%} of {self.total:,} steps",
            "" if left is None else f"about {format_seconds(left)} left",
            f"{self.finished_runs} of {len(self.jobs)} runs",
        )
        states = dict.fromkeys(running, "") | dict.fromkeys(elsewhere, "elsewhere")
        last = [job for job in reversed(self._ended) if job not in states]
        nodes = self._shares.rows(running)
        if height - AROUND < 2 * (len(nodes) + 1):  # a low terminal is for the trainings
            nodes = []
        room = height - AROUND - (len(nodes) + 1 if nodes else 0)
        rows = [*states.items(), *((job, self._ended[job]) for job in last)][: max(1, room)]
        headers = (*HEADERS, "node") if self._shares.where else HEADERS
        lines = columns(Table(box=None, padding=(0, 1), pad_edge=False), *headers, right=NUMBERS, style="bold")
        for job, state in rows:
            lines.add_row(*self._row(job, state), style="dim" if job in self._ended else "")
        hidden = len(self.jobs) - len(rows)
        rest = [Text(f"{hidden} more: waiting, or finished before", style="dim")] if hidden else []
        return Group(lines, *rest, *([node_shares.table(nodes)] if nodes else []), bar)

    def _row(self, job: Job, state: str) -> list[Text | ProgressBar]:
        steps, seconds = self._steps[job]
        speed = steps / seconds if steps and seconds else math.nan
        left = format_seconds(max(0, job.steps - steps) / speed) if speed > 0 else ""
        score = score_of(job.directory)
        share = min(1.0, steps / job.steps) if job.steps else 0.0
        cells, where = [job.env, job.label, str(job.seed)], self._shares.where
        return [
            *(Text(visible(cell), no_wrap=True, overflow="ellipsis") for cell in cells),
            ProgressBar(total=1.0, completed=share, width=16, complete_style="green", finished_style="green"),
            Text(f"{share:.0%}"),
            Text("" if score is None else format_value(score)),
            Text(f"{speed:,.0f}" if speed > 0 else ""),
            Text(state or left),
            *([Text(visible(where.get(job, "")), no_wrap=True)] if where else []),
        ]


def seconds_left(
    steps: dict[Job, tuple[int, float]], running: Sequence[Job], waiting: Sequence[Job], parallel: int
) -> float | None:
    """Estimated seconds until all jobs are done, `parallel` at a time; None before any speed is known.

    The speed of a job is its own so far; of one that has not started, that of jobs with its label and environment,
    else that of jobs in its environment, else that of all jobs. `steps`: job -> (steps, seconds) so far.
    """

    def speed(chosen: Iterable[Job]) -> float:
        known = [steps[job] for job in chosen if steps[job][0] > 0 and steps[job][1] > 0]
        return sum(s for s, _ in known) / sum(seconds for _, seconds in known) if known else 0.0

    def left(job: Job) -> float:
        same_label = [other for other in steps if (other.env, other.label) == (job.env, job.label)]
        same_env = [other for other in steps if other.env == job.env]
        known = next(v for chosen in ([job], same_label, same_env, steps) if (v := speed(chosen)))
        return max(job.steps - steps[job][0], 0) / known

    if not speed(steps):
        return None
    work = [left(job) for job in (*running, *waiting)]
    return max(sum(work) / parallel, *(left(job) for job in running), 0.0) if work else 0.0
