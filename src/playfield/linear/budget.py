"""Memory estimate for linear methods; refuse what does not fit.

`cfg` is a linear method's `Config`, whose `numbers` counts what it keeps.
"""

from __future__ import annotations

from typing import Any

from playfield import compute
from playfield.errors import UsageError
from playfield.linear.features import Coder


def training_bytes(cfg: Any, actions: int, coder: Coder) -> int:
    """Bytes of weights, traces and stored steps, and of the copy of them while a checkpoint is written.

    Raises UsageError where they do not fit into free memory.
    """
    shared, own = cfg.numbers(actions, coder)
    need = int(2 * 8 * (shared + cfg.num_envs * own))
    hints = ["fewer features"] + ["a smaller --num-envs"] * (cfg.num_envs > 1)
    hints += ["a smaller --n-step"] * (getattr(cfg, "n_step", 1) > 1)
    what = f"weights, traces and stored steps of {coder.size:,} features ({coder.active:,} active)"
    _refuse(need, f"{what} need", " or ".join(hints))
    return need


def experiment_bytes(cfg: Any, actions: int, coder: Coder, runs: int, episodes: int, threads: int) -> int:
    """Bytes of `runs` runs of `many.experiment`, `threads` at a time. Raises UsageError as `training_bytes`."""
    shared, own = cfg.numbers(actions, coder)
    tables = len(coder.cells) + len(coder.numbers) if len(coder.numbers) else 0  # of `iht`, one for each run
    # The results are there twice while they are stacked: weights; steps, returns and errors of episodes.
    need = int(8 * (runs * (2 * shared + tables + 6 * episodes) + threads * own))
    hints = ["runs"] * (runs > 1) + ["episodes", "features"] + ["n_step"] * (getattr(cfg, "n_step", 1) > 1)
    what = f"{runs:,} run{'s' * (runs > 1)} of {episodes:,} episodes with {coder.size:,} features"
    _refuse(need, f"{what} would need", f"less of {', '.join(hints)}")
    return need


def _refuse(need: int, what: str, hint: str) -> None:
    """Raise UsageError unless `need` bytes are free."""
    if (free := compute.free_memory()) is not None and need > 0.9 * free:
        amount = f"{need / 1e9:,.2f}" if need < 10**15 else f"10^{len(str(need // 10**9)) - 1}"
        raise UsageError(f"{what} {amount} GB, and {free / 1e9:.2f} GB are free: use {hint}")
