"""Memory estimate for linear methods; refuse what does not fit.

`cfg` is a linear method's `Config`, whose `numbers` counts what it keeps.
"""

from __future__ import annotations

from typing import Any

from playfield.compute import refuse_if_larger
from playfield.linear.features import Coder


def training_bytes(cfg: Any, actions: int, coder: Coder) -> int:
    """Bytes of weights, traces and stored steps, and of the copy of them while a checkpoint is written.

    Raises UsageError where they do not fit into free memory.
    """
    shared, own = cfg.numbers(actions, coder)
    need = int(2 * 8 * (shared + cfg.num_envs * own))
    hints = ["fewer features"] + ["a smaller --num-envs"] * (cfg.num_envs > 1)
    hints += [f"a smaller {flag}" for flag in cfg.memory_options]
    what = f"learning with {coder.size:,} features ({coder.active:,} active)"
    refuse_if_larger(need, what, "use " + " or ".join(hints))
    return need


def experiment_bytes(cfg: Any, actions: int, coder: Coder, runs: int, episodes: int, threads: int) -> int:
    """Bytes of `runs` runs of `many.experiment`, `threads` at a time. Raises UsageError as `training_bytes`."""
    shared, own = cfg.numbers(actions, coder)
    tables = len(coder.cells) + len(coder.numbers) if len(coder.numbers) else 0  # of `iht`, one for each run
    # The results are there twice while they are stacked: weights; steps, returns and errors of episodes.
    need = int(8 * (runs * (2 * shared + tables + 6 * episodes) + threads * own))
    own_options = [flag.removeprefix("--").replace("-", "_") for flag in cfg.memory_options]
    hints = ["runs"] * (runs > 1) + ["episodes", "features", *own_options]
    what = f"{runs:,} run{'s' * (runs > 1)} of {episodes:,} episodes with {coder.size:,} features"
    refuse_if_larger(need, what, f"use less of {', '.join(hints)}")
    return need
