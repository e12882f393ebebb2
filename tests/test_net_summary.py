"""`playfield nets`: layers, parameters and multiply-adds against numbers by hand and against loops over layers."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from playfield.cli import main
from playfield.compute import Compute
from playfield.nets import bodies, layers, names, summary
from playfield.nets.summary import Input, Layer

pytestmark = pytest.mark.usefixtures("one_thread")

LESSON = Input((84, 84, 1), 3)


def told(words: list[str], capsys) -> str:
    assert main(["nets", *words]) == 0
    return capsys.readouterr().out


def numbers(out: str) -> list[list[str]]:
    """The words of each line that ends with a number."""
    return [line.split() for line in out.splitlines() if line.split() and line.split()[-1].replace(",", "").isdigit()]


def test_nature_as_the_lesson_shows_it(capsys):
    """Outputs and parameters of Keras' summary for pictures of 84x84 in one shade, and three actions."""
    out = told(["nature", "--shape", "84x84x1", "--actions", "3"], capsys)
    assert [row[-3:-1] for row in numbers(out)] == [
        ["20x20x32", "2,080"],
        ["9x9x64", "32,832"],
        ["7x7x64", "36,928"],
        ["3136", "0"],
        ["512", "1,606,144"],
        ["3", "1,539"],
        ["total", "1,679,523"],
    ]
    found = summary.layers("nature", LESSON)
    assert [layer.output for layer in found] == [(20, 20, 32), (9, 9, 64), (7, 7, 64), (3136,), (512,), (3,)]
    assert [layer.parameters for layer in found] == [2_080, 32_832, 36_928, 0, 1_606_144, 1_539]
    assert [layer.multiply_adds for layer in found] == [
        400 * 32 * 64, 81 * 64 * 512, 49 * 64 * 576, 0, 3136 * 512, 512 * 3,
    ]  # fmt: skip
    assert [layer.name for layer in found] == ["body.0", "body.2", "body.4", "body.6", "body.7", "head"]


def test_json_of_one_net(capsys):
    found = json.loads(told(["nature", "--shape", "84x84x1", "--actions", "3", "--json"], capsys))
    assert found["parameters"] == 1_679_523
    assert found["multiply_adds"] == 400 * 32 * 64 + 81 * 64 * 512 + 49 * 64 * 576 + 3136 * 512 + 512 * 3
    assert (found["net"], found["shape"], found["actions"]) == ("nature", [84, 84, 1], 3)
    assert found["layers"][0] == {
        "name": "body.0",
        "kind": "conv 8x8, stride 4",
        "output": [20, 20, 32],
        "parameters": 2_080,
        "multiply_adds": 819_200,
    }


def test_efficientnet_by_hand():
    """84 -> 21 -> 11 -> 6; a gate's two dense layers see one number for each channel."""
    found = {layer.name: layer for layer in summary.layers("efficientnet", Input((84, 84, 4), 4))}
    assert sum(layer.multiply_adds for layer in found.values()) == (
        21 * 21 * 32 * 6 * 6 * 4
        + 11 * 11 * (64 * 9 * 32 + 64 * 48)
        + 6 * 6 * (192 * 9 * 48 + 192 * 64)
        + 2 * (6 * 6 * (2 * 64 * 256 + 256 * 9) + 2 * 256 * 16)
        + 2304 * 256
        + 256 * 4
    )
    depthwise = found["body.4.layers.2"]
    assert (depthwise.kind, depthwise.output, depthwise.parameters) == ("depthwise conv 3x3", (6, 6, 256), 2560)


def by_loops(model: nn.Module, obs: Tensor) -> int:
    """Multiply-adds: each convolution applies all of its weights at every place, each dense layer once."""
    work = 0

    def count(module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        nonlocal work
        if isinstance(module, layers.Pixels):
            work += module.conv.weight.numel() * out.shape[2] * out.shape[3]
        elif isinstance(module, nn.Conv2d):
            work += module.weight.numel() * out.shape[2] * out.shape[3]
        elif isinstance(module, nn.Linear):
            work += module.weight.numel()

    hooks = [m.register_forward_hook(count) for m in model.modules()]
    with torch.no_grad():
        model(obs)
    for hook in hooks:
        hook.remove()
    return work


PICTURES = [*names.nets(), "impala:width=2,norm=layer", "efficientnet:norm=layer", "nips:width=0.5"]


@pytest.mark.parametrize(
    ("name", "shape"), [*((name, (44, 52, 2)) for name in PICTURES), ("mlp", (3,)), ("relu128", (3,))]
)
def test_totals_against_loops(name, shape):
    given = Input(shape, 5, "uint8" if len(shape) == 3 else "float32")
    model = summary.Headed(name, given)
    obs = torch.zeros((1, *shape), dtype=getattr(torch, given.dtype))
    found = summary.layers(name, given)
    assert sum(layer.multiply_adds for layer in found) == by_loops(model, obs)
    assert sum(layer.parameters for layer in found) == sum(p.numel() for p in model.parameters())
    assert found[-1] == Layer("head", "dense", (5,), model.body.out_features * 5 + 5, model.body.out_features * 5)


class Odd(nn.Module):
    """A layer with weights of its own beside a layer inside, one that it never calls, and a bare matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(6, 7))
        self.inner = nn.Linear(3, 6)
        self.borrowed = nn.Linear(7, 2)

    def forward(self, obs: Tensor) -> Tensor:
        return self.inner(obs) @ self.scale @ self.borrowed.weight.T


def test_weights_and_products_outside_of_layers_are_counted_once(monkeypatch):
    monkeypatch.setattr(bodies, "make", lambda _name, _shape: bodies.Body(Odd(), out_features=2))
    found = summary.layers("odd", Input((3,), 1, "float32"))
    assert [(layer.name, layer.parameters, layer.multiply_adds) for layer in found] == [
        ("body.0.inner", 24, 18),
        ("body.0", 42 + 16, 42 + 14),
        ("head", 3, 2),
    ]


def test_the_list_names_every_body_that_fits(capsys):
    out = told([], capsys)
    assert {row[0] for row in numbers(out)} == set(names.nets())
    assert (
        "Options: width=FLOAT [1.0], norm=none|dense|layer [dense], init=orthogonal|uniform|glorot [orthogonal], "
        "motion=FLOAT [0.0]." in out
    )
    out = told(["--shape", "4", "--actions", "2"], capsys)
    assert numbers(out) == [["mlp", "4,610", "4,480"], ["relu128", "898", "768"]]
    assert "Not for this input: efficientnet, impala, nature, nips." in out


def test_several_nets_side_by_side(capsys):
    found = json.loads(told(["nature", "nature:norm=layer", "--json"], capsys))
    assert [row["net"] for row in found["nets"]] == ["nature", "nature:norm=layer"]
    a, b = (row["parameters"] for row in found["nets"])
    assert b - a == 2 * (32 + 64 + 64 + 512)
    assert found["shape"] == [84, 84, 4]


def test_shape_and_actions_of_a_game(capsys):
    assert numbers(told(["nature", "--env", "breakout"], capsys))[-1][1] == "1,686,180"  # 84x84x4, 4 actions
    assert numbers(told(["mlp", "--env", "CartPole-v1"], capsys))[-1][1] == "4,610"


def test_measured_speeds(capsys):
    """Speeds are there, positive, and a net with forty times the work is slower."""
    found = json.loads(told(["nips", "impala", "--shape", "44x44x1", "--measure", "--json"], capsys))
    small, large = found["nets"]
    for key in ("inference_samples_per_second", "training_samples_per_second"):
        assert small[key] > large[key] > 0
    assert small["threads"] == 1
    assert small["precision"] in ("bf16", "fp32")


def test_measured_speed_is_samples_by_seconds(monkeypatch):
    """With calls of 0.5 s in inference and 2 s in training; the median leaves one slow round out."""
    calls = []

    def seconds(_fn, least, _device):
        calls.append(least)
        slow = 10 if len(calls) in (5, 6) else 1
        return slow * (0.5 if least == 0.05 else 2.0)

    monkeypatch.setattr(summary, "_seconds", seconds)
    (speed,) = summary.measure(["mlp"], Input((4,), 2, "float32"), Compute("cpu", "fp32", 1), rounds=3)
    assert (speed.inference, speed.training) == (16 / 0.5, 32 / 2)
    assert len(calls) == 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["natur"], "did you mean nature"),
        (["breakout"], "use --env breakout"),
        (["nature", "--shape", "84x84"], "is 84x84x1"),
        (["nature", "--shape", "4"], "needs pixels"),
        (["nature", "--shape", "20x20x1"], "at least 36x36"),
        (["nature", "--shape", "0x84x4"], "--shape takes sizes"),
        (["nature", "--shape", "84*84"], "--shape takes sizes"),
        (["nature", "--shape", "9999x84x4"], "--shape takes sizes"),
        (["nature", "--actions", "0"], "between 1"),
        (["nature", "--env", "brekout"], "did you mean breakout"),
        (["nature", "--env", "pong", "--actions", "3"], "leave out"),
        (["nature", "--env", "CartPole-v1"], "needs pixels"),
        (["nature", "--mesure"], "did you mean --measure"),
    ],
)
def test_mistakes(words, message, capsys):
    assert main(["nets", *words]) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert (out, err.count("\n")) == ("", 1)


def test_what_does_not_fit_is_not_measured(capsys, monkeypatch):
    """Of nature's net at 4096x4096, the dense layer alone has 64 x 508 x 508 x 512 weights, 34 GB."""
    monkeypatch.setattr(summary.computing, "free_memory", lambda: 8 * 10**9)
    for given in (["nature"], ["nips", "nature"]):
        assert main(["nets", *given, "--shape", "4096x4096x4", "--measure"]) == 2
        out, err = capsys.readouterr()
        assert "8.00 GB are free: use a smaller --shape, or leave out --measure" in err
        assert (out, err.count("\n")) == ("", 1)
    assert "8,456,321,700" in told(["nature", "--shape", "4096x4096x4"], capsys), "sizes are told all the same"
    weights = sum(p.numel() for p in summary.Headed("nature", LESSON).parameters())
    assert summary.bytes_to_measure(["nature"], LESSON) > 16 * weights + 32 * 84 * 84
    both = summary.bytes_to_measure(["nature", "nature"], LESSON)
    assert both - summary.bytes_to_measure(["nature"], LESSON) == 16 * weights, "their batches take turns"
