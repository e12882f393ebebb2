"""Random actions that are held for a while: how long, which, and that a run goes on exactly in the midst of one."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from playfield.algos import dqn
from playfield.algos._actor import HOLD, Actor
from playfield.compute import Compute
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.replay.buffer import Replay
from ppo_runs import Corridor, named
from test_dqn import play

STEPS = 3000


class Greedy(nn.Module):
    """Action 1, always: action 0 is played at random only."""

    def forward(self, obs: torch.Tensor, noise: object = None) -> torch.Tensor:
        return torch.tensor([[0.0, 1.0]]).repeat(len(obs), 1)


def actor(n: int = 4, seed: int = 0) -> Actor:
    env = Corridor(n, 7, "end")
    memory = Replay(env.spec, n, n * STEPS * 2, np.random.SeedSequence(1))
    return Actor(env, memory, np.random.SeedSequence(seed), Compute("cpu", "fp32", 1))


def actions(played: Actor, steps: int) -> np.ndarray:
    return played.replay.actions[:, :steps].astype(int)


def lengths(row: np.ndarray) -> np.ndarray:
    """How long each stretch of zeros is."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], row, [1]])))
    return np.diff(edges)[::2]


def test_actions_are_held_as_long_as_the_zeta_distribution_says():
    """Two actions: a hold of zeros is seen alone if what follows is greedy, so epsilon is small."""
    played = actor(n=64)
    play(played, Greedy(), STEPS, 0.005, 2.0)
    held = np.concatenate([lengths(row) for row in actions(played, STEPS)])
    assert len(held) > 300
    pmf = 1 / np.arange(1, 100_000) ** 2.0
    pmf /= pmf.sum()
    for k in (1, 2, 3):
        assert (held == k).mean() == pytest.approx(pmf[k - 1], abs=4 * np.sqrt(0.25 / len(held)))
    assert (held > 10).mean() == pytest.approx(pmf[10:].sum(), abs=0.04)
    assert HOLD <= held.max() <= 3 * HOLD  # holds of the same action may follow each other


def test_without_it_the_random_numbers_are_those_of_before():
    """One uniform number and one action for each environment and step, as in every run so far."""
    played = actor()
    play(played, Greedy(), 50, 0.3)
    seed = np.random.SeedSequence(0).spawn(3)[1]
    rng = np.random.Generator(np.random.PCG64(seed))
    for t in range(50):
        explore, random = rng.random(4) < 0.3, rng.integers(2, size=4)
        np.testing.assert_array_equal(actions(played, 50)[:, t], np.where(explore, random, 1))


def test_at_epsilon_0_all_is_greedy_and_at_1_nothing():
    greedy, random = actor(), actor()
    play(greedy, Greedy(), 200, 0.0, 2.0)
    assert (actions(greedy, 200) == 1).all()
    play(random, Greedy(), STEPS, 1.0, 2.0)
    assert actions(random, STEPS).mean() == pytest.approx(0.5, abs=0.12)


def test_environments_explore_by_themselves():
    played = actor()
    play(played, Greedy(), 500, 0.2, 2.0)
    rows = actions(played, 500)
    assert all((rows[0] != row).any() for row in rows[1:])


@pytest.mark.parametrize("cut", [1, 33, 100])
def test_a_restored_actor_goes_on_in_the_midst_of_a_hold(cut):
    whole, first, second = actor(), actor(), actor(seed=9)
    play(whole, Greedy(), 200, 0.3, 1.5)
    play(first, Greedy(), cut, 0.3, 1.5)
    saved = {k: v for k, v in first.state().items() if k != "replay"}
    assert cut == 1 or saved["left"].any()
    second.replay = first.replay
    second.obs = second.env.restore(saved["env"])
    second.random.bit_generator.state = saved["random"]
    second.held, second.left = saved["held"], saved["left"]
    first.left += 5  # a snapshot is a copy
    play(second, Greedy(), 200 - cut, 0.3, 1.5)
    np.testing.assert_array_equal(actions(second, 200), actions(whole, 200))


def test_a_run_with_it_that_is_cut_ends_the_same(tmp_path, one_thread):
    from playfield.runs import checkpoint

    cfg = dataclasses.replace(
        dqn.PRESETS["vector"]["default"], epsilon_zeta=2.0, learning_starts=200, epsilon_start=0.3, epsilon_end=0.3
    )
    whole = named("CartPole-v1", cfg, 1280, directory=tmp_path / "whole", keep=100)
    dqn.train(whole, cfg)
    middle = checkpoint.load(tmp_path / "whole" / "checkpoints" / "ckpt-000000000640")
    assert middle.tree["parts"]["actor-0"]["left"].any()
    shutil.copytree(tmp_path / "whole" / "replay", tmp_path / "cut" / "replay")
    cut = named("CartPole-v1", cfg, 1280, directory=tmp_path / "cut", resume=middle)
    dqn.train(cut, cfg)
    assert cut.final_hash() == whole.final_hash()
    cut.close()
    whole.close()


@pytest.mark.parametrize("zeta", [0.5, 1.0])
def test_an_exponent_that_is_no_distribution_is_refused(zeta):
    with pytest.raises(UsageError, match="--epsilon-zeta must be above 1"):
        dataclasses.replace(dqn.PRESETS["vector"]["default"], epsilon_zeta=zeta).check()


def test_held_actions_reach_further_than_single_ones():
    """What they are for: MountainCar's random walks get to the flag, which single random actions never do."""
    reached = {}
    for zeta in (0.0, 1.5):
        env = make_envs("MountainCar-v0", 16)
        memory = Replay(env.spec, 16, 16 * 2000, np.random.SeedSequence(1))
        played = Actor(env, memory, np.random.SeedSequence(0), Compute("cpu", "fp32", 1))
        play(played, Greedy(), 1500, 1.0, zeta)
        reached[zeta] = sum(e.score > -200 for _, e in played.episodes)
    assert reached[0.0] == 0
    assert reached[1.5] >= 4


def test_the_epsilon_at_the_end_and_what_a_run_says_of_it():
    plain = dqn.Config(epsilon_start=1.0, epsilon_end=0.05, epsilon_share=0.1)
    assert plain.final_epsilon == 0.05
    assert "epsilon: 1 to 0.05 at step 100" in plain.schedule(1000)
    assert "epsilon: 1 to 0.05 at step 700" in dataclasses.replace(plain, epsilon_steps=700).schedule(1000)
    given = dqn.Config(epsilon="linear:1..0.2", epsilon_end=0.05)
    assert given.final_epsilon == pytest.approx(0.2)
    assert not [clause for clause in given.schedule(1000) if "0.05" in clause]
    noisy = dqn.Config(noisy=True)
    assert noisy.final_epsilon == 0.0
    assert not [clause for clause in noisy.schedule(1000) if "epsilon" in clause]
