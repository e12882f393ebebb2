"""Every algorithm with a network on a simulated GPU: nothing is left on the CPU that must meet what is there."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from playfield.algos import c51, dqn, hlgauss, mrp, qrdqn, rainbow
from playfield.compute import Compute
from playfield.runs.algorithm import load
from playfield.runs.run import Run
from playfield.training.plan import envs_of
from simulated_gpu import SimulatedGpu
from test_worker_processes import BATCH, PIXELS, SMALL, Q, spec_of

pytestmark = pytest.mark.usefixtures("one_thread")
REPLAY = {"num_envs": 4, "rollout_steps": 2, "capacity": 1_000, "learning_starts": 64, "batch_size": 16}
FRAMES = {**REPLAY, "net": "nips:width=0.25"}
CASES = [
    ("ppo", "CartPole-v1", SMALL, "fp32"),
    ("ppo", "breakout", PIXELS, "bf16"),
    ("a2c", "CartPole-v1", BATCH, "fp32"),
    ("pqn", "CartPole-v1", Q, "fp32"),
    ("dqn", "CartPole-v1", dqn.Config(**REPLAY, net="mlp", packed=False, alpha=0.6, beta=0.4), "fp32"),
    ("dqn", "breakout", dqn.Config(**FRAMES, n_step=3), "bf16"),
    ("dqn", "breakout", dqn.Config(**FRAMES, optimizer="rmsprop"), "fp32"),
    ("rainbow", "breakout", rainbow.Config(**FRAMES), "fp32"),
    ("c51", "breakout", c51.Config(**FRAMES), "bf16"),
    ("qrdqn", "breakout", qrdqn.Config(**FRAMES), "fp32"),
    ("hlgauss", "breakout", hlgauss.Config(**FRAMES), "fp32"),
    ("mrp", "CartPole-v1", mrp.Config(**{**REPLAY, "rollout_steps": 4}, train_period=8, net="mlp"), "fp32"),
]


def trained(algo, env, cfg, fmt, device):
    """The weights after a few updates, and what the agent says of two observations."""
    spec, compute = spec_of(env), Compute(device, fmt, 1)
    info = {"env": spec.id, "algo": algo, "spec": spec, "seed": 1, "steps": max(4 * cfg.batch, 96)}
    info |= {"compute": dataclasses.asdict(compute), "config": dataclasses.asdict(cfg), "protocol": spec.protocol}
    run = Run(info, envs_of(spec, compute))
    load(algo).train(run, cfg)
    state = run.parts["learner"].state()
    run.close()
    obs = np.random.default_rng(0).integers(0, 2, (2, *spec.obs_shape)).astype(spec.obs_dtype)
    played = load(algo).load(spec, cfg, state["weights"], device).forward(obs)
    return {name: value.cpu().numpy() for name, value in state["weights"].items()}, np.asarray(played[0])


@pytest.mark.parametrize(("algo", "env", "cfg", "fmt"), CASES, ids=lambda value: value if type(value) is str else "")
def test_an_algorithm_trains_and_plays_on_a_simulated_gpu(algo, env, cfg, fmt):
    weights, played = trained(algo, env, cfg, fmt, "cpu")
    with SimulatedGpu() as gpu:
        there, played_there = trained(algo, env, cfg, fmt, "cuda")
    assert gpu.calls > 400
    exact = algo not in ("c51", "rainbow")  # which add up in another order on a GPU
    for name, value in weights.items():
        np.testing.assert_allclose(there[name], value, rtol=0, atol=0 if exact else 1e-4, err_msg=name)
    np.testing.assert_allclose(played_there, played, rtol=0, atol=0 if exact else 1e-3)


def test_radam_of_torch_runs_on_a_simulated_gpu():
    """Its steps are other ones there: torch updates tensors together."""
    cfg = dataclasses.replace(Q, optimizer="radam")
    weights, _ = trained("pqn", "CartPole-v1", cfg, "fp32", "cpu")
    with SimulatedGpu():
        there, _ = trained("pqn", "CartPole-v1", cfg, "fp32", "cuda")
    for name, value in weights.items():
        np.testing.assert_allclose(there[name], value, atol=1e-4, err_msg=name)


def test_the_simulated_gpu_finds_what_is_left_on_the_wrong_side():
    with SimulatedGpu() as gpu:
        there, here = torch.zeros(3, device="cuda"), torch.ones(3)
        assert there.device.type == "cuda"
        assert here.device.type == "cpu"
        for mixed in (lambda: there + here, lambda: torch.stack([here, there]), lambda: torch.dot(there, here)):
            with pytest.raises(RuntimeError, match="on the same device"):
                mixed()
        for read in (there.numpy, (there + there)[1:].numpy):
            with pytest.raises(TypeError, match=r"use Tensor\.cpu"):
                read()
        assert there.cpu().numpy().tolist() == [0, 0, 0]
        there.copy_(here)
        assert (there + torch.tensor(2.0)).cpu().tolist() == [3, 3, 3]
        assert here.device.type == "cpu"
        net = nn.Linear(3, 2).to(torch.device("cuda"))
        with pytest.raises(RuntimeError, match="on the same device"):
            net(here)
        net(there.view(1, 3)).sum().backward()
        assert isinstance(net.weight.grad, Tensor)
        assert gpu.calls > 0
