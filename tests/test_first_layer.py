"""The estimate of what a kernel for the first layer could save: numbers that can be worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from playfield.algos import ppo
from playfield.bench._run import breakout_spec

SCRIPT = Path(__file__).parent.parent / "scripts" / "first_layer"


@pytest.fixture
def first_layer(monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = SourceFileLoader("first_layer", str(SCRIPT))
    made = module_from_spec(spec_from_loader("first_layer", loader))
    loader.exec_module(made)
    return made


def test_what_is_saved_by_hand(first_layer):
    parts = {"convert": 1.0, "forward": 5.0, "gradient": 7.0}
    # Two epochs: three times forward, twice backward, of 10 operations each at 5 a second.
    assert first_layer.saved(parts, 10.0, 5.0, epochs=2) == 3 * (1 + 5) + 2 * 7 - 5 * 2
    assert first_layer.saved(parts, 1000.0, 5.0, epochs=2) == 0.0


def test_the_shortest_of_many_times(first_layer, monkeypatch):
    # When it ends; then for each time whether it is over, its begin and its end.
    clock = iter([0.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.5, 4.8, 5.0, 7.0, 7.0])
    monkeypatch.setattr(first_layer.time, "perf_counter", lambda: next(clock))
    done = []
    assert first_layer.shortest(lambda: done.append(1), seconds=6.0) == 0.5
    assert len(done) == 4  # once before, to warm up


def test_a_sample_of_the_default_takes_that_many_operations():
    """84x84x4 bytes, 16 filters of 8x8 with stride 4: 20x20 positions."""
    net = ppo.network(breakout_spec(), ppo.PRESETS["atari"]["default"])
    first = next(p for name, p in net.named_parameters() if name == "body.0.conv.weight")
    assert tuple(first.shape) == (16, 4, 8, 8)
    assert 2 * 20 * 20 * first.numel() == 3_276_800


def test_a_mistyped_option_is_said():
    done = subprocess.run([sys.executable, str(SCRIPT), "--shares", "3"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--shares" in done.stderr
