"""Where the machines of one training meet: an address of the first one, at which the others join with a token.

The token is never sent: each side shows that it has it (HMAC over random numbers of both). What follows is not
encrypted. Nothing that comes in is executed: messages are JSON with the bytes of arrays, see `runs.wire`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from playfield import compute
from playfield.compute import Compute, readable_size
from playfield.errors import EnvError, PlayfieldError, UsageError, visible
from playfield.runs.console import Say
from playfield.runs.info import VERSION, source
from playfield.runs.line import Far
from playfield.runs.machine import Machine
from playfield.training.meeting import AGAIN, ANSWER, ANY, TOKEN, Address, Meeting, started_on, token, trouble
from playfield.training.prepare import PROCESS_BYTES

WAIT = 600.0  # seconds that the first machine waits for the others
MOST = 2**16  # bytes of a message before both have shown the token
STRANGERS = 32  # connections at once that have not shown it
LOOK = 0.5  # seconds between two looks at them
ROOM = 0.05  # seconds for which one more waits until the oldest of so many is ended
WORD = 1  # version of what both sides say


class Refused(PlayfieldError):
    """The other side does not take part, and says why."""

    exit_code = UsageError.exit_code


def facts() -> dict[str, Any]:
    """What decides bits on this machine, its name, and the memory that is free."""
    return {
        "host": socket.gethostname(),
        "versions": {"playfield": VERSION, "playfield's source": source(), **compute.versions()},
        "processor": compute.processor(),
        "bf16": compute.bf16_is_faster(),
        "gpu": compute.gpu(),
        "memory": compute.free_memory(),
        "cores": compute.cores(),
    }


def _proof(secret: bytes, *words: str) -> str:
    return hmac.new(secret, "\n".join(words).encode(), hashlib.sha256).hexdigest()


def greet(line: Far, secret: bytes, hello: Mapping[str, Any]) -> None:
    """Show the token to the first machine, be shown it, and say `hello`.

    Raises Refused where it does not take it, ValueError where no training answers, and OSError or EOFError.
    """
    first = line.receive(MOST)
    if not isinstance(first, dict) or first.get("playfield") != WORD or not isinstance(first.get("nonce"), str):
        raise ValueError("no training of this version")
    own, text = secrets.token_hex(32), json.dumps(hello)
    line.send({"nonce": own, "hello": text, "proof": _proof(secret, "join", first["nonce"], own, text)})
    answer = line.receive(MOST)
    if not isinstance(answer, dict) or "refused" in answer:
        raise Refused(str(answer["refused"])[:500] if isinstance(answer, dict) else "it gives no reason")
    if not hmac.compare_digest(str(answer.get("proof")), _proof(secret, "lead", own, first["nonce"])):
        raise Refused(f"it does not have the same {TOKEN}")


def _admit(line: Far, secret: bytes) -> dict[str, Any]:
    """The `hello` of a machine that has shown the token. Raises Refused, ValueError, OSError or EOFError."""
    own = secrets.token_hex(32)
    line.send({"playfield": WORD, "nonce": own})
    given = line.receive(MOST)
    if not isinstance(given, dict):
        raise ValueError("no machine that wants to join")
    nonce, text, proof = (str(given[name]) for name in ("nonce", "hello", "proof"))
    if not hmac.compare_digest(proof, _proof(secret, "join", own, nonce, text)):
        line.send({"refused": f"{TOKEN} is another one there"})
        raise Refused("it does not have the token")
    line.send({"proof": _proof(secret, "lead", nonce, own)})
    hello = json.loads(text)
    if not isinstance(hello, dict):
        raise ValueError("it does not say what it is")
    return hello


class Rendezvous:
    """The first machine's side.

    Args:
        where: address to listen at.
        workers: of each machine.
        count: machines, this one included.
        chosen: how the training computes.
        say: receives lines for a person.

    Raises:
        UsageError: it cannot listen there, or there is no token.
    """

    def __init__(self, where: Address, workers: int, count: int, chosen: Compute, say: Say) -> None:
        self._secret, self._say = token(), say
        self._workers, self._count, self._chosen = workers, count, chosen
        self._own = facts()
        self._came: queue.Queue[tuple[Far, str, dict[str, Any]]] = queue.Queue()
        self._strangers: dict[Far, float] = {}  # lines that have not shown the token: when they are ended
        self._fewer = threading.Condition()  # of them; held where they are changed
        self._over = False
        self._joining: dict[int, tuple[Machine, str, list[Far | None]]] = {}  # the text: what its workers show
        self._told: set[str] = set()
        try:
            family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
            self._socket = socket.create_server((where.host, where.port), family=family, backlog=STRANGERS)
        except (OSError, UnicodeError, OverflowError) as error:
            why = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # Python adds the address
            raise UsageError(f"--rendezvous {where}: this machine cannot listen there: {why}") from None
        self._socket.settimeout(LOOK)  # closing it does not wake a thread that accepts
        self.where = Address(socket.gethostname() if where.host in ANY else where.host, where.port)

    def machines(self) -> list[Machine]:
        """Wait until all others have joined. Raises UsageError where they do not within `WAIT`."""
        listens = threading.Thread(target=self._listen, name="playfield-rendezvous", daemon=True)
        listens.start()
        missing = self._count - 1
        more = f"{missing} more machine{'s' * (missing > 1)}"
        by_hand = f"; there: playfield train --join {self.where} (with the same {TOKEN})"
        self._say(f"waiting for {more}{', which Ray starts' if started_on() else by_hand}")
        end = time.monotonic() + WAIT
        try:
            while len(found := [m for m, _, lines in self._joining.values() if all(lines)]) < missing:
                if why := trouble():
                    raise UsageError(f"another machine does not come: {why}")
                if time.monotonic() > end:
                    raise UsageError(
                        f"{len(found) + 1} of {self._count} machines came to {self.where} in {WAIT / 60:.0f} minutes"
                    )
                with contextlib.suppress(queue.Empty):
                    self._meet(*self._came.get(timeout=0.2))
                self._drop()
            return sorted(found, key=lambda machine: machine.number)
        except BaseException:
            for machine, _, lines in self._joining.values():
                machine.end(UsageError.exit_code, "it did not begin")
                _let_go(machine, lines)
            raise
        finally:
            self._over = True
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # where that wakes it at once
            listens.join()
            self._socket.close()
            with self._fewer:  # who has shown the token now comes too late, see `_shake`
                for line in self._strangers:
                    line.cut()
                self._strangers.clear()
            with contextlib.suppress(queue.Empty):
                while True:
                    self._came.get_nowait()[0].close()

    def _drop(self) -> None:
        """Forget machines that are gone again."""
        for number, (machine, _, lines) in list(self._joining.items()):
            if machine.lost:
                del self._joining[number]
                self._say(f"{machine.error()}; waiting for another")
                machine.end(EnvError.exit_code, f"{machine.error()}; it waits for another machine")
                _let_go(machine, lines)

    def _listen(self) -> None:
        while not self._over:
            try:
                connection, source = self._socket.accept()
                line = Far(connection)
            except TimeoutError:
                self._make_room(STRANGERS)
                continue
            except OSError:  # that one is gone again, or this process has too many files open
                if not self._over:
                    time.sleep(AGAIN)
                continue
            self._make_room(STRANGERS - 1)
            with self._fewer:
                self._strangers[line] = time.monotonic() + ANSWER
            threading.Thread(target=self._shake, args=(line, str(source[0])), daemon=True).start()

    def _make_room(self, most: int) -> None:
        """End the lines whose time is over, and then the oldest, until so many strangers are left."""
        with self._fewer:
            for line in [line for line, end in self._strangers.items() if time.monotonic() > end]:
                self._end_stranger(line)
            if not self._fewer.wait_for(lambda: len(self._strangers) <= most, ROOM):
                while len(self._strangers) > most:
                    self._end_stranger(next(iter(self._strangers)))

    def _end_stranger(self, line: Far) -> None:
        del self._strangers[line]
        line.cut()  # its thread closes it

    def _shake(self, line: Far, source: str) -> None:
        """Let the other side show its token, in `ANSWER` seconds, see `_make_room`."""
        try:
            line.timeout(ANSWER)
            hello = _admit(line, self._secret)
            with self._fewer:
                if line in self._strangers:
                    self._came.put((line, source, hello))
                    return
            line.close()
        except Refused as error:
            line.close()
            if source not in self._told and len(self._told) < STRANGERS:
                self._told.add(source)
                self._say(f"note: refused {source}: {error}")
        except Exception:  # whatever a stranger sends
            line.close()
        finally:
            with self._fewer:
                self._strangers.pop(line, None)
                self._fewer.notify_all()

    def _meet(self, line: Far, source: str, hello: dict[str, Any]) -> None:
        """A machine, or a worker of one that has been taken."""
        try:
            if "session" not in hello:
                self._take(line, source, hello)
                return
            machine, session, lines = self._joining[int(hello["machine"])]
            if hello["session"] != session or lines[int(hello["worker"])] is not None:
                raise ValueError("no worker that is waited for")
            line.timeout(None)
            lines[int(hello["worker"])] = line
            if ready := [one for one in lines if one is not None] if all(lines) else []:
                machine.begin(ready)
                self._say(f"{machine.name} has joined")
        except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError):
            line.close()

    def _take(self, line: Far, source: str, hello: dict[str, Any]) -> None:
        host = visible(str(hello.get("host")))[:100]
        why, cores = (
            self._why_not(hello),
            int(hello.get("cores", self._workers)),
        )  # which an earlier version does not tell
        if len(self._joining) == self._count - 1:
            why = why or f"all {self._count} machines are there"
        if why:
            self._say(f"note: refused {host} ({source}): {why}")
            line.send({"refused": why})
            line.close()
            return
        number = next(n for n in range(2, self._count + 1) if n not in self._joining)
        workers = range((number - 1) * self._workers, number * self._workers)
        session = secrets.token_hex(16)  # of its own: one with this number before it may have lines on the way
        line.send({"machine": number, "session": session, "workers": self._workers})
        line.timeout(None)
        machine = Machine(number, host, line, workers)
        if what := self._other_processor(hello):
            machine.note = f"note: bits may differ: {machine.name} has another processor, {what}"
            self._say(machine.note)
        gpus = [str(side["gpu"]["name"]) for side in (self._own, hello) if side["gpu"]]
        if self._chosen.device == "cuda" and len(set(gpus)) > 1:
            has = visible(f"{gpus[1][:100]} instead of {gpus[0]}")
            self._say(f"note: {machine.name} has another GPU, {has}: all wait for the slower one")
        if cores < self._workers:
            has = f"{cores} core{'s' * (cores > 1)} for {self._workers} workers"
            self._say(f"note: {machine.name} has {has}, for which all others wait: --workers sets their number")
        self._joining[number] = (machine, session, [None] * self._workers)

    def _why_not(self, hello: dict[str, Any]) -> str:
        """Why a machine cannot take part; empty where it can."""
        own, there = self._own["versions"], hello["versions"]
        same = [name for name in own if name not in ("machine", "processor")]
        if differ := [
            f"{name} {there.get(name)} instead of {own[name]}" for name in same if there.get(name) != own[name]
        ]:
            return f"it has other versions: {', '.join(visible(text)[:100] for text in differ)}"
        bf16, begin = self._chosen.precision == "bf16", "use another machine, or begin the training with"
        if self._chosen.device == "cuda":
            if not hello["gpu"]:
                return f"torch finds no CUDA device there, and this training uses one: {begin} --device cpu"
            if bf16 and self._own["gpu"].get("bf16") and not hello["gpu"]["bf16"]:
                return f"its GPU has no bfloat16, and this training uses it: {begin} --precision fp32"
        elif bf16 and self._own["bf16"] and not hello["bf16"]:
            return f"its processor has no bfloat16, and this training uses it: {begin} --precision fp32"
        need, free = self._workers * PROCESS_BYTES, hello["memory"]
        if free is not None and need > compute.MEMORY_SHARE * int(free):
            return f"its workers need {readable_size(need)} of memory, and {readable_size(int(free))} are free there"
        return ""

    def _other_processor(self, hello: dict[str, Any]) -> str:
        own, there = self._own["processor"], hello["processor"]
        differ = sorted(set(own["features"].split()) ^ set(str(there["features"]).split()))
        kinds = [(side["versions"]["machine"], side["versions"]["processor"]) for side in (self._own, hello)]
        if own["model"] == there["model"] and not differ and kinds[0] == kinds[1]:
            return ""
        only = f" (only one of the two has {' '.join(differ)[:200]})" if differ else ""
        return visible(f"{str(there['model'])[:100]} instead of {own['model']}{only}")


def _let_go(machine: Machine, lines: list[Far | None]) -> None:
    """End the lines to a machine, also where some of its workers have not joined."""
    machine.close(0.0)
    for line in lines:
        if line is not None:
            line.close()


def meet(asked: Meeting | None, chosen: Compute, say: Say) -> Callable[[], list[Machine]] | None:
    """What waits for the other machines of a training; None: it has one machine."""
    if asked is None:
        return None
    workers = chosen.workers // asked.nodes

    def wait() -> list[Machine]:
        return Rendezvous(asked.where, workers, asked.nodes, chosen, say).machines()

    return wait
