"""PPO: the loss against a slow scalar computation, bootstrapping against known values, learning, exactness."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from playfield import checkpoint
from playfield.actor_critic import log_softmax, sample
from playfield.algos import ppo
from playfield.compute import Compute
from playfield.envs import EnvSpec, Episode, Step, make_envs
from playfield.errors import DivergedError, UsageError
from playfield.run import Run

SMALL = ppo.Config(num_envs=8, rollout_steps=16, epochs=4, minibatches=4, net="mlp", clip_reward=False)


def run_for(
    spec: EnvSpec,
    make: Any,
    cfg: ppo.Config,
    steps: int,
    seed: int = 1,
    workers: int = 1,
    fmt: str = "fp32",
    **more,
) -> Run:
    compute = dataclasses.asdict(Compute("cpu", fmt, workers))
    info = {"env": spec.id, "algo": "ppo", "spec": spec, "seed": seed, "steps": steps, "compute": compute}
    info |= {"config": dataclasses.asdict(cfg), "protocol": spec.protocol}
    return Run(info, make, **more)


def named(env: str, cfg: ppo.Config, steps: int, **more) -> Run:
    probe = make_envs(env, 1)
    probe.close()
    return run_for(probe.spec, lambda n: make_envs(env, n), cfg, steps, **more)


def network(run: Run) -> nn.Module:
    return run._parts["learner"].net


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# The loss ------------------------------------------------------------------------------------------------


class Given(nn.Module):
    """A net whose outputs are given: obs are row numbers."""

    def __init__(self, logits: np.ndarray, values: np.ndarray) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float32))

    def forward(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.logits[obs], self.values[obs]


def slow_loss(rows, logits, values, batch, cfg, clip) -> dict[str, float]:
    """Each term for one sample at a time, in Python's floats."""
    terms = dict.fromkeys(("policy_gradient_loss", "value_loss", "entropy_loss", "approx_kl", "clip_fraction"), 0.0)
    for i in rows:
        total = sum(math.exp(x) for x in logits[i])
        probs = [math.exp(x) / total for x in logits[i]]
        ratio = probs[batch["actions"][i]] / math.exp(batch["logprobs"][i])
        a = float(batch["advantages"][i])
        clipped = min(max(ratio, 1 - clip), 1 + clip)
        terms["policy_gradient_loss"] -= min(ratio * a, clipped * a)
        error = (values[i] - batch["returns"][i]) ** 2
        if cfg.clip_value:
            move = min(max(values[i] - batch["values"][i], -clip), clip)
            error = max(error, (batch["values"][i] + move - batch["returns"][i]) ** 2)
        terms["value_loss"] += error
        terms["entropy_loss"] += sum(p * math.log(p) for p in probs)
        terms["approx_kl"] += ratio - 1 - math.log(ratio)
        terms["clip_fraction"] += abs(ratio - 1) > clip
    out = {k: v / len(rows) for k, v in terms.items()}
    policy, value, entropy = out["policy_gradient_loss"], out["value_loss"], out["entropy_loss"]
    out["loss"] = policy + cfg.vf_coef * value / 2 + cfg.ent_coef * entropy
    return out


def loss_case(seed: int, n: int, actions: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    random = np.random.default_rng(seed)
    logits, values = random.normal(size=(n, actions)), random.normal(size=n) * 2
    taken = random.integers(0, actions, n)
    old = log_softmax(logits + random.normal(size=(n, actions)) * 0.3)
    batch = {
        "obs": np.arange(n),
        "actions": taken,
        "logprobs": old[np.arange(n), taken].astype(np.float32),
        "advantages": random.normal(size=n).astype(np.float32),
        "returns": (values + random.normal(size=n)).astype(np.float32),
        "values": (values + random.normal(size=n) * 0.3).astype(np.float32),
    }
    return logits, values, batch


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 9),
    actions=st.integers(2, 5),
    clip=st.sampled_from([0.05, 0.1, 0.2, 0.5]),
    clip_value=st.booleans(),
    ent_coef=st.sampled_from([0.0, 0.01, 0.5]),
    vf_coef=st.sampled_from([0.5, 1.0]),
)
def test_loss_equals_a_slow_computation(seed, n, actions, clip, clip_value, ent_coef, vf_coef):
    cfg = dataclasses.replace(SMALL, clip_value=clip_value, ent_coef=ent_coef, vf_coef=vf_coef)
    logits, values, batch = loss_case(seed, n, actions)
    net = Given(logits, values)
    tensors = {k: torch.from_numpy(v) for k, v in batch.items()}
    loss, stats = ppo.ppo_loss(net, tensors, cfg, clip, n)
    expected = slow_loss(range(n), logits, values, batch, cfg, clip)
    assert loss.item() == pytest.approx(expected["loss"], abs=1e-4)
    assert stats == pytest.approx(expected, abs=1e-4)

    # Two shares of the minibatch sum to the whole, in value and in gradient.
    loss.backward()
    whole = net.logits.grad.clone(), net.values.grad.clone()
    net.zero_grad()
    cut = n // 3
    parts = []
    for rows in (slice(0, cut), slice(cut, n)):
        part, stats_part = ppo.ppo_loss(net, {k: v[rows] for k, v in tensors.items()}, cfg, clip, n)
        part.backward()
        parts.append(stats_part)
    assert {k: parts[0][k] + parts[1][k] for k in stats} == pytest.approx(stats, abs=1e-5)
    torch.testing.assert_close(net.logits.grad, whole[0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(net.values.grad, whole[1], atol=1e-6, rtol=1e-4)


def test_loss_by_hand():
    # Two actions of probability 1/2 each, the first was taken with probability 0.4: ratio 1.25, clip 0.1.
    # advantage +2: min(2.5, 1.1*2) = 2.2, beyond the clip: no gradient.  value 3, old 1, return 0: clipped to 1.1,
    # max(9, 1.21) = 9.  entropy ln 2.  loss = -2.2 + 0.5*0.5*9 - 0.01*ln 2
    batch = {
        "obs": torch.tensor([0]),
        "actions": torch.tensor([0]),
        "logprobs": torch.tensor([math.log(0.4)]),
        "advantages": torch.tensor([2.0]),
        "returns": torch.tensor([0.0]),
        "values": torch.tensor([1.0]),
    }
    cfg = dataclasses.replace(SMALL, clip_value=True, vf_coef=0.5, ent_coef=0.01)
    net = Given(np.zeros((1, 2)), np.array([3.0]))
    loss, stats = ppo.ppo_loss(net, batch, cfg, 0.1, 1)
    assert loss.item() == pytest.approx(-2.2 + 2.25 - 0.01 * math.log(2), abs=1e-6)
    assert stats["clip_fraction"] == 1
    loss.backward()
    assert net.logits.grad.abs().max() < 1e-6  # a uniform policy's entropy has no slope either
    assert net.values.grad.item() == pytest.approx(0.5 * 0.5 * 2 * 3)
    # The same with advantage -2: max(-2.5, -2.2) is not taken, the loss is 2.5 and pushes the action down.
    net.zero_grad()
    loss, stats = ppo.ppo_loss(net, batch | {"advantages": torch.tensor([-2.0])}, cfg, 0.1, 1)
    assert stats["policy_gradient_loss"] == pytest.approx(2.5)
    loss.backward()
    assert net.logits.grad[0, 0] == pytest.approx(1.25 * 2 * 0.5)  # ratio * |A| * (1 - p)


# Sampling ------------------------------------------------------------------------------------------------


def test_sampling_by_hand_and_by_frequency():
    logprobs = np.log(np.array([0.2, 0.5, 0.3], np.float32))
    uniform = np.array([0, 0.19, 0.21, 0.69, 0.71, 0.999999999])
    assert sample(np.tile(logprobs, (6, 1)), uniform).tolist() == [0, 0, 1, 1, 2, 2]
    drawn = sample(np.tile(logprobs, (20_000, 1)), np.random.default_rng(0).random(20_000))
    np.testing.assert_allclose(np.bincount(drawn) / 20_000, [0.2, 0.5, 0.3], atol=0.015)


def test_impossible_actions_are_never_drawn():
    logprobs = log_softmax(np.array([[-1e4, 0, -1e4], [0, -1e4, -1e4], [-1e4, -1e4, 0]], np.float32))
    for u in (0.0, 0.5, np.nextafter(1, 0)):
        assert sample(logprobs, np.full(3, u)).tolist() == [1, 0, 2]


# Bootstrapping -------------------------------------------------------------------------------------------


class Corridor:
    """`cut` steps to a game, then it ends by termination or truncation. Reward 1 from every state but the first
    where `free_start`. Obs: one number per state, the last for the true end; constant where `blind`."""

    def __init__(self, n: int, cut: int, how: str, blind: bool = False, free_start: bool = True) -> None:
        self.num_envs, self.cut, self.how, self.blind, self.free_start = n, cut, how, blind, free_start
        size = 1 if blind else cut + 1
        self.spec = EnvSpec("corridor", "gymnasium", (size,), "float32", 2, ("a", "b"), {})

    def observe(self, at: np.ndarray) -> np.ndarray:
        if self.blind:
            return np.ones((self.num_envs, 1), np.float32)
        return np.eye(self.cut + 1, dtype=np.float32)[at]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.at = np.asarray(seeds) % self.cut  # games are out of step with each other
        return self.observe(self.at)

    def step(self, actions: np.ndarray) -> Step:
        reward = np.where((self.at == 0) & (not self.free_start), 0, 1).astype(np.float32)
        true = self.at + 1
        ended = true == self.cut
        self.at = np.where(ended, 0, true)
        no = np.zeros(self.num_envs, bool)
        terminated, truncated = {"end": (ended, no), "cut": (no, ended), "both": (ended, ended)}[self.how]
        episodes = [Episode(int(i), float(self.cut), self.cut) for i in np.flatnonzero(ended)]
        return Step(self.observe(self.at), self.observe(true), reward, terminated, truncated, episodes)

    def state(self) -> dict[str, Any]:
        return {"at": self.at.copy()}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        self.at = state["at"].copy()
        return self.observe(self.at)

    def close(self) -> None:
        pass


GAMMA = 0.9
VALUE_FIRST = ppo.Config(
    num_envs=8, rollout_steps=32, epochs=6, minibatches=2, lr=5e-3, gamma=GAMMA, gae_lambda=0.95, clip_value=False,
    ent_coef=0.0, vf_coef=1.0, max_grad_norm=0.0, net="mlp", clip_reward=False, norm_advantage=False,
)  # fmt: skip


def learned_values(**corridor) -> np.ndarray:
    """Values of all states after training."""
    env = Corridor(1, **corridor)
    run = run_for(env.spec, lambda n: Corridor(n, **corridor), VALUE_FIRST, 60 * VALUE_FIRST.batch)
    ppo.train(run, VALUE_FIRST)
    obs = torch.ones(1, 1) if env.blind else torch.eye(env.cut + 1)
    with torch.no_grad():
        values = network(run)(obs)[1].numpy()
    run.close()
    return values


def test_truncation_bootstraps():
    # Nothing ever ends: 1 / (1 - 0.9) = 10. Taken for a termination, it would be about 3.
    assert learned_values(cut=5, how="cut", blind=True)[0] == pytest.approx(10, rel=0.03)


def test_truncation_bootstraps_from_the_true_successor():
    # Only the first state of a game pays nothing: V(end) = 10 if trained as a successor. The end state itself is
    # never acted in, so it is not trained; what must hold is V(s) = r + gamma V(s + 1) on the way to it.
    values = learned_values(cut=4, how="cut", free_start=False)
    end = values[4]
    expected = [sum(GAMMA**i for i in range(1 if s == 0 else 0, 4 - s)) + GAMMA ** (4 - s) * end for s in range(4)]
    np.testing.assert_allclose(values[:4], expected, rtol=0.03, atol=0.1)
    wrong = [sum(GAMMA**i for i in range(1 if s == 0 else 0, 4 - s)) + GAMMA ** (4 - s) * values[0] for s in range(4)]
    assert abs(np.array(wrong) - expected).max() > 0.5  # the test can tell the two apart


@pytest.mark.parametrize("how", ["end", "both"])
def test_termination_does_not_bootstrap(how):
    values = learned_values(cut=5, how=how)
    expected = [(1 - GAMMA ** (5 - s)) / (1 - GAMMA) for s in range(5)]
    np.testing.assert_allclose(values[:5], expected, rtol=0.03, atol=0.05)


# Learning ------------------------------------------------------------------------------------------------


class Identity:
    """Reward 1 where the action is the one shown; a game has 8 steps. With `pixels` the number is a bright bar."""

    def __init__(self, n: int, size: int = 4, pixels: bool = False) -> None:
        self.num_envs, self.size, self.pixels = n, size, pixels
        shape, dtype = ((36, 36, 1), "uint8") if pixels else ((size,), "float32")
        names = tuple(map(str, range(size)))
        self.spec = EnvSpec("identity", "gymnasium", shape, dtype, size, names, {})

    def observe(self) -> np.ndarray:
        if not self.pixels:
            return np.eye(self.size, dtype=np.float32)[self.shown]
        obs = np.zeros((self.num_envs, 36, 36, 1), np.uint8)
        for i, k in enumerate(self.shown):
            obs[i, :, 9 * k : 9 * k + 9] = 255
        return obs

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.random = np.random.default_rng(seeds)
        self.shown = self.random.integers(0, self.size, self.num_envs)
        self.t, self.score = 0, np.zeros(self.num_envs)
        return self.observe()

    def step(self, actions: np.ndarray) -> Step:
        reward = (actions == self.shown).astype(np.float32)
        self.score += reward
        self.t += 1
        self.shown = self.random.integers(0, self.size, self.num_envs)
        obs, no = self.observe(), np.zeros(self.num_envs, bool)
        if self.t < 8:
            return Step(obs, obs, reward, no, no)
        episodes = [Episode(i, float(s), 8) for i, s in enumerate(self.score)]
        self.t, self.score = 0, np.zeros(self.num_envs)
        return Step(obs, obs, reward, ~no, no, episodes)

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, state: dict[str, Any]) -> np.ndarray:
        raise NotImplementedError

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("pixels", "workers", "fmt"), [(False, 1, "fp32"), (True, 2, "bf16")])
def test_learns_identity(pixels, workers, fmt):
    cfg = dataclasses.replace(SMALL, lr=3e-3, net="nips" if pixels else "mlp", ent_coef=0.0)
    env = Identity(1, pixels=pixels)
    rounds = 40 if pixels else 60
    run = run_for(env.spec, lambda n: Identity(n, pixels=pixels), cfg, rounds * cfg.batch, workers=workers, fmt=fmt)
    ppo.train(run, cfg)
    last = [score for _, score in run.history[-48:]]
    assert np.mean([score for _, score in run.history[:16]]) < 4.5  # chance is 2
    assert np.mean(last) / 8 > 0.95
    run.close()


def test_learns_cartpole():
    cfg = ppo.PRESETS["vector"]["default"]
    run = named("CartPole-v1", cfg, 60 * cfg.batch)
    ppo.train(run, cfg)
    assert run.score >= 300, run.score
    assert run.games == len(run.history)
    # Every step but those of unfinished games is in the books.
    assert run.step == 60 * cfg.batch
    run.close()


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


@pytest.mark.parametrize(
    "bad", [{"minibatches": 0}, {"minibatches": 7}, {"epochs": 0}, {"num_envs": 0}, {"rollout_steps": 0}]
)
def test_impossible_configurations(bad):
    with pytest.raises(UsageError, match=next(iter(bad)).replace("_", "-")):
        dataclasses.replace(SMALL, **bad).check()


def test_one_sample_in_a_minibatch_cannot_be_normalised():
    cfg = dataclasses.replace(SMALL, num_envs=2, rollout_steps=2, minibatches=4)
    with pytest.raises(UsageError, match="minibatches"):
        cfg.check()
    dataclasses.replace(cfg, norm_advantage=False).check()


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
        on_round=lambda r: seen.append((r._metrics["train/learning_rate"], r._metrics["train/clip_range"])),
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


# Divergence ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_divergence_is_found_at_once_and_saved_weights_stay_finite(tmp_path, workers):
    cfg = dataclasses.replace(SMALL, lr=1e38, anneal=False)
    run = named("CartPole-v1", cfg, 50 * cfg.batch, workers=workers, directory=tmp_path, save_seconds=0.0)
    with pytest.raises(DivergedError, match="--lr") as caught:
        ppo.train(run, cfg)
    assert caught.value.exit_code == 4
    assert run.step <= 2 * cfg.batch
    run.close()
    folder = tmp_path / "checkpoints"
    if folder.exists():
        weights = checkpoint.load(folder).tree["parts"]["learner"]["weights"]
        assert all(torch.isfinite(torch.as_tensor(w)).all() for w in weights.values())


# Exactness -----------------------------------------------------------------------------------------------

CARTPOLE = dataclasses.replace(SMALL, epochs=2)
BREAKOUT = ppo.Config(num_envs=4, rollout_steps=16, epochs=1, minibatches=2, net="nips")  # 64 steps a round


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
from test_ppo import CARTPOLE, final_hash
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

    first = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt, directory=tmp_path, on_round=kill)
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
