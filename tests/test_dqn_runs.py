"""Runs of DQN: exact resume with the replay memory, the policy they leave, and mistakes that are told early."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch

import playfield
from playfield import compute
from playfield.algos import dqn, ppo
from playfield.algos._actor import Actor
from playfield.algos._q_network import QNetwork
from playfield.compute import Compute
from playfield.envs import make_envs
from playfield.errors import DivergedError, UsageError
from playfield.replay import budget
from playfield.replay.buffer import Replay
from playfield.runs import checkpoint
from playfield.runs.run import Run
from playfield.training import plan
from ppo_runs import named, run_for
from test_dqn import SMALL, play
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

BREAKOUT = dqn.Config(
    num_envs=4, rollout_steps=4, capacity=150, learning_starts=64, train_period=16, batch_size=8, target_period=64,
    alpha=0.6, double=True, dueling=True, n_step=3, net="nips:width=0.25",
)  # fmt: skip


# Exactness -----------------------------------------------------------------------------------------------


class _Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("env", "cfg", "workers", "fmt", "stop"),
    [
        ("CartPole-v1", SMALL, 1, "fp32", 40),
        ("CartPole-v1", dataclasses.replace(SMALL, alpha=0.6, n_step=3, capacity=400), 1, "fp32", 50),
        ("CartPole-v1", dataclasses.replace(SMALL, noisy=True, dueling=True, anneal=True), 1, "fp32", 40),
        (
            "CartPole-v1",
            dataclasses.replace(SMALL, optimizer="rmsprop", huber=False, epsilon_steps=500),
            1,
            "fp32",
            40,
        ),
        ("breakout", BREAKOUT, 2, "bf16", 13),
        ("breakout", dataclasses.replace(BREAKOUT, noisy=True, concurrent=True), 2, "bf16", 13),
        pytest.param(
            *("breakout", dataclasses.replace(BREAKOUT, packed=False, alpha=0.0), 2, "bf16", 18),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, env, cfg, workers, fmt, stop) -> None:
    """Stopped after the ring has been filled, saved every few rounds; what came after the save is played again."""
    rounds = 25 if env == "breakout" else 80
    whole = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt)
    dqn.train(whole, cfg)

    def kill(run: Run) -> None:
        if run.step in ((stop - 6) * cfg.batch, stop * cfg.batch):
            run.save()
        if run.step == (stop + 2) * cfg.batch:
            for part in run._parts.values():
                part.state()  # a save that was under way: its files are newer than the checkpoint
            raise _Killed

    more = {"workers": workers, "fmt": fmt, "directory": tmp_path}
    first = named(env, cfg, rounds * cfg.batch, on_rollout=kill, **more)
    with pytest.raises(_Killed):
        dqn.train(first, cfg)
    first.close()
    found = checkpoint.load(tmp_path / "checkpoints")
    assert found.step == stop * cfg.batch
    second = named(env, cfg, rounds * cfg.batch, resume=found, **more)
    dqn.train(second, cfg)
    assert second.final_hash() == whole.final_hash()
    assert second.history == [item for item in whole.history if item[0] > found.step]
    assert second.updates == whole.updates > 0
    whole.close(), second.close()


def test_a_policy_made_of_its_weights() -> None:
    env = Identity(1)
    cfg = dataclasses.replace(SMALL, epsilon_end=0.1)
    net = QNetwork(env.spec, "mlp")
    weights = {name: p.detach() for name, p in net.named_parameters()}
    logits, value, values = dqn.load(env.spec, cfg, weights, "cpu")(np.eye(4, dtype=np.float32))
    with torch.no_grad():
        q = net(torch.eye(4)).numpy()
    np.testing.assert_allclose(values, q, rtol=1e-6)
    np.testing.assert_allclose(value, q.max(1), rtol=1e-6)
    np.testing.assert_array_equal(logits.argmax(1), q.argmax(1))
    np.testing.assert_allclose(np.sort(np.exp(logits), 1), np.tile([0.025, 0.025, 0.025, 0.925], (4, 1)), rtol=1e-5)


# Mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_period": 3}, "must divide the rollout"),
        ({"target_period": 0}, "at least 1"),
        ({"epsilon_end": 1.5}, "between 0 and 1"),
        ({"learning_starts": 8}, "one minibatch"),
        ({"batch_size": 0}, "at least 1"),
        ({"capacity": 100}, "at least 144"),
        ({"rollout_steps": 10**9}, "lower --rollout-steps"),
        ({"num_envs": 512, "n_step": 3, "learning_starts": 3_000, "capacity": 20_000}, "one minibatch"),
    ],
)
def test_values_that_cannot_go_together(change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        dataclasses.replace(SMALL, **change).check()


def test_a_replay_that_does_not_fit_is_refused_before_anything_is_made(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compute, "free_memory", lambda: 2 * 10**9)
    with pytest.raises(
        UsageError,
        match=r"\(7\.06 GB\) with what is sampled at once \(\d+\.\d MB\) needs 7\.\d\d GB of memory, "
        r"and 2\.00 GB are free: use --capacity 24\d000 or",
    ):
        playfield.train("breakout", algo="dqn", steps=64, config={"capacity": 1_000_000, "packed": False})
    assert list(tmp_path.iterdir()) == []
    env = make_envs("breakout", 1)
    line = budget.replay_need(env, 1_000_000, True, 0.0)[2]
    assert re.fullmatch(r"1,000,000 observations, about (0\.\d\d|1\.\d\d) GB compressed", line), line
    monkeypatch.setattr(compute, "free_memory", lambda: None)  # a system that does not say
    assert "7.06 GB" in budget.replay_need(env, 1_000_000, False, 0.0)[2]
    env.close()


def test_what_is_told_is_what_is_held() -> None:
    """The estimate against a memory full of random play; it has half of it to spare."""
    env = make_envs("breakout", 4)
    told = float(re.search(r"about ([\d.]+) GB", budget.replay_need(env, 1_000_000, True, 0.0)[2])[1]) * 1000
    actor = Actor(
        env,
        Replay(env.spec, 4, 1_000, np.random.SeedSequence(1), stack=4, packed=True),
        np.random.SeedSequence(0),
        Compute("cpu", "fp32", 1),
    )
    play(actor, QNetwork(env.spec, "nips"), 260, 1.0, clip_reward=True)
    assert 0.6 * told < actor.replay.nbytes / 1000 < told
    env.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [({"capacity": 20}, "--capacity must be at least"), ({"batch_size": 31}, "divide by the 2 workers")],
)
def test_mistakes_leave_nothing_behind(words: dict, told: str, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=told):
        playfield.train("breakout", algo="dqn", steps=64, workers=2, config=words)
    assert list(tmp_path.iterdir()) == []


def test_the_measured_speed_is_that_of_learning() -> None:
    env = make_envs("CartPole-v1", 1)
    updates = []
    cfg = dataclasses.replace(SMALL, batch_size=128, num_envs=64, rollout_steps=1, n_step=3, capacity=5_000)

    class Module:
        @staticmethod
        def train(run: Run, cfg: dqn.Config) -> None:
            told = run.on_rollout
            run.on_rollout = lambda r: (updates.append(r.updates), told(r))
            dqn.train(run, cfg)

    assert plan.measure_speed(Module, cfg, env.spec, Compute("cpu", "fp32", 1), 1) > 0
    learning = [n for n in updates if n]
    assert len(learning) == 1 + 1024 // 64  # one to warm up; and nothing is measured before it
    env.close()


@pytest.mark.parametrize(("each", "rounds"), [(0.1, 17), (4.0, 4)])
def test_measuring_a_slow_training_ends_early(each: float, rounds: int, monkeypatch) -> None:
    env, now, done = make_envs("CartPole-v1", 1), [0.0], []
    cfg = ppo.Config(num_envs=8, rollout_steps=8)

    class Module:
        @staticmethod
        def train(run: Run, cfg: ppo.Config) -> None:
            for _ in run.steps(cfg.batch):
                now[0] += each
                done.append(run.step)

    monkeypatch.setattr(plan.time, "perf_counter", lambda: now[0])
    speed = plan.measure_speed(Module, cfg, env.spec, Compute("cpu", "fp32", 1), 1)
    assert (speed, len(done)) == (pytest.approx(64 / each), rounds)
    env.close()


def test_a_minibatch_has_the_same_weights_however_many_workers_draw_it() -> None:
    """The largest is 1 over the whole minibatch, not over each worker's share."""
    cfg = dataclasses.replace(SMALL, alpha=0.6, batch_size=8)
    seen: list[np.ndarray] = []
    run = run_for(Identity(1).spec, Identity, cfg, 40 * cfg.batch, workers=8)
    whole = dqn.dqn_loss
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dqn, "dqn_loss", lambda q, batch, *a: (seen.append(batch.weights), whole(q, batch, *a))[1])
        dqn.train(run, cfg)
    run.close()
    weights = np.array([w.item() for w in seen])  # shares of one sample each
    assert weights.max() == 1.0
    assert (weights < 0.999).mean() > 0.5


def test_divergence_is_found() -> None:
    cfg = dataclasses.replace(SMALL, lr=1e38)
    env = Identity(1)
    run = run_for(env.spec, Identity, cfg, 100 * cfg.batch)
    with pytest.raises(DivergedError):
        dqn.train(run, cfg)
    run.close()


@pytest.mark.parametrize(("share", "steps"), [(0.1, 0), (0.9, 200)])
def test_epsilon_falls_over_a_share_of_the_training_or_over_steps(share: float, steps: int) -> None:
    given = {"epsilon_end": 0.2, "epsilon_share": share, "epsilon_steps": steps, "learning_starts": 0}
    cfg = dataclasses.replace(SMALL, epsilon_start=1.0, **given)
    told = [cfg.exploration_rate(at, at / 2000) for at in (0, 100, 200, 2000)]
    np.testing.assert_allclose(told, [1.0, 0.6, 0.2, 0.2])
    assert dataclasses.replace(cfg, noisy=True).exploration_rate(0, 0.0) == 0
    at_once = dataclasses.replace(cfg, epsilon_share=0.0, epsilon_steps=0)
    assert at_once.exploration_rate(1, 0.001) == pytest.approx(0.2)


def test_presets_are_whole() -> None:
    for table in dqn.PRESETS.values():
        for cfg in table.values():
            cfg.check(2 if cfg.batch_size % 2 == 0 else 1)


@pytest.mark.parametrize("words", [{"rollout_steps": 10**9}, {"num_envs": 10**8}])
def test_a_rollout_that_does_not_fit_is_refused_before_anything_is_made(words: dict, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"a rollout of [\d,]+ steps needs [\d,.]+ GB"):
        playfield.train("breakout", algo="ppo", steps=64, config=words)
    assert list(tmp_path.iterdir()) == []
