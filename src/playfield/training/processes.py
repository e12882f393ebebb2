"""Workers of a training as processes: started once, for the measurement of its speed and for itself.

They begin as new interpreters: a copy of this one (fork) could hang on locks that its threads hold, and
`multiprocessing` would run the user's script again, which must not need `if __name__ == "__main__"`. They search
modules where this one does, and make their environments themselves, from the spec.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.compute import Compute
from playfield.envs import hang, make_from
from playfield.envs.base import EnvSpec
from playfield.envs.objects import HERE
from playfield.errors import EnvError, PlayfieldError, UsageError, visible
from playfield.runs import algorithm, catalog, registered
from playfield.runs.algorithm import Config
from playfield.runs.console import Say
from playfield.runs.follower import Follower
from playfield.runs.group import PATIENCE, Child, Ended, Leader, Link, Member
from playfield.runs.info import spec_from
from playfield.runs.line import Far, Line, Near
from playfield.runs.machine import Away, Machine
from playfield.runs.notes import Note, answer, collect_notes
from playfield.runs.signals import stopping
from playfield.training.children import Children, possible
from playfield.training.plan import envs_of


class Pool:
    """Worker processes 1 to `workers` - 1, and those of other machines; this process is worker 0. `close` ends them.

    Raises EnvError where they cannot be started.
    """

    def __init__(self, workers: int, machines: Sequence[Machine] = ()) -> None:
        self._links: list[Link] = []
        self._closed, self._home, self.machines = False, range(workers), machines
        try:
            self._children = Children()
        except EnvError as error:
            _dismiss(machines, error)
            raise
        try:
            for rank in range(1, workers):
                with possible():
                    here, there = Pipe()
                with there:
                    process = self._children.start(there.fileno())
                self._links.append(Child(rank, process, Near(here), self._home))
        except BaseException as error:
            self.close(error)
            raise
        for machine in machines:
            self._links += machine.links
        self.notes = [machine.note for machine in machines if machine.note]

    def ready(self, algo: str, spec: EnvSpec, cfg: Config | None = None, device: str = "cpu") -> None:
        """Wait until all can make the environment, and use their GPU where the `device` is one.

        Of several machines all must have the packages of the environment, and of what `cfg` names, in one version.

        Raises PlayfieldError, or what else hinders one.
        """
        own = registered.packages_of(spec) if self.machines else {}
        if self.machines and cfg is not None:
            own |= catalog.providers(algo, cfg)
        for link in self._links:
            content = (algo, dataclasses.asdict(spec), registered.module_of(spec), hang.time_limit(), list(own))
            link.send(("ready", *content, link.rank - link.home.start if device == "cuda" else None))
        failed = []
        for link in self._links:
            try:
                there = link.receive()
                if differ := [f"{k} {there.get(k)} instead of {v}" for k, v in own.items() if there.get(k) != v]:
                    raise UsageError(f"it has other versions: {visible(', '.join(differ))}")
            except Exception as error:
                if isinstance(error, PlayfieldError) and isinstance(link, Away) and link.usable:  # it has answered
                    error.args = (f"on {link.machine.name}: {error}",)
                failed.append(error)
        if failed:
            raise failed[0]

    def begin(
        self,
        algo: str,
        info: Mapping[str, Any],
        cfg: Any,
        directory: Path | None = None,
        keep: int = 3,
        saved: Collection[str] = (),
    ) -> Leader:
        """Begin a training in the workers; `saved`: names of the parts of the checkpoint that it goes on from."""
        task = {
            "info": {**info, "spec": dataclasses.asdict(info["spec"])},
            "algo": algo,
            "config": dataclasses.asdict(cfg),
            "directory": None if directory is None else str(directory),
            "keep": keep,
            "saved": list(saved),
            "limit": hang.time_limit(),
            "size": len(self._links) + 1,
            "lead": len(self._home),
        }
        for link in self._links:
            link.send(("train", {**task, "rank": link.rank, "home": (link.home.start, link.home.stop)}))
        leader = Leader(self._links, self._children.file, self._home)
        for machine in self.machines:
            machine.on_stop = leader.asked_to_stop
        return leader

    @property
    def pids(self) -> list[int]:
        """Process ids of those on this machine."""
        return self._children.pids

    def close(self, error: BaseException | None = None) -> None:
        """End the processes; none is left. It may be called again. `error`: what has ended the training."""
        if self._closed:
            return
        self._closed = True
        for link in self._links:
            link.send(("exit",))
            if isinstance(link, Child):
                link.line.close()  # so that one which waits for another word ends too
        _dismiss(self.machines, error)
        self._children.close()
        end = time.monotonic() + PATIENCE
        for machine in self.machines:
            machine.close(end - time.monotonic())
        self._links.clear()


def _dismiss(machines: Sequence[Machine], error: BaseException | None) -> None:
    """Let other machines know that the training has ended, and by what."""
    code, why = 0 if error is None else getattr(error, "exit_code", 1), str(error or "")
    if isinstance(error, KeyboardInterrupt):
        code, why = 128 + signal.SIGINT, "stopped by SIGINT"
    for machine in machines:
        machine.end(code, why)


def tell_threads(asked: str, how: str, why: str, say: Say) -> None:
    """A line where workers are threads though processes were asked for: `why`, or since there is one worker."""
    if asked == "processes" and how == "threads":
        say(f"note: workers are threads: {why or 'there is only one'}")


def _only_here(spec: EnvSpec) -> bool:
    """Whether no other process can make the environment."""
    return spec.id.startswith(f"{HERE}:") or registered.module_of(spec) == HERE


@contextlib.contextmanager
def started(
    how: str,
    algo: str,
    spec: EnvSpec,
    cfg: Config,
    chosen: Compute,
    say: Say,
    machines: Callable[[], Sequence[Machine]] | None = None,
) -> Iterator[Pool | None]:
    """The worker processes of a training, if its workers are such; None: they are threads.

    Args:
        how: `threads` or `processes`.
        say: gets a line where they have to be threads all the same.
        machines: finds the other machines of the training; None: it has this one alone.

    Raises what hinders workers on several machines.
    """
    pool = None
    if machines is not None:
        if _only_here(spec):
            raise UsageError("only this process knows the environment: put it into a module that all machines have")
        others = machines()
        pool = Pool(chosen.workers // (1 + len(others)), others)
        try:
            pool.ready(algo, spec, cfg, chosen.device)
        except BaseException as error:
            pool.close(error)
            raise
    elif how == "processes" and chosen.workers > 1:
        try:
            if _only_here(spec):
                raise EnvError("only this process knows the environment; put it into a module of its own")
            pool = Pool(chosen.workers)
            pool.ready(algo, spec, cfg, chosen.device)
        except (Exception, Ended) as error:
            if pool is not None:
                pool.close()
                pool = None
            why = str(error) if isinstance(error, PlayfieldError) else f"{type(error).__name__}: {error}"
            say(f"note: workers are threads, not processes: {why}")
        except BaseException:
            if pool is not None:
                pool.close()
            raise
    try:
        yield pool
    except BaseException as error:
        if pool is not None:
            pool.close(error)
        raise
    if pool is not None:
        pool.close()


def serve(link: int, file: int, far: bool) -> None:
    """A worker process: does what the leader says until that ends it.

    Args:
        link: file descriptor of its line to the leader.
        file: that of the memory that the workers of this machine share.
        far: the leader is on another machine.
    """
    for descriptor in (link, file):  # what an environment starts must not hold them
        os.set_inheritable(descriptor, False)
    line = Far(socket.socket(fileno=link)) if far else Near(Connection(link))
    for signum in stopping():
        signal.signal(signum, lambda *_: hang.raise_if_ended())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping())
    compute.setup()
    work(line, file)
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)


def work(line: Line, file: int) -> bool:
    """Do what the leader says on a line until it ends that; whether it has said so."""
    notes = list[Note]()
    collect_notes(notes)

    def last_words(text: str, code: int) -> None:
        error = EnvError(text)
        error.exit_code = code
        answer(line, None, error, notes)

    hang.of_worker(last_words)
    while True:
        try:
            word, *content = line.receive()
        except (EOFError, OSError, ValueError):
            return False
        if word == "exit":
            return True
        try:
            if word == "ready":
                answer(line, _ready(*content), None, notes)
            elif word == "train":
                (task,) = content
                home, lead = range(*task["home"]), range(task["lead"])
                _train(task, Member(task["rank"], task["size"], file, line, notes, home, lead))
            elif word == "end":  # of a training that this process could not begin
                answer(line, "ended", None, notes)
        except Exception as error:
            answer(line, None, error, notes)


def _ready(
    algo: str, stored: dict[str, Any], module: str | None, limit: float, packages: list[str], gpu: int | None = None
) -> dict[str, str]:
    """The algorithm can be loaded here, and the environment made, each call of it within `limit` seconds.

    `gpu`: this process computes on the GPU of this worker of its machine. The first machine's worker 0 is the process
    that leads, which computes on the device that it has chosen, by default the first.

    Returns the versions here of those packages that are named.
    """
    if gpu is not None:
        compute.take_gpu(gpu)
    spec = spec_from({"spec": stored})
    with hang.limited(limit):
        algorithm.load(algo)
        registered.require({"registered_by": module}, spec, trust=True)
        make_from(spec, 1).close()
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def _train(task: dict[str, Any], member: Member) -> None:
    """Take part in a training until the leader ends it."""
    spec, module = spec_from(task["info"]), algorithm.load(task["algo"])
    info, directory = {**task["info"], "spec": spec}, task["directory"] and Path(task["directory"])
    cfg = module.Config(**task["config"])
    make = envs_of(spec, Compute(**info["compute"]), cfg.failures)
    run = Follower(info, make, directory, task["keep"], member, task["saved"])
    with hang.limited(task["limit"]), hang.stopped_by_signals():
        try:
            module.train(run, cfg)
        except Ended:
            pass
        except Exception as error:  # the leader finds it where it waits for an answer
            member.answer(None, error)
            with contextlib.suppress(Ended):
                while True:
                    member.listen("all", "go", "state", "restore", "begin")
        try:
            run.close()
        except Exception as error:
            member.answer(None, error)
    member.answer("ended")
