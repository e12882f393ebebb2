"""Which node of a cluster takes which training: what is known of nodes, which of them can, and which has room now.

Memory and disk that are free change, so an answer about them is asked for again; what a node has in all, its
versions and its processor do not. A training for which no node can be found is told apart from one that failed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playfield.compute import readable_size
from playfield.errors import DataError, StorageError, UsageError
from playfield.experiments import node
from playfield.experiments.cluster_state import ASIDE, Node, NoNodeError, Pins, Task
from playfield.experiments.ray_link import Link
from playfield.runs.info import is_run, read_info
from playfield.runs.storage import alive, atomic_write, read_json, remove

PROBE = 120.0  # seconds that a node may take to answer
JOINING = 30.0  # seconds that a node which is there may refuse tasks: the cluster's parts learn of it one by one
SHARE = 0.9  # of what is free that may be planned with
AGAIN, LONGEST = (
    10.0,
    300.0,
)  # seconds after which a node is asked again; beside our trainings twice as many each time
SHORT = 300.0  # seconds that a training waits for memory or disk that no training of this experiment has
SKEW = 5.0  # seconds by which the clock of a node may be off without a line
OLD = 3600.0  # seconds after which a mark is one that a killed process left, wherever that ran
MARK = ".seen-"


class Nodes:
    """The nodes that there are.

    Args:
        link: to the cluster.
        root: directory of the experiment, which is there.
        store: one of `cluster.STORES`.
    """

    def __init__(self, link: Link, root: Path, store: str) -> None:
        self.link, self.root, self.store = link, root, store
        self.cwd = os.getcwd()
        self.all: dict[str, Node] = {}
        self.lost: dict[str, Node] = {}  # by name: those that were used, and are gone
        self.notes: list[str] = []
        self._served = self._marked = False
        _sweep(root)
        self.mark = root / f"{MARK}{os.getpid()}-{secrets.token_hex(4)}"
        self.here = node.facts(self.mark)

    def forget(self) -> None:
        """Remove the file that nodes are asked for."""
        self.mark.unlink(missing_ok=True)

    # What is known of them -----------------------------------------------------------------------------

    @property
    def usable(self) -> list[Node]:
        """Those on which trainings run."""
        return [one for one in self.all.values() if one.usable]

    def see(self, found: list[dict[str, Any]]) -> None:
        """Compare the nodes that there are with those that were known."""
        for gone in [one for one in self.all.values() if one.id not in {new["id"] for new in found}]:
            del self.all[gone.id]
            if gone.facts is not None and not gone.refused:
                self.lost[gone.name] = gone
                self.notes.append(f"node {gone.name} is lost")
        self._unmark()
        hosts = [one["host"] for one in found]
        for one in found:
            if one["id"] in self.all or not one["cpus"]:
                if one["id"] in self.all:
                    self.all[one["id"]].taken = one.get("taken", (0, 0))
                continue
            name = one["host"] if hosts.count(one["host"]) == 1 else f"{one['host']}-{one['id'][:4]}"
            new = Node(one["id"], name, one["cpus"], one["gpus"], taken=one.get("taken", (0, 0)))
            self.ask(new)
            self.all[new.id] = new

    def ask(self, one: Node, refresh: bool = False) -> None:
        """Ask a node for its facts; it is not used until it answers, unless only what is free is asked for.

        Raises StorageError where the first mark cannot be written. A later one that cannot is tried again.
        """
        one.refresh, one.asked, one.probed = refresh, time.time(), time.monotonic()
        if not refresh and not self.mark.exists():  # what is free now is told without it
            try:
                atomic_write(self.mark, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
                self._marked = True
            except StorageError as error:
                if not self._marked:
                    raise
                self.notes.append(f"node {one.name} is not used yet: whether it sees {self.root} is unknown: {error}")
                return
        text = json.dumps({"threads": node.threads(), "mark": str(self.mark), "cwd": self.cwd})
        one.probe = self.link.submit("probe", one.id, text)

    def answered(self, number: int, event: dict[str, Any], tasks: Sequence[Task]) -> bool:
        """Take up what a node answered, if this task asked one; whether it did."""
        one = next((one for one in self.all.values() if number in (one.probe, one.late)), None)
        if one is None:
            return False
        if number == one.late:
            one.late = 0
            if "text" in event:  # by now the file that it was asked for may be gone
                one.refused = ""
                self.notes.append(f"node {one.name} answers after all")
                self.ask(one)
            return True
        one.probe = 0
        if one.refresh:
            self._measured(one, event, tasks)
        else:
            self._judge(one, event)
        self._unmark()
        return True

    def rest(self, one: Node) -> None:
        """A training did not begin on a node: it gets none until it answers."""
        one.rests, one.since = True, time.monotonic()
        if not one.probe:
            self.ask(one, refresh=True)

    def give_up_silent(self) -> None:
        """Wait no longer for nodes that do not answer: those that never did are not used until they do."""
        for one in self.all.values():
            if one.probe and time.monotonic() - one.probed > PROBE:
                number, one.probe = one.probe, 0
                if one.refresh:
                    one.refresh, one.rests, one.measured = False, False, time.monotonic()
                else:
                    one.late = number
                    self._refuse(one, f"no answer in {PROBE:.0f} s")
            elif one.unasked and time.monotonic() - one.probed > AGAIN:
                self.ask(one)

    def _refuse(self, one: Node, why: str) -> None:
        one.refused = why
        self.lost.pop(one.name, None)  # it is there, and no use waiting for
        self.notes.append(f"node {one.name} is not used: {why}")

    def _unmark(self) -> None:
        """Remove the file that nodes are asked for, once none is: a process that is killed then leaves none."""
        if not any(one.probe for one in self.all.values()):
            self.forget()

    def _measured(self, one: Node, event: dict[str, Any], tasks: Sequence[Task]) -> None:
        """Take up what is free on a node; beside trainings of this experiment, only what is more than was known."""
        one.refresh, one.measured = False, time.monotonic()
        if "refused" in event and one.rests:
            if time.monotonic() - one.since < JOINING:
                self.ask(one, refresh=True)
            else:
                self._refuse(one, event["refused"])
            return
        one.rests = False
        if "text" not in event or one.facts is None:
            return
        new, before, used = json.loads(event["text"]), one.facts, bool(_on(one, tasks))
        for what in ("memory", "disk"):
            if new[what] is not None and before[what] is not None:
                one.facts[what] = max(new[what], before[what]) if used else new[what]

    def _judge(self, one: Node, event: dict[str, Any]) -> None:
        """Whether a node can be used: it sees the directory, and has the versions of this machine."""
        one.measured, refused = time.monotonic(), ""
        if "refused" in event and time.monotonic() - one.since < JOINING:
            self.ask(one)
        elif "text" not in event:
            refused = event.get("refused") or event.get("lost") or event.get("failed") or "no answer"
        else:
            one.facts = dict(json.loads(event["text"]))
            there, here = one.facts["versions"], self.here["versions"]
            differ = [f"{k} {there.get(k)} there, {here.get(k)} here" for k in here if there.get(k) != here[k]]
            differ = [line for line in differ if not line.startswith("processor ")]
            one.blind = str(self.root) if not one.facts["sees"] else self.cwd if not one.facts.get("cwd") else ""
            one.away = self.store == "driver" or bool(one.blind)
            if one.away and self.store == "shared":
                refused = f"it does not see {one.blind}, which --store shared asks of all nodes"
            elif differ:
                refused = f"other versions would give other bits: {', '.join(differ)}"
            elif one.away and not self._served:
                self.link.serve(str(self.root))
                self._served = True
        if refused:
            self._refuse(one, refused)
        elif one.facts is not None:
            self.lost.pop(one.name, None)
            self._compare(one, one.facts)

    def _compare(self, one: Node, facts: dict[str, Any]) -> None:
        """Say what is worth knowing of a node that is used."""
        if _kind(facts) != _kind(self.here):
            self.notes.append(
                f"note: node {one.name} has another processor ({facts['processor']['model']}) than this machine: "
                "the same seed may give other bits there"
            )
        # It read its clock at some moment between question and answer.
        ahead = max(facts["time"] - time.time(), 0.0) - max(one.asked - facts["time"], 0.0)
        if abs(ahead) > SKEW:
            off = f"{abs(ahead):,.0f} seconds {'ahead of' if ahead > 0 else 'behind'} this machine's"
            self.notes.append(
                f"note: the clock of node {one.name} is {off}: times of its files are wrong by that, results are not"
            )

    def said_of_stores(self) -> str:
        """Which nodes get their files through the store, and why; empty where none does."""
        away = [one for one in self.usable if one.away]
        if not away:
            return ""
        whose = "all nodes" if len(away) == len(self.usable) else f"node{'s' * (len(away) > 1)} "
        names = "" if whose == "all nodes" else ", ".join(one.name for one in away)
        blind = " or ".join(sorted({one.blind for one in away if one.blind}))
        why = f", which cannot see {blind}" if blind and self.store != "driver" else ""
        return f"{whose}{names}{why}: files go through a store on this machine"

    # Those where trainings failed ----------------------------------------------------------------------

    def suspect(self, one: Node, task: Task, code: int, line: str) -> bool:
        """A training failed on a node: another one is to try it, and show whose fault it is. Whether there is one."""
        if not any(other is not one and not self.cannot(other, task.pins) for other in self.usable):
            return False
        before, one.failed[task.job.directory], one.failed_at = one.aside, code, time.monotonic()
        task.past.failed[one.name] = (code, line, task.unplaced)
        if one.aside and not before:
            self.notes.append(f"node {one.name} is put aside for {ASIDE / 60:.0f} minutes: others are used first")
        return True

    def clear(self, directory: Path) -> None:
        """A training failed on two nodes: the fault is its own."""
        for one in self.all.values():
            before = one.aside
            one.failed.pop(directory, None)
            if before and not one.aside:
                self.notes.append(f"node {one.name} is used as before: what failed there failed elsewhere, too")

    # Which takes a training ----------------------------------------------------------------------------

    def choose(self, task: Task, tasks: Sequence[Task]) -> Node | None:
        """The node with the most free cores that can take a training, if there is one now; not where it was lost.

        Raises NoNodeError where none can, UsageError where the training is larger than any that there was. Where it
        failed, and no other node can try it, its task ends with that.
        """
        able = [one for one in self.usable if not self.cannot(one, task.pins)]
        left = [one for one in able if one.name not in task.past.failed]
        if not left:
            self._none(task, able)
            return None
        every = left
        if is_run(task.job.directory):
            kind = read_info(task.job.directory).get("processor")
            left = [one for one in left if one.facts and one.facts["processor"] == kind] or left
        left = [one for one in left if not one.aside] or left
        late = bool(task.short) and time.monotonic() - task.short > SHORT
        fit = [one for one in left if self._room(one, task.pins, tasks)]
        if late and not fit:  # any is better than none
            left = every
            fit = [one for one in every if self._room(one, task.pins, tasks)]
        if fit:
            task.short = 0.0
            return max(fit, key=lambda n: (n.name != task.past.lost_on, _free(n, tasks)[0], n.id))
        self._wait(task, left, tasks, late)
        return None

    def _room(self, one: Node, pins: Pins, tasks: Sequence[Task]) -> bool:
        """Whether a training has room beside those that run on a node."""
        cores, gpus = _free(one, tasks)
        return (
            not one.rests
            and cores >= pins.workers
            and (pins.device != "cuda" or gpus > 0)
            and not self._lacks(one, pins, tasks)
        )

    def _lacks(self, one: Node, pins: Pins, tasks: Sequence[Task]) -> str:
        """Of what a node has too little free for a training, in words; the store's files lie on its own disk."""
        facts, here = one.facts or {}, [t.pins for t in _on(one, tasks)]
        sizes = [("memory", pins.memory, sum(p.memory for p in here))]
        sizes += [("disk", pins.disk, sum(p.disk for p in here))] * one.away
        for what, size, beside in sizes:
            free = facts.get(what)
            if free is not None and size and beside + size > SHARE * free:
                return f"it takes {readable_size(size)} of {what}, and {readable_size(free)} are free"
        return ""

    def _wait(self, task: Task, able: list[Node], tasks: Sequence[Task], late: bool) -> None:
        """Have what is free measured again where it is short.

        Raises NoNodeError where other programs, not trainings of this experiment, have it for long (`late`).
        """
        short = [one for one in able if self._lacks(one, task.pins, tasks)]
        if busy := [one.name for one in able if any(one.taken) and one not in short]:
            _say(task, "cores", f"cores; others use some of node {', '.join(busy)}")
        for one in short:
            used = bool(_on(one, tasks))
            one.pause = one.pause or AGAIN if used else AGAIN
            if not one.probe and time.monotonic() - one.measured > one.pause:
                one.pause = min(2 * one.pause, LONGEST)
                self.ask(one, refresh=True)
        if len(short) < len(able) or any(_on(one, tasks) for one in able):
            task.short = task.short if late else 0.0
            return
        reasons = "; ".join(f"node {one.name}: {self._lacks(one, task.pins, tasks)}" for one in short)
        task.short = task.short or time.monotonic()
        if late:
            raise NoNodeError(f"no node has had room for it for {SHORT / 60:.0f} minutes: {reasons}")
        _say(task, "room", f"a node with room: {reasons}")

    def cannot(self, one: Node, pins: Pins) -> str:
        """Why a node cannot take such a training even if it is idle; empty where it can."""
        facts = one.facts or {}
        if pins.workers > one.cpus:
            return f"{pins.workers} workers need as many cores, and it has {one.cpus}"
        if pins.device == "cuda" and not one.gpus:
            return "it has no GPU"
        if pins.device == "cpu" and pins.precision == "bf16" and not facts.get("bf16"):
            return "its processor has no bf16, and other numbers would give other bits (or choose --precision fp32)"
        for name, version in pins.packages.items():
            if (there := facts.get("packages", {}).get(name)) != version:
                return f"{name} {there} there, {version} here" if there else f"it has no {name} {version}"
        if self._too_large(one, pins):
            return (
                f"it takes {readable_size(pins.memory)} of memory, and the node has {readable_size(facts['total'])}"
            )
        return ""

    def _too_large(self, one: Node, pins: Pins) -> bool:
        total = (one.facts or {}).get("total")
        return total is not None and pins.memory > SHARE * total

    def _none(self, task: Task, able: list[Node]) -> None:
        """Say once why a training waits; it ends where no node that is or was there can take it."""
        there = self.usable
        if any(one.probe and not one.refresh for one in self.all.values()):
            return
        if able:  # only on them it failed
            task.code, task.line, task.unplaced = next(iter(task.past.failed.values()))
            return
        before = [one.name for one in self.lost.values() if not self.cannot(one, task.pins)]
        if there and not before:
            reasons = "; ".join(f"node {one.name}: {self.cannot(one, task.pins)}" for one in there)
            # As on one machine, options that take more memory than there is are a mistake in the options.
            large = all(self._too_large(one, task.pins) for one in (*there, *self.lost.values()))
            raise (UsageError if large and not is_run(task.job.directory) else NoNodeError)(
                f"no node can take it: {reasons}"
            )
        which = "" if not there else f" such as {before[0]}, which is lost: no other can take it"
        _say(task, "node", f"a node{which}")


def _on(one: Node, tasks: Sequence[Task]) -> list[Task]:
    """The trainings of this experiment on a node."""
    return [t for t in tasks if t.node is one and t.number and t.code is None]


def _free(one: Node, tasks: Sequence[Task]) -> tuple[int, int]:
    """Cores and GPUs that nobody uses."""
    here, taken = _on(one, tasks), one.taken
    cpus, gpus = sum(t.pins.workers for t in here), sum(t.pins.device == "cuda" for t in here)
    return one.cpus - taken[0] - cpus, one.gpus - taken[1] - gpus


def _say(task: Task, kind: str, what: str) -> None:
    """Say that a training waits, once for each reason in turn."""
    if task.waits != kind:
        task.waits = kind
        task.news.append(f"{task.job.name}: waits for {what}")


def _kind(facts: dict[str, Any]) -> tuple[Any, Any]:
    return facts["processor"], facts["versions"].get("processor")


def _sweep(root: Path) -> None:
    """Remove the marks of processes that were killed: of this machine, or so old that none needs them."""
    for path in root.glob(f"{MARK}*"):
        try:
            holder = read_json(root, path.name)[1]
            here = isinstance(holder, dict) and holder.get("host") == socket.gethostname()
            dead = here and not alive(int(holder["pid"]))
        except (DataError, KeyError, TypeError, ValueError, OSError):
            dead = False
        try:
            if dead or time.time() - path.lstat().st_mtime > OLD:
                remove(path)
        except OSError:  # another process was faster
            continue
