"""Auto-encoders: they learn, the same from one seed, go on exactly, and give features of the right shape."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from playfield.cli import main
from playfield.datasets import dataset, train_autoencoder
from playfield.errors import DataError, UsageError
from playfield.nets import autoencoder
from playfield.nets.autoencoder import AutoEncoder, Config, Encoder
from playfield.runs import encoder as encoders
from playfield.runs.run import Stopped
from screens import made, screens

TINY = Config(latent=8, epochs=5, batch_size=16)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return made(tmp_path_factory.mktemp("data") / "game", games=5, length=40)


@pytest.fixture(scope="module")
def trained(place, tmp_path_factory):
    out = tmp_path_factory.mktemp("ae") / "one"
    return out, train_autoencoder.train(place, TINY, out=out)


def test_training_lowers_the_error_on_what_was_held_out(trained):
    out, report = trained
    assert report["done"]
    assert report["frames"]["train"] + report["frames"]["test"] == 200
    assert report["after"]["weighted"] < 0.8 * report["before"]["weighted"]
    assert report["before"]["ball_shown"] == 0
    assert json.loads((out / "autoencoder.json").read_text()) == report
    picture = np.asarray(Image.open(out / "reconstructions.png"))
    assert picture.ndim == 3
    assert (picture == (230, 159, 0)).all(axis=2).sum() > 100  # frames around balls


@pytest.mark.slow
def test_weights_find_the_ball_where_the_plain_error_loses_it(tmp_path):
    """The same updates; long enough for the one, not for the other."""
    path = made(tmp_path / "game", games=5, length=60)
    config = Config(latent=32, epochs=12, batch_size=16)
    found = {
        loss: train_autoencoder.train(path, dataclasses.replace(config, loss=loss), out=tmp_path / loss)["after"]
        for loss in ("weighted", "plain")
    }
    assert found["weighted"]["ball_shown"] > 0.5
    assert found["plain"]["ball_shown"] < 0.1
    assert found["weighted"]["ball_invented"] < 0.2


def test_one_seed_one_file(place, trained, tmp_path):
    again = train_autoencoder.train(place, TINY, out=tmp_path / "two")
    first = (trained[0] / "autoencoder.safetensors").read_bytes()
    assert (tmp_path / "two" / "autoencoder.safetensors").read_bytes() == first
    assert again["after"] == trained[1]["after"]
    data, other = dataset.load(place), dataclasses.replace(TINY, seed=2)
    one, two = (train_autoencoder.Training.new(data, c) for c in (TINY, other))
    assert one.rows().tolist() != two.rows().tolist()
    assert not torch.equal(next(one.net.parameters()), next(two.net.parameters()))


@pytest.mark.parametrize("variational", [False, True])
def test_stopped_by_ctrl_c_and_resumed_is_the_same(place, tmp_path, monkeypatch, variational):
    config = dataclasses.replace(TINY, variational=variational, epochs=1)
    train_autoencoder.train(place, config, out=tmp_path / "whole")
    update, done = train_autoencoder.Training.update, []

    def interrupted(self):
        value = update(self)
        done.append(value)
        if len(done) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return value

    monkeypatch.setattr(train_autoencoder.Training, "update", interrupted)
    with pytest.raises(Stopped) as stop:
        train_autoencoder.train(place, config, out=tmp_path / "cut")
    assert stop.value.exit_code == 130
    assert len(done) == 3
    report = json.loads((tmp_path / "cut" / "autoencoder.json").read_text())
    assert not report["done"]
    assert report["updates"] == 3
    monkeypatch.undo()
    train_autoencoder.train(place, out=tmp_path / "cut", resume=True)
    names = ("autoencoder.safetensors", "reconstructions.png")
    for name in names:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


def test_a_killed_training_goes_on_from_its_last_save(place, trained, tmp_path, monkeypatch):
    update, done = train_autoencoder.Training.update, []

    def dies(self):
        done.append(update(self))
        if len(done) == 4:
            raise MemoryError
        return done[-1]

    monkeypatch.setattr(train_autoencoder.Training, "update", dies)
    monkeypatch.setattr(train_autoencoder, "SAVE", 0)
    with pytest.raises(MemoryError):
        train_autoencoder.train(place, TINY, out=tmp_path / "cut")
    monkeypatch.undo()
    train_autoencoder.train(place, out=tmp_path / "cut", resume=True)
    assert (tmp_path / "cut" / "autoencoder.safetensors").read_bytes() == (
        trained[0] / "autoencoder.safetensors"
    ).read_bytes()


def test_latents_of_frames_and_stacks(place, trained):
    encoder, data = Encoder.load(trained[0]), dataset.load(place)
    assert encoder.latent == 8
    frames = data.frames[:9]
    codes = encoder.encode(frames)
    assert codes.dtype == np.float32
    assert codes.shape == (9, 8)
    stacks = data.stacks(np.arange(4, 9), 4)
    coded = encoder.encode(stacks).reshape(5, 4, 8)
    for k in range(5):
        np.testing.assert_allclose(coded[k], codes[1 + k : 5 + k], rtol=1e-4, atol=1e-5)
    moving = encoder.encode(stacks, velocity=True)
    np.testing.assert_allclose(moving[:, :8], codes[4:9], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(moving[:, 8:], codes[4:9] - codes[3:8], rtol=1e-4, atol=1e-5)
    assert encoder.encode(frames[:0]).shape == (0, 8)
    np.testing.assert_array_equal(Encoder.load(trained[0] / encoders.FILE).encode(frames), codes)


def test_scaled_latents_have_variance_one(place, trained):
    encoder, data = Encoder.load(trained[0]), dataset.load(place)
    train, _ = data.split()
    scaled, raw = encoder.encode(data.frames[train]), encoder.encode(data.frames[train], scaled=False)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-3)
    np.testing.assert_allclose(scaled.std(axis=0), 1, atol=1e-3)
    np.testing.assert_allclose(raw, scaled * encoder.std + encoder.mean, atol=1e-4)


def test_reconstruction_is_a_picture(place, trained):
    encoder, data = Encoder.load(trained[0]), dataset.load(place)
    pictures = encoder.reconstruct(data.frames[:5])
    assert pictures.dtype == np.uint8
    assert pictures.shape == (5, 84, 84)
    assert np.abs(pictures.astype(int) - data.frames[:5]).mean() < 9


def test_net_shapes_and_first_weights():
    net = autoencoder.initialised(Config(latent=5, variational=True))
    out, mean, log_variance = net(torch.zeros(3, 1, 84, 84), torch.ones(3, 5))
    assert out.shape == (3, 1, 84, 84)
    assert mean.shape == log_variance.shape == (3, 5)
    again = autoencoder.initialised(Config(latent=5, variational=True))
    for a, b in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)
    plain = autoencoder.initialised(Config(latent=5)).requires_grad_(False)
    x = torch.randn(2, 1, 84, 84)
    # The decoder is the encoder turned round: without its kinks, <decode(c), x> = <c, encode(x)>.
    linear = [m for m in (*plain.encoder, *plain.decoder) if not isinstance(m, torch.nn.ReLU)]
    encode, decode = torch.nn.Sequential(*linear[:5]), torch.nn.Sequential(*linear[5:])
    code = torch.randn(2, 5)
    left, right = (decode(code) * x).sum(), (code * encode(x)).sum()
    assert float(left) == pytest.approx(float(right), rel=1e-3, abs=1e-3)


def test_rarity_counts_what_is_seldom_there():
    frames = np.full((100, 84, 84), 40, np.uint8)
    frames[:50, 10, 10] = 200
    frames[:1, 20, 20] = 200
    back = np.full((84, 84), 40, np.uint8)
    weights = autoencoder.rarity(frames, back, most=30)
    assert weights[10, 10] == 2
    assert weights[20, 20] == weights[0, 0] == 30
    x = autoencoder.inputs(frames[:1], torch.from_numpy(back).float())
    loss = autoencoder.squared_error(x, torch.zeros_like(x), torch.from_numpy(weights))
    assert float(loss) == pytest.approx((2 + 30) * (160 / 255) ** 2 / 84**2, rel=1e-5)
    assert float(autoencoder.squared_error(x, torch.zeros_like(x))) == pytest.approx(2 * (160 / 255) ** 2 / 84**2)


def test_divergence_is_that_of_normal_distributions():
    from torch.distributions import Normal, kl_divergence

    mean, log_variance = torch.randn(4, 3), torch.randn(4, 3)
    expected = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).mean()
    assert float(autoencoder.divergence(mean, log_variance)) == pytest.approx(float(expected), rel=1e-5)


def test_other_data_is_not_resumed_on(trained, tmp_path):
    other = made(tmp_path / "other", games=3, length=20, seed=9)
    with pytest.raises(DataError, match="other data"):
        train_autoencoder.train(other, out=trained[0], resume=True)


def test_damage_is_found(trained, tmp_path):
    data = bytearray((trained[0] / encoders.FILE).read_bytes())
    data[-50] ^= 1
    (tmp_path / encoders.FILE).write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        Encoder.load(tmp_path)
    from playfield.runs.weights import export_weights

    export_weights(tmp_path / "w.safetensors", {"a": torch.zeros(1)}, {"env": "breakout"})
    with pytest.raises(DataError, match="is not an auto-encoder"):
        Encoder.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "frames", [np.zeros((2, 84, 84)), np.zeros((2, 80, 80), np.uint8), np.zeros((84, 84), np.uint8)]
)
def test_only_screens_are_encoded(trained, frames):
    with pytest.raises(UsageError, match="takes uint8"):
        Encoder.load(trained[0]).encode(frames)


def test_velocity_needs_two_frames(trained):
    for shape in ((2, 84, 84), (2, 84, 84, 1)):
        with pytest.raises(UsageError, match="at least two frames"):
            Encoder.load(trained[0]).encode(np.zeros(shape, np.uint8), velocity=True)


def test_the_command(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["autoencoder", str(place), "--latent", "4", "--epochs", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "whole episodes" in said
    assert "the ball is reconstructed in" in said
    assert Encoder.load("autoencoders/game").latent == 4
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["autoencoder", str(place), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["done"]
    assert main([*words, "--split", "frames", "--out", "leaky", "--debug"]) == 0
    assert "leaks" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["datasets/nothing"], "playfield collect"),
        (["PLACE", "--latnt", "4"], "--latent"),
        (["PLACE", "--loss", "plan"], "did you mean plain"),
        (["PLACE", "--split", "episode"], "did you mean episodes"),
        (["PLACE", "--epochs", "0"], "between 1"),
        (["PLACE", "--resume", "--latent", "3"], "--latent is part of the training"),
        (["PLACE", "--resume", "--out", "none"], "no training to resume"),
        (["PLACE", "--variational", "perhaps"], "true or false"),
    ],
)
def test_mistakes_are_one_line(place, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["autoencoder", *[str(place) if w == "PLACE" else w for w in words]]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_names_of_autoencoders_are_corrected(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "autoencoders" / "breakout"
    folder.mkdir(parents=True)
    (folder / encoders.FILE).write_bytes(b"")
    with pytest.raises(UsageError, match="did you mean autoencoders/breakout"):
        Encoder.load("autoencoders/brekout")


def test_frames_are_84_pixels_wide():
    net = AutoEncoder(4)
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 1, 80, 80))


def test_a_ball_is_where_the_frames_say():
    frames, places = screens(10)
    assert all(frame[y, x] == 200 for frame, (y, x) in zip(frames, places, strict=True))
