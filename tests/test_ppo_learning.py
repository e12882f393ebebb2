"""PPO learns: values against known ones, games that it must master; and divergence is found."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from playfield.algos import ppo
from playfield.envs.base import EnvSpec, Episode, Step
from playfield.errors import DivergedError
from playfield.runs import checkpoint
from ppo_runs import SMALL, Corridor, named, run_for

pytestmark = pytest.mark.usefixtures("one_thread")


# Bootstrapping -------------------------------------------------------------------------------------------


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
        values = run._parts["learner"].net(obs)[1].numpy()
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
    cfg = dataclasses.replace(SMALL, lr=3e-3, net="nips:width=0.25" if pixels else "mlp", ent_coef=0.0)
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
