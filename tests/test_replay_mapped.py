"""A replay memory in a mapped file: the same training, exact after a kill, nothing left behind, room checked."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

import playfield
from playfield import compute
from playfield.algos import dqn
from playfield.envs import make_envs
from playfield.errors import StorageError, UsageError
from playfield.replay import budget
from playfield.runs import checkpoint
from playfield.runs.run import Run
from ppo_runs import named
from test_dqn import SMALL
from test_dqn_runs import BREAKOUT

pytestmark = pytest.mark.usefixtures("one_thread")


class _Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("env", "cfg", "workers", "stop"),
    [
        ("CartPole-v1", dataclasses.replace(SMALL, alpha=0.6, n_step=3, capacity=400), 1, 30),
        ("breakout", dataclasses.replace(BREAKOUT, packed=False), 2, 12),
    ],
)
def test_a_resumed_run_ends_as_one_in_memory_does(tmp_path: Path, env: str, cfg, workers: int, stop: int) -> None:
    """Killed after the ring has been filled; and the mapped file changes nothing but where observations lie."""
    steps = (stop + 8) * cfg.batch
    whole = named(env, cfg, steps, workers=workers, fmt="fp32")
    dqn.train(whole, cfg)
    cfg = dataclasses.replace(cfg, mmap=True, packed=True)  # it is plain all the same

    def kill(run: Run) -> None:
        if run.step == stop * cfg.batch:
            run.save()
        assert all(path.suffix == ".seg" for path in (tmp_path / "replay").glob("*/*"))
        if run.step == (stop + 2) * cfg.batch:
            maps = [run._parts[f"actor-{k}"].replay.frames.data for k in range(workers)]
            assert all(isinstance(data, np.memmap) for data in maps)
            raise _Killed

    more = {"workers": workers, "fmt": "fp32", "directory": tmp_path}
    first = named(env, cfg, steps, on_rollout=kill, **more)
    with pytest.raises(_Killed):
        dqn.train(first, cfg)
    first.close()
    second = named(env, cfg, steps, resume=checkpoint.load(tmp_path / "checkpoints"), **more)
    dqn.train(second, cfg)
    assert second.final_hash() == whole.final_hash()
    second.close(), whole.close()
    assert {path.suffix for path in (tmp_path / "replay").glob("*/*")} == {".seg"}


def test_free_disk_is_checked_and_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env = make_envs("breakout", 1)
    monkeypatch.setattr(budget, "free_disk", lambda place: 8 * 10**9)
    monkeypatch.setattr(compute, "free_memory", lambda: 10**9)
    line = budget.replay_need(env, 1_000_000, True, 0.0, tmp_path)[2]
    assert line == "1,000,000 observations in a mapped file of 7.06 GB on the disk, and about 6.0 MB of memory"
    with pytest.raises(UsageError, match="--mmap true"):
        budget.replay_need(env, 1_000_000, False, 0.0)
    with pytest.raises(StorageError, match=r"needs 10\.58 GB on the disk") as told:
        budget.replay_need(env, 1_500_000, True, 0.0, tmp_path)
    fits = int(re.search(r"--capacity (\d+)", str(told.value))[1])
    assert "in a mapped file" in budget.replay_need(env, fits, True, 0.0, tmp_path)[2]
    monkeypatch.setattr(compute, "free_memory", lambda: 10**7)
    with pytest.raises(UsageError, match=r"10\.0 MB are free"):
        budget.replay_need(env, 1_000_000, True, 0.6, tmp_path)
    env.close()


def test_a_memory_too_large_for_the_disk_leaves_nothing_behind(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(budget, "free_disk", lambda place: 10**6)
    with pytest.raises(StorageError, match="on the disk of runs"):
        playfield.train("breakout", "dqn", steps=64, config={"mmap": True})
    assert list(tmp_path.iterdir()) == []
