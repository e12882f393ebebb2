"""The lesson that compares features of Breakout: its returns and curves by hand, and all of it on few frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from playfield.cli import main
from playfield.lessons import breakout_features as lesson


def test_returns_end_with_a_life_and_are_unknown_where_a_recording_was_cut():
    rewards = np.array([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    terminated = np.array([False, False, True, False, False, False])
    last = np.array([False, False, False, False, False, True])  # the recording ends in the second life
    found = lesson.known_returns(rewards, terminated, last)
    assert found[:3] == pytest.approx([1 + 0.99**2, 0.99, 1.0])
    assert np.isnan(found[3:]).all()


def test_a_curve_is_the_mean_of_the_last_hundred_games():
    games = [(10 * k, float(k)) for k in range(1, 151)]
    curve = lesson.running_mean(games, np.array([5, 20, 1500]))
    assert np.isnan(curve[0])
    assert curve[1:] == pytest.approx([1.5, np.mean(np.arange(51, 151))])


def test_the_explained_variance_of_resampled_games():
    """Against a plain loop over the same resampled games."""
    rng = np.random.default_rng(1)
    games = np.repeat([4, 7, 9, 12], [5, 8, 3, 6])
    known = rng.normal(size=22) + games / 4
    values = known + rng.normal(size=22)
    picks = np.random.default_rng(0).integers(4, size=(lesson.RESAMPLES, 4))
    found = []
    for pick in picks:
        rows = np.concatenate([np.flatnonzero(games == np.unique(games)[g]) for g in pick])
        found.append(1 - np.var(known[rows] - values[rows]) / np.var(known[rows]))
    assert lesson.explained_interval(values, known, games) == pytest.approx(np.quantile(found, [0.025, 0.975]))
    assert np.isnan(lesson.explained_interval(values, known, np.zeros(22))).all()


class Countdown:
    """Recorded games of 12 screens whose RAM counts down to a reward at the end; what is held out is asked for."""

    def __init__(self, games: int, strange: bool = False) -> None:
        left = np.tile(np.arange(11, -2, -1), games)  # screens to the reward; -1: the last screen of a game
        n = len(left)
        self.ram = np.zeros((n, 128), np.uint8)
        self.ram[:, :12] = (left[:, None] == np.arange(12)) * 255
        self.actions, self.rewards = np.where(left < 0, -1, 0).astype(np.int16), (left == 0).astype(np.float32)
        self.terminated, self.truncated, self.starts = left == 0, np.zeros(n, bool), left == 11
        self.held = np.arange(n) // 13 % 3 == 0
        if strange:  # held-out games have bits of their own: only who learnt from them knows
            self.ram[self.held] = np.roll(self.ram[self.held], 12, axis=1)

    def __len__(self) -> int:
        return len(self.ram)

    def split(self) -> tuple[np.ndarray, np.ndarray]:
        return np.flatnonzero(~self.held), np.flatnonzero(self.held)


@pytest.fixture
def steep(monkeypatch):
    """Values that differ much from screen to screen, and steps enough to learn them from few games."""
    for name, value in {"GAMMA": 0.5, "FRACTION": 0.2, "PASSES": 10}.items():
        monkeypatch.setattr(lesson, name, value)


def test_prediction_of_a_countdown(steep):
    """Its values are 0.5 to the power of the screens left: a learner of whole games explains nearly all of it."""
    explained, low, high, length = lesson.predict(Countdown(60), "bits")
    assert 0.97 < low <= explained <= high <= 1
    assert length == pytest.approx(9 * 12 / 13 + 1 / 13, rel=0.03)  # eight bits and the constant, or that alone


def test_prediction_learns_nothing_from_what_is_held_out(steep):
    """Of bits that only held-out games have it knows nothing: what it says of these games is all the same."""
    explained, *_ = lesson.predict(Countdown(60, strange=True), "bits")
    assert abs(explained) < 1e-9


def test_it_collects_predicts_and_plays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in {"GAMES": 1, "PASSES": 1, "EPOCHS": 1, "CAP": 400}.items():
        monkeypatch.setattr(lesson, name, value)
    assert main(["lesson", "breakout-features", "--steps", "500", "--runs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["setting"].split(", ")[1] for row in told["rows"]] == [
        *("latents", "RAM bits", "pixels"),
        *("random play", "latents", "latents", "RAM bits", "RAM bits", "pixels", "pixels"),
    ]
    assert {row["verdict"] for row in told["rows"]} == {"-"}
    assert sorted(p.name for p in Path("lessons").iterdir()) == ["breakout-features.json", "breakout-features.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["lessons"]
