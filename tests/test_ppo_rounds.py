"""Rounds of PPO: every sample once, whole minibatches, schedules, and the books of games."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from playfield.algos import ppo
from playfield.errors import UsageError
from ppo_runs import SMALL, Corridor, named, run_for

pytestmark = pytest.mark.usefixtures("one_thread")


# Books ---------------------------------------------------------------------------------------------------


def test_games_are_booked_once_in_the_order_they_ended():
    cfg = dataclasses.replace(SMALL, num_envs=6, rollout_steps=20, minibatches=4)
    env = Corridor(1, 5, "end")
    run = run_for(env.spec, lambda n: Corridor(n, 5, "end"), cfg, 2 * cfg.batch, workers=3)
    ppo.train(run, cfg)
    steps = [at for at, _ in run.history]
    assert steps == sorted(steps)
    assert run.games == len(steps) == 6 * 40 // 5  # each env plays 40 steps in games of 5
    assert all(at % 6 == 0 and 0 < at <= run.step for at in steps)
    assert {score for _, score in run.history} == {5.0}
    assert run.updates == 2 * cfg.epochs * cfg.minibatches
    run.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_shares_that_do_not_divide_are_refused(workers):
    """A minibatch of 15 cannot be cut in two equal shares: a sample must not be dropped in silence."""
    cfg = dataclasses.replace(SMALL, num_envs=6, rollout_steps=5, minibatches=2)
    env = Corridor(1, 5, "end")
    run = run_for(env.spec, lambda n: Corridor(n, 5, "end"), cfg, cfg.batch, workers=workers)
    if workers == 1:
        ppo.train(run, cfg)
    else:
        with pytest.raises(UsageError, match="minibatches"):
            ppo.train(run, cfg)
    run.close()


# Advantages are normalised over the whole minibatch ------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_advantages_are_normalised_over_the_whole_minibatch(workers, monkeypatch):
    seen: list[tuple[int, np.ndarray]] = []
    plain = ppo.ppo_loss

    def spy(net, batch, cfg, clip, size, ent_coef):
        seen.append((size, batch["advantages"].numpy().copy()))
        return plain(net, batch, cfg, clip, size, ent_coef)

    monkeypatch.setattr(ppo, "ppo_loss", spy)
    cfg = dataclasses.replace(SMALL, epochs=2)
    run = named("CartPole-v1", cfg, cfg.batch, workers=workers)
    ppo.train(run, cfg)
    run.close()
    assert len(seen) == cfg.epochs * cfg.minibatches * workers
    for at in range(0, len(seen), workers):
        whole = np.concatenate([advantages for _, advantages in seen[at : at + workers]])
        assert len(whole) == cfg.batch // cfg.minibatches == seen[at][0]
        assert whole.mean() == pytest.approx(0, abs=1e-5)
        assert whole.std(ddof=1) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_epoch_takes_every_sample_once_and_starts_at_ratio_one(workers, monkeypatch):
    seen: list[np.ndarray] = []
    ratios: list[float] = []
    plain = ppo.ppo_loss

    def spy(net, batch, cfg, clip, size, ent_coef):
        loss, stats = plain(net, batch, cfg, clip, size, ent_coef)
        seen.append(batch["obs"].numpy().copy())
        ratios.append(abs(stats["approx_kl"]) + stats["clip_fraction"])
        return loss, stats

    monkeypatch.setattr(ppo, "ppo_loss", spy)
    cfg = dataclasses.replace(SMALL, epochs=3)
    run = named("CartPole-v1", cfg, cfg.batch, workers=workers)
    ppo.train(run, cfg)
    stored = np.concatenate(
        [r.obs.numpy().reshape(-1, 4) for r in (run._parts[f"rollout-{k}"] for k in range(workers))]
    )
    run.close()
    per_epoch = cfg.minibatches * workers
    orders = []
    for e in range(cfg.epochs):
        rows = np.concatenate(seen[e * per_epoch : (e + 1) * per_epoch])
        assert sorted(map(tuple, rows)) == sorted(map(tuple, stored))
        orders.append(rows)
    assert not np.array_equal(orders[0], orders[1])  # shuffled anew
    assert max(ratios[:workers]) < 1e-6  # the first update sees the policy that acted
    assert max(ratios) > 1e-6


def test_target_kl_ends_a_round_early():
    cfg = dataclasses.replace(SMALL, target_kl=1e-12, lr=1e-2)
    run = named("CartPole-v1", cfg, 3 * cfg.batch)
    ppo.train(run, cfg)
    assert run.updates == 3 * cfg.minibatches
    run.close()


def test_learning_rate_and_clip_fall_linearly():
    cfg = dataclasses.replace(SMALL, anneal=True, anneal_clip=True, lr=1e-3, clip=0.2, epochs=1)
    seen = []
    run = named(
        "CartPole-v1", cfg, 4 * cfg.batch,
        on_rollout=lambda r: seen.append((r._metrics["train/learning_rate"], r._metrics["train/clip_range"])),
    )  # fmt: skip
    ppo.train(run, cfg)
    run.close()
    np.testing.assert_allclose(seen, [(1e-3 * f, 0.2 * f) for f in (1, 0.75, 0.5, 0.25)])


def test_rewards_are_clipped_for_learning_only_where_asked():
    class Rich(Corridor):
        def step(self, actions):
            record = super().step(actions)
            record.reward = record.reward * 7
            return record

    for clip_reward, expected in ((True, 1), (False, 7)):
        cfg = dataclasses.replace(SMALL, clip_reward=clip_reward)
        env = Rich(1, 5, "end")
        run = run_for(env.spec, lambda n: Rich(n, 5, "end"), cfg, cfg.batch)
        ppo.train(run, cfg)
        assert (run._parts["rollout-0"].rewards == expected).all()
        assert set(run.scores) == {5.0}  # the env's own score
        run.close()
