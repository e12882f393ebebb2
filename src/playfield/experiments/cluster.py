"""The nodes of a cluster as a place to run jobs: which node takes which training, and what happens where one is lost.

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
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playfield.compute import readable_size
from playfield.errors import DataError, EnvError, PlayfieldError, UsageError
from playfield.experiments import node
from playfield.experiments.cluster_state import Node, Pins, Task
from playfield.experiments.job import Job, log_of, reached
from playfield.experiments.places import ENDING, LAST, POLL, Look, Outcome, stored_result
from playfield.experiments.ray_link import Link
from playfield.runs import fence
from playfield.runs.console import Say
from playfield.runs.info import is_run, read_info
from playfield.runs.storage import MAX_LINE, as_storage_error, atomic_write, read_bytes

PROBE = 120.0  # seconds that the first look at all nodes may take
JOINING = 30.0  # seconds that a node which is there may refuse tasks: the cluster's parts learn of it one by one
PATIENCE = 5  # times that a training may be lost without a new checkpoint
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
        self.store, self._served = store, False
        self.nodes: dict[str, Node] = {}
        self.tasks: list[Task] = []
        self.gone = ""
        self.notes: list[str] = []
        self._made = [one for one in (self.root, *self.root.parents) if not one.exists()]
        with as_storage_error(f"create {self.root}"):
            self.root.mkdir(parents=True, exist_ok=True)
        self.mark = self.root / f".seen-{os.getpid()}-{secrets.token_hex(4)}"
        atomic_write(self.mark, "")
        self.here = node.facts(self.mark)

    # The place -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Wait until the nodes are known. Raises UsageError where none can be used."""
        deadline = time.monotonic() + PROBE
        while time.monotonic() < deadline and not self.gone:
            self._turn()
            if self.nodes and all(one.refused or one.facts is not None for one in self.nodes.values()):
                break
            time.sleep(POLL)
        if cores := sum(one.cpus for one in self.nodes.values() if one.usable):
            used = [one for one in self.nodes.values() if one.usable]
            away = [one.name for one in used if one.away]
            if away:
                whose = "all nodes" if len(away) == len(used) else f"node{'s' * (len(away) > 1)} {', '.join(away)}"
                why = "" if self.store == "driver" else f", which cannot see {self.root}"
                self.notes.append(f"{whose}{why}: files go through a store on this machine")
            taken = sum(one.taken[0] for one in used)
            others = f", {taken} of them used by others" * (taken > 0)
            for line in (*self.notes, f"{len(used)} node{'s' * (len(used) > 1)} with {cores} cores{others}"):
                self.say(line)
            self.notes = []
            return
        reasons = [f"{one.name}: {one.refused or 'no answer'}" for one in self.nodes.values()]
        raise UsageError(f"no node can be used: {self.gone or '; '.join(reasons) or 'there is none'}")

    def slots(self) -> int:
        """How many trainings with one worker may run at once, on the nodes that there are now.

        One where others use all of them: it says that it waits.
        """
        free = [one.cpus - one.taken[0] for one in self.nodes.values() if one.usable]
        return max(sum(free), min(1, len(free)))

    def start(self, job: Job) -> Task:
        """See `Place`. The job waits for a node that can take it."""
        log = log_of(job.directory)
        with as_storage_error(f"create {log.parent}"):
            log.parent.mkdir(parents=True, exist_ok=True)
            log.touch()  # so that nobody takes the folder away as empty before its node writes to it
        try:
            task = Task(job, self._pins_of(job), log)
        except DataError as error:
            task = Task(job, self.pins(job), log, code=error.exit_code, line=str(error))
        self.tasks.append(task)
        self._turn()
        return task

    def look(self, started: Task) -> Look:
        """See `Place`."""
        self._turn()
        news, started.news, self.notes = (*self.notes, *started.news), [], []
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
        if not started.log.exists():
            with contextlib.suppress(OSError):  # other logs are in it
                started.log.parent.rmdir()
        return Outcome(code, started.line or f"exit status {code}", stored_result(started.job))

    def forget(self) -> None:
        """Remove what was made so that nodes can be asked whether they see the directory, itself if nothing came."""
        self.mark.unlink(missing_ok=True)
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
                self._see(event["nodes"])
            else:
                self._end(event["task"], event)
        for task in self.tasks:
            if task.code is not None or not task.number:
                task.release()
            if task.code is None and self.gone:
                task.code, task.line = EnvError.exit_code, f"the cluster is lost: {self.gone}"
            elif task.code is None and task.killed and time.monotonic() > task.killed + ENDING:
                task.code, task.line = -9, "it does not end"  # nobody can be made to wait for it
                name = task.node.name if task.node else "?"
                task.news.append(f"{task.job.name}: it was ended, but node {name} does not say that it has")
            elif task.code is None and not task.number and not task.asked:
                try:
                    self._place(task)
                except PlayfieldError as error:
                    task.code, task.line = error.exit_code, str(error)

    def _see(self, found: list[dict[str, Any]]) -> None:
        """Compare the nodes that there are with those that were known."""
        for gone in [one for one in self.nodes.values() if one.id not in {new["id"] for new in found}]:
            del self.nodes[gone.id]
            if gone.facts is not None and not gone.refused:
                self.notes.append(f"node {gone.name} is lost")
        hosts = [one["host"] for one in found]
        for one in found:
            if one["id"] in self.nodes or not one["cpus"]:
                if one["id"] in self.nodes:
                    self.nodes[one["id"]].taken = one.get("taken", (0, 0))
                continue
            name = one["host"] if hosts.count(one["host"]) == 1 else f"{one['host']}-{one['id'][:4]}"
            new = Node(one["id"], name, one["cpus"], one["gpus"], taken=one.get("taken", (0, 0)))
            self._ask(new)
            self.nodes[new.id] = new

    def _ask(self, one: Node) -> None:
        """Ask a node for its facts; it is not used until it answers."""
        one.probe = self.link.submit("probe", one.id, self._text(mark=str(self.mark)))

    def _end(self, number: int, event: dict[str, Any]) -> None:
        """A task has ended, however."""
        for one in self.nodes.values():
            if one.probe == number:
                self._judge(one, event)
                return
        task = next((t for t in self.tasks if t.number == number and t.code is None), None)
        if task is None:
            return
        if "text" in event:
            told = json.loads(event["text"])
            task.code = int(told["code"])
            task.line = self._last_line(task, told.get("line", "")) if task.code else ""
        elif task.asked:
            task.code, task.line = 143, "stopped"
        elif "refused" in event:  # it never began
            if task.node is not None and task.node.id in self.nodes:
                task.node.since = time.monotonic()
                self._ask(task.node)
            task.node, task.number = None, 0
        elif "lost" in event or "cancelled" in event:
            self._lost(task, event.get("lost", "cancelled"))
        else:
            name = task.node.name if task.node else "?"
            task.code, task.line = EnvError.exit_code, f"node {name}: {event['failed']}"

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

    def _lost(self, task: Task, why: str) -> None:
        """A training was lost with its node or its process: it goes on from its last checkpoint."""
        step = _last_step(task.job.directory)
        saved = -1 if step is None else step
        task.losses = task.losses + 1 if saved == task.saved else 1
        name = task.node.name if task.node else "?"
        task.node, task.number, task.saved = None, 0, saved
        if task.losses >= PATIENCE:
            task.code = EnvError.exit_code
            task.line = f"it was lost {task.losses} times without a new checkpoint, last on node {name}: {why}"
            return
        where = "begins again" if step is None else f"goes on from step {step:,}"
        twice = max(0, reached(task.job.directory)[0] - (step or 0))
        task.news.append(f"{task.job.name}: lost on node {name} ({why}); it {where} elsewhere, {twice:,} steps again")

    def _judge(self, one: Node, event: dict[str, Any]) -> None:
        """Whether a node can be used: it sees the directory, and has the versions of this machine."""
        one.probe = 0
        if "refused" in event and time.monotonic() - one.since < JOINING:
            self._ask(one)
        elif "text" not in event:
            one.refused = event.get("refused") or event.get("lost") or event.get("failed") or "no answer"
        else:
            one.facts = dict(json.loads(event["text"]))
            there, here = one.facts["versions"], self.here["versions"]
            differ = [f"{k} {there.get(k)} there, {here.get(k)} here" for k in here if there.get(k) != here[k]]
            differ = [line for line in differ if not line.startswith("processor ")]
            one.away = self.store == "driver" or not one.facts["sees"]
            if one.away and self.store == "shared":
                one.refused = f"it does not see {self.root}, which --store shared asks of all nodes"
            elif differ:
                one.refused = f"other versions would give other bits: {', '.join(differ)}"
            elif one.away and not self._served:
                self.link.serve(str(self.root))
                self._served = True
        if one.refused:
            self.notes.append(f"node {one.name} is not used: {one.refused}")
        elif one.facts is not None and _kind(one.facts) != _kind(self.here):
            self.notes.append(
                f"note: node {one.name} has another processor ({one.facts['processor']['model']}) than this machine: "
                "the same seed may give other bits there"
            )

    # Which node takes which training -------------------------------------------------------------------

    def _pins_of(self, job: Job) -> Pins:
        """What is pinned of a job: what its run has, or what a new one is to have."""
        new = self.pins(job)
        if not is_run(job.directory):
            return new
        has = read_info(job.directory).get("compute")
        if not has:
            raise DataError(f"{job.directory / 'run.json'} does not say what it was computed with")
        return Pins(has["device"], has["precision"], has["workers"], new.memory)

    def _place(self, task: Task) -> None:
        """Start a training on the node with the most free cores that can take it, if there is one now."""
        begun = is_run(task.job.directory)
        able = [one for one in self.nodes.values() if one.usable and not self._cannot(one, task.pins)]
        if not able:
            self._say_why_none(task)
            return
        if begun:
            kind = read_info(task.job.directory).get("processor")
            able = [one for one in able if one.facts and one.facts["processor"] == kind] or able
        busy = [one.name for one in able if any(one.taken)]
        able = [one for one in able if self._free(one)[0] >= task.pins.workers and self._fits(one, task.pins)]
        if not able:
            if busy and not task.waits:
                task.waits = True
                task.news.append(f"{task.job.name}: waits for cores; others use some of node {', '.join(busy)}")
            return
        one = max(able, key=lambda n: (self._free(n)[0], n.id))
        if one.away:
            task.hold()
        number = fence.advance(task.job.directory)
        words = [*task.job.command(), *([] if begun else task.pins.words())]
        directory = os.path.abspath(task.job.directory)
        if one.away:
            name = Path(os.path.relpath(directory, self.root)).as_posix()
            store = {"run": name, "attempt": number, "directory": str(task.job.directory)}
            words, given = _given(words, os.getcwd())
            text = self._text(words=words, cwd=os.getcwd(), store=store, given=given)
        else:
            variables = fence.told(number, Path(directory))
            given = _given(words)[1]  # to be compared with those that are there
            log = os.path.abspath(task.log)
            text = self._text(words=words, cwd=os.getcwd(), log=log, variables=variables, given=given)
        gpus = int(task.pins.device == "cuda")
        do = "run_away" if one.away else "run"
        task.node, task.number = one, self.link.submit(do, one.id, text, task.pins.workers, gpus)

    def _text(self, **told: Any) -> str:
        return json.dumps({"threads": node.threads(), **told})

    def _on(self, one: Node) -> list[Task]:
        return [t for t in self.tasks if t.node is one and t.number and t.code is None]

    def _free(self, one: Node) -> tuple[int, int]:
        """Cores and GPUs that nobody uses."""
        here, taken = self._on(one), one.taken
        cpus, gpus = sum(t.pins.workers for t in here), sum(t.pins.device == "cuda" for t in here)
        return one.cpus - taken[0] - cpus, one.gpus - taken[1] - gpus

    def _fits(self, one: Node, pins: Pins) -> bool:
        """Whether a training fits beside those that run on a node."""
        assert one.facts is not None
        together, memory = sum(t.pins.memory for t in self._on(one)) + pins.memory, one.facts["memory"]
        return (memory is None or together <= 0.9 * memory) and (pins.device != "cuda" or self._free(one)[1] > 0)

    def _cannot(self, one: Node, pins: Pins) -> str:
        """Why a node cannot take such a training even if it is idle; empty where it can."""
        facts = one.facts or {}
        if pins.workers > one.cpus:
            return f"{pins.workers} workers need as many cores, and it has {one.cpus}"
        if pins.device == "cuda" and not one.gpus:
            return "it has no GPU"
        if pins.device == "cpu" and pins.precision == "bf16" and not facts.get("bf16"):
            return "its processor has no bf16, and other numbers would give other bits (or choose --precision fp32)"
        memory = facts.get("memory")
        if memory is not None and pins.memory > 0.9 * memory:
            return f"it takes {readable_size(pins.memory)} of memory, and {readable_size(memory)} are free"
        return ""

    def _say_why_none(self, task: Task) -> None:
        """Say once why a training waits; it ends where no node that is there can ever take it."""
        there = [one for one in self.nodes.values() if one.usable]
        if there and not any(one.probe for one in self.nodes.values()):
            reasons = "; ".join(f"node {one.name}: {self._cannot(one, task.pins)}" for one in there)
            raise UsageError(f"no node can take it: {reasons}")
        if not there and not task.waits:
            task.waits = True
            task.news.append(f"{task.job.name}: waits for a node")


def _kind(facts: dict[str, Any]) -> tuple[Any, Any]:
    return facts["processor"], facts["versions"].get("processor")


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
