"""Runs of DQN's family: what ends mean to it, that it acts on its own values, learns, and resumes exactly."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from playfield.algos import _dqn_config, c51, dqn, hlgauss, qrdqn, rainbow
from playfield.runs import catalog, checkpoint
from playfield.runs.run import Run
from ppo_runs import Corridor, named, run_for
from test_dqn import GAMMA, SMALL
from test_ppo_learning import Identity

pytestmark = pytest.mark.usefixtures("one_thread")

SHARED = {f.name: getattr(SMALL, f.name) for f in dataclasses.fields(_dqn_config.Config)} | {"target_period": 32}
SUPPORT = {"v_min": -2.0, "v_max": 14.0}
FAMILY: dict[str, tuple[Any, Any]] = {
    "c51": (c51, c51.Config(**SHARED | SUPPORT, atoms=33)),
    "qrdqn": (qrdqn, qrdqn.Config(**SHARED, quantiles=16)),
    "hlgauss": (hlgauss, hlgauss.Config(**SHARED | SUPPORT, bins=32)),
    "rainbow": (
        rainbow,
        rainbow.Config(
            **SHARED | SUPPORT | {"n_step": 3, "double": True, "dueling": True, "noisy": True, "alpha": 0.5}, atoms=33
        ),
    ),
    "dqn, double, dueling, noisy": (
        dqn,
        dataclasses.replace(SMALL, target_period=32, double=True, dueling=True, noisy=True),
    ),
}
NEW = [name for name in FAMILY if "," not in name]


def values(name: str, outputs: np.ndarray) -> np.ndarray:
    """The expected return of what a network put out [..., K], by a way of its own."""
    if name == "qrdqn":
        return np.sort(outputs, -1).mean(-1)
    z = np.linspace(-2, 14, 33)
    if name == "hlgauss":
        z = (z[:-1] + z[1:]) / 2
    e = np.exp(outputs.astype(np.float64) - outputs.max(-1, keepdims=True))
    return (e * z).sum(-1) / e.sum(-1)


# Ends ----------------------------------------------------------------------------------------------------


def learned_values(name: str, rounds: int, **corridor) -> np.ndarray:
    module, cfg = FAMILY[name]
    env = Corridor(1, **corridor)
    run = run_for(env.spec, lambda n: Corridor(n, **corridor), cfg, rounds * cfg.batch)
    module.train(run, cfg)
    obs = torch.ones(1, 1) if env.blind else torch.eye(env.cut + 1)
    net = module.load(env.spec, cfg, dict(run._parts["learner"].net.named_parameters()), "cpu")
    run.close()
    return net(obs.numpy())[1]


@pytest.mark.parametrize("name", FAMILY)
def test_truncation_bootstraps(name: str) -> None:
    # Nothing ever ends: 1 / (1 - 0.9) = 10. Taken for a termination, it would be about 3.
    assert learned_values(name, 160, cut=5, how="cut", blind=True)[0] == pytest.approx(10, rel=0.04)


@pytest.mark.parametrize("name", FAMILY)
def test_termination_does_not_bootstrap(name: str) -> None:
    found = learned_values(name, 160, cut=5, how="end")
    expected = [(1 - GAMMA ** (5 - s)) / (1 - GAMMA) for s in range(5)]
    np.testing.assert_allclose(found[:5], expected, rtol=0.05, atol=0.08)


# Acting and learning -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW)
def test_it_acts_on_its_own_expectation(name: str) -> None:
    """Without epsilon and before learning starts, every remembered action is the best by the network's outputs."""
    module, cfg = FAMILY[name]
    cfg = dataclasses.replace(cfg, epsilon_start=0.0, epsilon_end=0.0, noisy=False, n_step=1, alpha=0.0)
    env = Identity(1)
    run = run_for(env.spec, Identity, cfg, 16 * cfg.batch)
    module.train(run, cfg)
    batch, net = run._parts["actor-0"].replay.sample(300), run._parts["learner"].net
    run.close()
    with torch.no_grad():
        outputs = net(torch.from_numpy(batch.obs)).numpy()
    np.testing.assert_array_equal(batch.actions, values(name, outputs).argmax(-1))
    assert len(set(map(bytes, batch.obs))) == 4


@pytest.mark.parametrize("name", NEW)
def test_learns_identity(name: str) -> None:
    module, cfg = FAMILY[name]
    cfg = dataclasses.replace(cfg, epsilon_end=0.0, epsilon_share=0.5)
    run = run_for(Identity(1).spec, Identity, cfg, 200 * cfg.batch)
    module.train(run, cfg)
    assert np.mean([score for _, score in run.history[:16]]) < 4.5  # chance is 2
    assert np.mean([score for _, score in run.history[-32:]]) / 8 > 0.95
    run.close()


@pytest.mark.parametrize("name", NEW)
def test_a_policy_made_of_its_weights(name: str) -> None:
    module, cfg = FAMILY[name]
    cfg = dataclasses.replace(cfg, epsilon_end=0.1)
    spec = Identity(1).spec
    net = module.network(spec, cfg) if name != "rainbow" else c51.network(spec, cfg)
    weights = {name: p.detach() for name, p in net.named_parameters()}
    logits, value, told = module.load(spec, cfg, weights, "cpu")(np.eye(4, dtype=np.float32))
    with torch.no_grad():
        q = values(name, net(torch.eye(4)).numpy())
    np.testing.assert_allclose(told, q, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(value, q.max(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(logits.argmax(1), q.argmax(1))
    rare = 0.0 if cfg.noisy else 0.025
    np.testing.assert_allclose(np.sort(np.exp(logits), 1)[:, 0], rare, atol=1e-5)


# Exactness -----------------------------------------------------------------------------------------------

BREAKOUT = rainbow.Config(
    num_envs=4, rollout_steps=4, capacity=150, learning_starts=64, train_period=16, batch_size=8, target_period=64,
    atoms=9, net="nips:width=0.25",
)  # fmt: skip


class _Killed(Exception):
    pass


@pytest.mark.parametrize(
    ("module", "env", "cfg", "workers", "fmt"),
    [
        *[(*FAMILY[name][:1], "CartPole-v1", FAMILY[name][1], 1, "fp32") for name in NEW],
        (rainbow, "breakout", BREAKOUT, 2, "bf16"),
    ],
    ids=[*NEW, "rainbow-breakout"],
)
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, module, env, cfg, workers, fmt) -> None:
    """Killed three rounds after its checkpoint; the ring has been filled, and priorities differ, by then."""
    cfg = dataclasses.replace(cfg, capacity=300 if env == "CartPole-v1" else cfg.capacity)
    rounds, stop = 36, 24
    whole = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt)
    module.train(whole, cfg)

    def kill(run: Run) -> None:
        if run.step == stop * cfg.batch:
            run.save()
        if run.step == (stop + 3) * cfg.batch:
            raise _Killed

    first = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt, directory=tmp_path, on_rollout=kill)
    with pytest.raises(_Killed):
        module.train(first, cfg)
    first.close()
    found = checkpoint.load(tmp_path / "checkpoints")
    assert stop * cfg.batch <= found.step < (stop + 3) * cfg.batch
    second = named(env, cfg, rounds * cfg.batch, workers=workers, fmt=fmt, directory=tmp_path, resume=found)
    module.train(second, cfg)
    assert second.final_hash() == whole.final_hash()
    assert second.updates == whole.updates > 0
    whole.close(), second.close()


# What the command line knows -----------------------------------------------------------------------------


def test_options_are_those_of_the_family_and_its_own() -> None:
    found = {o.name: o for o in catalog.options("rainbow")}
    assert set(found) == {f.name for f in dataclasses.fields(rainbow.Config)}
    assert found["n_step"].default == 3
    assert found["alpha"].default == 0.5
    assert all(o.help for o in found.values())
    assert found["v_min"].parse("-100") == -100
    assert {"default", "paper", "efficient"} == set(catalog.presets("rainbow"))
    for name in NEW:
        assert {o.name: o.default for o in catalog.options(name)} == dataclasses.asdict(FAMILY[name][0].Config())
