"""A2C: its loss and what it learns from against naive ones, what ends mean, that it learns, and resumes exactly."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from playfield.algos import a2c
from playfield.errors import UsageError
from playfield.runs import checkpoint
from playfield.runs.run import Run
from ppo_runs import Corridor, Noise, named, run_for
from test_ppo import Given
from test_ppo_learning import Identity
from test_pqn import GAMMA, forward_view

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = a2c.Config(
    num_envs=8, rollout_steps=8, lr=5e-3, gamma=GAMMA, gae_lambda=0.95, ent_coef=0.0, vf_coef=1.0, max_grad_norm=0.0,
    optimizer="adam", net="mlp", clip_reward=False,
)  # fmt: skip
GAMES = dataclasses.replace(SMALL, num_envs=1, rollout_steps=12, whole_games=True)


# The loss ------------------------------------------------------------------------------------------------


def naive_loss(rows, logits, values, batch, cfg: a2c.Config, size: int) -> dict[str, float]:
    """Each term for one sample at a time, in Python's floats."""
    policy = value = negative_entropy = 0.0
    for i in rows:
        total = sum(math.exp(x) for x in logits[i])
        probs = [math.exp(x) / total for x in logits[i]]
        policy -= math.log(probs[batch["actions"][i]]) * float(batch["advantages"][i]) / size
        error = abs(values[i] - float(batch["returns"][i]))
        huber = 0.5 * error**2 if error <= 1 else error - 0.5
        value += (huber if cfg.huber else error**2) / size
        negative_entropy += sum(p * math.log(p) for p in probs) / size
    loss = policy + cfg.vf_coef * value + cfg.ent_coef * negative_entropy
    return dict(loss=loss, policy_gradient_loss=policy, value_loss=value, entropy_loss=negative_entropy)


@pytest.mark.parametrize("huber", [False, True])
@pytest.mark.parametrize("size", [1, 9])
def test_loss_equals_a_naive_one(huber: bool, size: int) -> None:
    cfg = dataclasses.replace(SMALL, huber=huber, ent_coef=0.3, vf_coef=0.7)
    rng = np.random.default_rng(0)
    logits, values = rng.normal(size=(9, 3)), rng.normal(size=9) * 2
    batch = {
        "obs": np.arange(9),
        "actions": rng.integers(0, 3, 9),
        "returns": (values + rng.normal(size=9) * 1.5).astype(np.float32),
        "advantages": rng.normal(size=9).astype(np.float32),
    }
    assert set(abs(values - batch["returns"]) < 1) == {False, True}  # both parts of Huber's error
    tensors = {key: torch.from_numpy(value) for key, value in batch.items()}
    net = Given(logits, values)
    loss, stats = a2c.a2c_loss(net, tensors, cfg, size)
    expected = naive_loss(range(9), logits, values, batch, cfg, size)
    assert stats | {"loss": loss.item()} == pytest.approx(expected, rel=1e-4) == stats

    # The gradient, by small steps of the naive loss; the advantage is a constant in it.
    loss.backward()
    for array, grad in ((logits, net.logits.grad), (values, net.values.grad)):
        for at in np.ndindex(array.shape):
            moved = []
            for by in (1e-4, -1e-4):
                array[at] += by
                moved.append(naive_loss(range(9), logits, values, batch, cfg, size)["loss"])
                array[at] -= by
            assert grad[at].item() == pytest.approx((moved[0] - moved[1]) / 2e-4, abs=2e-3 * 9 / size)

    # Shares of two workers sum to the whole.
    parts = [a2c.a2c_loss(net, {k: v[s] for k, v in tensors.items()}, cfg, size)[1] for s in (slice(4), slice(4, 9))]
    assert {key: parts[0][key] + parts[1][key] for key in stats} == pytest.approx(stats, rel=1e-4)


# What an update is made of -------------------------------------------------------------------------------


def naive_batch(net: torch.nn.Module, log: list[tuple[np.ndarray, ...]], cfg: a2c.Config) -> dict[str, np.ndarray]:
    """What one worker learns from, one environment after the other: [envs * steps, ...]."""
    rows: dict[str, list[Any]] = {"obs": [], "actions": [], "returns": [], "advantages": []}
    for e in range(len(log[0][0])):
        obs, actions, rewards, following, ends, stops = (np.array([step[i][e] for step in log]) for i in range(6))
        with torch.no_grad():
            values, next_values = (net(torch.from_numpy(x))[1].numpy() for x in (obs, following))
        rewards = np.sign(rewards) if cfg.clip_reward else rewards
        returns = np.array(forward_view(rewards, values, next_values, ends, stops, cfg.gae_lambda))
        for column, part in zip(rows.values(), (obs, actions, returns, returns - values), strict=True):
            column.extend(part)
    return {name: np.array(column) for name, column in rows.items()}


def normal(parts: list[np.ndarray]) -> list[np.ndarray]:
    """All parts shifted and scaled by the mean and the deviation of all of them."""
    numbers = [float(x) for part in parts for x in part]
    mean = sum(numbers) / len(numbers)
    std = math.sqrt(sum((x - mean) ** 2 for x in numbers) / len(numbers))
    return [(part - mean) / (std + 1e-8) for part in parts]


@pytest.mark.parametrize("change", ["", "norm_returns", "norm_advantage", "sum_losses", "clip_reward"])
@pytest.mark.parametrize(("base", "workers"), [(SMALL, 1), (SMALL, 2), (GAMES, 1)])
def test_updates_are_made_of_the_steps_just_played(base, workers, change, monkeypatch) -> None:
    """Every batch against one made of the environments' own records: no step of another round or game is in it."""
    cfg = dataclasses.replace(base, **({change: True} if change else {}))
    envs: list[Noise] = []
    lengths: list[int] = []
    seen: dict[int, tuple[Any, ...]] = {}
    plain = a2c.a2c_loss

    def spy(net, batch, cfg, size, ent_coef):
        k = run._parts["learner"].replicas.index(net)
        log = envs[k].log[envs[k].used :]
        envs[k].used += len(log)
        seen[k] = naive_batch(net, log, cfg), {n: v.numpy().copy() for n, v in batch.items()}, size
        return plain(net, batch, cfg, size, ent_coef)

    def make(n: int) -> Noise:
        envs.append(Noise(n))
        return envs[-1]

    def compare(run: Run) -> None:
        naive, got, sizes = zip(*(seen.pop(k) for k in range(workers)), strict=True)
        if cfg.norm_returns:
            values = [n["returns"] - n["advantages"] for n in naive]
            for n, scaled, v in zip(naive, normal([n["returns"] for n in naive]), values, strict=True):
                n |= {"returns": scaled, "advantages": scaled - v}
        elif cfg.norm_advantage:
            for n, scaled in zip(naive, normal([n["advantages"] for n in naive]), strict=True):
                n["advantages"] = scaled
        for mine, theirs in zip(naive, got, strict=True):
            assert {n: v.shape for n, v in theirs.items()} == {n: v.shape for n, v in mine.items()}
            orders = [np.lexsort(rows["obs"].T) for rows in (mine, theirs)]
            for name in mine:
                np.testing.assert_allclose(theirs[name][orders[1]], mine[name][orders[0]], atol=2e-5, rtol=1e-4)
        steps = sum(len(n["obs"]) for n in naive)
        assert set(sizes) == {1 if cfg.sum_losses else steps}
        lengths.append(steps)
        assert run.step == sum(lengths)
        assert run.games == sum(int((s[4] | s[5]).sum()) for env in envs for s in env.log)

    monkeypatch.setattr(a2c, "a2c_loss", spy)
    steps = 40 * 3 if base is GAMES else 6 * cfg.batch
    run = run_for(Noise(1).spec, make, cfg, steps, workers=workers, on_rollout=compare)
    a2c.train(run, cfg)
    run.close()
    if base is GAMES:
        assert any(a > b for a, b in itertools.pairwise(lengths))  # old steps lay behind a shorter game's
        assert max(lengths) == cfg.rollout_steps  # and a game was longer than a rollout
        kinds = {(bool(s[4][0]), bool(s[5][0])) for s in envs[0].log}
        assert kinds == {(False, False), (True, False), (False, True), (True, True)}
    else:
        assert lengths == [cfg.batch] * 6


# Ends ----------------------------------------------------------------------------------------------------


def learned_values(cfg: a2c.Config, **corridor) -> np.ndarray:
    """Values of all states after training."""
    env = Corridor(1, **corridor)
    steps = 100 * (env.cut if cfg.whole_games else cfg.batch)
    run = run_for(env.spec, lambda n: Corridor(n, **corridor), cfg, steps)
    a2c.train(run, cfg)
    obs = torch.ones(1, 1) if env.blind else torch.eye(env.cut + 1)
    with torch.no_grad():
        values = run._parts["learner"].net(obs)[1].numpy()
    run.close()
    return values


BOTH = pytest.mark.parametrize("cfg", [SMALL, GAMES], ids=["rollouts", "games"])


@BOTH
def test_truncation_bootstraps(cfg: a2c.Config) -> None:
    # Nothing ever ends: 1 / (1 - 0.9) = 10. Taken for a termination, it would be about 3.
    assert learned_values(cfg, cut=5, how="cut", blind=True)[0] == pytest.approx(10, rel=0.03)


@BOTH
def test_truncation_bootstraps_from_the_true_successor(cfg: a2c.Config) -> None:
    # Only the first state of a game pays nothing. The end state is never acted in, so its value is not trained; what
    # must hold is V(s) = r + gamma V(s + 1) on the way to it, not with the first state of the next game.
    values = learned_values(cfg, cut=4, how="cut", free_start=False)
    way = [sum(GAMMA**i for i in range(1 if s == 0 else 0, 4 - s)) for s in range(4)]
    expected = [way[s] + GAMMA ** (4 - s) * values[4] for s in range(4)]
    np.testing.assert_allclose(values[:4], expected, rtol=0.05, atol=0.15)
    wrong = [way[s] + GAMMA ** (4 - s) * values[0] for s in range(4)]
    assert abs(np.array(wrong) - expected).max() > 0.5  # the test can tell the two apart


@pytest.mark.parametrize(("cfg", "how"), [(SMALL, "end"), (SMALL, "both"), (GAMES, "end")])
def test_termination_does_not_bootstrap(cfg: a2c.Config, how: str) -> None:
    expected = [(1 - GAMMA ** (5 - s)) / (1 - GAMMA) for s in range(5)]
    np.testing.assert_allclose(learned_values(cfg, cut=5, how=how)[:5], expected, rtol=0.03, atol=0.05)


# Learning ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
@pytest.mark.parametrize(("pixels", "workers", "fmt"), [(False, 1, "fp32"), (True, 2, "bf16")])
def test_learns_identity(optimizer: str, pixels: bool, workers: int, fmt: str) -> None:
    net, lr = "nips:width=0.25" if pixels else "mlp", 2e-3 if optimizer == "adam" else 1e-3
    given = {"net": net, "lr": lr, "optimizer": optimizer}
    cfg = dataclasses.replace(SMALL, gamma=0.5, norm_advantage=True, **given)
    env, rounds = Identity(1, pixels=pixels), 60 if pixels else 150
    run = run_for(env.spec, lambda n: Identity(n, pixels=pixels), cfg, rounds * cfg.batch, workers=workers, fmt=fmt)
    a2c.train(run, cfg)
    assert np.mean([score for _, score in run.history[:16]]) < 4.5  # chance is 2
    assert np.mean([score for _, score in run.history[-48:]]) / 8 > 0.95
    assert {type(o).__name__.lower() for o in run._parts["learner"].optimizers} == {optimizer}
    run.close()


# Exactness -----------------------------------------------------------------------------------------------


class Killed(Exception):
    pass


CARTPOLE = a2c.PRESETS["vector"]["default"]
KERAS = dataclasses.replace(a2c.PRESETS["vector"]["keras-cartpole"], rollout_steps=20)
BREAKOUT = dataclasses.replace(a2c.PRESETS["atari"]["default"], num_envs=2, net="nips:width=0.25")


@pytest.mark.parametrize(("cfg", "workers"), [(CARTPOLE, 1), (KERAS, 1), (BREAKOUT, 2)])
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, cfg: a2c.Config, workers: int) -> None:
    """Saved after the third update, killed after the fourth, which is made again."""
    env, fmt = ("breakout", "bf16") if workers == 2 else ("CartPole-v1", "fp32")
    steps, more = 6 * cfg.batch, {"workers": workers, "fmt": fmt}
    whole = named(env, cfg, steps, **more)
    a2c.train(whole, cfg)

    def kill(run: Run) -> None:
        if run.updates == 3:
            run.save()
        if run.updates == 4:
            raise Killed

    first = named(env, cfg, steps, directory=tmp_path, on_rollout=kill, save_seconds=1e9, **more)
    with pytest.raises(Killed):
        a2c.train(first, cfg)
    first.close()
    second = named(env, cfg, steps, resume=checkpoint.load(tmp_path / "checkpoints"), **more)
    at = second.step
    assert second.updates == 3
    a2c.train(second, cfg)
    assert second.final_hash() == whole.final_hash()
    assert second.updates == whole.updates >= 6
    assert second.history == [item for item in whole.history if item[0] > at]
    whole.close(), second.close()


# Configurations ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anneal", [True, False])
def test_learning_rate_falls_linearly_where_asked(anneal: bool) -> None:
    cfg, seen = dataclasses.replace(SMALL, anneal=anneal), []

    run = run_for(Identity(1).spec, Identity, cfg, 4 * cfg.batch)
    run.on_rollout = lambda r: seen.append(r._parts["learner"].optimizers[0].param_groups[0]["lr"])
    a2c.train(run, cfg)
    run.close()
    np.testing.assert_allclose(seen, [SMALL.lr * f for f in ((1, 0.75, 0.5, 0.25) if anneal else (1, 1, 1, 1))])


@pytest.mark.parametrize("shared", [False, True])
def test_a_policy_made_of_its_weights(shared: bool) -> None:
    cfg = dataclasses.replace(SMALL, shared=shared)
    run = run_for(Identity(1).spec, Identity, cfg, cfg.batch)
    a2c.train(run, cfg)
    net = run._parts["learner"].net
    assert (net.critic_body is None) == shared
    weights = {name: p.detach() for name, p in net.named_parameters()}
    logits, values = a2c.load(run.spec, cfg, weights, "cpu")(np.eye(4, dtype=np.float32))
    with torch.no_grad():
        expected = net(torch.eye(4))
    np.testing.assert_allclose(logits, expected[0], rtol=1e-6)
    np.testing.assert_allclose(values, expected[1], rtol=1e-6)
    run.close()


def test_presets_are_whole_and_whole_games_are_played_alone() -> None:
    for cfg in itertools.chain.from_iterable(table.values() for table in a2c.PRESETS.values()):
        cfg.check()
    for base, change, words in (
        (GAMES, {"num_envs": 2}, "--num-envs 1"),
        (SMALL, {"num_envs": 0}, "--num-envs must be at least 1"),
        (SMALL, {"rollout_steps": 0}, "--rollout-steps must be at least 1"),
        (SMALL, {"num_envs": 1, "rollout_steps": 1, "norm_advantage": True}, "one step leaves nothing to normalise"),
        (SMALL, {"num_envs": 1, "rollout_steps": 1, "norm_returns": True}, "one step leaves nothing to normalise"),
    ):
        with pytest.raises(UsageError, match=words):
            dataclasses.replace(base, **change).check()
