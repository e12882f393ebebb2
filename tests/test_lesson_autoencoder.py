"""The auto-encoder lesson, on few frames."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from playfield.cli import main
from playfield.lessons import autoencoder


@pytest.mark.parametrize("faithful", [False, True])
def test_it_collects_trains_and_shows(faithful, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(autoencoder, "EPOCHS", 1)
    words = ["--steps", "600", "--json", *(["--faithful"] if faithful else [])]
    assert main(["lesson", "autoencoder", *words]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["report"]["config"]["split"] == ("frames" if faithful else "episodes")
    before, after = (row["ours"] for row in told["rows"] if row["measure"] == "weighted squared error")
    assert after > 0
    assert after != before
    assert before == told["report"]["before"]["weighted"]
    assert {row["verdict"] for row in told["rows"]} == {"-"}
    with Image.open(told["files"]["picture"]) as picture:
        assert min(picture.size) >= 84
    # What was collected and trained on the way is gone.
    assert sorted(p.name for p in Path("lessons").iterdir()) == ["autoencoder.json", "autoencoder.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["lessons"]
