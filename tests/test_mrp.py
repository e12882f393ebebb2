"""Values under a fixed policy: against known ones, the right policy, evaluated rightly, resumed exactly."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import playfield
from playfield.algos import mrp
from playfield.algos._actor import Actor
from playfield.cli import main
from playfield.compute import Compute
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.errors import DataError, UsageError
from playfield.replay.buffer import Replay
from playfield.runs import checkpoint
from playfield.runs.run import Run
from ppo_runs import Corridor, named, run_for
from test_dqn import Table

pytestmark = pytest.mark.usefixtures("one_thread")

GAMMA = 0.9
SMALL = mrp.Config(
    num_envs=8, rollout_steps=8, capacity=4_000, learning_starts=256, train_period=8, batch_size=64, gamma=GAMMA,
    lr=5e-3, net="mlp", clip_reward=False,
)  # fmt: skip


class RandomWalk:
    """19 states in a row; a game begins in the middle and ends beyond an end: -1 at the left, +1 at the right.

    Under the uniform policy, undiscounted, state s of 1 to 19 is worth s / 10 - 1 (Sutton and Barto, example 7.1).
    """

    def __init__(self, n: int) -> None:
        self.num_envs = n
        self.spec = EnvSpec("walk", "gymnasium", (19,), "float32", 2, ("left", "right"), {})

    def observe(self) -> np.ndarray:
        return np.eye(19, dtype=np.float32)[self.at]

    def reset(self, seeds: np.ndarray) -> np.ndarray:
        self.at, self.age = np.full(self.num_envs, 9), np.zeros(self.num_envs, np.int64)
        return self.observe()

    def step(self, actions: np.ndarray) -> Step:
        to, self.age = self.at + np.where(actions == 1, 1, -1), self.age + 1
        reward = (to == 19).astype(np.float32) - (to == -1)
        over = (to == 19) | (to == -1)
        episodes = [Episode(int(e), float(reward[e]), int(self.age[e])) for e in np.flatnonzero(over)]
        self.at, self.age = np.where(over, 9, to), np.where(over, 0, self.age)
        obs = self.observe()
        return Step(obs, obs, reward.astype(np.float32), over, np.zeros(self.num_envs, bool), episodes)

    def close(self) -> None:
        pass


def learned(env: Any, make: Any, cfg: mrp.Config, rounds: int, obs: torch.Tensor) -> tuple[np.ndarray, Run]:
    run = run_for(env.spec, make, cfg, rounds * cfg.batch)
    mrp.train(run, cfg)
    with torch.no_grad():
        values = run._parts["learner"].net(obs).numpy()
    run.close()
    return values, run


# Known values --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_step", "rounds"), [(1, 160), (4, 100)])
def test_the_random_walk(n_step: int, rounds: int) -> None:
    many = {"num_envs": 32, "train_period": 32, "batch_size": 256, "capacity": 80_000, "learning_starts": 1024}
    cfg = dataclasses.replace(SMALL, gamma=1.0, n_step=n_step, **many)
    values, run = learned(RandomWalk(1), RandomWalk, cfg, rounds, torch.eye(19))
    known = np.arange(1, 20) / 10 - 1
    assert np.sqrt(np.mean((values - known) ** 2)) < 0.1
    assert np.corrcoef(values, known)[0, 1] > 0.98
    # Games return -1 or 1; of that variance of 1, known values explain what they vary by.
    told = run._metrics
    assert told["value/explained_variance"] == pytest.approx(0.2, abs=0.15)
    assert told["value/error"] == pytest.approx(0.9, abs=0.12)


def corridor(cfg: mrp.Config = SMALL, rounds: int = 100, **how: Any) -> np.ndarray:
    env = Corridor(1, **how)
    obs = torch.ones(1, 1) if env.blind else torch.eye(env.cut + 1)
    return learned(env, lambda n: Corridor(n, **how), cfg, rounds, obs)[0]


@pytest.mark.parametrize("n_step", [1, 3])
def test_truncation_bootstraps(n_step: int) -> None:
    # Nothing ever ends: 1 / (1 - 0.9) = 10. Taken for a termination, it would be about 3.
    cfg = dataclasses.replace(SMALL, n_step=n_step)
    assert corridor(cfg, cut=5, how="cut", blind=True)[0] == pytest.approx(10, rel=0.03)


def test_truncation_bootstraps_from_the_true_successor() -> None:
    # Only a game's first state pays nothing. The end state is never acted in: its value is not trained.
    values = corridor(cut=4, how="cut", free_start=False)
    way = np.array([sum(GAMMA**i for i in range(1 if s == 0 else 0, 4 - s)) for s in range(4)])
    left = GAMMA ** (4.0 - np.arange(4))
    np.testing.assert_allclose(values[:4], way + left * values[4], rtol=0.05, atol=0.15)
    assert abs(left * (values[0] - values[4])).max() > 0.5  # the test can tell it from the next game's first state


@pytest.mark.parametrize("how", ["end", "both"])
def test_termination_does_not_bootstrap(how: str) -> None:
    expected = [(1 - GAMMA ** (5 - s)) / (1 - GAMMA) for s in range(5)]
    np.testing.assert_allclose(corridor(cut=5, how=how)[:5], expected, rtol=0.03, atol=0.05)


def test_loss_equals_a_naive_one() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=6)
    batch = {
        "obs": rng.integers(0, 6, (16, 1)).astype(np.float32),
        "next_obs": rng.integers(0, 6, (16, 1)).astype(np.float32),
        "returns": rng.normal(size=16).astype(np.float32),
        "discounts": rng.choice([0.0, 0.9, 0.81], 16).astype(np.float32),
    }
    at, to = (batch[name][:, 0].astype(int) for name in ("obs", "next_obs"))
    errors = batch["returns"] + batch["discounts"] * rows[to] - rows[at]
    table = Table(rows)
    loss, told = mrp.td_loss(table, {name: torch.from_numpy(value) for name, value in batch.items()}, 32)
    assert loss.item() == pytest.approx(0.5 * (errors**2).sum() / 32, rel=1e-5)
    assert told["td_error"] == pytest.approx(abs(errors).sum() / 32, rel=1e-5)
    loss.backward()
    expected = -np.bincount(at, errors, 6) / 32  # semi-gradient: nothing flows through the target
    np.testing.assert_allclose(table.rows.grad, expected, atol=1e-6)


# Evaluation ----------------------------------------------------------------------------------------------


def test_returns_of_games_that_ended_in_memory() -> None:
    """Beside a list of what happened: random ends, a ring that wraps."""
    rng, n, steps = np.random.default_rng(3), 3, 70
    spec = EnvSpec("x", "gymnasium", (1,), "float32", 2, ("a", "b"), {})
    replay = Replay(spec, n, 40 * n, np.random.SeedSequence(0))
    rewards, terminated = rng.normal(size=(steps, n)).astype(np.float32), rng.random((steps, n)) < 0.08
    truncated = ~terminated & (rng.random((steps, n)) < 0.05)
    for t in range(steps):
        over = terminated[t] | truncated[t]
        episodes = [Episode(int(e), 0.0, 1) for e in np.flatnonzero(over)]
        obs, after = (np.arange(n, dtype=np.float32)[:, None] + 10 * (t + k) for k in (0, 1))
        replay.add(
            obs,
            np.zeros(n, np.int64),
            rewards[t],
            Step(after, after, rewards[t], terminated[t], truncated[t], episodes),
        )
    expected = {}
    for e in range(n):
        for t in range(steps):
            ends = [u for u in range(t, steps) if terminated[u, e] or truncated[u, e]]
            if ends and terminated[ends[0], e]:
                expected[e + 10 * t] = sum(GAMMA ** (u - t) * rewards[u, e] for u in range(t, ends[0] + 1))
    where, found = mrp.observed_returns(replay, GAMMA)
    seen = replay.read(where).obs[:, 0].astype(int)
    assert len(set(seen)) == len(seen) > 40
    np.testing.assert_allclose(found, [expected[s] for s in seen], atol=1e-5)
    held = replay.read(replay.order()).obs[:, 0].astype(int)
    assert set(held) & set(expected) == set(seen)


def test_evaluated_states_have_their_own_returns() -> None:
    env = Corridor(2, cut=5, how="end")
    actor = Actor(env, Replay(env.spec, 2, 200, np.random.SeedSequence(0)), np.random.SeedSequence(0), CPU)
    actor.collect(lambda obs: np.zeros(2, np.int64), 40, False)
    values, returned = mrp.values_and_returns(lambda obs: obs.argmax(1).float(), actor, SMALL, 30)
    np.testing.assert_allclose(returned, (1 - GAMMA ** (5 - values)) / (1 - GAMMA), rtol=1e-6)
    assert 20 <= len(values) <= 30
    assert mrp.evaluate(returned, returned)["value/explained_variance"] == 1
    assert mrp.evaluate(returned + 2, returned)["value/error"] == pytest.approx(2)
    empty = Actor(env, Replay(env.spec, 2, 200, np.random.SeedSequence(0)), np.random.SeedSequence(0), CPU)
    assert mrp.values_and_returns(lambda obs: obs.sum(1), empty, SMALL, 30).shape == (2, 0)


CPU = Compute("cpu", "fp32", 1)


# The policy ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Any:
    """A run of PPO on CartPole, hardly trained."""
    where = tmp_path_factory.mktemp("ppo") / "run"
    playfield.train("CartPole-v1", steps=1024, games=0, run=where, tensorboard=False, console=False, workers=1)
    return where


def test_it_values_the_policy_it_is_told(trained, tmp_path) -> None:
    result = playfield.train(
        "CartPole-v1", "mrp", steps=640, games=2, film=False, run=tmp_path / "v", tensorboard=False, console=False,
        config={"policy": str(trained), "capacity": 2_000, "learning_starts": 128}, workers=1,
    )  # fmt: skip
    assert result.evaluation["games"] == 2
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    own, theirs = playfield.load_policy(result.directory), playfield.load_policy(trained, temperature=1.0)
    thoughts = own.explain(obs)
    np.testing.assert_allclose(thoughts["probs"], theirs.explain(obs)["probs"], atol=1e-6)
    assert own.temperature == 1
    uniform = np.random.default_rng(1).random(50)
    np.testing.assert_array_equal(own.act(obs, uniform), theirs.act(obs, uniform))
    # The value is the one that was learnt, not the one that the policy's own critic has.
    weights = checkpoint.load(result.directory / "checkpoints").tree["parts"]["learner"]["weights"]
    net = mrp.ValueNetwork(own.spec, "mlp")
    net.load_state_dict(weights)
    np.testing.assert_allclose(thoughts["value"], net(torch.from_numpy(obs)).detach(), atol=1e-5)
    assert abs(thoughts["value"] - theirs.explain(obs)["value"]).max() > 1e-3


def test_it_acts_as_the_policy_does(trained) -> None:
    """Steps in memory are those of the policy at temperature 1, and of the uniform one by default."""
    for name in ("random", str(trained)):
        run = named("CartPole-v1", dataclasses.replace(SMALL, policy=name), 40 * SMALL.batch)
        mrp.train(run, dataclasses.replace(SMALL, policy=name))
        drawn = run._parts["actor-0"].replay.sample(2_000)
        probs = mrp.FrozenPolicy(name, run.spec).policy.explain(drawn.obs)["probs"]
        assert np.mean(drawn.actions) == pytest.approx(probs[:, 1].mean(), abs=0.04)
        assert np.mean(drawn.actions == probs.argmax(1)) == pytest.approx(probs.max(1).mean(), abs=0.04) or (
            name == "random"
        )
        run.close()


def test_the_random_policy_has_a_value_too() -> None:
    spec = RandomWalk(1).spec
    net = mrp.ValueNetwork(spec, "mlp")
    weights = {name: p.detach() for name, p in net.named_parameters()}
    logits, value = mrp.load(spec, SMALL, weights, "cpu")(np.eye(19, dtype=np.float32))
    np.testing.assert_allclose(logits, np.log(0.5), rtol=1e-6)
    np.testing.assert_allclose(value, net(torch.eye(19)).detach(), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "last"}, "give the run directory"),
        ({"policy": "no/such/run"}, "no agent"),
        ({"train_period": 7}, "--train-period 7"),
        ({"batch_size": 0}, "--batch-size"),
        ({"learning_starts": 10}, "--learning-starts"),
    ],
)
def test_mistakes_are_told(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SMALL, **change).check()


def test_a_policy_of_another_game_is_refused(trained, tmp_path) -> None:
    with pytest.raises(UsageError, match="plays another game: id CartPole-v1"):
        mrp.FrozenPolicy(str(trained), RandomWalk(1).spec)
    with pytest.raises(UsageError, match="plays another game: id"):
        playfield.train("MountainCar-v0", "mrp", steps=64, run=tmp_path / "x", config={"policy": str(trained)})
    assert not (tmp_path / "x").exists()


# Exactness -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, trained, workers) -> None:
    cfg = dataclasses.replace(SMALL, policy=str(trained), n_step=2, capacity=600)
    steps = 16 * cfg.batch
    whole = named("CartPole-v1", cfg, steps, workers=workers)
    mrp.train(whole, cfg)

    class Killed(Exception):
        pass

    def kill(run: Run) -> None:
        if run.step == 10 * cfg.batch:
            run.save()
        if run.step == 12 * cfg.batch:
            raise Killed

    first = named("CartPole-v1", cfg, steps, workers=workers, directory=tmp_path, on_rollout=kill)
    with pytest.raises(Killed):
        mrp.train(first, cfg)
    first.close()
    found = checkpoint.load(tmp_path / "checkpoints")
    second = named("CartPole-v1", cfg, steps, workers=workers, directory=tmp_path, resume=found)
    mrp.train(second, cfg)
    assert second.final_hash() == whole.final_hash()
    assert second.updates == whole.updates > 0
    whole.close(), second.close()


def test_a_policy_that_learnt_since_is_refused(trained) -> None:
    fixed = mrp.FrozenPolicy(str(trained), playfield.load_policy(trained).spec)
    fixed.restore(fixed.state())
    with pytest.raises(DataError, match="has changed since these values were learnt"):
        fixed.restore({"hash": "0" * 64})


def test_a_run_remembers_whose_values_it_learnt(trained, tmp_path, capsys) -> None:
    """At a resume, and when it is looked at, the policy must have the weights that it had at the start."""
    policy, run = Path(shutil.copytree(trained, tmp_path / "policy")), tmp_path / "v"
    config = {"policy": str(policy), "capacity": 2_000, "learning_starts": 128}
    quiet = {"games": 0, "film": False, "tensorboard": False, "console": False, "workers": 1}
    playfield.train("CartPole-v1", "mrp", steps=192, run=run, config=config, **quiet)
    weights = checkpoint.load(policy / "checkpoints").tree["parts"]["learner"]["weights"]
    pinned = f"{policy}@sha256:{checkpoint.tree_hash(weights)[:16]}"
    assert json.loads((run / "run.json").read_text())["config"]["policy"] == pinned
    assert pinned in shlex.split((run / "command.txt").read_text())
    playfield.load_policy(run)
    mrp.Config(policy=pinned).check()
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}

    found = checkpoint.load(policy / "checkpoints")
    next(iter(found.tree["parts"]["learner"]["weights"].values())).add_(1)
    checkpoint.save(policy / "checkpoints", found.step + 1, found.tree, found.meta)
    words = ["train", "--resume", str(run), "--steps", "384"]
    for message in (f"the policy {policy} has changed", f"the policy {policy} is gone"):
        for command in (words, ["eval", str(run), "--games", "1"]):
            assert main(command) == 3
            err = capsys.readouterr().err
            assert message in err
            assert err.count("\n") == 1
        shutil.rmtree(policy, ignore_errors=True)
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
