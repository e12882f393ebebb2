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
    curve = lesson.smoothed(games, np.array([5, 20, 1500]))
    assert np.isnan(curve[0])
    assert curve[1:] == pytest.approx([1.5, np.mean(np.arange(51, 151))])


def test_it_collects_predicts_and_plays(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in {"GAMES": 1, "PASSES": 1, "EPOCHS": 1, "CAP": 400}.items():
        monkeypatch.setattr(lesson, name, value)
    assert main(["lesson", "breakout-features", "--steps", "500", "--runs", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["setting"].split(", ")[1] for row in told["rows"]] == [
        *("latents", "RAM bits", "pixels"),
        *("random play", "latents", "RAM bits", "pixels"),
    ]
    assert {row["verdict"] for row in told["rows"]} == {"-"}
    assert sorted(p.name for p in Path("lessons").iterdir()) == ["breakout-features.json", "breakout-features.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["lessons"]
