"""Bodies: sizes by hand, the channels-last arithmetic against a plain computation, names and errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from playfield.algos._actor_critic import ActorCritic
from playfield.envs.base import EnvSpec
from playfield.errors import UsageError
from playfield.nets import bodies
from playfield.nets.names import nets

ATARI = (84, 84, 4)
NAMES = ("efficientnet", "impala", "mlp", "nature", "nips", "relu128")


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def spec(shape: tuple[int, ...], actions: int) -> EnvSpec:
    dtype = "uint8" if len(shape) == 3 else "float32"
    return EnvSpec("toy", "gymnasium", shape, dtype, actions, tuple(map(str, range(actions))), {})


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        # 84 -> 20 -> 9 -> 7
        ("nature", ATARI, 8 * 8 * 4 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64 + 64 * 49 * 512 + 512),
        # 84 -> 20 -> 9, and a gain and a bias of LayerNorm
        ("nips", ATARI, 8 * 8 * 4 * 16 + 16 + 4 * 4 * 16 * 32 + 32 + 32 * 81 * 256 + 256 + 2 * 256),
        # 84 -> 42 -> 21 -> 11; each residual block has two 3x3 convolutions
        (
            "impala",
            ATARI,
            (9 * 4 * 16 + 16) + 4 * (9 * 16 * 16 + 16)
            + (9 * 16 * 32 + 32) + 4 * (9 * 32 * 32 + 32)
            + (9 * 32 * 32 + 32) + 4 * (9 * 32 * 32 + 32)
            + 32 * 11 * 11 * 256 + 256,
        ),
        ("mlp", (4,), 4 * 64 + 64 + 64 * 64 + 64),
        ("mlp", (2, 3), 6 * 64 + 64 + 64 * 64 + 64),
        ("mlp:width=4,act=relu,norm=dense", (4,), 4 * 256 + 256 + 256 * 256 + 256 + 4 * 256),
        ("relu128", (4,), 4 * 128 + 128),
        # Not square: 60 -> 14 -> 6 -> 4 and 40 -> 9 -> 3 -> 1
        ("nature", (60, 40, 1), 8 * 8 * 32 + 32 + 4 * 4 * 32 * 64 + 64 + 3 * 3 * 64 * 64 + 64 + 64 * 4 * 512 + 512),
    ],
)  # fmt: skip
def test_parameters_by_hand(name, shape, expected):
    assert count(bodies.make(name, shape)) == expected


def test_actor_critic_parameters():
    assert count(ActorCritic(spec(ATARI, 4), "nature", shared=True)) == 1_686_693  # CleanRL's, SB3's CnnPolicy
    # Two bodies of 4,480, a policy head of 64 * 2 + 2 and a value head of 64 + 1
    assert count(ActorCritic(spec((4,), 2), "mlp", shared=False)) == 2 * 4480 + 130 + 65


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [ATARI, (52, 40, 3)])
def test_out_features_and_finite(name, shape):
    body = bodies.make(name, shape)
    obs = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, *shape), np.uint8))
    features = body(obs)
    assert features.shape == (3, body.out_features)
    assert features.dtype == torch.float32
    assert torch.isfinite(features).all()


@pytest.mark.parametrize("name", NAMES)
def test_bodies_compute_in_bfloat16(name):
    """A run on pixels may choose bfloat16 whatever the net."""
    torch.manual_seed(0)
    body = bodies.make(name, ATARI)
    obs = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, *ATARI), np.uint8))
    expected = body(obs)
    found = body.to(torch.bfloat16)(obs)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.05 * expected.abs().max()


@pytest.mark.parametrize("name", ["mlp", "relu128"])
def test_vector_bodies_compute_in_bfloat16(name):
    body = bodies.make(name, (4,)).to(torch.bfloat16)
    assert body(torch.ones(2, 4)).dtype == torch.bfloat16


def plain(name: str, body: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """The nets in float64 NCHW with F.* only; the flattened pixels in H, W, C order, as the dense weights are."""
    p = [q.detach().double().contiguous() for q in body.parameters()]
    conv = [(4, 0), (2, 0), (1, 0)]
    if name in ("nature", "nips"):
        n = 3 if name == "nature" else 2
        for i in range(n):
            x = F.relu(F.conv2d(x, p[2 * i], p[2 * i + 1], stride=conv[i][0]))
        x = x.permute(0, 2, 3, 1).reshape(len(x), -1)
        x = x @ p[2 * n].T + p[2 * n + 1]
        if name == "nips":
            mean = x.mean(1, keepdim=True)
            variance = ((x - mean) ** 2).mean(1, keepdim=True)
            x = (x - mean) / torch.sqrt(variance + 1e-5) * p[2 * n + 2] + p[2 * n + 3]
        return F.relu(x)
    i = 0

    def layer(x: torch.Tensor) -> torch.Tensor:
        nonlocal i
        x = F.conv2d(x, p[i], p[i + 1], padding=1)
        i += 2
        return x

    for _ in range(3):
        x = F.max_pool2d(layer(x), 3, 2, 1)
        for _ in range(2):
            x = x + layer(F.relu(layer(F.relu(x))))
    x = F.relu(x).permute(0, 2, 3, 1).reshape(len(x), -1)
    return F.relu(x @ p[i].T + p[i + 1])


@pytest.mark.parametrize("name", ["nature", "nips", "impala"])
@pytest.mark.parametrize("shape", [(84, 84, 4), (44, 60, 3)])
def test_pixel_bodies_equal_a_plain_computation(name, shape):
    torch.manual_seed(1)
    body = bodies.make(name, shape)
    for p in body.parameters():  # biases and norms start at 0 and 1, which would hide a mix-up
        if p.dim() == 1:
            nn.init.normal_(p, 0.5, 0.3)
    obs = np.random.default_rng(1).integers(0, 256, (2, *shape), np.uint8)
    x = torch.from_numpy(obs.transpose(0, 3, 1, 2).astype(np.float64) / 255)
    expected = plain(name, body, x)
    with torch.no_grad():
        found = body(torch.from_numpy(obs))
        channels_last = body.to(memory_format=torch.channels_last)(torch.from_numpy(obs))
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(channels_last.double(), expected, rtol=1e-4, atol=1e-4)


def test_pixels_are_scaled_by_255():
    first = bodies.Pixels(2, 1, 3, 1)
    with torch.no_grad():
        first.conv.weight.fill_(1)
        first.conv.bias.fill_(7)
        white = first(torch.full((1, 3, 3, 2), 255, dtype=torch.uint8))
    assert white.item() == pytest.approx(3 * 3 * 2 + 7, rel=1e-6)


def test_vector_scales_bytes_and_leaves_floats():
    layer = bodies.Vector()
    assert layer(torch.tensor([[0, 51, 255]], dtype=torch.uint8)).tolist() == [[0, pytest.approx(0.2), 1]]
    assert layer(torch.tensor([[[1.5], [300.0]]])).tolist() == [[1.5, 300]]


def test_initial_weights():
    torch.manual_seed(0)
    net = ActorCritic(spec(ATARI, 4), "nature", shared=True)
    dense = net.body[-2].weight
    torch.testing.assert_close(dense @ dense.T, 2 * torch.eye(512), atol=1e-4, rtol=0)  # gain sqrt 2
    assert net.policy.weight.norm().item() == pytest.approx(0.01 * math.sqrt(4), rel=1e-4)
    assert net.value.weight.norm().item() == pytest.approx(1, rel=1e-4)
    assert all((p == 0).all() for name, p in net.named_parameters() if name.endswith("bias"))


def test_actor_and_critic_share_only_where_asked():
    torch.manual_seed(0)
    shared, apart = (ActorCritic(spec((4,), 2), "mlp", shared=s) for s in (True, False))
    for net, touched in ((shared, True), (apart, False)):
        _, value = net(torch.ones(1, 4))
        value.sum().backward()
        assert (net.body[1].weight.grad is not None) == touched
    assert shared.critic_body is None


def test_names_lists_exactly_the_bodies():
    assert nets() == sorted(NAMES)
    for name in nets():
        assert isinstance(bodies.make(name, ATARI), bodies.Body)


@pytest.mark.parametrize(("shape", "same_as"), [(ATARI, "nature"), ((4,), "mlp"), ((128,), "mlp")])
def test_auto(shape, same_as):
    assert count(bodies.make("auto", shape)) == count(bodies.make(same_as, shape))


@pytest.mark.parametrize("name", ["", "natur", "make", "names", "Pixels", "init_orthogonal", "_out", "math"])
def test_unknown_names(name):
    with pytest.raises(UsageError, match="no net called"):
        bodies.make(name, ATARI)


def test_unknown_name_suggests():
    with pytest.raises(UsageError, match="nature"):
        bodies.make("natur", ATARI)


@pytest.mark.parametrize(("name", "least"), [("nature", 36), ("nips", 36), ("impala", 16), ("efficientnet", 16)])
def test_wrong_shapes(name, least):
    with pytest.raises(UsageError, match=r"needs pixels.*--net mlp"):
        bodies.make(name, (4,))
    for shape in ((least - 1, 84, 4), (84, least - 1, 4)):
        with pytest.raises(UsageError, match=f"at least {least}x{least}"):
            bodies.make(name, shape)
    body = bodies.make(name, (least, least, 1))
    assert body(torch.zeros(1, least, least, 1, dtype=torch.uint8)).shape == (1, body.out_features)
