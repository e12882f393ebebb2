"""What linear methods take of the memory, told to be too much before anything is made.

`cfg` is a linear method's `Config`, whose `numbers` counts what it keeps.
"""

from __future__ import annotations

from typing import Any

from playfield import compute
from playfield.errors import UsageError
from playfield.linear.features import Coder


def of_training(cfg: Any, actions: int, coder: Coder) -> int:
    """Bytes of weights, traces and past steps, and of the copy of them that a checkpoint is made of.

    Raises UsageError where they do not fit into the memory that is free.
    """
    shared, own = cfg.numbers(actions, coder)
    need = 2 * 8 * (shared + cfg.num_envs * own)
    many = f"{coder.size:,} features, {coder.active:,} of them on at once,"
    hints = ["fewer features"] + ["a smaller --num-envs"] * (cfg.num_envs > 1)
    hints += ["a smaller --n-step"] * (getattr(cfg, "n_step", 1) > 1)
    _refuse(need, f"weights, traces and past steps of {many} take", " or ".join(hints))
    return need


def of_runs(cfg: Any, actions: int, coder: Coder, runs: int, episodes: int, threads: int) -> int:
    """Bytes of `runs` at once, as `playfield.experiment` makes them. Raises UsageError as `of_training`."""
    shared, own = cfg.numbers(actions, coder)
    tables = len(coder.cells) + len(coder.numbers) if len(coder.numbers) else 0  # of `iht`: each run has its own
    # What runs leave is there twice while it is put together: weights; steps, returns and errors of episodes.
    need = 8 * (runs * (2 * shared + tables + 6 * episodes) + threads * own)
    hints = ["runs"] * (runs > 1) + ["episodes", "features"] + ["n_step"] * (getattr(cfg, "n_step", 1) > 1)
    what = f"{runs:,} run{'s' * (runs > 1)} of {episodes:,} episodes with {coder.size:,} features"
    _refuse(need, f"{what} would take", f"less of {', '.join(hints)}")
    return need


def _refuse(need: int, what: str, mend: str) -> None:
    if (free := compute.free_memory()) is not None and need > 0.9 * free:
        told = f"{need / 1e9:,.2f}" if need < 10**15 else f"10^{len(str(need // 10**9)) - 1}"
        raise UsageError(f"{what} {told} GB, and {free / 1e9:.2f} GB are free: use {mend}")
