"""PPO is exact: one seed gives one run, in any process, with any threads, stopped and resumed."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from playfield.algos import ppo
from playfield.runs import checkpoint
from playfield.runs.run import Run
from ppo_runs import SMALL, named

pytestmark = pytest.mark.usefixtures("one_thread")

CARTPOLE = dataclasses.replace(SMALL, epochs=2)
BREAKOUT = ppo.Config(num_envs=4, rollout_steps=16, epochs=1, minibatches=2, net="nips:width=0.25")  # 64 a round


def final_hash(env: str, cfg: ppo.Config, rounds: int, **more) -> str:
    run = named(env, cfg, rounds * cfg.batch, **more)
    ppo.train(run, cfg)
    digest = run.final_hash()
    run.close()
    return digest


@pytest.mark.parametrize("workers", [1, 2])
def test_the_seed_decides_everything(tmp_path, workers):
    first = final_hash("CartPole-v1", CARTPOLE, 4, workers=workers)
    assert final_hash("CartPole-v1", CARTPOLE, 4, workers=workers) == first
    assert final_hash("CartPole-v1", CARTPOLE, 4, workers=workers, seed=2) != first
    # Neither the global generators nor saving after every round change anything.
    np.random.seed(5), torch.manual_seed(5)  # noqa: NPY002
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    saved = final_hash("CartPole-v1", CARTPOLE, 4, workers=workers, directory=tmp_path, save_seconds=0.0)
    assert saved == first
    assert (torch.random.get_rng_state() == before[0]).all()
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_two_workers_on_breakout_repeat():
    first, second = (final_hash("breakout", BREAKOUT, 8, workers=2, fmt="bf16") for _ in range(2))
    assert first == second


HASH_CODE = """
from test_ppo_exact import CARTPOLE, final_hash
print(final_hash("CartPole-v1", CARTPOLE, 3, workers=2))
"""


def test_another_process_with_other_string_hashes_ends_with_the_same_hash():
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    path = os.pathsep.join([*sys.path, str(Path(__file__).parent)])
    env = {**os.environ, "PYTHONHASHSEED": other, "PYTHONPATH": path}
    command = [sys.executable, "-c", HASH_CODE]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == final_hash("CartPole-v1", CARTPOLE, 3, workers=2)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_callers_threads_change_nothing(workers):
    hashes = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        hashes.add(final_hash("CartPole-v1", CARTPOLE, 2, workers=workers))
        assert torch.get_num_threads() == threads
    assert len(hashes) == 1


class _Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("env", "cfg", "workers", "fmt", "stop"),
    [
        ("CartPole-v1", CARTPOLE, 1, "fp32", 1),
        ("CartPole-v1", CARTPOLE, 4, "fp32", 3),
        ("breakout", BREAKOUT, 2, "bf16", 3),
    ],
)
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, env, cfg, workers, fmt, stop):
    rounds = 5
    whole = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt)
    ppo.train(whole, cfg)

    def kill(run: Run) -> None:
        if run.step == stop * cfg.batch:
            run.save()
            raise _Killed

    first = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt, directory=tmp_path, on_rollout=kill)
    with pytest.raises(_Killed):
        ppo.train(first, cfg)
    first.close()
    found = checkpoint.load(tmp_path / "checkpoints")
    assert found.step == stop * cfg.batch
    second = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt, directory=tmp_path, resume=found)
    assert second.step == found.step
    ppo.train(second, cfg)
    assert second.final_hash() == whole.final_hash()
    assert (second.games, list(second.scores), second.updates) == (
        whole.games,
        list(whole.scores),
        whole.updates,
    )
    assert second.history == [item for item in whole.history if item[0] > found.step]
    again = checkpoint.load(tmp_path / "checkpoints")  # the end is saved, and says its hash
    assert (again.step, again.meta["hash"]) == (whole.step, whole.final_hash())
    whole.close(), second.close()


def test_a_resumed_run_keeps_a_better_best(tmp_path):
    """`best` is the best of the whole run, not of the last session."""
    cfg = dataclasses.replace(CARTPOLE, lr=0.0)
    first = named("CartPole-v1", cfg, 4 * cfg.batch, directory=tmp_path)
    ppo.train(first, cfg)
    first.close()
    folder = tmp_path / "checkpoints"
    assert checkpoint.read_best(folder)["score"] == first.score
    checkpoint.mark_best(folder, folder / f"ckpt-{first.step:012d}", 1e6, {"step": first.step})
    second = named("CartPole-v1", cfg, 8 * cfg.batch, directory=tmp_path, resume=checkpoint.load(folder))
    ppo.train(second, cfg)
    second.close()
    assert checkpoint.read_best(folder)["score"] == 1e6
