"""`playfield bench scaling`: workers as threads and as processes, side by side."""

from __future__ import annotations

import json
import sys

import pytest

from playfield import bench
from playfield.bench import scaling
from playfield.errors import PlayfieldError, UsageError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="processor time of others is read as Linux tells it"),
]


def test_both_kinds_are_measured_and_end_alike(monkeypatch, capsys):
    monkeypatch.setattr(scaling, "WORKERS", (1, 2))
    monkeypatch.setattr(scaling, "ENVS", 2)
    monkeypatch.setattr(scaling, "ROLLOUT", 16)
    out = bench.main("scaling", steps=64, rounds=1, json=True)
    assert json.loads(capsys.readouterr().out) == out
    assert list(out["sides"]) == ["1 threads", "2 threads", "2 processes"]
    for side in out["sides"].values():
        assert side["processor_ms"] > 0
        assert side["speed"] > 0


def test_other_bits_are_no_result(monkeypatch):
    monkeypatch.setattr(scaling, "WORKERS", (2,))
    monkeypatch.setattr(scaling, "_measure", lambda n, kind, steps: {"hash": kind, "processor_ms": 1.0, "speed": 1.0})
    with pytest.raises(PlayfieldError, match="2 workers ended with other bits"):
        bench.main("scaling", rounds=1)
    with pytest.raises(UsageError, match="multiple of 2,048"):
        bench.main("scaling", steps=100)
