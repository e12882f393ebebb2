"""The first layer on differences of frames, against the differences made by hand."""

import pytest
import torch
from torch.nn import functional as F

import playfield
from playfield.envs.base import EnvSpec
from playfield.nets import bodies
from playfield.nets.layers import Pixels


def differences(obs: torch.Tensor, frames: int, gain: float) -> torch.Tensor:
    """[N, H, W, C] bytes to what the weights are for: gain (newest - earlier) for each earlier frame, the newest."""
    planes = obs.shape[-1] // frames
    pictures = [obs[..., k * planes : (k + 1) * planes].double() / 255 for k in range(frames)]
    return torch.cat([*(gain * (pictures[-1] - p) for p in pictures[:-1]), pictures[-1]], -1).permute(0, 3, 1, 2)


@pytest.mark.parametrize(("channels", "frames"), [(4, 0), (4, 4), (2, 2), (12, 4), (6, 2)])
def test_the_first_layer_sees_differences(channels, frames):
    torch.manual_seed(1)
    layer = Pixels(channels, 5, 8, 4, motion=3.0)
    layer.frames = frames
    obs = torch.randint(0, 256, (2, 40, 44, channels), dtype=torch.uint8)
    expected = F.conv2d(
        differences(obs, frames or channels, 3.0), layer.conv.weight.double(), layer.conv.bias.double(), 4
    )
    torch.testing.assert_close(layer(obs).double(), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(("channels", "frames"), [(3, 1), (1, 1), (1, 0)])
def test_a_single_frame_has_no_differences(channels, frames):
    layer, plain = Pixels(channels, 5, 8, 4, motion=3.0), Pixels(channels, 5, 8, 4)
    layer.frames = plain.frames = frames
    plain.load_state_dict(layer.state_dict())
    obs = torch.randint(0, 256, (2, 40, 44, channels), dtype=torch.uint8)
    assert torch.equal(layer(obs), plain(obs))


def test_gradients_are_those_of_the_differences():
    torch.manual_seed(2)
    layer = Pixels(4, 3, 8, 4, motion=2.0)
    obs = torch.randint(0, 256, (3, 36, 36, 4), dtype=torch.uint8)
    layer(obs).square().sum().backward()
    w = layer.conv.weight.detach().double().requires_grad_()
    F.conv2d(differences(obs, 4, 2.0), w, layer.conv.bias.detach().double(), 4).square().sum().backward()
    torch.testing.assert_close(layer.conv.weight.grad.double(), w.grad, atol=1e-2, rtol=1e-3)


@pytest.mark.parametrize(
    ("shape", "protocol", "frames"),
    [((84, 84, 12), {"stack": 4}, 4), ((84, 84, 3), {}, 1), ((40, 96, 2), {"stack": 2}, 2)],
)
def test_the_environment_says_how_many_frames_there_are(shape, protocol, frames):
    spec = EnvSpec("x", "atari", shape, "uint8", 2, ("a", "b"), protocol)
    for name in ("nips:motion=4", "nature:motion=4"):
        first = bodies.for_spec(name, spec)[0]
        assert isinstance(first, Pixels)
        assert (first.frames, first.motion) == (frames, 4.0)


def test_it_trains_and_goes_on_exactly(tmp_path):
    words = {"algo": "ppo", "net": "nips:motion=4", "num_envs": 4, "rollout_steps": 16, "minibatches": 2, "epochs": 1}
    one = playfield.train("breakout", steps=128, run=tmp_path / "a", quiet=True, **words, games=0)
    playfield.train("breakout", steps=64, run=tmp_path / "b", quiet=True, **words, games=0)
    two = playfield.train(resume=tmp_path / "b", steps=128, quiet=True, games=0)
    assert one.hash == two.hash
