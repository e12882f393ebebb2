"""`playfield train MountainCar-v0 --algo sarsa`: killed and resumed runs end with the same weights."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

import numpy as np
import pytest

from playfield.compute import Compute
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.linear.many import experiment
from playfield.runs import checkpoint
from playfield.runs.run import Run
from ppo_runs import Corridor, run_for

pytestmark = pytest.mark.usefixtures("one_thread")

METHODS = ("sarsa", "sarsa_lambda", "qlearning", "td_lambda", "linear_ac")


def config(algo: str, **fields: Any) -> Any:
    """Small runs: rollouts of 100 steps."""
    fields = {"rollout_steps": 50, "num_envs": 2, "epsilon_decay": 0.9, "features": "iht:tilings=4,tiles=4"} | fields
    return dataclasses.replace(importlib.import_module(f"playfield.algos.{algo}").Config(), **fields)


def started(algo: str, cfg: Any, steps: int, env: str = "MountainCar-v0", seed: int = 1, **more: Any) -> Run:
    probe = make_envs(env, 1)
    probe.close()
    compute = dataclasses.asdict(Compute("cpu", "fp32", 1))
    info = {"env": env, "algo": algo, "spec": probe.spec, "seed": seed, "steps": steps, "compute": compute}
    info |= {"config": dataclasses.asdict(cfg), "protocol": probe.spec.protocol}
    return Run(info, lambda n: make_envs(env, n), **more)


def train(run: Run, algo: str, cfg: Any) -> Run:
    importlib.import_module(f"playfield.algos.{algo}").train(run, cfg)
    return run


class Killed(Exception):
    pass


@pytest.mark.parametrize(("algo", "own"), [*((algo, {}) for algo in METHODS), ("td_lambda", {"offline": True})])
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, algo, own):
    """Stopped in the middle of episodes, with traces, a table of tiles and random numbers in use."""
    more = {"n_step": 4} if algo == "sarsa" else {"lam": 0.8, **own}
    cfg = config(algo, **more)
    whole = train(started(algo, cfg, 1000), algo, cfg)

    def kill(run: Run) -> None:
        if run.step == 500:
            run.save()
            raise Killed

    first = started(algo, cfg, 1000, directory=tmp_path, on_rollout=kill)
    with pytest.raises(Killed):
        train(first, algo, cfg)
    first.close()
    found = checkpoint.load(tmp_path / "checkpoints")
    assert found.step == 500
    second = train(started(algo, cfg, 1000, directory=tmp_path, resume=found), algo, cfg)
    assert second.final_hash() == whole.final_hash()
    assert (second.games, list(second.scores)) == (whole.games, list(whole.scores))
    other = train(started(algo, cfg, 1000, seed=2), algo, cfg)
    assert other.final_hash() != whole.final_hash()
    whole.close(), second.close(), other.close()


TRACES = ["w", "z", "listed", "length", "where", "value", "last", "old", "epsilon"]
IN_CHECKPOINTS = {
    "sarsa": ["w", "where", "value", "on", "actions", "rewards", "t", "epsilon"],
    "sarsa_lambda": TRACES,
    "qlearning": TRACES,
    "td_lambda": [
        "w",
        "z",
        "listed",
        "length",
        "where",
        "value",
        "on",
        "old",
        "actions",
        "truth",
        "errors",
        "epsilon",
    ],
    "linear_ac": [
        *["w", "z", "listed", "length", "critic", "critic_z", "critic_listed", "critic_length"],
        *["where", "value", "last", "probs", "shrunk", "epsilon"],
    ],
}


@pytest.mark.parametrize("algo", METHODS)
def test_checkpoints_name_arrays_as_the_first_version_did(algo):
    """Names in the code may change, those in checkpoints not: older runs must resume, with the same hash."""
    run = train(started(algo, config(algo), 100), algo, config(algo))
    state = run._parts["learner"].state()
    run.close()
    shared = [name for name in IN_CHECKPOINTS[algo] if name in ("w", "critic", "epsilon")]
    assert sorted(state) == ["actions", "env", "lanes", "random", "weights"]
    assert sorted(state["weights"]) == sorted([*shared, "cells", "numbers", "told"])
    assert sorted(state["lanes"]) == ["0", "1"]
    for lane in state["lanes"].values():
        assert sorted(lane) == sorted(set(IN_CHECKPOINTS[algo]) - set(shared))


@pytest.mark.parametrize(("how", "worth"), [("end", 2.5), ("cut", 10.0)])
def test_truncated_episodes_bootstrap_and_terminated_ones_do_not(how, worth):
    """Games of 3 steps with reward 1 that all look alike, discount 0.9: v = 1 + 0.9 v, or after ends in 2 of 3."""
    for algo in METHODS:
        more = {"epsilon_decay": 1.0} if algo == "sarsa" else {"epsilon_decay": 1.0, "lam": 0.0}
        cfg = config(algo, num_envs=1, features="identity", alpha=0.02, gamma=0.9, epsilon=1.0, **more)
        spec = Corridor(1, 3, how, blind=True).spec
        run = train(run_for(spec, lambda n: Corridor(n, 3, how, blind=True), cfg, 4000), algo, cfg)
        shared = run._parts["learner"].shared
        values = shared["critic" if algo == "linear_ac" else "w"].sum(-1)  # of two features that are always 1
        assert values == pytest.approx(np.full(len(values), worth), abs=0.6), algo
        run.close()


def learnt(algo: str, make: Any, steps: int, **fields: Any) -> np.ndarray:
    """Weights [rows, F] of what a method takes states (or actions in them) to be worth, gamma 0.9, random actions."""
    more = {"epsilon_decay": 1.0} if algo == "sarsa" else {"epsilon_decay": 1.0, "lam": 0.0}
    cfg = config(algo, num_envs=1, features="identity", gamma=0.9, epsilon=1.0, **(more | fields))
    run = train(run_for(make(1).spec, make, cfg, steps), algo, cfg)
    shared = run._parts["learner"].shared
    run.close()
    return shared["critic" if algo == "linear_ac" else "w"]


@pytest.mark.parametrize("algo", METHODS)
def test_truncated_episodes_bootstrap_from_their_own_last_state(algo):
    """Games of 4 steps, only the first state pays nothing. The last state is never acted in, so its weight stays 0;
    what must hold is v(s) = r + gamma v(s + 1) up to it, and not up to the first state of the next game."""
    w = learnt(algo, lambda n: Corridor(n, 4, "cut", free_start=False), 6000, alpha=0.1)
    assert (w[:, 4] == 0).all()
    values = (w[:, :5] + w[:, 5:]).mean(axis=0)
    rewards, end = (0, 1, 1, 1), values[4]
    expected = [sum(0.9 ** (k - s) * rewards[k] for k in range(s, 4)) + 0.9 ** (4 - s) * end for s in range(4)]
    assert values[:4] == pytest.approx(expected, abs=0.05)
    wrong = [e + 0.9 ** (4 - s) * (values[0] - end) for s, e in enumerate(expected)]
    assert abs(np.array(wrong) - expected).max() > 0.5  # the test can tell the two apart


class Rich(Corridor):
    """Rewards of 10."""

    def step(self, actions: np.ndarray) -> Any:
        step = super().step(actions)
        step.reward *= 10
        return step


@pytest.mark.parametrize("algo", METHODS)
@pytest.mark.parametrize(("clip", "worth"), [(True, 1.0), (False, 10.0)])
def test_clip_reward(algo, clip, worth):
    """Games of one step."""
    w = learnt(algo, lambda n: Rich(n, 1, "end"), 500, alpha=0.1, clip_reward=clip)
    assert w[:, 0] + w[:, 2] == pytest.approx(np.full(len(w), worth), rel=0.02)


def test_trained_agents_play_better_than_random_ones():
    """MountainCar truncated at 200 steps: a random agent never reaches the goal, true online Sarsa does after 150."""
    cfg = config(
        "sarsa_lambda", num_envs=1, features="tilings", alpha=0.05, gamma=1.0, epsilon=0.0, rollout_steps=500
    )
    run = train(started("sarsa_lambda", cfg, 30_000), "sarsa_lambda", cfg)
    assert np.mean(list(run.scores)[-20:]) > -170
    run.close()
    out = experiment(
        "sarsa_lambda", "mountain-car-gym", "tilings", seeds=[1], episodes=150, max_steps=200, alpha=0.05
    )
    assert out.returns[0, -20:].mean() > -170


def test_refusals():
    cfg = config("sarsa")
    for fields, match in (
        ({"num_envs": 0}, "num-envs"),
        ({"gamma": 1.5}, "gamma"),
        ({"alpha": -1.0}, "alpha"),
        ({"correction": 0.0}, "correction"),
    ):
        with pytest.raises(UsageError, match=match):
            dataclasses.replace(cfg, **fields).check()
    for fields in ({"alpha_actor": -1.0}, {"correction_actor": 0.0}):
        with pytest.raises(UsageError, match="-actor must be"):
            dataclasses.replace(config("linear_ac"), **fields).check()
    with pytest.raises(UsageError, match="--workers 1"):
        cfg.check(2)
