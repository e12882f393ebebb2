"""Workers that run the same function, each with its own number: threads, or processes in lockstep."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from playfield.runs.group import Ended, Group

R = TypeVar("R")


class Team:
    """`size` worker threads that run the same function, each with its own number (0 to size - 1).

    A team of one runs the function in the caller's thread, unless `background` is set: `start` needs a thread.
    """

    def __init__(self, size: int, *, background: bool = False) -> None:
        self.size, self._inline = size, size == 1 and not background
        self._jobs: list[queue.SimpleQueue[Any]] = [queue.SimpleQueue() for _ in range(size)]
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(k,), name=f"worker-{k}", daemon=True)
            for k in range(0 if self._inline else size)
        ]
        for thread in self._threads:
            thread.start()

    def _work(self, k: int) -> None:
        torch.set_num_threads(1)
        while (fn := self._jobs[k].get()) is not None:
            try:
                self._done.put((k, fn(k), None))
            except BaseException as error:
                self._done.put((k, None, error))

    def run(self, fn: Callable[[int], R]) -> list[R]:
        """Compute [fn(0), ..., fn(size - 1)] in parallel. Raises the error of the lowest-numbered failed worker."""
        if self._inline:
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # like any worker: results must not depend on the caller's setting
            try:
                return [fn(0)]
            finally:
                torch.set_num_threads(threads)
        self.start(fn)
        return self.wait()

    def start(self, fn: Callable[[int], Any]) -> None:
        """Start fn(0), ..., fn(size - 1) in the background; call `wait` for the results."""
        if self._closed:
            raise RuntimeError("this team of workers is closed")
        for jobs in self._jobs:
            jobs.put(fn)

    def wait(self) -> list[Any]:
        """The results of what was started, once all are done. Raises as `run` does."""
        out: list[Any] = [None] * self.size
        errors: list[BaseException | None] = [None] * self.size
        for _ in range(self.size):
            k, out[k], errors[k] = self._done.get()
        for error in errors:
            if error is not None:
                raise error
        return out

    def each(self, fn: Callable[[int], R]) -> list[R]:
        """As `run`, for what would only hold the interpreter's lock: threads leave it to the caller's."""
        return [fn(k) for k in range(self.size)]

    def differentiate(self, fn: Callable[[int], R]) -> list[R]:
        """As `run`, for what computes gradients."""
        return self.run(fn)

    def spread(self, fn: Callable[[int], R]) -> list[R]:
        """As `run`, for what is done where weights are updated: not every worker is there."""
        return self.run(fn)

    def change_weights(self, fn: Callable[[int], Any]) -> None:
        """As `spread`, for what updates weights: all workers have the new ones then."""
        self.run(fn)

    def tell(self, parts: Sequence[Any], *names: str) -> None:
        """Each worker's part becomes known to all by these attributes. Threads share them in any case."""

    def close(self) -> None:
        """Stop the threads."""
        self._closed = True
        for jobs in self._jobs:
            jobs.put(None)
        for thread in self._threads:
            thread.join(timeout=10)


class Processes(Team):
    """The workers of a `Group`, as one of them: a function runs here with the own number, elsewhere with others.

    Args:
        fetch: called before a function that may use the weights: to have those of the last update here.
    """

    def __init__(self, group: Group, fetch: Callable[[], None] = lambda: None) -> None:
        self.group, self.size, self._fetch = group, group.size, fetch

    def run(self, fn: Callable[[int], R]) -> list[R]:
        """[fn(0), ..., fn(size - 1)]: computed in their processes and gathered in all of them."""
        return self.group.gather(*self._tried(lambda: self._with_weights(fn)))

    def differentiate(self, fn: Callable[[int], R]) -> list[R]:
        """As `run`, for what computes gradients, which reach the machine that sums them."""
        return self.group.gather_gradients(*self._tried(lambda: self._with_weights(fn)))

    def _with_weights(self, fn: Callable[[int], R]) -> R:
        self._fetch()
        return fn(self.group.rank)

    def spread(self, fn: Callable[[int], R]) -> list[R]:
        """[fn(0), ..., fn(size - 1)]: computed on the machine where weights are updated, gathered everywhere."""
        return self._sorted(self.group.gather(*self._tried(lambda: self._share(fn))))

    def change_weights(self, fn: Callable[[int], Any]) -> None:
        """As `spread`, for what updates weights, which reach all machines."""
        self.group.gather_weights(*self._tried(lambda: self._share(fn) and None))

    def _share(self, fn: Callable[[int], R]) -> list[R]:
        return [fn(k) for k in self.group.share(self.group.rank)]

    def _sorted(self, shares: list[list[R]]) -> list[R]:
        parts = [(self.group.share(rank), share) for rank, share in enumerate(shares)]
        found = {k: value for numbers, share in parts for k, value in zip(numbers, share, strict=True)}
        return [found[k] for k in range(self.size)]

    def _tried(self, do: Callable[[], Any]) -> tuple[Any, BaseException | None]:
        """What `do` returns, or what it raises."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            return do(), None
        except Ended:
            raise
        except BaseException as error:
            return None, error
        finally:
            torch.set_num_threads(threads)

    def each(self, fn: Callable[[int], R]) -> list[R]:
        """As `run`, for what does not use the weights."""
        return self.group.gather(*self._tried(lambda: fn(self.group.rank)))

    def tell(self, parts: Sequence[Any], *names: str) -> None:
        """Each worker's part becomes known to all by these attributes."""
        own = parts[self.group.rank]
        for part, told in zip(parts, self.group.gather([getattr(own, name) for name in names]), strict=True):
            for name, value in zip(names, told, strict=True):
                setattr(part, name, value)

    def start(self, fn: Callable[[int], Any]) -> None:
        """Not for processes."""
        raise NotImplementedError

    def close(self) -> None:
        """The group ends with the training."""
