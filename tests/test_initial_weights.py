"""Initial weights of bodies and heads: those of the papers in the presets named after papers."""

import math

import pytest
import torch
from torch import nn

from playfield.algos import a2c, c51, dqn, hlgauss, mrp, qrdqn, rainbow
from playfield.envs import make_envs
from playfield.nets import bodies


@pytest.fixture(scope="module")
def breakout():
    return make_envs("breakout", 1).spec


def layers(net: nn.Module) -> list[nn.Linear | nn.Conv2d]:
    return [layer for layer in net.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]


def fans(layer) -> tuple[int, int]:
    """Fan in and fan out, counted by hand from the layer's description."""
    if isinstance(layer, nn.Conv2d):
        places = math.prod(layer.kernel_size)
        return layer.in_channels * places, layer.out_channels * places
    return layer.in_features, layer.out_features


def assert_uniform(values: torch.Tensor, edge: float) -> None:
    assert values.abs().max() <= edge * 1.000001
    if values.numel() > 1000:
        assert values.std().item() == pytest.approx(edge / math.sqrt(3), rel=0.05)
        assert values.mean().item() == pytest.approx(0, abs=0.05 * edge)
        assert values.abs().max() > 0.99 * edge


@pytest.mark.parametrize(
    ("module", "preset"), [(dqn, "nature"), (dqn, "nips"), (dqn, "cleanrl"), (c51, "paper"), (qrdqn, "paper")]
)
def test_presets_after_papers_start_uniform_within_one_over_the_root_of_fan_in(module, preset, breakout):
    torch.manual_seed(0)
    net = module.network(breakout, module.PRESETS["atari"][preset])
    assert len(layers(net)) == (4 if preset == "nips" else 5)
    for layer in layers(net):
        edge = 1 / math.sqrt(fans(layer)[0])
        assert_uniform(layer.weight.detach(), edge)
        assert_uniform(layer.bias.detach(), edge)
        assert layer.bias.abs().max() > 0


def test_rainbows_paper_has_the_papers_body(breakout):
    net = c51.network(breakout, rainbow.PRESETS["atari"]["paper"])
    assert [type(layer) for layer in net.noisy] == [type(net.noisy[0])] * 2
    for layer in layers(net.body):
        assert_uniform(layer.weight.detach(), 1 / math.sqrt(fans(layer)[0]))


@pytest.mark.parametrize(
    ("module", "preset"), [(dqn, "lesson18"), (dqn, "lesson18-double"), (mrp, "lesson18"), (hlgauss, "paper")]
)
def test_keras_and_dopamine_start_by_glorot(module, preset, breakout):
    torch.manual_seed(0)
    cfg = module.PRESETS["atari"][preset]
    net = mrp.ValueNetwork(breakout, cfg.net) if module is mrp else module.network(breakout, cfg)
    for layer in layers(net):
        assert_uniform(layer.weight.detach(), math.sqrt(6 / sum(fans(layer))))
        assert not layer.bias.any()


def test_the_keras_tutorials_network_starts_by_glorot_heads_too():
    torch.manual_seed(0)
    net = a2c.network(make_envs("CartPole-v1", 1).spec, a2c.PRESETS["vector"]["keras-cartpole"])
    assert [fans(layer) for layer in layers(net)] == [(4, 128), (128, 2), (128, 1)]
    for layer in layers(net):
        assert_uniform(layer.weight.detach(), math.sqrt(6 / sum(fans(layer))))
        assert not layer.bias.any()


def test_orthogonal_bodies_are_the_root_of_six_larger(breakout):
    """As `QNetwork`'s docstring says: rows of an orthogonal [out, in] matrix, out <= in, have norm sqrt(2)."""
    torch.manual_seed(0)
    shape = breakout.obs_shape
    pair = (layers(bodies.make(name, shape)) for name in ("nature", "nature:init=uniform"))
    for ours, theirs in zip(*pair, strict=True):
        ratio = ours.weight.std() / theirs.weight.std()
        assert ratio.item() == pytest.approx(math.sqrt(6), rel=0.05)
        assert not ours.bias.any()


def test_the_policy_loss_trains_the_critic_only_where_asked():
    """d/dv of -logprob (G - v) is logprob: the tutorial's gradient, by hand; without the option it is 0."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.logits = nn.Parameter(torch.tensor([[0.3, -0.2], [0.0, 1.0]]))
            self.values = nn.Parameter(torch.tensor([0.5, -1.0]))

        def forward(self, obs):
            return self.logits, self.values

    batch = {
        "obs": torch.zeros(2, 4),
        "actions": torch.tensor([0, 1]),
        "returns": torch.tensor([1.5, 2.0]),
        "advantages": torch.tensor([1.0, 3.0]),
    }
    found = {}
    for option in (False, True):
        net = Net()
        cfg = a2c.Config(vf_coef=0.0, ent_coef=0.0, policy_trains_critic=option)
        loss, _ = a2c.a2c_loss(net, batch, cfg, 2)
        loss.backward()
        found[option] = net.values.grad, net.logits.grad, loss.item()
    logprob = torch.tensor([0.3 - math.log(math.exp(0.3) + math.exp(-0.2)), 1 - math.log(1 + math.e)])
    assert torch.equal(found[False][0], torch.zeros(2))
    torch.testing.assert_close(found[True][0], logprob / 2)
    torch.testing.assert_close(found[True][1], found[False][1])
    assert found[True][2] == pytest.approx(found[False][2])
