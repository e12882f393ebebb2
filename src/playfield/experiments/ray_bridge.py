"""`python -m playfield.experiments.ray_bridge ADDRESS CORES`: the only code that imports Ray, in its own process.

Ray prints over other lines, hangs where an address does not answer, and ends its process when a cluster is lost: here
that harms nobody. Commands come in as lines of JSON and what happened goes out as such, see `ray_link`. Only
functions that take text (and the mailbox) and return text run on nodes, never again by Ray itself: what is to be run
then is another command.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray import exceptions
from ray._private import state
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from playfield.errors import EnvError
from playfield.experiments import away, node, ray_words
from playfield.experiments.mailbox import Mailbox
from playfield.experiments.ray_cores import Cores
from playfield.experiments.ray_link import DASHBOARD, dashboard
from playfield.experiments.store import Store

SESSION = "playfield-ray-"  # in names of temporary directories of clusters that are started here
LONGEST = 34  # letters of their names up to here: Ray's sockets are in them, whose paths have 107 at most
STORE = 80 * 2**20  # bytes of the object store, which holds a few lines of text; Ray takes no less than 75 MiB
POLL = 0.2  # seconds between two looks at tasks
NODES = 1.0  # seconds between two looks at nodes
CORES = 20.0  # seconds that the first answer about free cores is waited for: a process may have to start for it
AGAIN = 1.0  # seconds after which a task that is to be ended, and has not, is told so again
POLITE = 2  # times that such a task is interrupted, which lets it end its training, before its process is ended
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
LOST = (
    exceptions.NodeDiedError,
    exceptions.WorkerCrashedError,
    exceptions.LocalRayletDiedError,
    exceptions.OutOfMemoryError,
    exceptions.OwnerDiedError,
)


class Bridge:
    """Tasks of this process in a Ray cluster.

    Args:
        out: where lines go.
        address: of the cluster; `local` for one that nobody else uses.
    """

    def __init__(self, out: Any, address: str) -> None:
        self.out = out
        self.shared, self.client = address != "local", address.startswith("ray://")
        self.commands: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.tasks: dict[Any, int] = {}
        self.killed: dict[Any, tuple[int, float]] = {}  # how often a task was told to end, and when next
        self.functions = {
            "run": ray.remote(max_retries=0)(node.run),
            "join": ray.remote(max_retries=0)(node.join),
            "run_away": ray.remote(max_retries=0)(node.run_away),
            "probe": ray.remote(max_retries=0)(node.probe),
        }
        self.working = ray.remote(max_retries=0)(node.working)
        self.cores = Cores()
        self.heard = 0.0  # until when it is known which tasks have begun
        self.free: dict[str, dict[str, float]] = {}
        self.freeing: Any = None
        self.patience = CORES
        self.mailbox: Any = None
        self.store: Store | None = None
        self._telling = threading.Lock()
        self._nodes: list[dict[str, Any]] = []
        self._looked = 0.0

    def tell(self, **what: Any) -> None:
        """Write a line."""
        with self._telling:
            self.out.write(json.dumps(what) + "\n")
            self.out.flush()

    def read(self) -> None:
        """Take up commands until there are no more: the other side is gone."""
        for line in sys.stdin:
            self.commands.put(json.loads(line))
        self.commands.put(None)

    def work(self) -> None:
        """Serve until the other side is gone."""
        threading.Thread(target=self.read, daemon=True).start()
        while True:
            self.look_at_nodes()
            self.kill()
            self.take_back()
            try:
                command = self.commands.get(timeout=0 if self.tasks else POLL)
                if command is None:
                    return
                self.obey(command)
                continue
            except queue.Empty:
                pass
            if self.tasks:
                ready, _ = ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=POLL)
                for ref in ready:
                    self.killed.pop(ref, None)
                    number, how = self.tasks.pop(ref), ended(ref)
                    if self.cores.ended(number) and ("cancelled" in how or '"code": 143' in how.get("text", "")):
                        how = {"refused": "it did not begin: others use the cores or GPUs of its node"}
                    self.tell(task=number, **how)

    def obey(self, command: dict[str, Any]) -> None:
        """Start a task, interrupt one, or end one."""
        if command["do"] in ("interrupt", "kill"):
            for ref in [ref for ref, number in self.tasks.items() if number == command["task"]]:
                if command["do"] == "kill":
                    self.killed.setdefault(ref, (0, 0.0))
                else:
                    ray.cancel(ref, force=False, recursive=False)  # what it asks the store is still answered
            self.kill()
            return
        if command["do"] == "serve":
            self.serve(command["root"])
            return
        where = NodeAffinitySchedulingStrategy(node_id=command["node"], soft=False)
        do, number, text = command["do"], command["task"], command["text"]
        cpus, gpus = command.get("cpus", 0), command.get("gpus", 0)
        says = self.shared and cpus > 0  # where others may have the cores, it is to say when it begins
        function = (self.working if says else self.functions[do]).options(
            num_cpus=cpus, num_gpus=gpus, scheduling_strategy=where
        )
        try:
            if says:
                self.open_mailbox()
                self.cores.submitted(number, command["node"], cpus, gpus)  # before it can say that it has begun
                self.tasks[function.remote(do, number, text, self.mailbox)] = number
            else:
                self.tasks[function.remote(text, *((self.mailbox,) if do == "run_away" else ()))] = number
        except Exception as error:  # the other tasks go on
            self.cores.ended(number)
            self.tell(task=number, failed=in_words(error))

    def kill(self) -> None:
        """End the tasks that are to be ended, again and again: Ray drops what it is told while it interrupts one."""
        now = time.monotonic()
        for ref, (times, when) in self.killed.items():
            if now >= when:
                self.killed[ref] = (times + 1, now + AGAIN)
                ray.cancel(ref, force=times >= POLITE, recursive=False)

    def take_back(self) -> None:
        """Take back tasks that do not begin: another node may be free."""
        late = self.cores.late(self.heard)
        for ref, number in self.tasks.items():
            if number in late:
                ray.cancel(ref, force=False, recursive=False)  # one that begins at this moment saves and ends

    def serve(self, root: str) -> None:
        """Take up what nodes ask of the store of this directory."""
        self.store = Store(Path(root), lambda line: self.tell(note=line))
        self.store.sweep()
        self.open_mailbox()

    def open_mailbox(self) -> None:
        """Take up what nodes say, unless that is done."""
        if self.mailbox is not None:
            return
        # Beside this process: a mailbox that is lost with a node would be lost for all others, too.
        here = NodeAffinitySchedulingStrategy(node_id=ray.get_runtime_context().get_node_id(), soft=False)
        self.mailbox = ray.remote(max_restarts=-1)(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self) -> None:
        """Answer until this process ends. What keeps it from that is told once, not at every attempt."""
        told = ""
        while True:
            try:
                before = time.monotonic()
                taken = ray.get(self.mailbox.take.remote())
                for task in [int(text) for number, text, _ in taken if not number]:
                    self.cores.begun(task)
                self.heard, told = before, ""
                for number, text, data in taken:
                    if number:
                        self.mailbox.answer.remote(number, *self.answer_one(text, data))
            except Exception as error:  # it is started again, and nodes ask again
                line = f"nodes cannot reach this machine for now, and files of runs do not arrive: {in_words(error)}"
                if line != told:
                    self.tell(note=line)
                told = line
                time.sleep(NODES)

    def answer_one(self, text: str, data: bytes) -> tuple[str, bytes]:
        """Answer one question, whatever it is: others wait behind it."""
        try:
            assert self.store is not None  # only what asks it is told of the mailbox before
            return self.store.answer(text, data)
        except Exception as error:
            line = in_words(error)
            self.tell(note=f"store: {line}")
            return json.dumps({"error": line, "code": EnvError.exit_code}), b""

    def look_at_nodes(self) -> None:
        """Say which nodes there are, where that has changed."""
        if time.monotonic() - self._looked < NODES:
            return
        self._looked = time.monotonic()
        found = [
            {
                "id": one["NodeID"],
                "host": one.get("NodeManagerHostname") or one["NodeManagerAddress"],
                "cpus": int(one["Resources"].get("CPU", 0)),
                "gpus": int(one["Resources"].get("GPU", 0)),
            }
            for one in ray.nodes()
            if one["Alive"]
        ]
        free = self.look_at_cores() if self.shared else {}
        for one in found:
            has, there = (one["cpus"], one["gpus"]), free.get(one["id"])
            left = has if there is None else (there.get("CPU", 0.0), there.get("GPU", 0.0))
            one["taken"] = self.cores.taken(one["id"], has, left)
        if found != self._nodes:
            self._nodes = found
            self.tell(nodes=found)

    def look_at_cores(self) -> dict[str, dict[str, float]]:
        """What is free on each node, by its id; nothing of nodes of which it is not known."""
        try:
            if not self.client:
                return dict(state.available_resources_per_node())
            # Only processes of the cluster can ask for that.
            if self.freeing is None:
                asking = ray.remote(num_cpus=0, max_retries=0)(state.available_resources_per_node)
                self.freeing = asking.remote()
            patience, self.patience = self.patience, 0.0  # the first answer is waited for, no later one
            if ray.wait([self.freeing], timeout=patience)[0]:
                asked, self.freeing = self.freeing, None
                self.free = ray.get(asked)
        except Exception:  # it is no public function: without it, others are seen when a task does not begin
            self.free = {}
        return self.free


def ended(ref: Any) -> dict[str, Any]:
    """How a task has ended: `text`, or why it was `lost` or `refused`, has `failed`, or that it was `cancelled`."""
    try:
        return {"text": ray.get(ref)}
    except LOST as error:
        return {"lost": first_line(error)}
    except exceptions.TaskUnschedulableError as error:
        return {"refused": first_line(error)}
    except exceptions.TaskCancelledError:
        return {"cancelled": True}
    except exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        return {"failed": last_line(error) if cause is None else in_words(cause)}
    except Exception as error:
        return {"lost": in_words(error)}


def in_words(error: BaseException) -> str:
    """What an error was, in one line.

    Where a node cannot import what it is to run, Ray's text begins with its own guesses and ends with a traceback:
    only the last line of that says which package is missing.
    """
    if "failed to import on the worker" in str(error):
        return last_line(error)
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Any) -> str:
    """The first line of an error's text, without colours and what Ray advises after it."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0][:300]


def last_line(error: Any) -> str:
    """The last line of an error's text, where tracebacks say what it was."""
    return (re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines() or [type(error).__name__])[-1][:300]


def why_not(error: BaseException) -> str:
    """Why a cluster could not be started or joined, on one line."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    if "ersion mismatch" in text:
        found = re.findall(r"(Ray|Python): *(\S+)", text)
        there, here = found[: len(found) // 2], found[len(found) // 2 :]
        said = [", ".join(f"{name} {version}" for name, version in side) for side in (there, here)]
        return f"it has {said[0]}, and this machine has {said[1]}: use the same versions"
    if "Cannot include dashboard" in text:
        return f"Ray's dashboard ({DASHBOARD}) needs more packages: pip install 'ray[default]'"
    if re.search(r"auth|token", text, re.IGNORECASE):
        return ray_words.no_token()
    if "Could not find any running Ray instance" in text:
        return (
            "no Ray cluster runs on this machine: give the address of one (--on HOST:PORT), or start it (ray start)"
        )
    if listed := re.search(r"Found multiple active Ray instances: \{(.*?)\}", text):
        several = listed[1].replace("'", "")
        return f"several Ray clusters run on this machine: choose one of {several} (--on HOST:PORT)"
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"


def main() -> int:
    """Join the cluster at the address, or start one on this machine where it is `local`, and serve."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints must not stand between our lines
    with contextlib.ExitStack() as stack:
        return joined(out, sys.argv[1], int(sys.argv[2]), stack)


def joined(out: Any, address: str, cores: int, stack: contextlib.ExitStack) -> int:
    """See `main`; `stack` ends last."""
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": cores, "include_dashboard": dashboard(), "object_store_memory": STORE}
        # Ray leaves its logs behind, and nobody else uses this cluster.
        if len(os.path.join(tempfile.gettempdir(), SESSION)) <= LONGEST and not os.environ.get("RAY_TMPDIR"):
            own["_temp_dir"] = str(stack.enter_context(away.room(SESSION)))
    out.write('{"imported": true}\n')  # from here on it is the address that takes its time
    out.flush()
    try:
        cluster = ray.init(address=address, **own, **QUIET)
    except BaseException as error:
        out.write(json.dumps({"error": why_not(error)}) + "\n")
        out.flush()
        return 1
    bridge = Bridge(out, address)
    bridge.tell(ready=ray.__version__)
    if own.get("include_dashboard"):
        bridge.tell(note=f"Ray's dashboard: http://{cluster.dashboard_url}")
    try:
        bridge.work()
    finally:
        if bridge.store is not None:
            bridge.store.forget()
        ray.shutdown()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
