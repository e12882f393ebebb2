"""Bodies with options: sizes by hand, naive computations of their layers, independence of the batch, mistakes."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import playfield
from playfield.algos import dqn, ppo
from playfield.cli import main
from playfield.errors import UsageError
from playfield.nets import bodies, layers, names
from playfield.runs import catalog
from ppo_runs import named

pytestmark = pytest.mark.usefixtures("one_thread")

ATARI = (84, 84, 4)
SMALL = (44, 52, 2)  # quick, and not square
PIXEL_NETS = ("efficientnet", "impala", "nature", "nips")
EVERY = [
    *names.nets(),
    *(f"{net}:width={width},norm={norm}" for net in PIXEL_NETS for width, norm in ((0.5, "dense"), (2, "layer"))),
    *(f"{net}:norm={norm}" for net in PIXEL_NETS for norm in ("none", "layer")),
]


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def pixels(n: int, shape: tuple[int, ...] = SMALL, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8))


def make(name: str, shape: tuple[int, ...] = SMALL) -> bodies.Body:
    """The body, with biases and gains that are not 0 and 1, which would hide a mix-up."""
    torch.manual_seed(0)
    body = bodies.make(name, shape)
    for p in body.parameters():
        if p.dim() == 1:
            nn.init.normal_(p, 0.5, 0.1)
    return body


def conv(inputs: int, outputs: int, kernel: int) -> int:
    return kernel * kernel * inputs * outputs + outputs


def gated(width: int, norm: int = 0) -> int:
    """An MBConv block that keeps `width`: 1x1, depthwise, two dense layers of the gate, 1x1."""
    h = 4 * width
    gate = h * (width // 4) + width // 4 + (width // 4) * h + h
    return conv(width, h, 1) + 9 * h + h + gate + conv(h, width, 1) + norm * (2 * h + 2 * h + 2 * width)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nature:width=2", conv(4, 64, 8) + conv(64, 128, 4) + conv(128, 128, 3) + 49 * 128 * 512 + 512),
        (
            "nature:norm=layer",  # a gain and a bias for 32, 64, 64 channels and 512 features
            conv(4, 32, 8) + conv(32, 64, 4) + conv(64, 64, 3) + 49 * 64 * 512 + 512 + 2 * (32 + 64 + 64 + 512),
        ),
        ("nature:norm=dense", conv(4, 32, 8) + conv(32, 64, 4) + conv(64, 64, 3) + 49 * 64 * 512 + 512 + 2 * 512),
        ("nips:norm=none", conv(4, 16, 8) + conv(16, 32, 4) + 81 * 32 * 256 + 256),
        ("nips:norm=layer", conv(4, 16, 8) + conv(16, 32, 4) + 81 * 32 * 256 + 256 + 2 * (16 + 32 + 256)),
        (
            "impala:width=2,norm=layer",
            conv(4, 32, 3) + 4 * conv(32, 32, 3) + 2 * 5 * 32
            + conv(32, 64, 3) + 4 * conv(64, 64, 3) + 2 * 5 * 64
            + conv(64, 64, 3) + 4 * conv(64, 64, 3) + 2 * 5 * 64
            + 121 * 64 * 256 + 256 + 2 * 256,
        ),
        (
            "efficientnet",  # 84 -> 21 -> 11 -> 6
            conv(4, 32, 6) + conv(32, 64, 3) + conv(64, 48, 1) + conv(48, 192, 3) + conv(192, 64, 1)
            + 2 * gated(64) + 36 * 64 * 256 + 256,
        ),
        (
            "efficientnet:norm=layer",
            conv(4, 32, 6) + 2 * 32 + conv(32, 64, 3) + 2 * 64 + conv(64, 48, 1) + 2 * 48
            + conv(48, 192, 3) + 2 * 192 + conv(192, 64, 1) + 2 * 64 + 2 * gated(64, 1)
            + 36 * 64 * 256 + 256 + 2 * 256,
        ),
    ],
)  # fmt: skip
def test_parameters_by_hand(name, expected):
    with torch.device("meta"):
        assert count(bodies.make(name, ATARI)) == expected


@pytest.mark.parametrize("name", ["nature", "nips", "impala", "efficientnet"])
def test_defaults_written_out_are_the_defaults(name):
    """Weights files name layers by their place: options at their defaults leave those and the random draws alone."""
    torch.manual_seed(3)
    plain = bodies.make(name, SMALL).state_dict()
    torch.manual_seed(3)
    norm = "dense" if name == "nips" else "none"
    written = bodies.make(f"{name}:width=1,norm={norm}", SMALL).state_dict()
    assert list(plain) == list(written)
    assert all(torch.equal(plain[key], written[key]) for key in plain)


def test_names_of_weights_are_those_of_older_files():
    assert [k for k in bodies.make("nature", SMALL).state_dict() if "weight" in k] == [
        "0.conv.weight", "2.weight", "4.weight", "7.weight",
    ]  # fmt: skip
    assert [k for k in bodies.make("nips", SMALL).state_dict() if "weight" in k] == [
        "0.conv.weight", "2.weight", "5.weight", "6.weight",
    ]  # fmt: skip
    assert [k for k in bodies.make("impala", SMALL).state_dict() if k.startswith(("0", "2", "13", "14"))] == [
        "0.conv.weight", "0.conv.bias", "2.conv0.weight", "2.conv0.bias", "2.conv1.weight", "2.conv1.bias",
        "14.weight", "14.bias",
    ]  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_forward_and_backward(name):
    """Finite features, and a gradient for every parameter."""
    body = make(name)
    features = body(pixels(4))
    assert features.shape == (4, body.out_features)
    assert torch.isfinite(features).all()
    (features * torch.randn(features.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for key, p in body.named_parameters():
        assert p.grad is not None, key
        assert torch.isfinite(p.grad).all(), key
        assert p.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", EVERY)
def test_a_row_does_not_depend_on_the_others(name):
    body, obs = make(name), pixels(3)
    other = torch.cat([255 - pixels(1, seed=5), obs[1:2], 0 * obs[:1]])
    with torch.no_grad():
        features = body(obs)
        assert torch.equal(features[1], body(other)[1])
        torch.testing.assert_close(features[1:2], body(obs[1:2]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [n for n in EVERY if "norm" in n or n == "efficientnet"])
def test_bfloat16(name):
    body, obs = make(name), pixels(4)
    with torch.no_grad():
        expected = body(obs)
        found = body.to(torch.bfloat16).to(memory_format=torch.channels_last)(obs)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.1 * expected.abs().max()


def test_no_body_keeps_statistics_of_the_batch():
    for name in EVERY:
        assert not list(bodies.make(name, SMALL).buffers()), name


def test_squeeze_and_excitation_against_loops():
    torch.manual_seed(0)
    layer = layers.SqueezeExcite(6, 2)
    x = torch.randn(2, 6, 3, 5)
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in layer.parameters())
    b1[:], b2[:] = [0.3, -0.2], np.linspace(-1, 1, 6)
    with torch.no_grad():
        layer.squeeze.bias.copy_(torch.from_numpy(b1))
        layer.excite.bias.copy_(torch.from_numpy(b2))
        found = layer(x).numpy()
    picture = x.double().numpy()
    for n in range(2):
        means = [sum(picture[n, c, i, j] for i in range(3) for j in range(5)) / 15 for c in range(6)]
        z = [sum(w1[s, c] * means[c] for c in range(6)) + b1[s] for s in range(2)]
        hidden = [v / (1 + np.exp(-v)) for v in z]
        for c in range(6):
            gate = 2 / (1 + np.exp(-(sum(w2[c, s] * hidden[s] for s in range(2)) + b2[c])))
            np.testing.assert_allclose(found[n, c], gate * picture[n, c], rtol=1e-5, atol=1e-6)


def standardised(x: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """LayerNorm over channels and places of each observation."""
    mean = x.mean((1, 2, 3), keepdim=True)
    variance = ((x - mean) ** 2).mean((1, 2, 3), keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5) * gain[:, None, None] + bias[:, None, None]


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize(("fused", "stride", "outputs"), [(True, 2, 6), (True, 1, 8), (False, 1, 8), (False, 2, 8)])
def test_mbconv_against_a_plain_computation(norm, fused, stride, outputs):
    torch.manual_seed(0)
    block = layers.MBConv(8, outputs, stride, expand=4, fused=fused, norm=norm)
    for p in block.parameters():
        if p.dim() == 1:
            nn.init.normal_(p, 0.5, 0.3)
    p = iter([q.detach().double() for q in block.parameters()])
    x = torch.randn(2, 8, 7, 5)

    def convolve(x: torch.Tensor, **how: int) -> torch.Tensor:
        x = F.conv2d(x, next(p), next(p), **how)
        return standardised(x, next(p), next(p)) if norm == "layer" else x

    def silu(x: torch.Tensor) -> torch.Tensor:
        return x / (1 + torch.exp(-x))

    y = x.double()
    if fused:
        y = silu(convolve(y, stride=stride, padding=1))
    else:
        y = silu(convolve(silu(convolve(y)), stride=stride, padding=1, groups=32))
        w1, b1, w2, b2 = (next(p) for _ in range(4))
        gate = 2 / (1 + torch.exp(-(silu(y.mean((2, 3)) @ w1.T + b1) @ w2.T + b2)))
        y = y * gate[:, :, None, None]
    y = convolve(y)
    expected = x + y if stride == 1 and outputs == 8 else y
    with torch.no_grad():
        torch.testing.assert_close(block(x).double(), expected, rtol=1e-4, atol=1e-4)


def test_layer_norm_of_nature_against_a_plain_computation():
    body = make("nature:norm=layer")
    p = iter([q.detach().double() for q in body.parameters()])
    x = pixels(2).double().permute(0, 3, 1, 2) / 255
    for stride in (4, 2, 1):
        x = F.relu(standardised(F.conv2d(x, next(p), next(p), stride=stride), next(p), next(p)))
    x = x.permute(0, 2, 3, 1).flatten(1) @ next(p).T + next(p)
    x = F.relu(standardised(x[:, :, None, None], next(p), next(p)))[:, :, 0, 0]
    with torch.no_grad():
        torch.testing.assert_close(body(pixels(2)).double(), x, rtol=1e-3, atol=1e-3)


def test_a_new_efficientnet_keeps_the_size_of_its_signal():
    """No normalisation: neither vanishing nor exploding at the start, at any width."""
    for width in (0.5, 1, 2):
        torch.manual_seed(0)
        features = bodies.make(f"efficientnet:width={width}", ATARI)(pixels(4, ATARI))
        assert 0.05 < features.square().mean().sqrt() < 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("impala", ("impala", {})),
        ("auto", ("auto", {})),
        ("impala:width=2", ("impala", {"width": 2.0})),
        ("impala:norm=layer,width=0.5", ("impala", {"norm": "layer", "width": 0.5})),
        ("impala:width=2, norm=dense", ("impala", {"norm": "dense", "width": 2.0})),
    ],
)
def test_what_a_name_with_options_means(text, expected):
    assert names.net(text) == expected


MISTAKES = [
    ("efficientnt", "did you mean efficientnet"),
    ("impla:width=2", "did you mean impala"),
    ("impala:widht=2", "did you mean width"),
    ("impala:norm=layr", "did you mean layer"),
    ("impala:norm=batch", "choose from none, dense, layer"),
    ("impala:width=two", "takes a number"),
    ("impala:width=0", "between 0.25 and 8"),
    ("impala:width=nan", "takes a finite number"),
    ("impala:width=1e9", "between 0.25 and 8"),
    ("impala:width", "lacks a value"),
    ("impala:width=1,width=2", "given twice"),
    ("impala:", "no option"),
    ("impala:width=2,", "no option"),
    ("relu128:width=2", "no option of --net relu128 called 'width': choose from init"),
    ("mlp:act=rel", "did you mean relu"),
    ("mlp:norm=layer", "choose from none, dense"),
    ("auto:width=2", "has no options"),
    (":width=2", "no net called ''"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_mistakes_cost_one_line_and_exit_code_2(text, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["train", "breakout", "--net", text], ["nets", text]):
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert message in err
        assert (out, err.count("\n")) == ("", 1)
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        playfield.train("CartPole-v1", config={"net": text}, steps=10)
    assert list(tmp_path.iterdir()) == []


def test_a_net_that_does_not_fit_leaves_nothing_behind(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "CartPole-v1", "--net", "efficientnet:width=2", "--steps", "64", "--quiet"]) == 2
    assert "needs pixels" in capsys.readouterr().err
    with pytest.raises(UsageError, match="net takes a string"):
        playfield.train("CartPole-v1", config={"net": 3}, steps=10)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [["nets", "--help"], ["nets", "impala:widht=2"], ["train", "pong", "--net", "impla:"]]
)
def test_torch_is_not_imported_for_help_and_mistakes(words):
    code = f"""
import sys
from playfield.cli import main
try:
    main({words!r})
except SystemExit:
    pass
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_efficientnet_trains_by_ppo():
    cfg = ppo.Config(num_envs=4, rollout_steps=8, epochs=1, minibatches=2, net="efficientnet")
    run = named("breakout", cfg, 64, workers=2, fmt="bf16")
    try:
        ppo.train(run, cfg)
        assert run.step == 64
        assert run._parts["learner"].weights_finite()
    finally:
        run.close()


def test_efficientnet_trains_by_dqn():
    cfg = dqn.Config(num_envs=4, rollout_steps=4, capacity=256, learning_starts=48, batch_size=8, net="efficientnet")
    run = named("breakout", cfg, 96, fmt="bf16")
    torch.manual_seed(0)
    try:
        dqn.train(run, cfg)
        assert run.step == 96
        assert run._parts["learner"].weights_finite()
    finally:
        run.close()


def test_a_run_keeps_its_options(tmp_path):
    """The name with its options is all that config.json holds; evaluation and resuming build the same net."""
    small = {"num_envs": 2, "rollout_steps": 8, "epochs": 1, "minibatches": 2, "net": "nature:width=0.5,norm=layer"}
    more = {"games": 0, "console": False, "tensorboard": False}
    result = playfield.train("breakout", run=tmp_path / "run", steps=32, config=small, **more)
    config = json.loads((result.directory / "config.json").read_text("utf-8"))
    assert config["net"] == "nature:width=0.5,norm=layer"
    assert playfield.load_policy(result.directory).act(pixels(2, ATARI).numpy()).shape == (2,)
    assert playfield.train(resume=result.directory, steps=64, **more).steps == 64


def test_options_of_a_body_of_your_own(tmp_path, monkeypatch):
    """They are read from its keyword-only arguments, of any of the four kinds; helpers are no bodies."""
    source = '''
from __future__ import annotations
from typing import Literal
class Body: ...
def tiny(shape: tuple[int, ...], *, depth: int = 2, slope: float = 0.1, bias: bool = True,
         kind: Literal["a", "b"] = "a") -> Body:
    """A first look.

    More."""
def _hidden(shape: tuple[int, ...]) -> Body: ...
def helper(shape: tuple[int, ...]) -> int: ...
def make(name: str, shape: tuple[int, ...]) -> Body: ...
'''
    (tmp_path / "own_bodies.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("own_bodies")
    module.__name__ = "playfield.nets.bodies"  # as if it were that file
    for function in vars(module).values():
        if inspect.isfunction(function):
            function.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, "playfield.nets.bodies", module)
    monkeypatch.setattr(catalog, "_index", lambda: {"algorithms": {}, "nets": {}})
    assert names.nets() == ["tiny"]
    assert names.net_help("tiny") == "A first look."
    meant = {"depth": 3, "slope": 0.5, "bias": False, "kind": "b"}
    assert names.net("tiny:depth=3,slope=0.5,bias=no,kind=b") == ("tiny", meant)
    assert [type(v) for v in names.net("tiny:depth=3,slope=1,bias=on")[1].values()] == [int, float, bool]
    assert [(o.name, o.default) for o in names.net_options("tiny")] == [
        ("depth", 2), ("slope", 0.1), ("bias", True), ("kind", "a"),
    ]  # fmt: skip
    for text, message in (("depth=2.5", "whole number"), ("bias=2", "true or false"), ("kind=c", "choose from a, b")):
        with pytest.raises(UsageError, match=message):
            names.net(f"tiny:{text}")
