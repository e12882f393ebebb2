"""Workers of a training as processes: started once, for the measurement of its speed and for itself.

They begin as new interpreters: a copy of this one (fork) could hang on locks that its threads hold, and
`multiprocessing` would run the user's script again, which must not need `if __name__ == "__main__"`. They search
modules where this one does, and make their environments themselves, from the spec.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from playfield import compute
from playfield.compute import Compute
from playfield.envs import hang, make_from
from playfield.envs.base import EnvSpec
from playfield.envs.objects import HERE
from playfield.errors import EnvError, PlayfieldError
from playfield.runs import algorithm, registered
from playfield.runs.console import Say
from playfield.runs.follower import Follower
from playfield.runs.group import PATIENCE, Ended, Leader, Link, Member, Note, answer, collect_notes
from playfield.runs.info import spec_from
from playfield.runs.signals import stopping
from playfield.runs.wire import from_bytes
from playfield.training.plan import envs_of

_BEGIN = (
    "import json, sys; life, link, file, parent = map(int, sys.argv[1:5]); sys.path[:] = json.loads(sys.argv[5]); "
    "from playfield.runs import tied; tied.tie(life, parent); "
    "from playfield.training import processes; processes.serve(link, file)"
)


class Pool:
    """Worker processes 1 to `workers` - 1; this process is worker 0. `close` ends them.

    Raises OSError where they cannot be started.
    """

    def __init__(self, workers: int) -> None:
        self._links: list[Link] = []
        self._closed = False
        self._file = _shared_file()
        read, self._life = os.pipe()
        held = signal.pthread_sigmask(signal.SIG_BLOCK, stopping())  # until a worker can handle them
        try:
            for rank in range(1, workers):
                self._links.append(self._start(rank, read))
        except BaseException:
            self.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)
            os.close(read)

    def _start(self, rank: int, read: int) -> Link:
        here, there = Pipe()
        with there:
            handles = (read, there.fileno(), self._file)
            numbers = [*map(str, (*handles, os.getpid())), json.dumps(sys.path)]
            process = subprocess.Popen([sys.executable, "-c", _BEGIN, *numbers], pass_fds=handles)
        return Link(rank, process, here)

    def ready(self, algo: str, spec: EnvSpec) -> None:
        """Wait until all can make the environment. Raises PlayfieldError, or what else hinders one."""
        for link in self._links:
            link.send(("ready", algo, dataclasses.asdict(spec), registered.module_of(spec)))
        failed = []
        for link in self._links:
            try:
                link.receive()
            except Exception as error:
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
        }
        for link in self._links:
            link.send(("train", {**task, "rank": link.rank}))
        return Leader(self._links, self._file)

    @property
    def pids(self) -> list[int]:
        """Process ids."""
        return [link.process.pid for link in self._links]

    def close(self) -> None:
        """End the processes; none is left. It may be called again."""
        if self._closed:
            return
        self._closed = True
        for link in self._links:
            link.send(("exit",))
            link.close()  # so that one which waits for another word ends too
        end = time.monotonic() + PATIENCE
        for link in self._links:
            try:
                link.process.wait(timeout=max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                link.process.kill()
                link.process.wait()
        self._links.clear()
        os.close(self._file)
        os.close(self._life)


def _shared_file() -> int:
    """A file without a name, in memory where the system has such: nothing is left of it, whatever ends us."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("playfield", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def tell_threads(asked: str, how: str, why: str, say: Say) -> None:
    """A line where workers are threads though processes were asked for: `why`, or since there is one worker."""
    if asked == "processes" and how == "threads":
        say(f"note: workers are threads: {why or 'there is only one'}")


@contextlib.contextmanager
def started(how: str, algo: str, spec: EnvSpec, chosen: Compute, say: Say) -> Iterator[Pool | None]:
    """The worker processes of a training, if its workers are such; None: they are threads.

    Args:
        how: `threads` or `processes`.
        say: gets a line where they have to be threads all the same.
    """
    pool = None
    if how == "processes" and chosen.workers > 1:
        try:
            if spec.id.startswith(f"{HERE}:") or registered.module_of(spec) == HERE:
                raise EnvError("only this process knows the environment; put it into a module of its own")
            pool = Pool(chosen.workers)
            pool.ready(algo, spec)
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
    finally:
        if pool is not None:
            pool.close()


def serve(link: int, file: int) -> None:
    """A worker process: does what the leader says until that ends it."""
    for descriptor in (link, file):  # what an environment starts must not hold them
        os.set_inheritable(descriptor, False)
    connection, notes = Connection(link), list[Note]()
    collect_notes(notes)

    def last_words(text: str, code: int) -> None:
        error = EnvError(text)
        error.exit_code = code
        answer(connection, None, error, notes)

    hang.of_worker(last_words)
    for signum in stopping():
        signal.signal(signum, lambda *_: hang.raise_if_ended())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, stopping())
    compute.setup()
    while True:
        try:
            word, *content = from_bytes(connection.recv_bytes())
        except (EOFError, OSError):
            word = "exit"
        if word == "exit":
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
            os._exit(0)
        try:
            if word == "ready":
                _ready(*content)
                answer(connection, None, None, notes)
            elif word == "train":
                (task,) = content
                _train(task, Member(task["rank"], task["size"], file, connection, notes))
            elif word == "end":  # of a training that this process could not begin
                answer(connection, "ended", None, notes)
        except Exception as error:
            answer(connection, None, error, notes)


def _ready(algo: str, stored: dict[str, Any], module: str | None) -> None:
    """The algorithm can be loaded here, and the environment made."""
    spec = spec_from({"spec": stored})
    algorithm.load(algo)
    registered.require({"registered_by": module}, spec, trust=True)
    make_from(spec, 1).close()


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
                    member.listen("all", "go", "state", "restore")
        try:
            run.close()
        except Exception as error:
            member.answer(None, error)
    member.answer("ended")
