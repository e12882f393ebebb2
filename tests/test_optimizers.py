"""The optimizers against PyTorch's own, to the bit; and that a training does without what those load."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from playfield.nets.optimizers import Adam, RMSProp

PAIRS = {
    "adam": (lambda p: Adam(p, 0.1, eps=1e-5), lambda p: torch.optim.Adam(p, 0.1, eps=1e-5, fused=True)),
    "betas": (
        lambda p: Adam(p, 0.1, betas=(0.8, 0.99)),
        lambda p: torch.optim.Adam(p, 0.1, betas=(0.8, 0.99), fused=True),
    ),
    "rmsprop": (lambda p: RMSProp(p, 0.1, alpha=0.99, eps=1e-5), lambda p: torch.optim.RMSprop(p, 0.1, eps=1e-5)),
    "alpha": (lambda p: RMSProp(p, 0.1, alpha=0.9), lambda p: torch.optim.RMSprop(p, 0.1, alpha=0.9)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_they_are_equal_to_those_of_pytorch_bit_for_bit(name):
    rng = torch.Generator().manual_seed(3)
    start = torch.randn(1_000, generator=rng)
    ours, theirs = start.clone(), start.clone()
    idle = torch.ones(2)  # without a gradient: it stays
    one, other = PAIRS[name][0]([ours, idle]), PAIRS[name][1]([theirs])
    for step in range(20):
        gradient = torch.randn(1_000, generator=rng) * 10.0 ** (step % 5 - 2)
        gradient[::7] = 0.0
        for p, optimizer in ((ours, one), (theirs, other)):
            p.grad = gradient.clone()
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            optimizer.step()
        assert torch.equal(ours, theirs)
        assert torch.equal(ours.grad, gradient)  # a Learner still reads it
    assert (ours - start).abs().max() > 0.1
    assert torch.equal(idle, torch.ones(2))
    assert one.state[ours].keys() == other.state[theirs].keys()
    for key, value in other.state[theirs].items():
        assert torch.equal(one.state[ours][key], value)
        assert one.state[ours][key].dtype == value.dtype
    assert not one.state.get(idle)


TRAIN = """
import sys
import playfield
for algo in ("a2c", "ppo", "pqn", "dqn", "rainbow"):
    playfield.train("CartPole-v1", algo, steps=2_048, run=f"{sys.argv[1]}/{algo}", film=False, quiet=True, games=0)
    loaded = sorted({"numba", "sympy", "torch._dynamo", "torch._inductor"} & sys.modules.keys())
    assert not loaded, (algo, loaded)
print("trained")
"""


def test_a_training_loads_no_compiler(tmp_path):
    done = subprocess.run(
        [sys.executable, "-P", "-c", TRAIN, str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stdout.endswith("trained\n"), done.stderr[-2000:]
