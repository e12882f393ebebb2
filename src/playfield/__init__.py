"""Train, evaluate, watch and explain agents that learn to play.

>>> import playfield
>>> result = playfield.train("CartPole-v1", steps=100_000)
>>> policy = playfield.load_policy(result.directory)
>>> playfield.evaluate(policy, games=10).summary()["mean"]

Names are loaded on first use, so that `import playfield` is fast.
"""

from __future__ import annotations

import importlib
import logging
import types
from typing import TYPE_CHECKING, Any

# Where matplotlib can keep no font cache, it says so on standard error at every start. Pictures are the same without.
if logging.getLogger("matplotlib").level == logging.NOTSET:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)

_HOMES = {
    "aggregate": "playfield.experiments.summary",
    "evaluate": "playfield.play.evaluate",
    "experiment": "playfield.linear.many",
    "list_runs": "playfield.experiments.records",
    "load_policy": "playfield.play.agent",
    "make_envs": "playfield.envs",
    "open_replay": "playfield.replay.saved",
    "record": "playfield.show.record",
    "train": "playfield.training.train",
}

_COMMANDS = {
    "compare": "In Python: `playfield.aggregate` and `playfield.runs` read what it has trained",
    "tune": "In Python: `playfield.runs` lists its trainings; `playfield.train` takes its best.toml as `preset`",
    "eval": "In Python: `playfield.evaluate`",
    "watch": "In Python: `playfield.record` films an agent",
    "explain": "In Python: `from playfield.show.explain import explain`",
    "collect": "In Python: `from playfield.datasets.collect import collect`",
    "lesson": "In Python: `playfield.lessons.run`, after `import playfield.lessons`",
    "games": "In Python: `playfield.make_envs` makes one",
}
"""What there is in Python for commands that are no functions."""

__all__ = [
    "__version__",
    "aggregate",
    "evaluate",
    "experiment",
    "list_runs",
    "load_policy",
    "make_envs",
    "open_replay",
    "record",
    "train",
]

if TYPE_CHECKING:
    __version__: str
    from playfield.envs import make_envs
    from playfield.experiments.records import list_runs
    from playfield.experiments.summary import aggregate
    from playfield.linear.many import experiment
    from playfield.play.agent import load_policy
    from playfield.play.evaluate import evaluate
    from playfield.replay.saved import open_replay
    from playfield.show.record import record
    from playfield.training.train import train


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return str(importlib.import_module("importlib.metadata").version("playfield"))
    if name not in _HOMES:
        raise AttributeError(f"module 'playfield' has no attribute {name!r}{_instead(name)}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # a submodule of the same name would win otherwise
    return value


def _instead(name: str) -> str:
    """What there is in the place of a name that is a command, or that is nearly another's."""
    if name.startswith("_"):
        return ""
    if name in _COMMANDS:
        return f": it is a command, `playfield {name}`. {_COMMANDS[name]}"
    errors = importlib.import_module("playfield.errors")
    close = [f"playfield.{one}" for one in errors.nearest(name, [*__all__, "runs"])]
    return f": did you mean {', '.join(close)}?" if close else ""


def __dir__() -> list[str]:
    return sorted({*__all__, "runs"})


class _Runs(types.ModuleType):
    """The package `playfield.runs`, which can also be called: as `list_runs`."""

    def __call__(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = __getattr__("list_runs")(*args, **kwargs)
        return found


importlib.import_module("playfield.runs").__class__ = _Runs
