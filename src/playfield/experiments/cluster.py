"""The nodes of a cluster as a place to run jobs, and what happens where one is lost; `placement` chooses the node.

What decides bits is fixed before a training begins: workers, number format, device, and the versions of this machine.
A node with other versions is not used, one whose processor lacks the number format not for such trainings, and a
training that has begun goes on where the processor is of the same kind, as long as there is such a node.

A node either sees the directory of the experiment, or its files go through the store, see `store`. Where one is lost,
its trainings go on elsewhere from their last checkpoints, each under the next attempt number (see `runs.fence`), so
that a node that comes back writes nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playfield.errors import DataError, DivergedError, EnvError, PlayfieldError, UsageError
from playfield.experiments import node
from playfield.experiments.cluster_state import Node, NoNodeError, Past, Pins, Task
from playfield.experiments.job import Job, log_of, reached
from playfield.experiments.placement import PROBE, Nodes
from playfield.experiments.places import ENDING, LAST, POLL, Look, Outcome, stored_result
from playfield.experiments.ray_link import Link
from playfield.runs import fence
from playfield.runs.console import Say
from playfield.runs.info import is_run
from playfield.runs.storage import MAX_LINE, as_storage_error, read_bytes

EARLIER = "-attempt-"  # in the names of logs of trainings that went on as another attempt
ENDED = {one.value: one.name for one in signal.Signals}  # signals that end a process, as they are called
PATIENCE = 5  # times that a training may be lost without a new checkpoint
PATIENT = 10.0  # seconds after which it is said which nodes have not answered
STORES = ("auto", "shared", "driver")
"""How files reach a node: by the directory if it sees it, else by the store; only by the one; only by the other."""


class Cluster:
    """A place whose jobs run on the nodes of a cluster.

    Args:
        link: to the cluster.
        root: directory of the experiment.
        pins: what decides the bits of a job that has not begun.
        say: receives lines for a person, until the first job is started; from then on `look` has them.
        store: one of `STORES`.
    """

    def __init__(self, link: Link, root: Path, pins: Callable[[Job], Pins], say: Say, store: str = STORES[0]) -> None:
        self.link, self.root, self.pins, self.say = link, Path(os.path.abspath(root)), pins, say
        self.tasks: list[Task] = []
        self.pasts: dict[Path, Past] = {}
        self.gone = ""
        self.notes: list[str] = []
        self._made = [one for one in (self.root, *self.root.parents) if not one.exists()]
        with as_storage_error(f"create {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
        self.places = Nodes(link, self.root, store)

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes that there are, by what the cluster knows them by."""
        return self.places.all

    # The place -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Wait until the nodes are known. Raises UsageError where none can be used."""
        begun, said = time.monotonic(), False
        while time.monotonic() < begun + PROBE and not self.gone:
            self._turn()
            silent = [one.name for one in self.nodes.values() if not one.refused and one.facts is None]
            if self.nodes and not silent:
                break
            if not said and time.monotonic() > begun + PATIENT:
                said = True
                named = ", ".join(silent[:5]) + f" and {len(silent) - 5} more" * (len(silent) > 5)
                self.say(f"waiting for the answer of {named or 'the cluster'}, at most {PROBE:.0f} s")
            time.sleep(POLL)
        if cores := sum(one.cpus for one in self.places.usable):
            used, stores = self.places.usable, self.places.said_of_stores()
            told = [*self._news(), *([stores] if stores else [])]
            taken = sum(one.taken[0] for one in used)
            others = f", {taken} of them used by others" * (taken > 0)
            for line in (*told, f"{len(used)} node{'s' * (len(used) > 1)} with {cores} cores{others}"):
                self.say(line)
            return
        reasons = [f"{one.name}: {one.refused or 'no answer'}" for one in self.nodes.values()]
        raise UsageError(f"no node can be used: {self.gone or '; '.join(reasons) or 'there is none'}")

    def slots(self) -> int:
        """How many trainings with one worker may run at once, on the nodes that there are now.

        One where others use all of them: it says that it waits.
        """
        free = [one.cpus - one.taken[0] for one in self.places.usable if not one.rests]
        without = sum(t.code is None and not t.number and t.waits == "node" for t in self.tasks)  # they take no core
        return max(sum(free), min(1, len(free))) + without

    def at_once(self, workers: int) -> int:
        """How many trainings with so many workers may run at once on the nodes that there are now; at least one."""
        free = [one.cpus - one.taken[0] for one in self.places.usable if not one.rests]
        return max(1, sum(cores // workers for cores in free))

    def start(self, job: Job) -> Task:
        """See `Place`. The job waits for a node that can take it."""
        log = log_of(job.directory)
        with as_storage_error(f"create {log.parent}"):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()  # so that nobody takes the folder away as empty before its node writes to it
        past = self.pasts.setdefault(job.directory, Past())
        try:
            task = Task(job, self.pins(job).of_run(job.directory), log, past=past)
        except DataError as error:
            task = Task(job, self.pins(job), log, past=past, code=error.exit_code, line=str(error))
        self.tasks.append(task)
        self._turn()
        return task

    def look(self, started: Task) -> Look:
        """See `Place`."""
        self._turn()
        news, started.news = (*self._news(), *started.news), []
        steps = reached(started.job.directory) if started.node or started.code is not None else (0, 0.0)
        return Look(started.code, *steps, where=started.node.name if started.node else "", news=news)

    def stop(self, started: Task, kill: bool = False) -> None:
        """See `Place`."""
        if started.code is not None:
            return
        if not started.number:
            started.code, started.line = 143, "it had not begun"
        elif not started.asked or (kill and not started.killed):
            self.link.interrupt(started.number, kill)
            started.asked, started.killed = True, time.monotonic() if kill else 0.0

    def collect(self, started: Task) -> Outcome:
        """See `Place`."""
        deadline = (started.killed or time.monotonic()) + ENDING
        while started.code is None and time.monotonic() < deadline:
            self._turn()
            time.sleep(POLL)
        self.tasks.remove(started)
        started.release()
        code = -9 if started.code is None else started.code
        with contextlib.suppress(OSError):
            if code in (0, 143) or not started.log.stat().st_size:
                started.log.unlink()
            for earlier in started.log.parent.glob(f"{started.log.stem}{EARLIER}*.txt") if code == 0 else ():
                earlier.unlink()
        if not started.log.exists():
            with contextlib.suppress(OSError):  # other logs are in it
                started.log.parent.rmdir()
        line = started.line or f"exit status {code}"
        return Outcome(code, line, stored_result(started.job), started.unplaced)

    def forget(self) -> None:
        """Remove what was made so that nodes can be asked whether they see the directory, itself if nothing came."""
        self.places.forget()
        for one in self._made:
            with contextlib.suppress(OSError):  # trainings are in it
                one.rmdir()

    # What happens in the cluster -----------------------------------------------------------------------

    def _turn(self) -> None:
        """Take up what happened, and start what waits where there is room."""
        for event in self.link.events():
            if "gone" in event:
                self.gone = event["gone"]
            elif "note" in event:
                self.notes.append(event["note"])
            elif "nodes" in event:
                self.places.see(event["nodes"])
            else:
                self._end(event["task"], event)
        self.places.give_up_silent()
        for task in self.tasks:
            if task.code is not None or not task.number:
                task.release()
            if task.code is None and self.gone:
                task.code, task.line = EnvError.exit_code, f"the cluster is lost: {self.gone}"
            elif task.code is None and task.killed and time.monotonic() > task.killed + ENDING:
                task.code, task.line = -9, "it does not end"  # nobody can be made to wait for it
                name = task.node.name if task.node else "?"
                task.news.append(f"{task.job.name}: it was killed, and node {name} has not confirmed that it ended")
            elif task.code is None and not task.number and not task.asked:
                try:
                    self._place(task)
                except PlayfieldError as error:
                    task.code, task.line = error.exit_code, str(error)
                    task.unplaced = isinstance(error, NoNodeError)

    def _news(self) -> list[str]:
        """Lines for a person since the last call."""
        news, self.notes, self.places.notes = [*self.notes, *self.places.notes], [], []
        return news

    def _end(self, number: int, event: dict[str, Any]) -> None:
        """A task has ended, however."""
        if self.places.answered(number, event, self.tasks):
            return
        task = next((t for t in self.tasks if t.number == number and t.code is None), None)
        if task is None:
            return
        name = task.node.name if task.node else "?"
        if "text" in event:
            told = json.loads(event["text"])
            code = int(told["code"])
            signum = -code if code < 0 else code - 128
            if signum in ENDED and not task.asked:
                memory = " (the memory may have run out)" if signum == signal.SIGKILL else ""
                self._lost(task, f"its process was ended by {ENDED[signum]}{memory}", code)
                return
            task.code = code
            task.line = self._last_line(task, told.get("line", "")) if code else ""
            task.unplaced = bool(told.get("unfit"))
            self._failed(task)
        elif task.asked:
            task.code, task.line = 143, "stopped"
        elif "refused" in event:  # it never began
            if task.node is not None and task.node.id in self.nodes:
                self.places.rest(task.node)
            task.node, task.number = None, 0
        elif "lost" in event or "cancelled" in event:
            self._lost(task, event.get("lost", "cancelled"))
        else:
            task.code, task.line = EnvError.exit_code, f"node {name}: {event['failed']}"
            self._failed(task)

    def _failed(self, task: Task) -> None:
        """A training has ended, maybe by the fault of its node: without a checkpoint there, another tries it once.

        A disk that is full, or a package that is missing, is told by the same exit codes wherever the fault is.
        """
        one, code = task.node, task.code
        if one is None or code is None or code == 143 or task.asked:
            return
        if code == 0 and not one.aside:
            one.failed.clear()
        if code in (0, DataError.exit_code, DivergedError.exit_code):
            return
        if task.begun_at != _last_step(task.job.directory):
            return  # it worked there
        if task.past.failed:
            self.places.clear(task.job.directory)
        elif self.places.suspect(one, task, code, task.line):
            task.news.append(f"{task.job.name}: {task.line}: another node tries it")
            self._again(task)

    def _again(self, task: Task) -> str:
        """Let a training wait for a node again; what it wrote stays in another file, which is returned, if any."""
        number = 0
        with contextlib.suppress(DataError):  # a damaged number is this training's trouble, at its next begin
            number = fence.read(task.job.directory)
        kept = task.log.with_name(f"{task.log.stem}{EARLIER}{number}.txt")
        task.node, task.number, task.code, task.line, task.unplaced, task.waits = None, 0, None, "", False, ""
        with contextlib.suppress(OSError):
            if task.log.stat().st_size:  # the next one begins its file anew
                os.replace(task.log, kept)
                task.log.touch()
                return str(kept)
        return ""

    def _last_line(self, task: Task, told: str) -> str:
        """The last line that a training wrote to standard error, as its node told it, and where all of it is."""
        try:
            data = task.log.read_bytes()[-LAST:]
        except OSError:
            data = b""
        lines = [] if told else data.decode(errors="replace").strip().splitlines()
        said = lines[-1].removeprefix("playfield: ") if lines else told or f"exit status {task.code}"
        where = f", {task.log}" if data else ""
        return said if task.code == 143 else f"{said} (node {task.node.name if task.node else '?'}{where})"

    def _lost(self, task: Task, why: str, code: int = 0) -> None:
        """A training was lost with its node or its process, by a signal as `code` says: it goes on elsewhere."""
        past, step = task.past, _last_step(task.job.directory)
        saved = -1 if step is None else step
        past.losses, past.kills = (past.losses, past.kills) if saved == past.saved else (0, 0)
        past.losses, past.kills, past.saved = past.losses + 1, past.kills + (code < 0), saved
        if step != task.begun_at:
            past.failed.clear()  # it has worked since: whatever failed before was a node's
        name = past.lost_on = task.node.name if task.node else "?"
        kept = self._again(task)
        if past.losses >= PATIENCE:
            task.code = code if past.kills == past.losses else EnvError.exit_code
            task.line = f"it was lost {past.losses} times without a new checkpoint, last on node {name}: {why}"
            return
        where = "begins again" if step is None else f"goes on from step {step:,}"
        twice = max(0, reached(task.job.directory)[0] - (step or 0))
        line = f"{task.job.name}: lost on node {name} ({why}); it {where} elsewhere, {twice:,} steps again"
        task.news.append(f"{line}; what it wrote: {kept}" if kept else line)

    def _place(self, task: Task) -> None:
        """Start a training on the node that is chosen for it, if there is one now."""
        one = self.places.choose(task, self.tasks)
        if one is None:
            return
        if one.away:
            task.hold()
        number = fence.advance(task.job.directory)
        words = [*task.job.command(), *([] if is_run(task.job.directory) else task.pins.words())]
        directory, cwd = os.path.abspath(task.job.directory), self.places.cwd
        if one.away:
            name = Path(os.path.relpath(directory, self.root)).as_posix()
            store = {"run": name, "attempt": number, "directory": str(task.job.directory)}
            words, given = _given(words, cwd)
            text = self._text(words=words, cwd=cwd, store=store, given=given)
        else:
            variables = fence.told(number, Path(directory))
            given = _given(words)[1]  # to be compared with those that are there
            text = self._text(words=words, cwd=cwd, log=os.path.abspath(task.log), variables=variables, given=given)
        gpus = int(task.pins.device == "cuda")
        do = "run_away" if one.away else "run"
        task.begun_at = _last_step(task.job.directory)
        task.node, task.number = one, self.link.submit(do, one.id, text, task.pins.workers, gpus)

    def _text(self, **told: Any) -> str:
        return json.dumps({"threads": node.threads(), **told})


def _given(words: list[str], start: str = "") -> tuple[list[str], dict[str, str]]:
    """The words of a training, and the texts of the files that they name, by their names: presets.

    With `start`, absolute names become relative to it: a node cannot write files to any place.
    """
    words, given = list(words), {}
    for at, word in enumerate(words):
        before = "--preset=" if word.startswith("--preset=") else ""
        name = word.removeprefix(before)
        if (before or words[at - 1 : at] == ["--preset"]) and os.path.isfile(name):
            text = read_bytes(Path(name), MAX_LINE).decode(errors="replace")
            name = os.path.relpath(name, start) if start and os.path.isabs(name) else name
            words[at], given[name] = before + name, text
    return words, given


def _last_step(run: Path) -> int | None:
    """The step of a run's newest checkpoint; None without one."""
    names = (path.name.removeprefix("ckpt-") for path in (run / "checkpoints").glob("ckpt-*"))
    return max((int(name) for name in names if name.isdecimal()), default=None)
