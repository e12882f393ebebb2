"""`playfield bench nodes`: what travels between two machines, and when they pay."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from playfield import bench
from playfield.bench import nodes
from playfield.errors import PlayfieldError

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform != "linux", reason="memory is shared as Linux has it"),
]


def networks():
    if not shutil.which("unshare") or not shutil.which("tc"):
        return False
    return subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode == 0


def test_loopback_is_measured_and_the_rest_derived(monkeypatch, capsys):
    monkeypatch.setattr(nodes, "RATES", (0,))
    monkeypatch.setattr(nodes, "NETS", ("nips",))
    out = bench.main("nodes", rounds=3, json=True)
    assert json.loads(capsys.readouterr().out) == out
    assert not out["notes"]
    for row in out["sides"].values():
        assert 2 * row["size"] < row["bytes"] < 2 * row["size"] + 2000  # gradients there, weights back, few words
        assert row["loopback ms"] > 0
        assert row["loopback gloo ms"] > 0
        assert row["1 Gbit/s derived ms"] > row["10 Gbit/s derived ms"] > row["100 Gbit/s derived ms"]
        assert row["1 Gbit/s derived pays from"] * row["sample_ms"] >= 2 * row["1 Gbit/s derived ms"]


def test_without_loopback_there_is_no_result_and_the_reason_is_said(monkeypatch):
    def exchange(rate, sizes, rounds):
        raise PlayfieldError("loopback could not be measured here: no gloo")

    monkeypatch.setattr(nodes, "_gradient", lambda *_: (1000, 0.1))
    monkeypatch.setattr(nodes, "exchange", exchange)
    with pytest.raises(PlayfieldError, match="no gloo"):
        bench.main("nodes", rounds=1)


def test_a_link_of_one_gigabit_takes_as_long_as_its_bytes(capsys):
    if not networks():
        with pytest.raises(Exception, match="could not be measured here"):
            nodes.exchange(1000, [1_000_000], 3)
        return
    (found,) = nodes.exchange(1000, [2_000_000], 5)
    assert min(found["seconds"]) > 0.7 * found["bytes"] * 8 / 1e9  # but for what `tc` lets through at once
