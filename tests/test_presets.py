"""Which preset an environment gets, and that each of DQN's learns what it is for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from playfield.algos import dqn
from playfield.cli import main
from playfield.compute import bf16_is_faster
from playfield.envs import make_envs
from playfield.errors import UsageError
from playfield.play.evaluate import evaluate_and_save
from playfield.runs import catalog
from playfield.training.prepare import configure
from playfield.training.request import Request
from ppo_runs import named


def chosen(env: str, preset: str = "default", **parts) -> dqn.Config:
    return configure(Request(env=env, algo="dqn", preset=preset, parts=parts))[1]


def test_what_is_seen_decides_the_defaults():
    assert chosen("CartPole-v1") == dqn.PRESETS["vector"]["default"]
    assert chosen("CartPole-v1", obs="pixels") == chosen("CartPole-v1-pixels") == dqn.PRESETS["pixels"]["default"]
    assert chosen("breakout") == dqn.PRESETS["atari"]["default"]
    assert chosen("breakout", obs="ram") == chosen("Breakout-ram-v4") == dqn.PRESETS["ram"]["default"]
    assert chosen("MountainCar-v0").epsilon_zeta > 1
    assert chosen("MountainCar-v0") == chosen("MountainCar-v0", "sparse")
    assert chosen("CartPole-v1-pixels", "sparse") == dqn.PRESETS["vector"]["sparse"]


def test_an_algorithm_without_special_presets_has_those_of_the_kind(monkeypatch):
    presets = {"atari": {"default": {"x": 1}, "long": {"x": 2}}, "vector": {"default": {"x": 3}}}
    monkeypatch.setattr(catalog, "entry", lambda name: catalog.Entry((), presets, True, False))

    def seen(name: str) -> dict:
        spec = make_envs(name, 1).spec
        return catalog.presets_for("any", spec.family.preset_kinds(spec.id, spec.pixels))

    atari = {"default": {"x": 1}, "long": {"x": 2}}
    assert seen("breakout") == seen("Breakout-ram-v4") == atari
    assert seen("CartPole-v1") == seen("CartPole-v1-pixels") == {"default": {"x": 3}}
    presets["ram"] = {"default": {"x": 4}}
    assert seen("Breakout-ram-v4") == {"default": {"x": 4}, "long": {"x": 2}}


def test_presets_for_ram_have_a_dense_body():
    """Where a preset for pixels names the small convolutional body, RAM gets a dense one; others are refused."""
    assert chosen("breakout", "pong").net == "nips"
    assert chosen("Breakout-ram-v4", "pong").net == "mlp"
    for env, net in (("breakout", "nips:motion=4"), ("Breakout-ram-v4", "mlp")):
        cfg = configure(Request(env, "ppo"))[1]
        assert (cfg.net, cfg.minibatches, cfg.epochs) == (net, 16, 2)
    with pytest.raises(UsageError, match="--net nature needs pixels"):
        chosen("Breakout-ram-v4", "cleanrl")


# Learning ------------------------------------------------------------------------------------------------


def trained(env: str, cfg: dqn.Config, steps: int) -> tuple[nn.Module, float]:
    """(the network, mean score of the last 20 games) of a short training."""
    run = named(env, cfg, steps, fmt="bf16" if "pixels" in env and bf16_is_faster() else "fp32")
    dqn.train(run, cfg)
    run.close()
    return run._parts["learner"].replicas[0], float(np.mean(list(run.scores)[-20:]))


def values(net: nn.Module, obs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return net(torch.from_numpy(obs)).numpy()


def test_acrobot_begins_to_swing(one_thread):
    _, score = trained("Acrobot-v1", chosen("Acrobot-v1"), 10_000)
    assert score > -350  # at random: -499


@pytest.mark.slow
def test_mountain_car_finds_its_flag_and_values_what_leads_there(one_thread):
    """Near the flag it expects far more than at rest in the valley, where it has been nearly all the time."""
    net, score = trained("MountainCar-v0", chosen("MountainCar-v0", "sparse"), 12_000)
    near, rest = values(net, np.array([[0.45, 0.04], [-0.5, 0.0]], np.float32)).max(-1)
    assert score > -200  # single random actions never find it
    assert near > rest + 10


@pytest.mark.slow
def test_cartpole_learns_from_pixels(one_thread):
    cfg = dataclasses.replace(chosen("CartPole-v1-pixels"), batch_size=32, capacity=10_000)
    _, score = trained("CartPole-v1-pixels", cfg, 4_000)
    assert score > 32  # at random: 22


@pytest.mark.slow
def test_the_bytes_of_breakout_tell_what_is_to_come(one_thread):
    """Values go with the rewards that followed, in games of other seeds: a score takes longer to show."""
    game = "Breakout-ramNoFrameskip-v4"
    cfg = dataclasses.replace(chosen("breakout", obs="ram"), learning_starts=1_000, capacity=10_000)
    net, _ = trained(game, cfg, 5_000)
    env, rng = make_envs(game, 8), np.random.default_rng(0)
    obs, told, rewards, over = env.reset(np.arange(8) + 50), [], [], []
    for _ in range(250):
        q = values(net, obs)
        step = env.step(np.where(rng.random(8) < 0.1, rng.integers(4, size=8), q.argmax(-1)))
        for store, row in ((told, q.max(-1)), (rewards, step.reward), (over, step.terminated)):
            store.append(row.copy())
        obs = step.obs
    following, sums = np.zeros(8), []
    for reward, ended in zip(rewards[::-1], over[::-1], strict=True):
        following = reward + 0.99 * following * ~ended
        sums.append(following)
    env.close()
    assert np.corrcoef(np.ravel(told[:200]), np.ravel(sums[::-1][:200]))[0, 1] > 0.35


SOLVED = [
    # the words of a command, and the mean score of the evaluation that it must reach
    (["Acrobot-v1", "--steps", "60k"], -100.0),
    (["MountainCar-v0", "--steps", "100k"], -120.0),
    (["CartPole-v1", "--obs", "pixels", "--steps", "100k"], 475.0),
    (["breakout", "--obs", "ram", "--steps", "200k"], 25.0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("words", "least"), SOLVED, ids=lambda v: v[0] if isinstance(v, list) else "")
def test_the_commands_of_docs_solve_their_games(words, least, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["--algo", "dqn", "--workers", "1", "--run", "run", "--games", "0", "--quiet", "--no-tensorboard"]
    assert main(["train", *words, *common]) == 0
    assert evaluate_and_save(tmp_path / "run", "last", 30).summary()["mean"] >= least
