"""Linear agents on pictures, RAM or latents of an auto-encoder: trained, stopped, resumed, evaluated and moved."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import playfield
from playfield.errors import UsageError
from playfield.nets.autoencoder import Config, Encoder, initialised
from playfield.runs import checkpoint
from playfield.runs import encoder as encoders
from playfield.runs.weights import export_weights

pytestmark = pytest.mark.usefixtures("one_thread")
QUIET = {"games": 0, "film": False, "console": False, "tensorboard": False, "seed": 1, "workers": 1}
LATENT = 4


def write_encoder(path: Path, seed: int, mean: float = 0.1) -> Path:
    """An auto-encoder with the first weights of its seed."""
    net = initialised(Config(latent=LATENT, seed=seed))
    tensors = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    tensors |= {"back": np.zeros((84, 84), np.uint8), "weights": np.ones((84, 84), np.float32)}
    tensors |= {"mean": np.full(LATENT, mean, np.float32), "std": np.ones(LATENT, np.float32)}
    meta = {"kind": "autoencoder", "config": Config(latent=LATENT, seed=seed).stored(), "step": 7}
    path.mkdir()
    export_weights(path / encoders.FILE, tensors, meta)
    return path


def train(run: Path, features: str, steps: int, **parts: str) -> playfield.session.Result:
    config = {"features": features, "alpha": 0.001, "rollout_steps": 50, "initial": 1.0}
    return playfield.train("breakout", "sarsa_lambda", run=run, steps=steps, config=config, parts=parts, **QUIET)


def values(run: Path) -> np.ndarray:
    screens = np.random.default_rng(0).integers(0, 256, (6, 84, 84, 4)).astype(np.uint8)
    return playfield.load_policy(run).explain(screens)["q"]


@pytest.fixture
def encoder(tmp_path) -> Path:
    return write_encoder(tmp_path / "encoder", seed=1)


def test_a_run_has_its_own_copy_of_the_encoder(tmp_path, encoder, monkeypatch):
    """With another encoder in its place, or none, values are the same, and the run ends with the same bits."""
    features = f"autoencoder:{encoder}"
    whole = train(tmp_path / "whole", features, 200)
    half = train(tmp_path / "half", features, 100)
    before = values(half.directory)
    assert np.abs(before).max() > 0
    for replaced in (True, False):
        shutil.rmtree(encoder)
        if replaced:
            write_encoder(encoder, seed=2)
        assert (values(half.directory) == before).all()
    moved = tmp_path / "elsewhere"
    shutil.move(half.directory, moved)
    monkeypatch.chdir(tmp_path.parent)
    assert (values(moved) == before).all()
    again = playfield.train(resume=moved, steps=200, console=False, tensorboard=False, games=0, film=False)
    assert again.hash == whole.hash


def test_another_encoder_changes_the_values(tmp_path, encoder):
    """What the test above relies on."""
    one = train(tmp_path / "one", f"autoencoder:{encoder}", 100)
    before = values(one.directory)
    write_encoder(tmp_path / "other", seed=2)
    shutil.copy(tmp_path / "other" / encoders.FILE, one.directory / encoders.FILE)
    assert (values(one.directory) != before).any()


@pytest.mark.parametrize(("features", "parts"), [("bits", {"obs": "ram"}), ("pixels:size=6", {})])
def test_a_resumed_run_ends_with_the_same_hash(tmp_path, features, parts):
    whole = train(tmp_path / "whole", features, 200, **parts)
    half = train(tmp_path / "half", features, 100, **parts)
    assert half.hash != whole.hash
    assert checkpoint.load(half.directory / "checkpoints").step == 100
    again = playfield.train(resume=half.directory, steps=200, console=False, tensorboard=False, games=0, film=False)
    assert again.hash == whole.hash
    assert not (half.directory / encoders.FILE).exists()


def test_an_encoder_in_training_is_refused(tmp_path):
    path = write_encoder(tmp_path / "unfinished", seed=1, mean=0.0)
    with pytest.raises(UsageError, match=r"killed after 7 updates: finish it with .* --resume"):
        Encoder.load(path)
