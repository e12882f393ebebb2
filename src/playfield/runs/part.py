"""What a checkpoint holds under one name."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


class Part(Protocol):
    """What a checkpoint saves under one name: a learner, a worker's environments, a target network.

    `state` is a tree of dicts with NumPy arrays, tensors and JSON values as leaves; `restore` goes back to one.
    """

    def state(self) -> dict[str, Any]: ...

    def restore(self, state: dict[str, Any]) -> None: ...


@runtime_checkable
class Begins(Protocol):
    """A part with weights that may start from given ones."""

    def begin(self, weights: dict[str, Any]) -> None: ...
