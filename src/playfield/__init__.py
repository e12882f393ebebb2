"""Train, evaluate, watch and explain agents that learn to play.

>>> import playfield
>>> result = playfield.train("CartPole-v1", steps=100_000)
>>> policy = playfield.load_policy(result.directory)
>>> playfield.evaluate(policy, games=10).summary()["mean"]

Names are loaded on first use, so that `import playfield` is fast.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "evaluate": "playfield.evaluation",
    "experiment": "playfield.linear",
    "load_policy": "playfield.policy",
    "make_envs": "playfield.envs",
    "open_replay": "playfield.recall",
    "record": "playfield.show",
    "train": "playfield.session",
}

__all__ = ["__version__", "evaluate", "experiment", "load_policy", "make_envs", "open_replay", "record", "train"]

if TYPE_CHECKING:
    from playfield.envs import make_envs
    from playfield.evaluation import evaluate
    from playfield.linear import experiment
    from playfield.policy import load_policy
    from playfield.recall import open_replay
    from playfield.session import train
    from playfield.show import record


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'playfield' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # a submodule of the same name would win otherwise
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
